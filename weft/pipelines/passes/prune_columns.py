"""Drop a column at the last step that reads it.

A photograph's encoded bytes go right after the decode, its pixels after the last measure: what
nobody reads is neither kept in memory nor moved between workers. A column that no step reads is
not read from the source at all.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster


def prune_columns(plan: Plan, cluster: Cluster) -> Plan:
    """Every step passes on only what a later step needs."""
    needed = plan.needed()
    steps = tuple(
        replace(s, columns=s.columns.only([c for c in s.columns if c in needed[s.id]]))
        for s in plan.steps
    )
    return replace(plan, steps=steps)
