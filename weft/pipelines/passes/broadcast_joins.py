"""Give every worker a whole side of a join, where that side is small.

A shuffle writes all rows of both sides to disk and reads them again. Where the right is known
to be small, it alone is kept, every worker holds all of it, and rows of the left flow past it
from step to step. The right has to be complete first, so the left is read in a later phase; if
the left runs in the right's phase anyway, since both are made of the same rows, it would have to
wait on disk, and the shuffle stays.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.estimates import Estimate, sizes
from weft.pipelines.graph import Exchange, Join
from weft.pipelines.lowering import settle
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster

BROADCAST_BYTES = 32 * 2**20
"""The largest side that is broadcast. Each worker holds it, and the keys of it once more; reading
it takes a tenth of a second, which every process spends once."""


def broadcast_joins(plan: Plan, cluster: Cluster) -> Plan:
    """Joins whose right is small take it from a broadcast, and their left as it comes."""
    joins = [s for s in plan.steps if isinstance(s.action, Join)]
    found = sizes(plan) if joins else {}
    for step in joins:
        if _small(found[step.inputs[1]]):
            plan = _broadcast(plan, plan.step(step.id))
    return plan


def _small(size: Estimate) -> bool:
    return size.bytes is not None and size.bytes <= BROADCAST_BYTES


def _broadcast(plan: Plan, join: Step) -> Plan:
    left, right = (plan.step(i) for i in join.inputs)
    steps = tuple(
        replace(s, inputs=(left.inputs[0], right.id)) if s is join
        else replace(s, action=Exchange("broadcast")) if s is right
        else s
        for s in plan.steps
        if s is not left
    )  # fmt: skip
    changed = settle(replace(plan, steps=steps))
    waits = isinstance(changed.step(changed.step(join.id).inputs[0]).action, Exchange)
    return plan if waits else changed
