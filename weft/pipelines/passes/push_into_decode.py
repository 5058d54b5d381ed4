"""Let a decoder do what is asked for right after it.

A resize after a decode becomes an argument of the decode, which for a JPEG means decoding at a
fraction of the size: three to four times faster than decoding everything and throwing most of
it away. Which operator can take over which is the operators' own knowledge (`Operator.absorb`),
and so is the error bound, which they state.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.fields import Fields
from weft.pipelines.graph import Apply
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster


def push_into_decode(plan: Plan, cluster: Cluster) -> Plan:
    """Operators take over the ones that follow them, as long as one can."""
    for step in plan.steps:
        while (merged := _absorbed(plan, step.id)) is not None:
            plan = merged
    return plan


def _absorbed(plan: Plan, name: str) -> Plan | None:
    if name not in {s.id for s in plan.steps}:
        return None
    step = plan.step(name)
    consumers = plan.consumers(name)
    if len(consumers) != 1 or not _in_place(step, consumers[0]):
        return None
    following = consumers[0]
    assert isinstance(step.action, Apply)
    assert isinstance(following.action, Apply)
    ((_, column),) = following.action.inputs
    port = next(p for p, c in step.action.outputs if c == column)
    operator = step.action.operator.absorb(following.action.operator, port)
    if operator is None:
        return None
    action = replace(step.action, operator=operator)
    columns = Fields({c: following.columns.get(c, t) for c, t in step.columns.items()})
    return plan.replace_step(replace(step, action=action, columns=columns)).remove_step(
        following.id
    )


def _in_place(step: Step, following: Step) -> bool:
    """Whether `following` reads one column that `step` makes, and puts its answer in its place."""
    return (
        isinstance(step.action, Apply)
        and isinstance(following.action, Apply)
        and len(following.action.inputs) == 1
        and following.reads() == following.makes() <= step.makes()
        and step.action.on_error == following.action.on_error
        and step.resources == following.resources
    )
