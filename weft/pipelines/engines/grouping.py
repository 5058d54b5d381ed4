"""Rows that share a key: aggregated, given to an operator group by group, picked; and sorted.

A runner here is given all rows of whole groups at once, in the order of the source: a partition
of a shuffle, or the children of a unit. Groups are numbered as they first come. What fails,
fails by groups: all rows of the group are on the books as failed, and the other groups go on.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.errors import ContractError, RowError, WeftError
from weft.pipelines.aggregates import aggregate
from weft.pipelines.batch import (
    ABOVE,
    ANCESTORS,
    COUNT,
    ENVELOPE,
    INDEX,
    KEY,
    PARENT,
    READ,
    SOURCE,
    Batch,
    Column,
)
from weft.pipelines.engines.conform import conform
from weft.pipelines.engines.runners import (
    ApplyRunner,
    Failures,
    Indices,
    Pieces,
    Runner,
    Work,
    shape_of,
)
from weft.pipelines.fields import Fields
from weft.pipelines.graph import Apply
from weft.pipelines.grouping import Pick
from weft.pipelines.operator import booleans, canonical_bytes
from weft.pipelines.plan import Step
from weft.pipelines.relations import Group
from weft.pipelines.types import Values


def order_rows(batch: Batch, by: Sequence[str], descending: bool) -> Indices:
    """The rows of a batch in the order of the columns `by`; equal rows stay as they are.

    Nulls are last either way. NaN is larger than every number; text is in the order of its code
    points, and false comes before true.
    """
    if not by:
        return np.arange(batch.rows)
    frame = pl.DataFrame({name: pl.Series(batch.column(name).array) for name in by})
    rows = pl.arg_sort_by(list(by), descending=descending, nulls_last=True, maintain_order=True)
    order: Indices = frame.select(rows).to_series().to_numpy().astype(np.int64)
    return order


class Groups:
    """Which rows of a batch share a key. Null is a value of its own."""

    def __init__(self, batch: Batch, by: Sequence[str]) -> None:
        self.of = _numbers(batch, by)
        """The number of each row's group."""
        sizes = np.bincount(self.of)
        self.count = len(sizes)
        self.order: Indices = np.argsort(self.of, kind="stable")
        """The rows, group by group."""
        self.starts = np.concatenate([[0], np.cumsum(sizes)])
        """Where each group starts in `order`, and where the last one ends."""

    @property
    def first(self) -> Indices:
        """The first row of each group."""
        rows: Indices = self.order[self.starts[:-1]]
        return rows

    def rows(self, start: int, stop: int) -> Indices:
        """The rows of the groups from `start` to before `stop`."""
        return self.order[self.starts[start] : self.starts[stop]]

    def among(self, groups: Sequence[int] | Indices) -> npt.NDArray[np.bool_]:
        """For each row, whether it is in one of `groups`."""
        wanted = np.zeros(self.count, np.bool_)
        wanted[np.asarray(groups, np.int64)] = True
        mask: npt.NDArray[np.bool_] = wanted[self.of]
        return mask


def _numbers(batch: Batch, by: Sequence[str]) -> Indices:
    numbers = np.zeros(batch.rows, np.int64)
    for name in by:
        codes = _encoded(batch.column(name).array)
        many = int(codes.max(initial=0)) + 1
        numbers = codes if name == by[0] else _encoded(pa.array(numbers * many + codes))
    return numbers


def _encoded(array: pa.Array) -> Indices:
    """Equal values as equal numbers, from 0 in the order in which they first come."""
    codes = array.dictionary_encode(null_encoding="encode").indices
    numbers: Indices = codes.to_numpy().astype(np.int64)
    return numbers


@dataclass
class _Made:
    """What became of the groups of a batch: columns of new rows, and the groups they are of."""

    groups: Indices
    columns: dict[str, Column]
    failures: dict[int, Exception] = field(default_factory=dict)
    empty: list[int] = field(default_factory=list)  # groups that had nothing for an operator


