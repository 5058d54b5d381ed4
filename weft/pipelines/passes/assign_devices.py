"""Give every model a device and a pool of explicit size.

An operator that wants a GPU gets as many workers as the cluster has GPUs for. One that says
``or_cpu`` runs on CPUs where there is no GPU: in a pool that, with all others like it, takes
half of the CPUs at most, so that whoever feeds it is never starved; where that leaves it less
than one worker, in tasks like everything else. Such pools share the GPUs if there are more of
them than GPUs: each of their workers gets a half, a third, a quarter of one, because a share of
a GPU lies on one GPU. Steps that one worker can run are one pool. A size that the operator asks
for itself stays.
"""

from __future__ import annotations

import math
from dataclasses import replace

from weft.pipelines.passes.fuse import fuse
from weft.pipelines.plan import Plan, Stage, Step
from weft.pipelines.resources import Cluster, Machine, Resources


def assign_devices(plan: Plan, cluster: Cluster) -> Plan:
    """Steps with the resources that they will have on `cluster`."""
    wanting = [stage.phase for stage in fuse(plan, cluster).stages if stage.resources.gpus]
    for step in plan.steps:
        if step.resources.gpus:
            pools = wanting.count(plan.phase_of(step.id))
            plan = plan.replace_step(replace(step, placed=_resources(step, pools, cluster)))
    return replace(plan, stages=tuple(_stage(plan, stage) for stage in plan.stages))


def _resources(step: Step, sharers: int, cluster: Cluster) -> Resources:
    wanted = step.resources
    if cluster.gpus or not wanted.or_cpu:
        gpus = wanted.gpus
        if wanted.or_cpu and sharers * gpus > cluster.gpus:
            gpus = int(100 / math.ceil(sharers / cluster.gpus)) / 100
        fit = sum(_room(m, gpus) for m in cluster.machines) // sharers
        return replace(wanted, gpus=gpus, or_cpu=False, workers=wanted.workers or max(1, fit))
    fit = int(cluster.cpus / 2 / sharers / wanted.cpus)
    workers = wanted.workers or fit or None
    return replace(wanted, gpus=0.0, gpu_memory=0, or_cpu=False, workers=workers)


def _room(machine: Machine, gpus: float) -> int:
    """How many workers of `gpus` each the GPUs of a machine have room for."""
    if gpus >= 1:
        return int(machine.gpus / gpus)
    return int(machine.gpus) * int(1 / gpus + 1e-9)  # 1 / 0.1 and the like may fall short of 10


def _stage(plan: Plan, stage: Stage) -> Stage:
    """A stage of one step that was given other resources."""
    steps = [plan.step(s) for s in stage.steps]
    if len(steps) != 1 or steps[0].placed is None:
        return stage
    placed = steps[0].placed
    return replace(stage, resources=placed, workers=placed.workers if placed.pooled else None)
