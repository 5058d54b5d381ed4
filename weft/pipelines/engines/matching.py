"""Which rows of the right the rows of a left meet, and the rows that come of it.

The right is complete and stays; the left comes batch by batch. So the right is put in order once:
its keys are numbered, and the number of a left's key is found by binary search, which costs a
small batch no walk over the right. Columns that are brought along are taken by row, whatever
their type. A row whose key has a null meets nothing, as in SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.pipelines.batch import ENVELOPE, JOINED, KEY, MET, Batch, Column
from weft.pipelines.fields import Fields
from weft.pipelines.operator import canonical_bytes
from weft.pipelines.relations import AsOf, Join

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Matched:
    """What a batch of the left became.

    `left` and `right` say for each row of `rows` which row of the batch and of the right it is
    made of; `right` is -1 where there is none, and always after ``semi`` and ``anti``. `several`
    has the key of each row of the batch that met more than one row of the right: JSON, a list if
    the key is of several columns.
    """

    rows: Batch
    left: Indices
    right: Indices
    several: list[str] = field(default_factory=list)


class Matcher:
    """Meets batches of the left with the rows of `right`.

    Rows come in the order of the left; those of one left row in the order of the right. A join
    with `asof` brings one row at most: backward, the last row of the latest time; forward, the
    first row of the earliest; nearest, the nearer of these two, and the earlier if they are
    equally near. That is ``merge_asof`` of pandas; Polars takes the later. A time that is null
    or NaN meets nothing.

    Args:
        step: the join's step, which `_joined` names.
        join: what meets what.
        right: all rows of the right.
        columns: the columns after the join.
    """

    def __init__(self, step: str, join: Join, right: Batch, columns: Fields) -> None:
        self.step = step
        self.join = join
        self.right = right
        self.columns = columns
        self.keys = _Keys([_comparable(right.column(n).array) for n in join.right_on], right.rows)
        self.times = _Times(join.asof, self.keys.of, right) if join.asof else None

    def __call__(self, batch: Batch) -> Matched:
        """The rows that `batch` becomes."""
        numbers = self.keys.find(
            [_comparable(batch.column(n).array) for n in self.join.left_on], batch.rows
        )
        if self.times is None:
            rows, (starts, counts) = self.keys.order, self.keys.spans(numbers)
        else:
            rows = self.times.find(numbers, batch)
            starts, counts = np.arange(batch.rows), (rows >= 0).astype(np.int64)
        if self.join.how in ("semi", "anti"):
            return self._sifted(batch, (counts > 0) == (self.join.how == "semi"))
        left, right = _pairs(starts, counts, rows, all_left=self.join.how == "left")
        several = np.flatnonzero(counts > 1)
        made = self._rows(batch, left, right, counts > 1)
        return Matched(made, left, right, self._texts(batch, several))

    def _sifted(self, batch: Batch, keep: npt.NDArray[np.bool_]) -> Matched:
        left = np.flatnonzero(keep)
        rows = (batch if keep.all() else batch.take(left)).only(self.columns)
        return Matched(rows, left, np.full(len(left), -1))

    def _rows(
        self, batch: Batch, left: Indices, right: Indices, several: npt.NDArray[np.bool_]
    ) -> Batch:
        brought = {new: name for name, new in self.join.brings if new in self.columns}
        mine = batch.only(n for n in self.columns if n not in brought)
        if not np.array_equal(left, np.arange(batch.rows)):  # pixels are copied only if need be
            mine = mine.take(left)
        keys = _take(self.right.envelope[KEY], right)
        columns = {
            name: Column(kind, array=_take(self.right.column(brought[name]), right))
            if name in brought
            else mine.columns[name]
            for name, kind in self.columns.items()
        }
        own = {JOINED: _met(mine.column(JOINED).array, self.step, keys)}
        if several.any():
            own[KEY] = _starred(mine.envelope[KEY].array, keys, several[left])
        return Batch(columns, mine.envelope | own, len(left))

    def _texts(self, batch: Batch, rows: Indices) -> list[str]:
        if not len(rows):
            return []
        series = [pl.Series(batch.column(n).take(rows).array) for n in self.join.left_on]
        plain = [s.dt.to_string("iso:strict") if s.dtype.is_temporal() else s for s in series]
        keys = zip(*(s.to_list() for s in plain), strict=True)
        return [canonical_bytes(k[0] if len(k) == 1 else k).decode() for k in keys]


class _Keys:
    """The distinct keys of the right, numbered from 0, and the rows of each."""

    def __init__(self, columns: Sequence[pl.Series], rows: int) -> None:
        self.levels: list[tuple[pl.Series, pl.Series]] = []  # values; pairs with what is before
        numbers, count = np.zeros(rows, np.int64), 1
        for column in columns:
            values = column.drop_nulls().unique().sort()
            joint = _joint(numbers, values, column)
            pairs = pl.Series(np.unique(joint[joint >= 0]), dtype=pl.Int64)
            self.levels.append((values, pairs))
            numbers, count = _slots(pairs, pl.Series(joint)), len(pairs)
        self.of = numbers
        """The number of each row's key; -1 where it has a null."""
        known = np.flatnonzero(numbers >= 0)
        self.order: Indices = known[np.argsort(numbers[known], kind="stable")]
        self.sizes = np.bincount(numbers[known], minlength=count)
        self.starts = np.cumsum(self.sizes) - self.sizes

    def find(self, columns: Sequence[pl.Series], rows: int) -> Indices:
        """The numbers of these keys; -1 for one that no row of the right has."""
        numbers = np.zeros(rows, np.int64)
        for column, (values, pairs) in zip(columns, self.levels, strict=True):
            numbers = _slots(pairs, pl.Series(_joint(numbers, values, column)))
        return numbers

    def spans(self, numbers: Indices) -> tuple[Indices, Indices]:
        """Where the rows of these keys start in `order`, and how many they are."""
        if not len(self.sizes):
            return np.zeros_like(numbers), np.zeros_like(numbers)
        known = numbers >= 0
        return self.starts[numbers], np.where(known, self.sizes[numbers], 0)