class GroupRunner(Runner):
    """All rows of some groups in; one row for each group out, or those that an operator picks.

    `children` says whether the rows of a group by ``_parent`` are children themselves.
    """

    def __init__(
        self, step: Step, action: Group, given: Fields, device: str, *, children: bool
    ) -> None:
        super().__init__(step)
        self.by = action.by
        self.on_error = action.on_error
        self.children = children and action.by == (PARENT,)
        self.picks: _Picks | None = None
        self.makes: _Aggregates | _Calls = _Aggregates(step, action)
        if action.operator is not None:
            apply = Apply(action.operator, action.inputs, action.outputs, action.on_error)
            if isinstance(action.operator, Pick):
                self.picks = _Picks(step, apply, given, device)
            else:
                self.makes = _Calls(step, apply, given, device)

    def run(self, batch: Batch, work: Work) -> Batch:
        groups = Groups(batch, self._together(batch))
        if self.picks is not None:
            return self.sift(batch, *self.picks.ask(batch, groups), work)
        made = self.makes.make(batch, groups)
        keys = self._keys(batch, groups)
        self._end(batch, groups, made, keys, work)
        return self._rows(batch, groups, made, keys)

    def _together(self, batch: Batch) -> tuple[str, ...]:
        """What tells groups apart: parents of one key that came by two reads are two."""
        return (PARENT, READ) if self.by == (PARENT,) and READ in batch.envelope else self.by

    def _keys(self, batch: Batch, groups: Groups) -> list[str]:
        values = [batch.column(name).take(groups.first).array for name in self.by]
        keys = _texts(values, groups.count)
        if self.by != (PARENT,):
            return keys
        parents = values[0].to_pylist()  # which are keys already
        return [key if p is None else p for key, p in zip(keys, parents, strict=True)]

    def _end(self, batch: Batch, groups: Groups, made: _Made, keys: list[str], work: Work) -> None:
        """Every row ends here: in the row of its group, dropped or failed with its group."""
        failures = [
            (int(row), error)
            for group, error in made.failures.items()
            for row in groups.rows(group, group + 1)
        ]
        self.fail(batch, failures, work)
        lost = np.flatnonzero(groups.among(made.empty))
        if len(lost):
            work.note(self.step.id, "dropped", batch, lost)
            work.books[self.step.id].dropped += len(lost)
        rows = np.flatnonzero(groups.among(made.groups))
        if len(rows):
            into = pa.array(keys, pa.string()).take(pa.array(groups.of[rows]))
            work.note(self.step.id, "grouped", batch, rows, into=into)

    def _rows(self, batch: Batch, groups: Groups, made: _Made, keys: list[str]) -> Batch:
        """The new rows: the columns of the key, and what was made."""
        first = groups.first[made.groups]
        own = {name: batch.columns[name].take(first) for name in self.by if name in batch.columns}
        names = [keys[group] for group in made.groups.tolist()]
        sources = self._sources(batch, groups)
        envelope = {
            KEY: Column(ENVELOPE[KEY], array=pa.array(names, pa.string())),
            SOURCE: Column(ENVELOPE[SOURCE], array=sources.take(pa.array(made.groups))),
        }
        for name in (PARENT, INDEX, COUNT, READ):
            if name in batch.envelope:
                nothing = pa.nulls(len(names), ENVELOPE[name].storage)
                envelope[name] = Column(ENVELOPE[name], array=nothing)
        if self.children:
            envelope |= _places(batch.column(ABOVE).take(first).array.to_pylist())
        columns = own | made.columns
        return Batch({name: columns[name] for name in self.keeps}, envelope, len(names))

    def _sources(self, batch: Batch, groups: Groups) -> pa.Array:
        """The version of each group: that of the parent of children, or one of all members."""
        if self.by != (PARENT,):
            return _digests(batch, groups)
        found = batch.envelope[SOURCE].take(groups.first).array
        parents = batch.column(PARENT).take(groups.first).array
        if not parents.null_count:
            return found
        return pc.if_else(parents.is_valid(), found, _digests(batch, groups))


