"""How busy each stage was while it had anything to do, and which side held the others up.

Every unit notes when a stage began with it and for how long it worked. The time between a
stage's first beginning and its last end, times its workers, is what it could have worked. A
pool that waits has slow feeders, or slow takers behind it; a pool that never waits is itself
the slow side, which is where an expensive device should be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster

FULL = 0.9
"""From here on a stage counts as busy all the time: the rest is the beginning and the end."""


@dataclass(frozen=True)
class StageUse:
    """One stage of a run: its steps, its workers and the share of their time that they worked.

    `workers` of tasks are the CPUs that no pool holds; they share them with other tasks.
    """

    steps: tuple[str, ...]
    pooled: bool
    gpus: float
    workers: float
    seconds: float
    busy: float
    phase: int = 0

    @property
    def name(self) -> str:
        """Its steps, in words."""
        return ", ".join(self.steps)

    def to_json(self) -> dict[str, Any]:
        """As JSON, for journals and reports."""
        return asdict(self) | {"seconds": round(self.seconds, 3), "busy": round(self.busy, 4)}


def stage_use(
    plan: Plan, receipts: Sequence[Mapping[str, Any]], cluster: Cluster
) -> tuple[StageUse, ...]:
    """What the receipts of one attempt say of every stage that they came through."""
    return tuple(
        use
        for phase in range(plan.phases)
        if (mine := [r for r in receipts if r.get("phase", 0) == phase])
        for use in _of_phase(plan.phase(phase), mine, cluster)
    )


def _of_phase(
    plan: Plan, receipts: Sequence[Mapping[str, Any]], cluster: Cluster
) -> Iterator[StageUse]:
    held = sum(s.resources.cpus * (s.workers or 0) for s in plan.stages)
    free = max(1.0, cluster.cpus - held)
    for index, stage in enumerate(plan.stages):
        spells = [r["stages"][index] for r in receipts]
        span = max(b + s for b, s in spells) - min(b for b, _ in spells)
        worked = sum(s for _, s in spells)
        workers = float(stage.workers or max(1.0, free // stage.resources.cpus))
        busy = min(1.0, worked / (workers * span)) if span > 0 else 1.0
        steps, gpus = stage.steps, stage.resources.gpus
        pooled = bool(stage.workers)
        yield StageUse(steps, pooled, gpus, workers, worked, busy, stage.phase)


def slow_side(uses: Sequence[StageUse]) -> str | None:
    """Which side held up the pools, in words; ``None`` if there are none."""
    pools = [u for u in uses if u.pooled]
    if not pools:
        return None
    pool = max(pools, key=lambda u: (u.gpus, u.seconds))
    if pool.busy >= FULL:
        return f"{pool.name}: busy {pool.busy:.0%}, so it is the slow side, as it should be"
    first = uses.index(pool)
    others = [u for u in uses if u is not pool and u.phase == pool.phase]
    slowest = max(others, key=lambda u: u.seconds / u.workers, default=None)
    if slowest is None or slowest.seconds / slowest.workers < pool.seconds / pool.workers:
        return f"{pool.name}: busy {pool.busy:.0%}; nothing else was slower, the run was short"
    side = "feeds it" if uses.index(slowest) < first else "takes from it"
    return (
        f"{pool.name}: busy {pool.busy:.0%}; the slow side is {slowest.name}, which {side} "
        f"({slowest.busy:.0%} of {slowest.workers:g} worker{'s' * (slowest.workers != 1)})"
    )
