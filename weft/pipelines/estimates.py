"""How many rows each step of a plan will pass on, as far as anybody can say before it runs.

What a source counts is exact, and so is what maps make of it. A filter makes it a bound, as do
a join and a group, whose keys nobody has looked at yet. How many children an `Expand` will make
is in the bytes of its rows: what comes after it is unknown, until something bounds it again.
All figures are for a run of all rows in which none fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from weft.errors import DefinitionError
from weft.pipelines.batch import KEY, PARENT
from weft.pipelines.graph import Apply, Read, Where
from weft.pipelines.grouping import Pick
from weft.pipelines.operator import Expand, Filter
from weft.pipelines.plan import Plan, Step
from weft.pipelines.relations import Exchange, Group, Join, Order, Union
from weft.pipelines.types import Type

_ROUND_FROM = 10_000_000
"""From here on, digits are noise: 12,345,678 is told as 12.3 M."""


@dataclass(frozen=True)
class Estimate:
    """Rows that a step passes on: `rows`, or at most that many; ``None`` is unknown.

    `row_bytes` is about what one of them takes in memory: by the types of its columns, and by
    what a source measured.

    >>> print(Estimate(1000), Estimate(1000, exact=False), Estimate(None, exact=False), sep=", ")
    1,000, ≤ 1,000, ?
    """

    rows: int | None
    exact: bool = True
    row_bytes: int = 0

    @property
    def bytes(self) -> int | None:
        """About how many bytes all of them are, or are at most; ``None`` is unknown."""
        return None if self.rows is None else self.rows * self.row_bytes

    def at_most(self) -> Estimate:
        """As many at most."""
        return replace(self, exact=False)

    def __str__(self) -> str:
        if self.rows is None:
            return "?"
        return ("" if self.exact else "≤ ") + count(self.rows)


UNKNOWN = Estimate(None, exact=False)


def count(rows: int) -> str:
    """A number of rows for people.

    >>> count(12345), count(12_345_678), count(3_000_000_000)
    ('12,345', '12.3 M', '3.0 G')
    """
    if rows < _ROUND_FROM:
        return f"{rows:,}"
    return f"{rows / 1e6:.1f} M" if rows < 1e9 else f"{rows / 1e9:,.1f} G"


def estimate(plan: Plan) -> dict[str, Estimate]:
    """The rows out of each step; of a write, the rows that it writes.

    Asks each source for its `count`, which may list it.

    Raises:
        DefinitionError: a source has nothing, with what was looked for.
    """
    known = measured(plan)
    found: dict[str, Estimate] = {}
    for step in plan.steps:
        inputs = [found[i] for i in step.inputs]
        made = _estimate(plan, step, inputs, found)
        if step.predicates:
            made = made.at_most()
        found[step.id] = replace(made, row_bytes=row_bytes(step.columns.items(), known))
    return found


def sizes(plan: Plan) -> dict[str, Estimate]:
    """The estimates, for passes; all unknown if a source has nothing.

    Who runs the plan is told so by the source.
    """
    try:
        return estimate(plan)
    except DefinitionError:
        return dict.fromkeys((s.id for s in plan.steps), UNKNOWN)


Measured = Mapping[tuple[str, Type], int]
"""Bytes per value that sources measured, by column and type: a column that a step replaces by
one of another type is not what was measured."""


def measured(plan: Plan) -> Measured:
    """Bytes per value that sources know better than types."""
    return {
        (column, kind): size
        for read in plan.reads()
        if isinstance(read.action, Read)
        for column, size in read.action.source.row_bytes().items()
        if (kind := read.columns.get(column)) is not None
    }


def row_bytes(columns: Iterable[tuple[str, Type]], known: Measured) -> int:
    """About how many bytes a row of these columns takes in memory."""
    return sum(known.get(column, column[1].row_bytes) for column in columns)


def _estimate(
    plan: Plan, step: Step, inputs: list[Estimate], found: Mapping[str, Estimate]
) -> Estimate:
    match step.action:
        case Read(source=source):
            rows = source.count()
            return UNKNOWN if rows is None else Estimate(rows)
        case Apply(operator=Expand()):
            return UNKNOWN
        case Where() | Apply(operator=Filter()):
            return inputs[0].at_most()
        case Union():
            return _sum(inputs)
        case Join() as join:
            return _joined(plan, step, join, *inputs)
        case Group() as group:
            return _grouped(plan, step, group, inputs[0], found)
        case Order(limit=limit):
            kept = plan.step(step.inputs[0])
            return _limited(found[kept.inputs[0]], limit)
        case Exchange(limit=limit) if limit is not None:
            return inputs[0].at_most()  # each unit keeps so many, and the order then cuts them
        case _:
            return inputs[0]


def _sum(inputs: list[Estimate]) -> Estimate:
    rows = [e.rows for e in inputs if e.rows is not None]
    if len(rows) < len(inputs):
        return UNKNOWN
    return Estimate(sum(rows), all(e.exact for e in inputs))


def _limited(given: Estimate, limit: int | None) -> Estimate:
    if limit is None:
        return given
    if given.rows is None:
        return Estimate(limit, exact=False)
    return Estimate(min(given.rows, limit), given.exact)


def _joined(plan: Plan, step: Step, join: Join, left: Estimate, right: Estimate) -> Estimate:
    """Where rows of the left meet one row at most, they are as many as before, or fewer."""
    if join.how in ("semi", "anti"):
        return left.at_most()
    if _meets_one(plan, step, join):
        return left if join.how == "left" else left.at_most()
    if left.rows is None or right.rows is None:
        return UNKNOWN
    if join.how == "inner" and _unique(plan, step.inputs[0], frozenset(join.left_on)):
        return right.at_most()
    if join.many:
        return Estimate(left.rows * max(right.rows, join.how == "left"), exact=False)
    # One side has the key once: its rows are as many as those of the other side.
    return Estimate(left.rows + right.rows, exact=False)


def _meets_one(plan: Plan, step: Step, join: Join) -> bool:
    """Whether no row of the left can meet several of the right."""
    return join.asof is not None or _unique(plan, step.inputs[1], frozenset(join.right_on))


def _unique(plan: Plan, name: str, columns: frozenset[str]) -> bool:
    """Whether no two rows of a step can have the same values in `columns`."""
    step = plan.step(name)
    match step.action:
        case Read():
            return KEY in columns
        case Union():
            return False  # two streams may have a row of the same key
        case Group(by=by, operator=operator) if not isinstance(operator, Pick):
            return KEY in columns or columns >= {*by}
        case Apply(operator=Expand()) if KEY not in columns:
            return False
        case Join(how="inner" | "left") as join if not _meets_one(plan, step, join):
            return False
    return _unique(plan, step.inputs[0], columns - step.makes())


def _grouped(
    plan: Plan, step: Step, group: Group, given: Estimate, found: Mapping[str, Estimate]
) -> Estimate:
    """No more rows than there were, and no more than parents."""
    if isinstance(group.operator, Pick):
        return given.at_most()
    if not group.by:
        return Estimate(1, given.exact and given.rows != 0)
    bounds = [given]
    if group.by == (PARENT,):
        bounds.append(_parents(plan, step.inputs[0], found))
    known = [e.rows for e in bounds if e.rows is not None]
    return Estimate(min(known), exact=False) if known else UNKNOWN


def _parents(plan: Plan, name: str, found: Mapping[str, Estimate], level: int = 1) -> Estimate:
    """How many rows there were `level` `Expand`s ago."""
    step = plan.step(name)
    match step.action:
        case Apply(operator=Expand()) if level == 1:
            return found[step.inputs[0]]
        case Apply(operator=Expand()):
            level -= 1
        case Group(by=by, operator=operator) if not isinstance(operator, Pick):
            if by != (PARENT,):
                return UNKNOWN
            level += 1
        case Union():
            return _sum([_parents(plan, i, found, level) for i in step.inputs])
        case Read():
            return UNKNOWN
    return _parents(plan, step.inputs[0], found, level)
