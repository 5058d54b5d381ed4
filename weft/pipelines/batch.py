"""A batch of rows as operators, sources and sinks exchange it inside one process.

Columns stay in the form they were last needed in, Arrow or values, and are converted only when
the other form is asked for: pixels that go from one operator to the next never touch Arrow.
Rows are never changed in place. The envelope rides along: `_key` names the row, `_source` is
the version of what it came from, and the children of an `Expand` carry `_parent`, `_index` and
`_count` (child `_index` of `_count`). Three more never reach a dataset: `_read`, the read that the
row came by, in runs of several phases; `_joined`, the rows of the right that joins brought; and
`_above`, what the parent of a child of a child was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.pipelines.types import Arrow, Int32, Text, Type, Values

KEY = "_key"
SOURCE = "_source"
PARENT = "_parent"
INDEX = "_index"
COUNT = "_count"
READ = "_read"
JOINED = "_joined"
ABOVE = "_above"

MET = pa.list_(pa.struct([("step", pa.string()), ("key", pa.string())]))
"""What `_joined` holds: for each join that the row came through, the join and the right's key."""

ANCESTORS = pa.list_(
    pa.struct([("parent", pa.string()), ("index", pa.int32()), ("count", pa.int32())])
)
"""What `_above` holds: what the parent was a child of, and its parent, and so on; nearest last."""

ENVELOPE: dict[str, Type] = {
    KEY: Text(),
    SOURCE: Text(),
    PARENT: Text(nullable=True),
    INDEX: Int32(nullable=True),
    COUNT: Int32(nullable=True),
    READ: Text(nullable=True),
    JOINED: Arrow(MET, nullable=True),
    ABOVE: Arrow(ANCESTORS, nullable=True),
}
"""The engine's own columns and their types: `_parent`, `_index` and `_count` only below an
`Expand`, `_joined` only below a join, `_above` only for children of children."""


READABLE = (KEY, PARENT, INDEX, COUNT)
"""What expressions and operators may read of the envelope; where there is none it is null."""


def kind_of(columns: Mapping[str, Type], name: str) -> Type:
    """The type of a column, or of a field of the envelope."""
    return columns[name] if name in columns else ENVELOPE[name]


class Column:
    """One column of one batch: Arrow, values, or both."""

    __slots__ = ("_array", "_values", "type")

    def __init__(
        self, kind: Type, *, array: pa.Array | None = None, values: Values | None = None
    ) -> None:
        self.type = kind
        self._array = array
        self._values = values

    @property
    def array(self) -> pa.Array:
        """The column as one Arrow array of the type's storage."""
        if self._array is None:
            self._array = self.type.to_arrow(self._values)  # type: ignore[arg-type]
        elif isinstance(self._array, pa.ChunkedArray):
            self._array = _one_chunk(self._array)
        return self._array

    @property
    def values(self) -> Values:
        """The column as operators see it: an array, or a list with ``None`` for null."""
        if self._values is None:
            self._values = self.type.to_values(self.array)
        return self._values

    def valid(self) -> npt.NDArray[np.bool_] | None:
        """Which rows are not null; ``None`` when all are."""
        if not self.type.nullable:
            return None
        if self._array is not None:
            if not self.array.null_count:
                return None
            mask: npt.NDArray[np.bool_] = self.array.is_valid().to_numpy(zero_copy_only=False)
            return mask
        if isinstance(self._values, np.ndarray):
            return None
        known = np.fromiter((v is not None for v in self.values), np.bool_, len(self))
        return None if known.all() else known

    def take(self, indices: npt.NDArray[np.int64]) -> Column:
        """The rows at `indices`, in that order, in the form that is cheapest to select."""
        if self._values is not None:
            return Column(self.type, values=take_values(self._values, indices))
        return Column(self.type, array=self.array.take(pa.array(indices)))

    def slice(self, start: int, stop: int) -> Column:
        """The rows from `start` to before `stop`, without a copy where that is possible."""
        if self._values is not None:
            return Column(self.type, values=self._values[start:stop])
        return Column(self.type, array=self.array.slice(start, stop - start))

    def __len__(self) -> int:
        return len(self._values if self._values is not None else self._array)  # type: ignore[arg-type]


