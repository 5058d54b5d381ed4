"""Drop a column at the last step that reads it.

A photograph's encoded bytes go right after the decode, its pixels after the last measure: what
nobody reads is neither kept in memory nor moved between workers. A column that no step reads is
not read from the source at all.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster


def prune_columns(plan: Plan, cluster: Cluster) -> Plan:
    """Every step passes on only what a later step needs."""
    needed: dict[str, frozenset[str]] = {}
    for step in reversed(plan.steps):
        wanted: frozenset[str] = frozenset().union(
            *(_needs(c, needed[c.id]) for c in plan.consumers(step.id))
        )
        needed[step.id] = wanted if plan.consumers(step.id) else frozenset(step.columns)
    steps = tuple(
        replace(s, columns=s.columns.only([c for c in s.columns if c in needed[s.id]]))
        for s in plan.steps
    )
    return replace(plan, steps=steps)


def _needs(step: Step, passed_on: frozenset[str]) -> frozenset[str]:
    """What `step` needs of its input, to do its work and to pass on `passed_on`."""
    return step.reads() | (passed_on - step.makes())
