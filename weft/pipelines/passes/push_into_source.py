"""Let the source apply the filters that stand right after it.

A `where` on a file's size or on a column of a stored table then costs a look at the listing or
an index, not a read of the media. The rows it drops still come back as keys: they stay on the
books under the name of the `where` that they were.

Which columns to read needs no push: a read step's columns are what the source is asked for, and
`prune_columns` shrinks them.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.graph import Read, Where
from weft.pipelines.plan import Plan, Predicate, Step
from weft.pipelines.resources import Cluster


def push_into_source(plan: Plan, cluster: Cluster) -> Plan:
    """Filters at the head of an unbranched read become predicates of it."""
    for read in tuple(plan.reads()):
        while (where := _pushable(plan, plan.step(read.id))) is not None:
            step = plan.step(read.id)
            assert isinstance(where.action, Where)
            predicate = Predicate(where.id, where.action.predicate)
            plan = plan.replace_step(replace(step, predicates=(*step.predicates, predicate)))
            plan = plan.remove_step(where.id)
    return plan


def _pushable(plan: Plan, read: Step) -> Step | None:
    """The only consumer of `read`, if it is a filter that the source can apply."""
    consumers = plan.consumers(read.id)
    if len(consumers) != 1 or not isinstance(consumers[0].action, Where):
        return None
    assert isinstance(read.action, Read)
    expression = consumers[0].action.predicate
    return consumers[0] if read.action.source.accepts_predicate(expression.expr) else None