class _Times:
    """The rows of the right in the order of their keys and, for one key, of their times."""

    def __init__(self, asof: AsOf, keys: Indices, right: Batch) -> None:
        self.asof = asof
        self.times = _scalar(right.column(asof.right).array)
        self.distinct = self.times.drop_nulls().unique().sort()
        ranks = _slots(self.distinct, self.times)
        rows = np.flatnonzero((keys >= 0) & (ranks >= 0))
        places = self._places(keys[rows], ranks[rows])
        order = np.argsort(places, kind="stable")
        self.rows, self.places = rows[order], places[order]

    def find(self, keys: Indices, left: Batch) -> Indices:
        """The row of the right that each row of the left meets; -1 where there is none."""
        times = _scalar(left.column(self.asof.left).array)
        meet = {"backward": self._before, "forward": self._after, "nearest": self._nearer}
        found = meet[self.asof.strategy](keys, times)
        if self.asof.tolerance is not None:
            far = self._distance(found, times) > self.asof.tolerance
            found[far] = -1
        return found

    def _places(self, keys: Indices, ranks: Indices) -> Indices:
        places: Indices = keys * (len(self.distinct) + 1) + ranks  # a rank past the last has room
        return places

    def _before(self, keys: Indices, times: pl.Series) -> Indices:
        ranks = self.distinct.search_sorted(times, side="right").to_numpy().astype(np.int64) - 1
        slots = np.searchsorted(self.places, self._places(keys, ranks), side="right") - 1
        return self._at(slots, keys, times)

    def _after(self, keys: Indices, times: pl.Series) -> Indices:
        ranks = self.distinct.search_sorted(times, side="left").to_numpy().astype(np.int64)
        slots = np.searchsorted(self.places, self._places(keys, ranks), side="left")
        return self._at(slots, keys, times)

    def _at(self, slots: Indices, keys: Indices, times: pl.Series) -> Indices:
        """The rows at these slots, where there is one and its key is the one looked for."""
        if not len(self.rows):
            return np.full(len(slots), -1)
        inside = np.clip(slots, 0, len(self.rows) - 1)
        same = self.places[inside] // (len(self.distinct) + 1) == keys
        valid = (slots == inside) & same & times.is_not_null().to_numpy()
        return np.where(valid, self.rows[inside], -1)

    def _nearer(self, keys: Indices, times: pl.Series) -> Indices:
        before, after = self._before(keys, times), self._after(keys, times)
        later = self._distance(after, times) < self._distance(before, times)
        return np.where((before < 0) | ((after >= 0) & later), after, before)

    def _distance(self, rows: Indices, times: pl.Series) -> npt.NDArray[np.float64]:
        """How far each time is from the row of the right; NaN where there is no row."""
        if not len(self.times):
            return np.full(len(rows), np.nan)
        met = self.times.gather(pl.Series(rows.clip(0)))
        away = (met - times).abs().cast(pl.Float64).fill_null(np.nan).to_numpy()
        return np.where(rows >= 0, away, np.nan)


