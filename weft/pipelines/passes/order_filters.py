"""Filter before working: a predicate moves up past every step whose results it does not read.

The rows that come out are the same. What changes is the work that goes into rows that would be
dropped anyway, and, on the books, that such a row is counted as dropped where it might have
failed before. A predicate does not move past an `Expand`, so that parents and children stay
what they are, nor past a predicate as cheap as itself, so that the user's order decides. A
predicate on columns of the left of a join is asked before the join, and before the rows are
kept for it; so is one that follows a sort.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.batch import READABLE
from weft.pipelines.graph import Apply, Exchange, Join, Order, Select, Where, WithColumns
from weft.pipelines.lowering import settle
from weft.pipelines.operator import Filter, Map
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster


def order_filters(plan: Plan, cluster: Cluster) -> Plan:
    """Every `where` as early as its columns allow."""
    while (pair := _movable(plan)) is not None:
        before, where = pair
        kept = _kept(plan, before)
        plan = _swap(plan, before, where) if kept is None else _jump(plan, before, kept, where)
    return plan


def _movable(plan: Plan) -> tuple[Step, Step] | None:
    for where in plan.steps:
        if isinstance(where.action, Where):
            before = plan.step(where.inputs[0])
            if len(plan.consumers(before.id)) == 1 and _passes(where, before):
                return before, where
    return None


def _passes(where: Step, before: Step) -> bool:
    if where.reads() & before.makes():
        return False
    match before.action:
        case Apply(operator=operator, on_error=on_error):
            return isinstance(operator, Map | Filter) and on_error != "raise"
        case WithColumns() | Select():
            return True
        case Where():
            return _cost(where) < _cost(before)
        case Join() | Order(limit=None):
            assert isinstance(where.action, Where)
            return not set(READABLE) & set(where.action.predicate.roots)  # a join makes new keys
        case _:
            return False


def _kept(plan: Plan, before: Step) -> Step | None:
    """The exchange that `before`, a join or a sort, takes its rows from, the left of a join."""
    if not isinstance(before.action, Join | Order):
        return None
    found = plan.step(before.inputs[0])
    return found if isinstance(found.action, Exchange) else None


def _cost(where: Step) -> int:
    """How many bytes a row the predicate looks at."""
    return sum(where.columns[c].row_bytes for c in where.reads())


def _jump(plan: Plan, before: Step, kept: Step, where: Step) -> Plan:
    """`where` stands before the exchange `kept`, and what took its rows takes those of `before`."""
    source = plan.step(kept.inputs[0])
    first = replace(where, inputs=kept.inputs, columns=source.columns)
    steps = []
    for step in plan.steps:
        if step.id == kept.id:
            steps += [first, replace(kept, inputs=(where.id,))]
        elif step.id != where.id:
            inputs = tuple(before.id if i == where.id else i for i in step.inputs)
            steps.append(replace(step, inputs=inputs))
    return settle(replace(plan, steps=tuple(steps)))


def _swap(plan: Plan, before: Step, where: Step) -> Plan:
    """`where` takes the place of `before`, and `before` follows it."""
    source = plan.step(before.inputs[0])
    first = replace(where, inputs=before.inputs, columns=source.columns)
    second = replace(before, inputs=(where.id,))
    steps = []
    for step in plan.steps:
        if step.id == before.id:
            steps += [first, second]
        elif step.id != where.id:
            inputs = tuple(before.id if i == where.id else i for i in step.inputs)
            steps.append(replace(step, inputs=inputs))
    stages = list(plan.stages)
    a, b = plan.stage_of(before.id), plan.stage_of(where.id)
    if a != b:  # each is alone in its stage as long as nothing is fused
        stages[a], stages[b] = stages[b], stages[a]
    return replace(plan, steps=tuple(steps), stages=tuple(stages))
