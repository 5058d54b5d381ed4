"""The books: for every step, how many rows came in and what became of each.

They are kept where rows are counted, in the workers, summed over units, and balanced before a
run publishes: what a step took it passed on, dropped or failed; what it passed on, each of its
consumers took. An `Expand` passes on parents and emits children.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa

from weft.errors import BooksError
from weft.pipelines.batch import KEY
from weft.pipelines.graph import Read, Write
from weft.pipelines.plan import Plan

OutcomeKind = Literal["kept", "dropped", "failed", "nulled", "expanded", "grouped", "joined"]
"""What became of a row; ``nulled`` rows failed under ``on_error="null"`` and went on, ``grouped``
ones went into a row of a group, ``joined`` ones were offered to the left of a join."""


@dataclass
class Count:
    """One step's line in the books. `seconds` is time spent in the step, over all workers.

    `children_failed` are children of an `Expand` that were listed and could not be made; their
    parents passed.
    """

    taken: int = 0
    passed: int = 0
    dropped: int = 0
    failed: int = 0
    nulled: int = 0
    emitted: int = 0
    children_failed: int = 0
    seconds: float = 0.0

    @property
    def failures(self) -> int:
        """Rows that failed here, children that failed to be made among them."""
        return self.failed + self.children_failed

    def add(self, other: Count) -> None:
        """Add another worker's line for the same step."""
        for f in dataclasses.fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))


@dataclass(frozen=True)
class Outcomes:
    """Rows of one batch that met the same end at one step.

    `rows` has columns of the ledger: ``_key`` and ``_source``; ``_parent`` and ``read`` where the
    batch has them; ``children`` of expanded rows and ``into`` of grouped ones. All rows of a unit
    may end at one step, so they stay in Arrow. `errors` are exception types and messages.
    """

    node: str
    kind: OutcomeKind
    rows: pa.Table
    errors: list[tuple[str, str]] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The key of each row."""
        keys: list[str] = self.rows[KEY].to_pylist()
        return keys


Books = dict[str, Count]
"""The line of every step, by the step's name."""


def new_books(plan: Plan) -> Books:
    """Books with an empty line for every step and every predicate pushed into another step."""
    names = [n for s in plan.steps for n in (s.id, *(p.node for p in s.predicates))]
    return {name: Count() for name in names}


def sum_books(plan: Plan, many: Iterable[Mapping[str, Mapping[str, Any]]]) -> Books:
    """The sum of the books of many units, which come as JSON."""
    total = new_books(plan)
    for books in many:
        for name, line in books.items():
            total[name].add(Count(**line))
    return total


def balance(plan: Plan, books: Books, rows_read: int, rows_written: Mapping[str, int]) -> None:
    """Check that every row that was read is accounted for at every step.

    Args:
        plan: the plan that ran.
        books: the summed books.
        rows_read: rows in all units together.
        rows_written: rows staged, by write step.

    Raises:
        BooksError: they are not; the message shows the line that does not add up.
    """
    for name, line in books.items():
        if line.taken != line.passed + line.dropped + line.failed:
            raise BooksError(
                f"Step {name!r} took {line.taken} rows, but passed {line.passed}, dropped "
                f"{line.dropped} and failed {line.failed}. Nothing was published."
            )
    taken = sum(books[step.id].taken for step in plan.reads())
    if rows_read != taken:
        raise BooksError(
            f"{rows_read} rows were listed, but {taken} were read. Nothing was published."
        )
    for step in plan.steps:
        if isinstance(step.action, Read):
            _balance_read(books, step.id, [p.node for p in step.predicates])
        elif step.predicates:
            _balance_expand(books, step.id, step.predicates[-1].node)
        offered = sum(books[i].emitted for i in step.inputs)
        if step.inputs and offered != books[step.id].taken:
            raise BooksError(
                f"Step {' and '.join(map(repr, step.inputs))} passed on {offered} rows, but "
                f"{step.id!r} took {books[step.id].taken}. Nothing was published."
            )
        if isinstance(step.action, Write) and rows_written[step.id] != books[step.id].taken:
            raise BooksError(
                f"Write {step.id!r} took {books[step.id].taken} rows, but {rows_written[step.id]} "
                "were staged. Nothing was published."
            )


def _balance_read(books: Books, name: str, predicates: list[str]) -> None:
    dropped = sum(books[p].dropped for p in predicates)
    line = books[name]
    if line.passed != line.emitted + dropped:
        raise BooksError(
            f"Read {name!r} passed {line.passed} rows, but emitted {line.emitted} and its filters "
            f"dropped {dropped}. Nothing was published."
        )


def _balance_expand(books: Books, name: str, last: str) -> None:
    line, listed = books[name], books[last].emitted
    if listed != line.emitted + line.children_failed:
        raise BooksError(
            f"Expand {name!r} has {listed} children that passed its filters, but emitted "
            f"{line.emitted} and {line.children_failed} failed. Nothing was published."
        )