def _joint(numbers: Indices, values: pl.Series, column: pl.Series) -> Indices:
    """One number for what came before and the value of `column`; -1 where either is unknown."""
    found = _slots(values, column)
    return np.where((numbers >= 0) & (found >= 0), numbers * len(values) + found, -1)


def _slots(ordered: pl.Series, values: pl.Series) -> Indices:
    """Where `values` are among `ordered`, which are distinct; -1 for null and what is not there."""
    if not len(ordered):
        return np.full(len(values), -1)
    slots = ordered.search_sorted(values).clip(0, len(ordered) - 1)
    same = (ordered.gather(slots) == values).fill_null(value=False)
    return np.where(same.to_numpy(), slots.to_numpy().astype(np.int64), -1)


_NANOSECONDS = {"ms": 1_000_000, "us": 1000, "ns": 1}


def _comparable(array: pa.Array) -> pl.Series:
    """A key's values so that both sides have one type, in which nothing is rounded or cut."""
    series = pl.Series(array)
    dtype = series.dtype
    if dtype.is_integer():
        return series.cast(pl.Int128)
    if dtype == pl.Boolean:
        return series.cast(pl.UInt8)
    if pa.types.is_date(array.type):
        return series.cast(pl.Date).to_physical()
    if isinstance(dtype, pl.Datetime):
        scale = pl.Series([_NANOSECONDS[dtype.time_unit]], dtype=pl.Int128)
        return series.to_physical().cast(pl.Int128) * scale
    return series


def _scalar(array: pa.Array) -> pl.Series:
    """Times as numbers, in the unit of their type; NaN is null."""
    moments = pa.types.is_timestamp(array.type)  # Polars has no seconds
    series = pl.Series(array.view(pa.int64()) if moments else array)
    if series.dtype.is_float():
        return series.cast(pl.Float64).fill_nan(None)
    return series.to_physical().cast(pl.Int128)


def _pairs(
    starts: Indices, counts: Indices, rows: Indices, *, all_left: bool
) -> tuple[Indices, Indices]:
    """The rows of the left and the right that meet; with `all_left`, -1 where a left is alone.

    Row `i` of the left meets `counts[i]` rows of the right: those in `rows` from `starts[i]`.
    """
    made = np.maximum(counts, 1) if all_left else counts
    left = np.repeat(np.arange(len(counts)), made)
    nth = np.arange(len(left)) - (np.cumsum(made) - made)[left]
    right = np.full(len(left), -1)
    some = counts[left] > 0
    right[some] = rows[(starts[left] + nth)[some]]
    return left, right


def _take(column: Column, rows: Indices) -> pa.Array:
    """The values at `rows`, null where a row is -1."""
    return column.array.take(pa.array(rows, mask=rows < 0))


def _starred(left: pa.Array, right: pa.Array, several: npt.NDArray[np.bool_]) -> Column:
    """The keys of the rows: of the left, or of both where it met several."""
    both = pc.binary_join_element_wise(left, right, "*")
    return Column(ENVELOPE[KEY], array=pc.if_else(pa.array(several), both, left))


def _met(before: pa.Array, step: str, keys: pa.Array) -> Column:
    """`_joined`: what the rows met before and, where `keys` is not null, what they met now."""
    new = keys.drop_null()
    entries = pa.concat_arrays([before.flatten(), _entries(step, new)])
    here = keys.is_valid().to_numpy(zero_copy_only=False)
    lengths = pc.list_value_length(before).fill_null(0).to_numpy() + here
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    old = len(entries) - len(new)
    last = np.zeros(len(entries), np.bool_)  # which entries are those of now
    last[offsets[1:][here] - 1] = True
    sources = np.empty(len(entries), np.int64)
    sources[last], sources[~last] = np.arange(old, len(entries)), np.arange(old)
    met = pa.ListArray.from_arrays(pa.array(offsets), entries.take(pa.array(sources)), type=MET)
    return Column(ENVELOPE[JOINED], array=met)


def _entries(step: str, keys: pa.Array) -> pa.Array:
    steps = pa.repeat(pa.scalar(step, pa.string()), len(keys))
    return pa.StructArray.from_arrays([steps, keys], fields=list(MET.value_type))
