"""Workers that die in the middle of their work: nothing is lost, nothing is there twice."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import victims
from harness import Killer, calls, contents, photographs, report, share

import weft
from weft.connectors import Arrow, Lance, Memory
from weft.errors import Retryable
from weft.pipelines import tables
from weft.pipelines.engines import ray
from weft.pipelines.operator import Map
from weft.pipelines.resources import Cluster, Machine, Resources
from weft.pipelines.runs.places import errors_uri

TWO = Cluster((Machine(cpus=2),))
PICTURES = share(160, 48)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("pictures") / "jpeg", PICTURES)


def run_until_published(pipeline: Any, tries: int = 5) -> tuple[Any, int]:
    """The result of a run that goes on when too many of its workers have died; how often it did."""
    for resumed in range(tries):
        try:
            return pipeline.run(engine="ray", cluster=TWO), resumed
        except Retryable:
            continue
    raise AssertionError(f"not published in {tries} runs")


@pytest.mark.usefixtures("ray_engine")
@pytest.mark.timeout(3600)
def test_workers_killed_at_random_moments(pictures: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.lance"
    settings = {"source": f"{pictures}/*", "seconds": 0.06}
    victims.by_tasks(**settings, out=str(whole), log=f"{tmp_path}/whole.log").run(engine="local")
    undisturbed, killed, again, resumed, began = contents(whole), 0, 0, 0, time.monotonic()
    for seed in range(share(20, 1)):
        out, log = tmp_path / f"{seed}.lance", tmp_path / f"{seed}.log"
        pipeline = victims.by_tasks(**settings, out=str(out), log=str(log))
        with Killer(seed, share(5, 2), log, (0.1, 0.8)) as killer:
            result, more = run_until_published(pipeline)
        assert contents(out) == undisturbed
        assert result.kept == {"write": PICTURES}
        killed += len(killer.killed)
        resumed += more
        again += calls(log).total() - PICTURES
        if killer.killed and not more:
            assert any("died with unit" in text for text in result.incidents) or again == 0
    assert killed >= share(80, 1)
    report(
        "F1 workers", runs=share(20, 1), kills=killed, rows_each=PICTURES, rows_again=again,
        resumed=resumed, seconds=round(time.monotonic() - began),
    )  # fmt: skip


def pid_of(log: Path, what: str, *, before: set[int]) -> int:
    """The process of the actor that has left a mark, if it is none of `before`."""
    while True:
        for mark in log.parent.glob(f"{log.name}.{what}-*"):
            pid = int(mark.name.rpartition("-")[2])
            if pid not in before:
                return pid
        time.sleep(0.01)


class Assassin(Killer):
    """Kills the actor of a pool, each time in the same moment of its life."""

    def __init__(self, log: Path, moment: str, kills: int, gate: Path) -> None:
        super().__init__(0, kills, log, (0.0, 0.0))
        self.log, self.moment, self.gate = log, moment, gate

    def run(self) -> None:
        dead: set[int] = set()
        mark = {"loading": "loading", "idle": "loaded", "call": "called"}[self.moment]
        while self.left and not self.stop.is_set():
            pid = pid_of(self.log, mark, before=dead)
            time.sleep(self.chance.uniform(0.05, 0.4))
            dead.add(pid)
            psutil.Process(pid).kill()
            self.killed.append(str(pid))
            self.left -= 1
        self.gate.touch()


@pytest.mark.usefixtures("ray_engine")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("moment", ["call", "loading", "idle"][: share(3, 1)])
def test_actors_killed(pictures: Path, tmp_path: Path, moment: str) -> None:
    whole = tmp_path / "whole.lance"
    settings = {"source": f"{pictures}/00[0-3]*", "gate": f"{tmp_path}/gate"}
    Path(settings["gate"]).touch()
    quick = victims.by_actors(**settings, out=str(whole), log=f"{tmp_path}/whole.log", loading=0.0)
    quick.run(engine="local", cluster=TWO)
    undisturbed, killed, again, resumed, began = contents(whole), 0, 0, 0, time.monotonic()
    rounds = share(10, 1)
    for seed in range(rounds):
        out, log = tmp_path / f"{seed}.lance", tmp_path / f"{seed}.log"
        gate = tmp_path / "gate"
        if moment == "idle":  # the pool waits for its first unit
            gate.unlink(missing_ok=True)
        pipeline = victims.by_actors(**settings, out=str(out), log=str(log), loading=0.5)
        with Assassin(log, moment, share(3, 1), gate) as assassin:
            _, more = run_until_published(pipeline)
        assert contents(out) == undisturbed
        killed += len(assassin.killed)
        resumed += more
        again += calls(log).total() - len(undisturbed["rows"])
    assert killed >= rounds
    report(
        f"F2 actors, {moment}", runs=rounds, kills=killed, rows_each=len(undisturbed["rows"]),
        rows_again=again, resumed=resumed, seconds=round(time.monotonic() - began),
    )  # fmt: skip


@weft.operator(version="1")
def deadly(n: int, log: str = "", how: str = "exit") -> int:
    """Ends its process on some rows, in some way, and leaves a line for each try."""
    if n in POISON:
        with open(log, "a") as file:
            file.write(f"{n}\n")
        if how == "exit":
            os._exit(0)
        elif how == "abort":
            os.abort()
        elif how == "signal":
            os.kill(os.getpid(), signal.SIGSEGV)
        else:
            re.match(r"(a+)+$", "a" * 64 + "b")  # years, and no other thread may run
    return n + 1


POISON = (5, 6, 33)[: share(3, 1)]


@weft.pipeline
def poisoned(out: str, log: str, how: str, on_error: str = "quarantine") -> Any:
    """Numbers of which some kill."""
    rows = weft.read(Arrow({"n": list(range(40))}))
    rows = rows.apply(deadly.replace(log=log, how=how), n="n", deadly="m", on_error=on_error)
    return rows.write(Lance(out))


@pytest.mark.usefixtures("ray_engine")
@pytest.mark.parametrize("how", ["hang", "exit", "abort", "signal"][: share(4, 1)])
def test_rows_that_kill_fail_alone(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray, "SILENT_SECONDS", 2.0)
    out, log = tmp_path / "o.lance", tmp_path / "log"
    began = time.monotonic()
    result = poisoned(out=str(out), log=str(log), how=how).run(engine="ray", cluster=TWO)
    seconds = time.monotonic() - began
    table = tables.read(str(out), "latest")
    assert sorted(table["n"].to_pylist()) == sorted(set(range(40)) - set(POISON))
    failed = tables.read(errors_uri(f"{out}.weft"), "latest").to_pylist()
    assert {int(row["_key"]) for row in failed} == set(POISON)
    assert {(row["step"], row["error"]) for row in failed} == {("deadly", "RowCrashed")}
    assert all("ended its process each of the 2 times" in row["message"] for row in failed)
    # Three deaths each, and one more where another unit's deaths ended the execution meanwhile.
    assert max(calls(log).values()) <= (3 if len(POISON) == 1 else 4)
    assert any("rows that killed them: '5'" in text for text in result.incidents)
    report(f"poison, {how}", rows=len(POISON), deaths=calls(log).total(), seconds=round(seconds))


@dataclass(frozen=True)
class Unloadable(Map):
    """Ends its process while it loads."""

    version = "1"
    reads = weft.fields(n=int)
    writes = weft.fields(m=int)
    resources = Resources(workers=1)

    def setup(self, device: str) -> None:
        os._exit(3)

    def map_row(self, row: Any, loaded: None) -> dict[str, int]:
        return {"m": row["n"]}


@weft.pipeline
def unloadable() -> Any:
    rows = weft.read(Arrow({"n": list(range(10))})).apply(Unloadable())
    return rows.write(Memory("unloadable"))


@pytest.mark.usefixtures("ray_engine")
@pytest.mark.timeout(120)
def test_an_actor_that_never_loads_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "RETRIES", share(3, 1))
    with pytest.raises(Retryable, match=r"gave up after \d tries: Actor.*`weft resume` goes on"):
        unloadable().run(engine="ray", cluster=TWO)
