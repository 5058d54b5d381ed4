"""The rows of a later phase: how a unit takes up what an exchange kept, and joins, groups, sorts.

A unit of a later phase is some chunks of kept files. Which ones, and which of their rows, its
payload says: `runs/phases.py` cuts them so that what must be in memory at once fits.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from weft.errors import DataError, TooLarge
from weft.pipelines.batch import Batch, concat_batches
from weft.pipelines.engines.grouping import order_rows
from weft.pipelines.engines.hashing import partition_of
from weft.pipelines.engines.kept import HELD_ROWS, Kept, nothing_kept, read_kept
from weft.pipelines.engines.matching import Matcher
from weft.pipelines.engines.runners import Runner, Work
from weft.pipelines.graph import Group, Join, Order
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import format_bytes

Files = Mapping[str, Sequence[Kept]]
"""What was kept, by exchange, in the order of the units that kept it."""

AGAIN = 1
"""Salt of the hash that cuts a partition again that is too large."""


def room() -> int:
    """Bytes of rows that a worker may hold at once: an eighth of its share of this machine.

    Sorting and grouping take a few copies of what they work on.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return int(memory / max(1, len(os.sched_getaffinity(0))) / 8)


class JoinRunner(Runner):
    """Batches of the left, with a right side that is complete."""

    def __init__(self, step: Step, right: Batch) -> None:
        super().__init__(step)
        assert isinstance(step.action, Join)
        self.join = step.action
        self.right = right
        self.matcher = Matcher(step.id, step.action, right, step.columns)

    def run(self, batch: Batch, work: Work) -> Batch:
        matched = self.matcher(batch)
        self._refuse_many(matched.several, work)
        meets = np.bincount(matched.left, minlength=batch.rows)
        many = np.flatnonzero(meets > 1)
        if len(many):  # they end here, and go on as several
            children = pa.array(meets[many], pa.int32())
            work.note(self.step.id, "expanded", batch, many, children=children)
        lost = np.flatnonzero(meets == 0)
        if len(lost):
            work.note(self.step.id, "dropped", batch, lost)
            work.books[self.step.id].dropped += len(lost)
        return matched.rows

    def _refuse_many(self, several: Sequence[str], work: Work) -> None:
        """Note keys of which the right has several rows: only one row of the left may meet them.

        Rows of the left may be in other units, so the driver looks at what all units noted.
        """
        if self.join.many or self.join.asof or self.join.how in ("semi", "anti"):
            return
        seen = work.met.setdefault(self.step.id, set())
        for key in several:
            if key in seen:
                raise many_to_many(self.step.id, key)
            seen.add(key)


def note_right(step: Step, batches: Iterable[Batch], work: Work) -> None:
    """Put the rows of the right on the books: they were offered to the left."""
    line = work.books[step.id]
    for batch in batches:
        if batch.rows:
            work.note(step.id, "joined", batch, np.arange(batch.rows))
        line.taken += batch.rows
        line.passed += batch.rows


def many_to_many(step: str, key: str) -> DataError:
    """The refusal of a join whose rows meet many to many."""
    return DataError(
        f"{step}: key {key} is there several times on both sides, so rows would meet many to "
        "many. Nothing was published. Make one side unique, with a group or dedup.Exact, or say "
        "join(…, many=True)."
    )


def broadcast_side(plan: Plan, step: Step, files: Files) -> Batch:
    """All rows of the right of a join that every worker has.

    Raises:
        TooLarge: they do not fit.
    """
    right, types = step.inputs[1], plan.step(step.inputs[1]).columns
    size = sum(f["bytes"] for f in files[right])
    if size > room():
        raise TooLarge(_too_large(step.id, f"the right side, {format_bytes(size)},"))
    found = list(read_kept(files[right], types))
    return concat_batches(found) if found else nothing_kept(types)


