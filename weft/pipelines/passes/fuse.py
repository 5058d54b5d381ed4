"""One stage per run of steps that need the same worker.

A hop between stages costs a copy of the rows; steps in one stage hand them over as they are.
Steps are taken greedily: everything that can run on the current kind of worker runs on it
before the stage ends. The writes, and what keeps rows for a later phase, close the last stage
of their phase.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.lowering import stage_of_steps
from weft.pipelines.plan import Plan, Stage, Step
from weft.pipelines.resources import Cluster, Resources


def fuse(plan: Plan, cluster: Cluster) -> Plan:
    """As few stages as the kinds of worker allow."""
    stages = [stage for number in range(plan.phases) for stage in _fused(plan, number)]
    return replace(plan, stages=tuple(stages))


def _fused(plan: Plan, phase: int) -> list[Stage]:
    """The stages of one phase."""
    inside = [s for s in plan.steps if plan.phase_of(s.id) == phase]
    waiting = [s for s in inside if not s.ends]
    done = {s.id for s in plan.exchanges()}
    stages: list[Stage] = []
    while waiting or not stages:
        kind = Resources() if not stages else _ready(waiting, done)[0].resources
        taken: list[str] = []
        while ready := [s for s in _ready(waiting, done) if s.resources == kind]:
            taken += [s.id for s in ready]
            done.update(s.id for s in ready)
            waiting = [s for s in waiting if s.id not in done]
        stages.append(stage_of_steps(taken, kind, phase))
    ends = tuple(s.id for s in inside if s.ends)
    last = stages[-1]
    if last.resources == Resources():
        stages[-1] = replace(last, steps=last.steps + ends)
    else:
        stages.append(stage_of_steps(ends, Resources(), phase))
    return stages


def _ready(waiting: list[Step], done: set[str]) -> list[Step]:
    return [s for s in waiting if all(i in done for i in s.inputs)]
