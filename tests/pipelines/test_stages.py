"""How busy stages were: by hand-made receipts, and by runs whose slow side is known."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.connectors import Arrow, Lance, Memory
from weft.pipelines.observe.stages import StageUse, slow_side, stage_use
from weft.pipelines.plan import Plan, Stage
from weft.pipelines.resources import Cluster, Machine, Resources
from weft.pipelines.runs.result import RunResult

TASKS = Resources()
FOUR = Cluster((Machine(cpus=4),))

Spells = Sequence[tuple[float, float]]


def plan(*stages: Stage) -> Plan:
    return Plan("p", "r", (), stages)


def tasks(name: str, resources: Resources = TASKS) -> Stage:
    return Stage((name,), resources)


def pool(name: str, workers: int = 1, gpus: float = 0.0) -> Stage:
    return Stage((name,), Resources(gpus=gpus, workers=workers), workers)


def receipts(*units: Spells) -> list[dict[str, Any]]:
    return [{"stages": list(spells)} for spells in units]


def use(name: str, busy: float, seconds: float, **how: Any) -> StageUse:
    made = StageUse((name,), False, 0.0, 1.0, seconds, busy)
    return replace(made, **how)


def device(busy: float, seconds: float = 10.0, **how: Any) -> StageUse:
    return use("device", busy, seconds, pooled=True, **how)


def test_a_pool_that_never_waits() -> None:
    # Each unit: decoded in 1 s, then 2 s in the pool, which goes from one to the next.
    units = receipts(*([(n, 1.0), (1 + 2 * n, 2.0), (3 + 2 * n, 0.1)] for n in range(5)))
    decode, model, write = stage_use(
        plan(tasks("decode"), pool("model"), tasks("write")), units, FOUR
    )
    assert (model.steps, model.pooled, model.workers) == (("model",), True, 1)
    assert model.seconds == 10.0
    assert model.busy == 1.0
    assert decode.workers == write.workers == 3  # the CPUs that the pool does not hold
    assert decode.busy == pytest.approx(5 / (3 * 5))
    assert not decode.pooled


def test_a_pool_that_waits() -> None:
    units = receipts(*([(4 * n, 4.0), (4 * n + 4, 1.0)] for n in range(5)))
    _, model = stage_use(plan(tasks("decode"), pool("model")), units, FOUR)
    assert model.busy == pytest.approx(5 / 17)  # from 4 s to 21 s


def test_workers_of_a_pool_share_the_time() -> None:
    units = receipts([(0, 8.0)], [(0, 4.0)])
    [model] = stage_use(plan(pool("model", workers=2)), units, FOUR)
    assert model.busy == pytest.approx(12 / 16)


def test_busy_is_never_more_than_all_the_time() -> None:
    """Threads of the local engine may be more than the CPUs that no pool holds."""
    units = receipts([(0, 4.0)], [(0, 4.0)])
    [decode] = stage_use(plan(tasks("decode")), units, Cluster((Machine(cpus=1),)))
    assert decode.busy == 1.0


def test_tasks_of_several_cpus() -> None:
    units = receipts([(0, 1.0)])
    [decode] = stage_use(plan(tasks("decode", Resources(cpus=3))), units, FOUR)
    assert decode.workers == 1
    [decode] = stage_use(plan(tasks("decode", Resources(cpus=8))), units, FOUR)
    assert decode.workers == 1


def test_no_receipts() -> None:
    """An attempt that found every unit done by an earlier one."""
    assert stage_use(plan(tasks("decode"), pool("model")), [], FOUR) == ()
    assert slow_side(()) is None


def test_a_unit_that_took_no_time() -> None:
    [model] = stage_use(plan(pool("model")), receipts([(5.0, 0.0)]), FOUR)
    assert (model.busy, model.seconds) == (1.0, 0.0)


def test_as_json() -> None:
    assert device(1 / 3, 2.34567, gpus=1.0).to_json() == {
        "steps": ("device",), "pooled": True, "gpus": 1.0, "workers": 1.0, "seconds": 2.346,
        "busy": 0.3333, "phase": 0,
    }  # fmt: skip


def test_tasks_only_have_no_slow_side() -> None:
    assert slow_side([use("decode", 1.0, 9.0), use("write", 0.1, 1.0)]) is None


@pytest.mark.parametrize("busy", [0.9, 0.95, 1.0])
def test_a_pool_that_is_full(busy: float) -> None:
    uses = [use("decode", 1.0, 99.0), device(busy)]
    assert slow_side(uses) == f"device: busy {busy:.0%}, so it is the slow side, as it should be"


def test_slow_feeders() -> None:
    uses = [use("read, decode", 0.97, 30.0, workers=2.0), device(0.4), use("write", 0.1, 1.0)]
    assert slow_side(uses) == (
        "device: busy 40%; the slow side is read, decode, which feeds it (97% of 2 workers)"
    )


def test_slow_takers() -> None:
    uses = [use("decode", 0.2, 2.0), device(0.4), use("write", 1.0, 20.0)]
    assert slow_side(uses) == (
        "device: busy 40%; the slow side is write, which takes from it (100% of 1 worker)"
    )


def test_many_workers_are_faster_than_few() -> None:
    """64 s of 16 workers are over sooner than 10 s of one."""
    uses = [use("decode", 0.5, 64.0, workers=16.0), device(0.8), use("write", 0.9, 11.0)]
    assert "the slow side is write" in str(slow_side(uses))


def test_a_short_run() -> None:
    uses = [use("decode", 0.5, 5.0), device(0.7), use("write", 0.1, 1.0)]
    assert slow_side(uses) == "device: busy 70%; nothing else was slower, the run was short"
    assert (
        slow_side([device(0.5)]) == "device: busy 50%; nothing else was slower, the run was short"
    )


def test_of_several_pools_the_one_with_gpus_counts() -> None:
    small = use("rank", 1.0, 90.0, pooled=True, workers=2.0)
    assert str(slow_side([small, device(0.95, gpus=1.0)])).startswith("device: busy 95%")
    told = slow_side([small, device(0.5, gpus=1.0)])
    assert told == "device: busy 50%; the slow side is rank, which feeds it (100% of 2 workers)"


def test_of_pools_alike_the_one_that_worked_more_counts() -> None:
    small = use("rank", 0.1, 1.0, pooled=True)
    assert str(slow_side([small, device(0.95)])).startswith("device: busy 95%")


def test_a_run_that_was_resumed(tmp_path: Path) -> None:
    """The hours between two attempts are nobody's: only units of the second count."""
    out = tmp_path / "out.lance"
    again = stopped(out=str(out), stop=str(tmp_path / "stop"))
    (tmp_path / "stop").touch()
    with pytest.raises(weft.WeftError, match="stopped"):
        again.run(engine="local", cluster=Cluster((Machine(cpus=1),)))
    (tmp_path / "stop").unlink()
    time.sleep(0.1)
    began = time.time()
    result = again.run(engine="local", cluster=Cluster((Machine(cpus=1),)))
    assert 0 < result.rows_resumed < result.rows
    [only] = result.stages
    span = only.seconds / (only.busy * only.workers)
    assert 0 < span <= time.time() - began