@dataclass(frozen=True)
class Meeting:
    """A unit of a step with which its phase begins: what it makes of the rows that it takes up.

    Raises:
        TooLarge: rows of one key are more than a worker can hold.
        DataError: rows meet many to many.
    """

    plan: Plan
    step: Step
    files: Files
    payload: bytes
    work: Work

    def rows(self, runner: Runner | None, batch_rows: int) -> Iterator[Batch]:
        """The rows after the step; `runner` is that of a group."""
        match self.step.action:
            case Join() as join:
                yield from self._joined(join, batch_rows)
            case Group(by=by):
                assert runner is not None
                whole = self._all(self.step.inputs[0], by)
                if whole.rows:
                    yield runner(whole, self.work)
            case Order() as order:
                yield from self._ordered(order)
            case _:
                raise AssertionError(f"no phase begins with {self.step}")

    @functools.cached_property
    def about(self) -> dict[str, Any]:
        """Which of the kept rows are the unit's."""
        found: dict[str, Any] = json.loads(self.payload)
        return found

    def _joined(self, join: Join, batch_rows: int) -> Iterator[Batch]:
        left, right = self.step.inputs
        runner = JoinRunner(self.step, self._all(right, join.right_on))
        mine, slices = self.about["slice"]
        if mine == 0:
            note_right(self.step, [runner.right], self.work)
        for number, batch in enumerate(self._share(left, join.left_on, batch_rows)):
            if number % slices == mine:
                yield runner(batch, self.work)
        if slices == 1:  # all rows of these keys were here
            self.work.met.pop(self.step.id, None)

    def _ordered(self, order: Order) -> Iterator[Batch]:
        source, line = self.step.inputs[0], self.work.books[self.step.id]
        given = self.files[source][slice(*self.about["files"])]
        batches = read_kept(given, self.plan.step(source).columns, rows=1)  # each file is sorted
        if order.by:
            batches = (_between(b, order, self.about["bounds"]) for b in batches)
        held = list(_bounded(self.step, self._first(order, batches), order.by))
        whole = self._cut(order, held) if held else None
        if whole is not None:
            line.passed += whole.rows
            line.emitted += whole.rows
            yield whole.only(self.step.columns)

    def _first(self, order: Order, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The rows that can be among the first: of an order with a limit twice as many at most."""
        held: list[Batch] = []
        for batch in batches:
            self.work.books[self.step.id].taken += batch.rows
            held += [batch] if batch.rows else []
            if self.about["most"] is None:
                yield from held
                held = []
            elif sum(b.rows for b in held) > 2 * self.about["most"]:
                held = [self._cut(order, held)]
        yield from held

    def _cut(self, order: Order, batches: Sequence[Batch]) -> Batch:
        """The rows in order; those beyond the limit are dropped."""
        whole, most = concat_batches(batches), self.about["most"]
        if order.by:
            whole = whole.take(order_rows(whole, order.by, order.descending))
        if most is not None and whole.rows > most:
            self.work.note(self.step.id, "dropped", whole, np.arange(most, whole.rows))
            self.work.books[self.step.id].dropped += whole.rows - most
            whole = whole.take(np.arange(most))  # a copy: the rest can be freed
        return whole

    def _all(self, source: str, by: Sequence[str]) -> Batch:
        """All rows of the unit that `source` kept, as one batch."""
        found = list(_bounded(self.step, self._share(source, by, HELD_ROWS), by))
        return concat_batches(found) if found else nothing_kept(self.plan.step(source).columns)

    def _share(self, source: str, by: Sequence[str], rows: int) -> Iterator[Batch]:
        """The rows of the unit's partitions, or of its share of them, batch by batch."""
        part, parts = self.about["part"]
        files, types = self.files[source], self.plan.step(source).columns
        for batch in read_kept(files, types, chunks=tuple(self.about["chunks"]), rows=rows):
            if parts == 1:
                yield batch
                continue
            mine = np.flatnonzero(partition_of(batch, by, parts, salt=AGAIN) == part)
            if len(mine):
                yield batch.take(mine)


def _between(batch: Batch, order: Order, bounds: Sequence[Any]) -> Batch:
    """The rows from one bound to before the other, of the first column; nulls are last."""
    low, high = bounds
    if low is None and high is None:
        return batch
    column = pl.Series("v", batch.column(order.by[0]).array).to_physical()
    inside = pl.Series("v", [True]).new_from_index(0, batch.rows)
    if low is not None:
        above = pl.col("v") <= low if order.descending else pl.col("v") >= low
        inside &= column.to_frame().select(above.fill_null(value=True)).to_series()
    if high is not None:
        below = pl.col("v") > high if order.descending else pl.col("v") < high
        inside &= column.to_frame().select(below.fill_null(value=False)).to_series()
    rows = np.flatnonzero(inside.to_numpy())  # one range, since the batch is sorted
    return batch.slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else batch.slice(0, 0)


def _bounded(step: Step, batches: Iterator[Batch], by: Sequence[str]) -> Iterator[Batch]:
    """The batches, as long as they fit into memory together.

    Raises:
        TooLarge: they do not.
    """
    size, limit = 0, room()
    for batch in batches:
        columns = [*batch.columns.values(), *batch.envelope.values()]
        size += sum(c.array.nbytes for c in columns)
        if size > limit:
            what = f"more than {format_bytes(limit)} of rows"
            raise TooLarge(_too_large(step.id, what, _key(batch, by)))
        yield batch


def _key(batch: Batch, by: Sequence[str]) -> str:
    """The most frequent key of a batch, in words."""
    if not by:
        return ""
    frame = pl.DataFrame({n: pl.Series(batch.column(n).array) for n in by})
    first = frame.group_by(by).len().sort("len", descending=True).row(0)
    if first[-1] < batch.rows / 10:
        return ""  # it is not because of one key
    key = ", ".join(f"{n}={v!r}" for n, v in zip(by, first, strict=False))
    return f" Their most frequent key is {key}."


def _too_large(step: str, what: str, key: str = "") -> str:
    return (
        f"{step}: {what} would have to be in memory at once; a worker here has room for "
        f"{format_bytes(room())}.{key} Nothing was published. Leave out columns with select(), "
        "drop rows before, or use machines with more memory for each CPU."
    )
