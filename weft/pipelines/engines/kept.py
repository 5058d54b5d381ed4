"""Rows kept on disk between two phases: what an `Exchange` writes, and how it is read again.

A unit leaves one Arrow IPC file for each exchange, uncompressed, so that a reader maps it and
touches only what it wants. The rows lie in *chunks*, one record batch each: a partition of a
shuffle, some rows of what is held, the sorted rows of a unit. The unit's receipt names the file;
files that no receipt names are orphans. All files go when the run is published.

The receipt also has where each chunk ends and a checksum of it, and of what is after the last. A
process that reads a chunk for the first time compares it, at 1.5 GB/s: rows
that were altered on the disk in between are told, never joined.
"""

from __future__ import annotations

import functools
import itertools
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weft.errors import CorruptState
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
"""What a receipt says of one exchange: ``path``, ``rows`` of each chunk, ``bytes`` of the file;
``ends``, where each chunk ends, and ``sums``, checksums of the chunks and of the rest."""

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
        return {"path": None, "rows": [], "bytes": 0, "ends": [], "sums": []}
    whole = concat_batches(batches)
    if READ not in whole.envelope:
        reads = pa.repeat(pa.scalar(read, pa.string()), whole.rows)
        whole = Batch(whole.columns, whole.envelope | {READ: Column(ENVELOPE[READ], array=reads)})
    whole, counts = _chunked(step.action, whole)
    path = Path(folder, f"{step.id}-{unit}-{secrets.token_hex(4)}.arrow")
    try:
        size, ends = _write(path, whole.to_arrow(_schema(step, whole)), counts)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    sums = [_sum(str(path), *part) for part in itertools.pairwise([0, *ends, size])]
    return {"path": str(path), "rows": counts, "bytes": size, "ends": ends, "sums": sums}


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
    and `READ_BYTES` at most unless a chunk has more.

    Raises:
        CorruptState: what is read is not what was kept.
    """
    waiting: list[pa.RecordBatch] = []
    many = size = 0
    for file in files:
        if file["path"] is None:
            continue
        _check(file, len(file["rows"]))
        with pa.memory_map(file["path"]) as source:
            reader = pa.ipc.open_file(source)
            for number in range(*(chunks or (0, reader.num_record_batches))):
                if not file["rows"][number]:
                    continue
                _check(file, number)
                waiting.append(reader.get_batch(number))
                many, size = many + waiting[-1].num_rows, size + waiting[-1].nbytes
                if size >= READ_BYTES or many >= rows:
                    yield batch_from_arrow(pa.Table.from_batches(waiting), types)
                    waiting, many, size = [], 0, 0
    if waiting:
        yield batch_from_arrow(pa.Table.from_batches(waiting), types)


def _check(file: Kept, part: int) -> None:
    """Compare a chunk of a file, or what is after the last one, with what its receipt says."""
    bounds = [0, *file["ends"], file["bytes"]]
    if _known_sum(file["path"], bounds[part], bounds[part + 1]) != file["sums"][part]:
        raise CorruptState(
            f"{file['path']} is not as it was written: its rows were kept between two phases of "
            "the run. `weft run --fresh` gives the run up; its units are done again."
        )


def _sum(path: str, start: int, end: int) -> int | None:
    """The checksum of a part of a file; ``None``: the file is not that long."""
    if os.stat(path).st_size < end:
        return None
    with pa.memory_map(path) as source:
        source.seek(start)
        return zlib.crc32(source.read_buffer(end - start))


_known_sum = functools.lru_cache(maxsize=65_536)(_sum)
"""Parts are read once by each process: every range of an order looks at all files."""


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


def _write(path: Path, table: pa.Table, counts: Sequence[int]) -> tuple[int, list[int]]:
    """Write a table with a record batch for each count, and wait until it is on the disk; how
    long the file is, and where the batches end."""
    table = table.combine_chunks()
    with path.open("wb") as file:
        with pa.ipc.new_file(file, table.schema) as writer:
            start, ends = 0, list[int]()
            for count in counts:
                part = table.slice(start, count).combine_chunks().to_batches()
                writer.write_batch(part[0] if part else _empty(table.schema))
                start += count
                ends.append(file.tell())
        file.flush()
        os.fsync(file.fileno())
        return file.tell(), ends


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], f.type) for f in schema], schema=schema)
