"""The pipelines of `benchmarks.increment`, and a process that runs one by the command line.

Operators count how often they are asked. The local engine runs them in the process itself.
"""

from __future__ import annotations

import hashlib
import itertools
import sys
from pathlib import Path
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

import weft
from benchmarks.common import say
from weft.connectors import Lance, Parquet

ASKED = itertools.count()
"""How often operators were asked, plus how often it was looked at."""

_BLOCK = bytes(2**20)
_FILES = 10


@weft.operator(version="1")
def doubled(n: int) -> int:
    next(ASKED)
    return 2 * n


@weft.operator(version="1")
def worked(n: int) -> int:
    """About half a millisecond of work, which waits for nobody."""
    next(ASKED)
    return n + hashlib.sha256(_BLOCK).digest()[0]


@weft.operator(version="1")
def measured(content: weft.Encoded) -> int:
    next(ASKED)
    return len(content)


def _source(source: str) -> Any:
    return Parquet(source) if source.endswith(".parquet") else Lance(source, key="k")


@weft.pipeline
def numbers(source: str, out: str) -> Any:
    """Rows that cost next to nothing."""
    rows = weft.read(_source(source)).apply(doubled)
    return rows.where(pl.col("doubled") % 20 != 0).select("n", "doubled").write(Lance(out))


@weft.pipeline
def works(source: str, out: str) -> Any:
    """Rows that cost something."""
    return weft.read(_source(source)).apply(worked).select("n", "worked").write(Lance(out))


@weft.pipeline
def blobs(source: str, out: str, field: bool = False) -> Any:
    """Rows with 100 KB of bytes, and perhaps a field that is made of them."""
    rows = weft.read(Lance(source, key="k"))
    if field:
        rows = rows.apply(measured)
    return rows.select("content", *(["measured"] if field else [])).write(Lance(out))


def make_numbers(path: Path, rows: int) -> Path:
    """A table of numbers, made once: one Lance dataset, or ten Parquet files in a folder."""
    if path.exists():
        return path
    partial = path.with_suffix(".part")
    table = pa.table({"k": [f"row-{n:09d}" for n in range(rows)], "n": np.arange(rows)})
    if path.suffix == ".lance":
        lance.write_dataset(table, partial, mode="overwrite", enable_stable_row_ids=True)
    else:
        partial.mkdir(parents=True, exist_ok=True)
        each = -(-rows // _FILES)
        for number in range(_FILES):
            part = table.slice(number * each, each)
            pq.write_table(part, partial / f"{number}.parquet", row_group_size=50_000)
    partial.replace(path)
    return path


def make_blobs(path: Path, rows: int, size: int) -> Path:
    """A table of bytes that no compression makes smaller, made once."""
    if path.exists():
        return path
    chance = np.random.default_rng(0)
    schema = pa.schema(
        [
            pa.field("k", pa.string()),
            pa.field("content", pa.large_binary(), metadata={"lance-encoding:blob": "true"}),
        ]
    )

    def batches() -> Any:
        for start in range(0, rows, 500):
            keys = [f"row-{n}" for n in range(start, min(rows, start + 500))]
            bodies = pa.array([chance.bytes(size) for _ in keys], pa.large_binary())
            yield pa.record_batch([pa.array(keys), bodies], schema=schema)

    partial = path.with_suffix(".part")
    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.write_dataset(reader, partial, mode="overwrite", enable_stable_row_ids=True)
    partial.replace(path)
    return path


def command(arguments: list[str]) -> None:
    """In a process of its own: ``weft`` with these arguments; its start counts as well."""
    from weft.cli.main import main

    say("ready")
    before = _written()
    sys.argv = ["weft", *arguments]
    code = 0
    try:
        main()
    except SystemExit as error:
        code = int(error.code or 0)
    say("done", asked=next(ASKED), written=_written() - before, code=code)


def _written() -> int:
    """Bytes that the process has given to storage."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(x for x in lines if x.startswith("write_bytes")).partition(":")[2])
