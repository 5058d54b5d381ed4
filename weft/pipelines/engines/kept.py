"""Rows kept on disk between two phases: what an `Exchange` writes, and how it is read again.

A unit leaves one Arrow IPC file for each exchange, uncompressed, so that a reader maps it and
touches only what it wants. The rows lie in *chunks*, one record batch each: a partition of a
shuffle, some rows of what is held, the sorted rows of a unit. The unit's receipt names the file;
files that no receipt names are orphans. All files go when the run is published.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weft.pipelines.batch import (
    COUNT,
    ENVELOPE,
    INDEX,
    PARENT,
    READ,
    Batch,
    Column,
    batch_from_arrow,
    concat_batches,
)
from weft.pipelines.engines.grouping import order_rows
from weft.pipelines.engines.hashing import partition_of
from weft.pipelines.engines.runners import Work
from weft.pipelines.fields import arrow_field
from weft.pipelines.plan import Step
from weft.pipelines.relations import Exchange
from weft.pipelines.types import Type

Kept = dict[str, Any]
"""What a receipt says of one exchange: ``path``, ``rows`` of each chunk, ``bytes`` of the file."""

READ_BYTES = 32 * 2**20
"""Kept bytes that are read as one batch: small chunks of many files go together up to here."""

HELD_ROWS = 65_536
"""Rows in a chunk of what is held: what a later unit of work is cut from."""


def keep(step: Step, unit: str, read: str | None, batches: list[Batch], folder: str) -> Kept:
    """Write the rows that a unit has for an exchange; `read` is the read they came by.

    Raises:
        OSError: the storage failed, for example because it is full.
    """
    assert isinstance(step.action, Exchange)
    if not batches:
        return {"path": None, "rows": [], "bytes": 0}
    whole = concat_batches(batches)
    if READ not in whole.envelope:
        reads = pa.repeat(pa.scalar(read, pa.string()), whole.rows)
        whole = Batch(whole.columns, whole.envelope | {READ: Column(ENVELOPE[READ], array=reads)})
    whole, counts = _chunked(step.action, whole)
    path = Path(folder, f"{step.id}-{unit}-{secrets.token_hex(4)}.arrow")
    size = _write(path, whole.to_arrow(_schema(step, whole)), counts)
    return {"path": str(path), "rows": counts, "bytes": size}


def cut_to_limit(step: Step, batches: list[Batch], work: Work) -> list[Batch]:
    """The first rows of a unit, as many as an order can want; the others are dropped."""
    assert isinstance(step.action, Exchange)
    limit = step.action.limit
    if limit is None or not batches or sum(b.rows for b in batches) <= limit:
        return batches
    whole = concat_batches(batches)
    order = order_rows(whole, step.action.by, step.action.descending)
    line, lost = work.books[step.id], np.sort(order[limit:])
    work.note(step.id, "dropped", whole, lost)
    line.dropped += len(lost)
    line.emitted -= len(lost)
    line.passed -= len(lost)
    return [whole.take(np.sort(order[:limit]))]


def read_kept(
    files: Sequence[Kept],
    types: Mapping[str, Type],
    *,
    chunks: tuple[int, int] | None = None,
    rows: int = HELD_ROWS,
) -> Iterator[Batch]:
    """The rows of some chunks of every file, in the order of the files, about `rows` at a time,
    and `READ_BYTES` at most unless a chunk has more."""
    waiting: list[pa.RecordBatch] = []
    many = size = 0
    for file in files:
        if file["path"] is None:
            continue
        with pa.memory_map(file["path"]) as source:
            reader = pa.ipc.open_file(source)
            for number in range(*(chunks or (0, reader.num_record_batches))):
                if not file["rows"][number]:
                    continue
                waiting.append(reader.get_batch(number))
                many, size = many + waiting[-1].num_rows, size + waiting[-1].nbytes
                if size >= READ_BYTES or many >= rows:
                    yield batch_from_arrow(pa.Table.from_batches(waiting), types)
                    waiting, many, size = [], 0, 0
    if waiting:
        yield batch_from_arrow(pa.Table.from_batches(waiting), types)


def nothing_kept(types: Mapping[str, Type]) -> Batch:
    """No rows, with these columns."""
    names = [n for n in ENVELOPE if n not in (PARENT, INDEX, COUNT)]
    fields = [arrow_field(n, ENVELOPE[n]) for n in names]
    fields += [arrow_field(n, t) for n, t in types.items()]
    return batch_from_arrow(pa.schema(fields).empty_table(), types)


def _chunked(action: Exchange, whole: Batch) -> tuple[Batch, list[int]]:
    """The rows in the order of their chunks, and how many each chunk has."""
    match action.kind:
        case "shuffle":
            parts = partition_of(whole, action.by, action.partitions)
            counts = np.bincount(parts, minlength=action.partitions)
            return whole.take(np.argsort(parts, kind="stable")), counts.tolist()
        case "sort":
            order = order_rows(whole, action.by, action.descending) if action.by else None
            return whole if order is None else whole.take(order), [whole.rows]
        case _:
            full, rest = divmod(whole.rows, HELD_ROWS)
            return whole, [HELD_ROWS] * full + ([rest] if rest else [])


def _schema(step: Step, batch: Batch) -> pa.Schema:
    own = [arrow_field(n, ENVELOPE[n]) for n in ENVELOPE if n in batch.envelope]
    return pa.schema(own + [arrow_field(n, t) for n, t in step.columns.items()])


def _write(path: Path, table: pa.Table, counts: Sequence[int]) -> int:
    """Write a table with a record batch for each count, and wait until it is on the disk."""
    table = table.combine_chunks()
    with path.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            start = 0
            for count in counts:
                part = table.slice(start, count).combine_chunks().to_batches()
                writer.write_batch(part[0] if part else _empty(table.schema))
                start += count
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