@weft.operator(version="1")
def stops(n: int, stop: str = "") -> int:
    if n == 30 and Path(stop).exists():
        raise ValueError("stopped")
    return n


@weft.pipeline
def stopped(out: str, stop: str) -> Any:
    rows = weft.read(Arrow({"id": [str(n) for n in range(40)], "n": list(range(40))}, key="id"))
    return rows.apply(stops.replace(stop=stop), on_error="raise").write(Lance(out))


@weft.operator(version="1")
def fed(n: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return n


@weft.operator(version="1", resources=Resources(workers=1))
def held(fed: int, seconds: float = 0.0) -> int:
    time.sleep(seconds)
    return fed


def ran(feeding: float, holding: float) -> RunResult:
    """40 rows on two CPUs: one for the pool, and one that feeds it."""

    @weft.pipeline
    def pair() -> Any:
        rows = weft.read(Arrow({"n": list(range(40))})).apply(fed.replace(seconds=feeding))
        return rows.apply(held.replace(seconds=holding)).write(Memory("stages"))

    return pair().run(engine="local", cluster=Cluster((Machine(cpus=2),)))


def test_a_device_that_is_ten_times_slower_than_its_feeders() -> None:
    result = ran(feeding=0.002, holding=0.02)
    feeders, held, _ = result.stages
    assert held.steps == ("held",)
    assert held.busy > 0.9
    assert feeders.seconds < held.seconds
    assert result.to_json()["slow_side"].startswith("held: busy ")
    assert result.to_json()["slow_side"].endswith("so it is the slow side, as it should be")


def test_feeders_that_are_ten_times_slower_than_the_device() -> None:
    result = ran(feeding=0.02, holding=0.002)
    assert result.stages[1].busy < 0.6
    assert "the slow side is read, fed, which feeds it" in result.to_json()["slow_side"]