class _Aggregates:
    """One row for each group by Polars expressions."""

    def __init__(self, step: Step, action: Group) -> None:
        self.expressions = action.aggregates
        self.types = step.columns
        self.reads = tuple(dict.fromkeys(r for e in action.aggregates for r in e.roots))

    def make(self, batch: Batch, groups: Groups) -> _Made:
        columns = {name: batch.column(name) for name in self.reads}
        pieces, failures = self._attempt(columns, groups, 0, groups.count)
        made: dict[str, Column] = {}
        for name in (e.name for e in self.expressions if e.name in self.types):
            kind = self.types[name]
            arrays = [piece[name].array for piece in pieces] or [kind.to_arrow([])]
            made[name] = Column(kind, array=pa.concat_arrays(arrays))
        numbers = np.setdiff1d(np.arange(groups.count), list(failures))
        return _Made(numbers, made, failures)

    def _attempt(
        self, columns: dict[str, Column], groups: Groups, start: int, stop: int
    ) -> tuple[list[dict[str, Column]], dict[int, Exception]]:
        """The aggregates of some groups; if Polars fails, of each half, and so on."""
        rows = groups.rows(start, stop)
        whole = len(rows) == len(groups.of)
        part = columns if whole else {n: c.take(rows) for n, c in columns.items()}
        numbers = pl.Series(groups.of if whole else groups.of[rows])
        try:
            return [aggregate(self.expressions, part, numbers, self.types)], {}
        except Exception as error:  # noqa: BLE001  whatever Polars raises is the group's fault
            failure = error
        if stop - start <= 1:
            return [], {start: failure}
        half = (start + stop) // 2
        left = self._attempt(columns, groups, start, half)
        right = self._attempt(columns, groups, half, stop)
        return left[0] + right[0], left[1] | right[1]


class _Operator(ApplyRunner):
    """What operators on groups share."""

    def __init__(self, step: Step, action: Apply, given: Fields, device: str) -> None:
        super().__init__(step, action, given, device)
        self.reads = tuple(dict.fromkeys(c for _, c in action.inputs if c in given))

    def each(
        self, batch: Batch, groups: Groups
    ) -> Iterator[tuple[int, Indices, dict[str, Values]]]:
        """Of each group the rows that the operator takes, and their values by port."""
        rows, starts = self._taken(batch, groups)
        view = self.view(_some(batch.only(self.reads), rows))
        for group, (start, stop) in enumerate(itertools.pairwise(starts)):
            part = {port: values[start:stop] for port, values in view.items()}
            yield group, rows[start:stop], part

    def _taken(self, batch: Batch, groups: Groups) -> tuple[Indices, list[int]]:
        """The rows without a null that the operator does not take, group by group, and where
        the groups start."""
        complete = self.complete(batch)
        if complete is None:
            return groups.order, groups.starts.tolist()
        mask = np.zeros(batch.rows, np.bool_)
        mask[complete] = True
        sizes = np.bincount(groups.of[complete], minlength=groups.count)
        return groups.order[mask[groups.order]], [0, *np.cumsum(sizes).tolist()]


class _Calls(_Operator):
    """One row for each group by an operator.

    A row with a null in a port that takes none is left out of what the operator sees; a group of
    such rows alone is not asked for, and its rows are dropped.
    """

    def make(self, batch: Batch, groups: Groups) -> _Made:
        values: dict[str, list[Any]] = {port: [] for port in self.types}
        good: list[int] = []
        made = _Made(np.array([], np.int64), {})
        for group, rows, part in self.each(batch, groups):
            if not len(rows):
                made.empty.append(group)
                continue
            try:
                ports = self._ports(self.operator.group(part, self.loaded))
            except Exception as error:  # noqa: BLE001  whatever a user's operator raises is the group's fault
                made.failures[group] = error
                continue
            good.append(group)
            for port, column in values.items():
                column.append(ports[port])
        self._conform(made, good, values)
        return made

    def _ports(self, out: Any) -> dict[str, Any]:
        if isinstance(out, dict) and set(out) == set(self.types):
            return out
        if len(self.types) == 1:
            return {next(iter(self.types)): out}
        raise ContractError(
            f"{self.operator.name} writes {', '.join(self.types)}; for this group it returned "
            f"{shape_of(out)}."
        )

    def _conform(self, made: _Made, good: list[int], values: dict[str, list[Any]]) -> None:
        """Hold the answers to their types; a group whose answer does not fit fails."""
        columns: dict[str, Column] = {}
        for port, name in self.outputs:
            what = f"{self.operator.name}.{port}"
            columns[name], faults = conform(what, self.types[port], values[port], len(good))
            for row, fault in faults.items():
                made.failures.setdefault(good[row], ContractError(f"{what}: {fault}"))
        fit = np.array([i for i, g in enumerate(good) if g not in made.failures], np.int64)
        made.groups = np.array(good, np.int64)[fit]
        made.columns = {name: column.take(fit) for name, column in columns.items()}


