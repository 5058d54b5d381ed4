"""Parquet files from inside: footers, and the rows of a part of a row group."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from weft.connectors.listing import readable
from weft.connectors.slices import column_types, conform, one_array
from weft.errors import DefinitionError, RowError, redact
from weft.pipelines.fields import Fields
from weft.pipelines.operator import digest

_KEEP_BYTES = 128 * 2**20
"""Decoded columns of a row group are kept for the next split if they are smaller than this.

A row group holds a million rows by default and a split a thousand. Without keeping, each split
would decode the group up to its own rows, 500 times the work; two are kept per process."""


@dataclass(frozen=True)
class ParquetFile:
    """What is known of a file from its footer; `groups` is rows and bytes of each row group."""

    key: str
    path: str
    size: int
    mtime_ns: int
    schema: pa.Schema
    groups: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Part:
    """Rows [`start`, `start` + `rows`) of a row group; `first` is the number of the first in
    the file, `key` the key of the file."""

    key: str
    path: str
    size: int
    mtime_ns: int
    group: int
    start: int
    rows: int
    first: int

    def id(self, column: str | None) -> str:
        """A digest of all but where the folder is; `column` is the one keys are from."""
        return digest([{**asdict(self), "path": None}, column])

    def to_payload(self) -> bytes:
        """This part as JSON."""
        return json.dumps(asdict(self)).encode()

    def refuse_changed(self) -> None:
        """Raise if the file is no longer the one that was listed."""
        now = os.stat(self.path)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise RowError(
                f"{readable(self.path)} changed since it was listed. Run again when nobody "
                "writes it."
            )

    def unreadable(self, error: Exception) -> RowError:
        """What to say of `error`, raised while reading this part."""
        if isinstance(error, RowError):
            return error
        path = readable(self.path)
        if isinstance(error, FileNotFoundError):
            return RowError(f"{path} is gone since it was listed. Run again.")
        reason = redact(str(error).strip(), 200)
        return RowError(f"{path} cannot be read: {reason}. Check the file and who may read it.")

    def decode(self, names: Sequence[str], types: Fields) -> dict[str, pa.Array]:
        """Columns of these rows, each as one array in its type's storage."""
        if not names:
            return {}
        whole = _group(self.path, self.size, self.mtime_ns, self.group, tuple(names))
        table = self._stream(names) if whole is None else whole.slice(self.start, self.rows)
        return {name: conform(one_array(table[name]), types[name]) for name in names}

    def _stream(self, names: Sequence[str]) -> pa.Table:
        """The rows, decoding the group up to them and keeping nothing else."""
        stop, done, found = self.start + self.rows, 0, []
        with _open(self.path) as file:
            for batch in file.iter_batches(
                4096, row_groups=[self.group], columns=list(names), use_threads=False
            ):
                first, last = max(0, self.start - done), min(batch.num_rows, stop - done)
                done += batch.num_rows
                if first < last:
                    found.append(batch.slice(first, last - first))
                if done >= stop:
                    break
        return pa.Table.from_batches(found)


def footer(listed: Mapping[str, Any]) -> ParquetFile:
    """What the footer says of a file from a listing.

    Raises:
        DefinitionError: it is no Parquet file.
    """
    path = os.fsdecode(listed["path"])
    try:
        with _open(path) as file:
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            sizes = tuple((group.num_rows, group.total_byte_size) for group in groups)
            schema = file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise DefinitionError(
            f"Parquet: {readable(path)} is no Parquet file: {redact(str(error), 200)} Take it out "
            "of the pattern, or write it again."
        ) from error
    return ParquetFile(listed["key"], path, listed["size"], listed["mtime_ns"], schema, sizes)


def refuse_other_columns(first: ParquetFile, other: ParquetFile) -> None:
    """Raise if two files differ in the name or type of a column; the order may."""
    wanted, given = column_types(first.schema), column_types(other.schema)
    for name in dict.fromkeys([*wanted, *given]):
        one, two = wanted.get(name), given.get(name)
        if one != two:
            raise DefinitionError(
                f"Parquet: files disagree on column {name!r}: {one or 'none'} in "
                f"{readable(first.path)}, {two or 'none'} in {readable(other.path)}. Read them as "
                "two sources, or write them with one schema."
            )


@contextlib.contextmanager
def _open(path: str) -> Iterator[pq.ParquetFile]:
    # pyarrow wants UTF-8 in a path; Python opens every name, a little slower.
    odd = readable(path) != path
    with open(path, "rb") if odd else pa.OSFile(path) as handle, pq.ParquetFile(handle) as file:
        yield file


@functools.lru_cache(maxsize=2)
def _group(
    path: str, size: int, mtime_ns: int, group: int, names: tuple[str, ...]
) -> pa.Table | None:
    """Columns of a row group, ``None`` if they are too large to keep.

    Size and time are there so that a file that changed is not taken for what it was.
    """
    with _open(path) as file:
        meta = file.metadata.row_group(group)
        columns = [meta.column(i) for i in range(meta.num_columns)]
        wanted = [c for c in columns if c.path_in_schema.split(".")[0] in names]
        if sum(c.total_uncompressed_size for c in wanted) > _KEEP_BYTES:
            return None
        return file.read_row_group(group, columns=list(names), use_threads=False)
