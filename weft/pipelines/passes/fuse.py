"""One stage per run of steps that need the same worker.

A hop between stages costs a copy of the rows; steps in one stage hand them over as they are.
Steps are taken greedily: everything that can run on the current kind of worker runs on it
before the stage ends. The writes close the last stage.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.graph import Read, Write
from weft.pipelines.plan import Plan, Stage, Step, _stage
from weft.pipelines.resources import Cluster, Resources


def fuse(plan: Plan, cluster: Cluster) -> Plan:
    """As few stages as the kinds of worker allow."""
    waiting = [s for s in plan.steps if not isinstance(s.action, Write)]
    done: set[str] = set()
    stages: list[Stage] = []
    while waiting:
        kind = Resources() if not stages else _ready(waiting, done)[0].resources
        taken: list[str] = []
        while ready := [s for s in _ready(waiting, done) if s.resources == kind]:
            taken += [s.id for s in ready]
            done.update(s.id for s in ready)
            waiting = [s for s in waiting if s.id not in done]
        stages.append(_stage(tuple(taken), kind))
    writes = tuple(s.id for s in plan.writes())
    last = stages[-1]
    if last.resources == Resources():
        stages[-1] = replace(last, steps=last.steps + writes)
    else:
        stages.append(_stage(writes, Resources()))
    return replace(plan, stages=tuple(stages))


def _ready(waiting: list[Step], done: set[str]) -> list[Step]:
    return [s for s in waiting if isinstance(s.action, Read) or all(i in done for i in s.inputs)]
