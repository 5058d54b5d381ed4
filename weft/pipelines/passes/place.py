"""Find room for every stage on the cluster, or say why there is none.

Ray waits in silence for room that will never come: an operator that wants a GPU on a cluster
without one, or pools of workers that hold every CPU so that the tasks which feed them cannot
start. Both are refused here, before anything runs.
"""

from __future__ import annotations

from weft.errors import PlanError
from weft.pipelines.plan import Plan, Stage
from weft.pipelines.resources import Cluster, format_bytes


def place(plan: Plan, cluster: Cluster) -> Plan:
    """`plan` itself, if `cluster` can run it.

    Raises:
        PlanError: a worker fits on no machine, or the pools leave no CPU to feed them.
    """
    for stage in plan.stages:
        _fits_somewhere(plan, stage, cluster)
    for phase in range(plan.phases):  # one runs after the other
        _fit_together(plan.phase(phase), cluster)
    return plan


def _fit_together(plan: Plan, cluster: Cluster) -> None:
    """Refuse stages that cannot all have their workers at the same time."""
    pools = [s for s in plan.stages if s.workers]
    held = sum(s.resources.cpus * (s.workers or 0) for s in pools)
    tasks = [s.resources.cpus for s in plan.stages if not s.workers]
    if held + max(tasks, default=0) > cluster.cpus and pools:
        raise PlanError(
            f"The pools of {_names(pools)} hold {held:g} CPUs for as long as the run lasts, which "
            f"leaves {max(0, cluster.cpus - held):g} of {cluster.cpus:g} for the tasks that feed "
            f"them; they need {max(tasks):g}. Ask for fewer workers, or fewer cpus each."
        )
    gpus = sum(s.resources.gpus * (s.workers or 0) for s in pools)
    if gpus > cluster.gpus:
        raise PlanError(
            f"The pools of {_names(pools)} want {gpus:g} GPUs at once; the cluster has "
            f"{cluster.gpus:g} ({cluster}). Ask for fewer workers."
        )


def _fits_somewhere(plan: Plan, stage: Stage, cluster: Cluster) -> None:
    wanted = stage.resources
    for machine in cluster.machines:
        if (
            wanted.cpus <= machine.cpus
            and wanted.gpus <= machine.gpus
            and (not machine.memory or int(wanted.memory) <= machine.memory)
            and (not machine.gpu_memory or int(wanted.gpu_memory) <= machine.gpu_memory)
        ):
            return
    largest = max(cluster.machines, key=lambda m: (m.gpus, m.cpus))
    raise PlanError(
        f"No machine has room for a worker of {_names([stage])}: it needs {wanted}. The largest "
        f"has {largest.cpus:g} CPUs, {largest.gpus:g} GPUs, {format_bytes(largest.memory)}. "
        "Lower the operator's resources, or give the run another cluster."
    )


def _names(stages: list[Stage]) -> str:
    return ", ".join(s for stage in stages for s in stage.steps)
