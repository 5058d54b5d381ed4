"""Filter before working: a predicate moves up past every step whose results it does not read.

The rows that come out are the same. What changes is the work that goes into rows that would be
dropped anyway, and, on the books, that such a row is counted as dropped where it might have
failed before. A predicate does not move past an `Expand`, so that parents and children stay
what they are, nor past a predicate as cheap as itself, so that the user's order decides.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.graph import Apply, Select, Where, WithColumns
from weft.pipelines.operator import Filter, Map
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster


def order_filters(plan: Plan, cluster: Cluster) -> Plan:
    """Every `where` as early as its columns allow."""
    while (pair := _movable(plan)) is not None:
        plan = _swap(plan, *pair)
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
        case _:
            return False


def _cost(where: Step) -> int:
    """How many bytes a row the predicate looks at."""
    return sum(where.columns[c].row_bytes for c in where.reads())


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