class Batch:
    """Rows of one stream: columns by name, and the envelope."""

    __slots__ = ("columns", "envelope", "rows")

    def __init__(
        self, columns: Mapping[str, Column], envelope: Mapping[str, Column], rows: int | None = None
    ) -> None:
        self.columns = dict(columns)
        self.envelope = dict(envelope)
        self.rows = len(self.envelope[KEY]) if rows is None else rows

    @property
    def keys(self) -> Values:
        """The key of each row."""
        return self.envelope[KEY].values

    def column(self, name: str) -> Column:
        """A column, or a field of the envelope; null where the rows have no such field."""
        for fields in (self.columns, self.envelope):
            if name in fields:
                return fields[name]
        kind = ENVELOPE[name]
        return Column(kind, array=pa.nulls(self.rows, kind.storage))

    def take(self, indices: npt.NDArray[np.int64]) -> Batch:
        """The rows at `indices`, in that order."""
        return Batch(
            {n: c.take(indices) for n, c in self.columns.items()},
            {n: c.take(indices) for n, c in self.envelope.items()},
            len(indices),
        )

    def slice(self, start: int, stop: int) -> Batch:
        """The rows from `start` to before `stop`."""
        stop = min(stop, self.rows)
        return Batch(
            {n: c.slice(start, stop) for n, c in self.columns.items()},
            {n: c.slice(start, stop) for n, c in self.envelope.items()},
            stop - start,
        )

    def with_columns(self, columns: Mapping[str, Column]) -> Batch:
        """This batch with `columns` added or replaced."""
        return Batch(self.columns | dict(columns), self.envelope, self.rows)

    def only(self, names: Iterable[str]) -> Batch:
        """This batch with only these columns; the others can be freed."""
        return Batch({n: self.columns[n] for n in names}, self.envelope, self.rows)

    def to_arrow(self, schema: pa.Schema) -> pa.Table:
        """The batch as a table of exactly `schema`, which may name envelope columns too."""
        both = self.envelope | self.columns
        arrays = [
            both[f.name].array if f.name in both else pa.nulls(self.rows, f.type) for f in schema
        ]
        return pa.table(arrays, schema=schema)

    def __repr__(self) -> str:
        return f"Batch({self.rows} rows: {', '.join(self.columns)})"


def take_values(values: Values, indices: npt.NDArray[np.int64]) -> Values:
    """The values at `indices`, in that order."""
    if isinstance(values, np.ndarray):
        return values[indices]
    if isinstance(values, pa.Array | pa.ChunkedArray):
        taken: Values = values.take(pa.array(indices))
        return taken
    return [values[i] for i in indices]


def concat_batches(batches: Sequence[Batch]) -> Batch:
    """Batches of the same columns as one, in order; at least one batch must be given."""
    if len(batches) == 1:
        return batches[0]
    first = batches[0]
    return Batch(
        {n: _concat([b.columns[n] for b in batches]) for n in first.columns},
        {n: _concat([b.envelope[n] for b in batches]) for n in first.envelope},
    )


def _concat(columns: Sequence[Column]) -> Column:
    # One batch of an operator may hold nulls where another has none, and says so.
    kind = next((c.type for c in columns if c.type.nullable), columns[0].type)
    forms = {type(c._values) for c in columns}
    if forms == {np.ndarray}:
        return Column(kind, values=np.concatenate([c.values for c in columns]))
    if np.ndarray not in forms and type(None) not in forms:
        return Column(kind, values=[v for c in columns for v in c.values])
    return Column(kind, array=pa.concat_arrays([c.array for c in columns]))


def batch_from_arrow(table: pa.Table, types: Mapping[str, Type]) -> Batch:
    """A batch over an Arrow table that has the envelope columns and those of `types`."""
    envelope = {
        name: Column(kind, array=table.column(name))
        for name, kind in ENVELOPE.items()
        if name in table.schema.names
    }
    columns = {name: Column(kind, array=table.column(name)) for name, kind in types.items()}
    return Batch(columns, envelope, table.num_rows)


def _one_chunk(chunked: pa.ChunkedArray) -> pa.Array:
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    if chunked.num_chunks == 0:
        return pa.array([], chunked.type)
    return pa.concat_arrays(chunked.chunks)