class _Picks(_Operator):
    """Some rows of each group by an operator; a row with a null that it does not take is none."""

    def ask(self, batch: Batch, groups: Groups) -> tuple[Pieces, Failures]:
        """The answers for the rows of all groups at once, or else group by group."""
        if type(self.operator).pick_all is Pick.pick_all:
            return self._each(batch, groups)
        complete = self.complete(batch)
        rows = np.arange(batch.rows) if complete is None else complete
        view = self.view(_some(batch.only(self.reads), rows))
        try:
            answers = self.operator.pick_all(view, groups.of[rows], self.loaded)
        except Exception as error:
            if isinstance(error, WeftError) and not isinstance(error, RowError):
                raise
            return self._each(batch, groups)
        return [(rows, booleans(f"{self.operator.name}.pick_all", answers, len(rows)))], []

    def _each(self, batch: Batch, groups: Groups) -> tuple[Pieces, Failures]:
        pieces: Pieces = []
        failures: Failures = []
        for _, rows, part in self.each(batch, groups):
            try:
                answers = self.operator.pick(part, self.loaded) if len(rows) else []
                pieces.append((rows, booleans(f"{self.operator.name}.pick", answers, len(rows))))
            except Exception as error:  # noqa: BLE001  whatever a user's operator raises is the group's fault
                failures += [(int(row), error) for row in rows]
        return pieces, failures


def _some(batch: Batch, rows: Indices) -> Batch:
    """The rows of a batch; the batch itself, and no copy of it, if they are all of it in order."""
    return batch if np.array_equal(rows, np.arange(batch.rows)) else batch.take(rows)


def _texts(columns: Sequence[pa.Array], count: int) -> list[str]:
    """The key of each group's row: the text of its one value, or a JSON list of its values.

    Null, which is no text, is a list as well, ``[null]``, and so is text that begins with ``[``:
    two groups never have one key.
    """
    plain = [_plain(pl.Series(column)) for column in columns]
    if len(plain) != 1:
        rows = zip(*(s.to_list() for s in plain), strict=True) if plain else [()] * count
        return [canonical_bytes(row).decode() for row in rows]
    return [
        canonical_bytes([text]).decode() if text is None or text.startswith("[") else text
        for text in plain[0].cast(pl.String).to_list()
    ]


def _plain(column: pl.Series) -> pl.Series:
    """A column of a key as JSON can hold it: moments and dates are ISO 8601."""
    return column.dt.to_string("iso:strict") if column.dtype.is_temporal() else column


def _digests(batch: Batch, groups: Groups) -> pa.Array:
    """A digest over the keys and sources of each group's rows, whatever their order."""
    keys, sources = pl.Series(batch.envelope[KEY].array), pl.Series(batch.envelope[SOURCE].array)
    frame = pl.DataFrame({"group": groups.of, "key": keys, "source": sources})
    length = pl.col("key").str.len_bytes()  # so that no two pairs are the same text
    member = pl.concat_str(length, pl.lit(":"), "key", "source", pl.lit("\n"))
    joined = member.sort().str.join().alias("members")
    members = frame.group_by("group", maintain_order=True).agg(joined).get_column("members")
    digests = [hashlib.blake2b(m.encode(), digest_size=16).hexdigest() for m in members]
    return pa.array(digests, pa.string())


def _places(above: list[list[dict[str, Any]] | None]) -> dict[str, Column]:
    """Parent and place of rows that are children, and what is above them, by what was."""
    nearest = [one[-1] if one else {} for one in above]
    found = {
        name: Column(ENVELOPE[name], array=pa.array([n.get(key) for n in nearest], kind))
        for name, key, kind in (
            (PARENT, "parent", pa.string()), (INDEX, "index", pa.int32()),
            (COUNT, "count", pa.int32()),
        )
    }  # fmt: skip
    rest = pa.array([one[:-1] if one else None for one in above], ANCESTORS)
    return found | {ABOVE: Column(ENVELOPE[ABOVE], array=rest)}
