"""Give every model a device and a pool of explicit size.

An operator that wants a GPU gets as many workers as the cluster has GPUs for. One that says
``or_cpu`` runs on CPUs where there is no GPU: in a pool that, with all others like it, takes
half of the CPUs at most, so that whoever feeds it is never starved; where that leaves it less
than one worker, in tasks like everything else. Such operators share the GPUs if there are more
of them than GPUs. A size that the operator asks for itself stays.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.plan import Plan, Stage, Step
from weft.pipelines.resources import Cluster, Resources


def assign_devices(plan: Plan, cluster: Cluster) -> Plan:
    """Steps with the resources that they will have on `cluster`."""
    wanting = [s for s in plan.steps if s.resources.gpus]
    for step in wanting:
        plan = plan.replace_step(replace(step, placed=_resources(step, len(wanting), cluster)))
    return replace(plan, stages=tuple(_stage(plan, stage) for stage in plan.stages))


def _resources(step: Step, sharers: int, cluster: Cluster) -> Resources:
    wanted = step.resources
    if cluster.gpus or not wanted.or_cpu:
        gpus = wanted.gpus
        if wanted.or_cpu and sharers * gpus > cluster.gpus:
            gpus = int(100 * cluster.gpus / sharers) / 100
        fit = int(sum(m.gpus // gpus for m in cluster.machines) / sharers)
        return replace(wanted, gpus=gpus, or_cpu=False, workers=wanted.workers or max(1, fit))
    fit = int(cluster.cpus / 2 / sharers / wanted.cpus)
    workers = wanted.workers or fit or None
    return replace(wanted, gpus=0.0, gpu_memory=0, or_cpu=False, workers=workers)


def _stage(plan: Plan, stage: Stage) -> Stage:
    """A stage of one step that was given other resources."""
    steps = [plan.step(s) for s in stage.steps]
    if len(steps) != 1 or steps[0].placed is None:
        return stage
    placed = steps[0].placed
    return replace(stage, resources=placed, workers=placed.workers if placed.pooled else None)
