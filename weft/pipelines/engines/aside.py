"""Outcomes of a unit of a backfill, put down for the driver to sift.

A unit of a run stages what became of its rows into the ledger and the errors table. A backfill
asks rows again that are on them already: what did not change stays, so its outcomes wait in
files beside the journal until the run is published.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from weft.pipelines.engines.ledger import ERRORS_SCHEMA, LEDGER_SCHEMA
from weft.pipelines.engines.receipts import Receipt


def put_aside(folder: str, ledger: pa.Table, errors: pa.Table) -> dict[str, str]:
    """Write the outcomes of rows that were not kept; what the receipt says of the files."""
    ended = ledger.filter(pc.not_equal(ledger["outcome"], "kept"))
    parts = {"ledger": ended, "errors": errors}
    return {name: _write(folder, table) for name, table in parts.items() if table.num_rows}


def read_aside(receipts: Iterable[Receipt], write: str) -> tuple[pa.Table, pa.Table]:
    """What became of rows that were not kept, and the errors, of all units."""
    ledger, errors = [LEDGER_SCHEMA.empty_table()], [ERRORS_SCHEMA.empty_table()]
    for receipt in receipts:
        named = receipt["writes"][write]["aside"]
        ledger += [_read(named["ledger"])] if "ledger" in named else []
        errors += [_read(named["errors"])] if "errors" in named else []
    return pa.concat_tables(ledger), pa.concat_tables(errors)


def _write(folder: str, table: pa.Table) -> str:
    path = Path(folder, f"{secrets.token_hex(8)}.arrow")
    write_table(path, table)
    return str(path)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as an Arrow file that is on the disk before a receipt names it."""
    with path.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())


def _read(path: str) -> pa.Table:
    with pa.memory_map(path) as file:
        return pa.ipc.open_file(file).read_all()
