"""Let a decoder do what is asked for right after it.

A resize after a decode becomes an argument of the decode, which for a JPEG means decoding at a
fraction of the size: three to four times faster than decoding everything and throwing most of
it away. Which operator can take over which is the operators' own knowledge (`Operator.absorb`),
and so is the error bound, which they state.

An operator that makes several rows of one lists them before it makes them. A `where` on what is
known by then is asked in between: a page that is dropped is never rendered, a frame that is
dropped is never decoded unless another one needs it. A child that cannot be made and that the
filter drops is then counted as dropped, where it would have failed before.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.fields import Fields
from weft.pipelines.graph import Apply, Where
from weft.pipelines.operator import Expand
from weft.pipelines.plan import Plan, Predicate, Step
from weft.pipelines.resources import Cluster


def push_into_decode(plan: Plan, cluster: Cluster) -> Plan:
    """Operators take over the ones that follow them, as long as one can."""
    for step in plan.steps:
        while (merged := _absorbed(plan, step.id) or _asked(plan, step.id)) is not None:
            plan = merged
    return plan


def _asked(plan: Plan, name: str) -> Plan | None:
    """The plan with a filter that follows the expand `name` asked inside it."""
    if name not in {s.id for s in plan.steps}:
        return None
    step, consumers = plan.step(name), plan.consumers(name)
    if len(consumers) != 1 or not step.expands or not isinstance(consumers[0].action, Where):
        return None
    assert isinstance(step.action, Apply)
    assert isinstance(step.action.operator, Expand)
    where = consumers[0]
    late = {c for p, c in step.action.outputs if p not in step.action.operator.early}
    if where.reads() & late or step.action.on_error == "raise":
        return None
    predicate = Predicate(where.id, consumers[0].action.predicate)
    merged = replace(step, predicates=(*step.predicates, predicate))
    return plan.replace_step(merged).remove_step(where.id)


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
    changed = following.makes()
    if any(changed & set(p.expression.roots) for p in step.predicates):
        return None  # the filter asked for the value as it was before
    port = next(p for p, c in step.action.outputs if c in changed)
    operator = step.action.operator.absorb(following.action.operator, port)
    if operator is None:
        return None
    action = replace(step.action, operator=operator)
    columns = Fields({c: following.columns.get(c, t) for c, t in step.columns.items()})
    return plan.replace_step(replace(step, action=action, columns=columns)).remove_step(
        following.id
    )


def _in_place(step: Step, following: Step) -> bool:
    """Whether `following` reads only what `step` makes, and puts its answer in its place."""
    return (
        isinstance(step.action, Apply)
        and isinstance(following.action, Apply)
        and bool(following.makes())
        and following.makes() <= following.reads() <= step.makes()
        and _same_ports(step.action, following.action)
        and step.action.on_error == following.action.on_error
        and step.resources == following.resources
        and following.action.isolated is None
        and following.action.row_seconds is None
    )


def _same_ports(action: Apply, following: Apply) -> bool:
    """One port on one column, or ports that are called what the columns' makers call them."""
    return len(following.inputs) == 1 or set(following.inputs) <= set(action.outputs)
