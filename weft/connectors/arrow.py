"""Rows that are in memory already: Arrow tables, Polars frames, plain Python values."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.connectors.predicates import pushable, sift
from weft.connectors.slices import (
    chunks,
    column_types,
    conform,
    from_payload,
    one_array,
    split_id,
    to_payload,
)
from weft.errors import DefinitionError
from weft.pipelines.batch import KEY, SOURCE
from weft.pipelines.connector import Chunk, Source, Split
from weft.pipelines.fields import Fields

_WINDOW = 65_536
"""Rows that are digested at a time: what a digest costs in memory, and what makes it the same
however the table is chunked."""


@dataclass(frozen=True, eq=False)
class Arrow(Source):
    """The rows of a table in memory.

    `table` is a pyarrow Table or RecordBatch, a Polars DataFrame, a list of dicts or a dict of
    lists. The columns are those of the table; names that start with ``_`` are left out, and a
    column without weft metadata has the type of its storage. Python values and Polars frames
    cannot say whether a column may hold null: theirs may when one does.

    A row's key is the text of column `key`, or else the number of the row, from 0. Its version
    is the digest of the whole table: cheap, and never stale, but an edit of one row makes all
    rows new to an incremental run. Two sources are equal when key and digest are.

    >>> source = Arrow({"name": ["ann", "bob"], "age": [31, None]}, key="name")
    >>> print(source.columns)
    name: Text, age: Int64?
    >>> [split] = source.splits(rows=100)
    >>> [chunk] = source.read(split, ["age"], [pl.col("age") > 30], batch_rows=10)
    >>> chunk.batch.columns["age"].values, chunk.batch.keys, chunk.dropped[0].keys
    (array([31]), ['ann'], ['bob'])

    Raises:
        DefinitionError: not a table, a column that is no column type, or a key column that is
            missing, holds null or holds the same key twice.
    """

    table: Any
    key: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", _as_table(self.table))
        types = column_types(self.table.schema)
        for name, kind in types.items():
            if not kind.nullable and self.table[name].null_count:
                raise DefinitionError(
                    f"Arrow: column {name!r} is declared not nullable and holds "
                    f"{self.table[name].null_count} nulls. Fill them, or make the field nullable."
                )
        if self.key is not None:
            _check_key(self.table, types, self.key)

    @property
    def columns(self) -> Fields:
        return column_types(self.table.schema)

    def identity(self) -> dict[str, Any]:
        """Key column and digest of the table."""
        return {"source": "Arrow", "digest": self._digest, "key": self.key}

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        return pushable(predicate, self.columns)

    def row_bytes(self) -> Mapping[str, int]:
        """The average of each column, by what it takes in memory."""
        rows = max(1, self.table.num_rows)
        return {name: max(1, self.table[name].nbytes // rows) for name in self.columns}

    def count(self) -> int:
        """The length of the table."""
        return int(self.table.num_rows)

    def splits(self, rows: int) -> Iterator[Split]:
        total = self.table.num_rows
        if not total:
            raise DefinitionError(
                f"Arrow: the table has no rows. Its columns: {self.columns or 'none'}."
            )
        types = self.columns
        digest = self._digest
        for start in range(0, total, rows):
            part = self.table.slice(start, rows)
            arrays = [conform(one_array(part[name]), kind) for name, kind in types.items()]
            keys = self._keys(part, start)
            sources = pa.repeat(digest, len(keys))
            # The engine's names never meet the user's: those of the user do not start with "_".
            table = pa.table([*arrays, keys, sources], [*types, KEY, SOURCE])
            yield Split(split_id(keys, sources), len(keys), to_payload(table), part.nbytes)

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        table = from_payload(split.payload)
        arrays = {name: one_array(table[name]) for name in table.column_names}
        types = self.columns
        sifted = sift(arrays, split.rows, predicates) if predicates else None
        wanted = [(name, types[name], arrays[name]) for name in columns]
        keys, sources = arrays[KEY], arrays[SOURCE]
        if sifted is None or sifted.kept is None:
            return chunks(wanted, keys, sources, batch_rows)
        at = pa.array(sifted.kept)
        return chunks(
            [(name, kind, array.take(at)) for name, kind, array in wanted],
            keys.take(at),
            sources.take(at),
            batch_rows,
            dropped=sifted.dropped_rows(keys, sources),
            failed=sifted.failed_rows(keys, sources),
        )

    @functools.cached_property
    def _digest(self) -> str:
        """Of the IPC bytes in windows of fixed size: about a second for a GB, no copy of it."""
        table = self.table.replace_schema_metadata(None)
        state = _Digest()
        with pa.ipc.new_stream(pa.PythonFile(state, "w"), table.schema) as writer:
            for start in range(0, table.num_rows, _WINDOW):
                writer.write_table(table.slice(start, _WINDOW).combine_chunks())
        return state.sha256.hexdigest()[:32]

    def _keys(self, part: pa.Table, start: int) -> pa.Array:
        if self.key is None:
            return pa.array(np.arange(start, start + part.num_rows)).cast(pa.string())
        return one_array(part[self.key]).cast(pa.string())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arrow) and self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash((self._digest, self.key))

    def __repr__(self) -> str:
        key = "" if self.key is None else f", key={self.key!r}"
        return f"Arrow(<{self.table.num_rows} rows: {', '.join(self.columns)}>{key})"


class _Digest:
    """A file that keeps nothing but the digest of what is written to it."""

    closed = False

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self.sha256.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self.closed = True


def _as_table(given: Any) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pa.RecordBatch):
        return pa.Table.from_batches([given])
    if isinstance(given, pl.DataFrame):
        return _with_nulls_as_found(given.to_arrow())
    rows = isinstance(given, list | tuple) and all(isinstance(row, Mapping) for row in given)
    if rows:
        # pa.Table.from_pylist takes the names of the first row and forgets those of the others.
        names = dict.fromkeys(name for row in given for name in row)
        given = {name: [row.get(name) for row in given] for name in names}
    if not isinstance(given, Mapping):
        raise DefinitionError(
            f"Arrow: a {type(given).__name__} is not a table. Expected a pyarrow Table or "
            "RecordBatch, a Polars DataFrame, a list of dicts or a dict of lists."
        )
    try:
        return _with_nulls_as_found(pa.table(dict(given)))
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DefinitionError(
            f"Arrow: these values are no columns: {error}. Give each column values of one type "
            "and the same number of them, or a pyarrow Table with the types you mean."
        ) from error


def _with_nulls_as_found(table: pa.Table) -> pa.Table:
    schema = pa.schema(
        [f.with_nullable(table[i].null_count > 0) for i, f in enumerate(table.schema)]
    )
    return pa.Table.from_arrays(table.columns, schema=schema)


def _check_key(table: pa.Table, types: Fields, key: str) -> None:
    types.require(key)
    column = table[key]
    dtype = column.type
    textual = pa.types.is_string(dtype) or pa.types.is_large_string(dtype)
    textual = textual or pa.types.is_string_view(dtype)
    if not (textual or pa.types.is_integer(dtype)):
        raise DefinitionError(
            f"Arrow: key column {key!r} is {dtype}. Expected text or integers: a key names a row."
        )
    if column.null_count:
        row = pc.index(column.is_null(), value=True).as_py()
        raise DefinitionError(
            f"Arrow: key column {key!r} is null in row {row} and {column.null_count} rows in all. "
            "Every row needs a key."
        )
    counts = column.value_counts()
    if len(counts) < len(column):
        double = counts.filter(pc.greater(counts.field("counts"), 1))[0].as_py()
        raise DefinitionError(
            f"Arrow: key column {key!r} holds {double['values']!r} {double['counts']} times. "
            "Keys must be unique; leave key out to number the rows."
        )
