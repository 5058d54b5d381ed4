"""Killed after k of n units, run again: exactly what an undisturbed run gives, and k units less."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from harness import ALL, calls, contents, kill_all, photographs, program, report, share
from homes import Home, Victims
from victims import by_tasks

from weft.pipelines import tables
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.journal import journals

TWO = Cluster((Machine(cpus=2),))


@pytest.mark.timeout(3600)
def test_killed_after_k_of_n_units(victims: Victims, tmp_path: Path) -> None:
    began, saved = time.monotonic(), 0
    for seed in range(share(20, 2)):
        chance = random.Random(seed)
        home = Home(tmp_path / str(seed), files=chance.randrange(30, 90))
        for _ in range(chance.randrange(3)):  # some are increments
            home.run(home.twin)
            home.run(home.killed)
            home.edit()
        ends = [n for n, step in enumerate(victims.steps(home)) if _puts_receipt(step)]
        done = chance.randrange(1, len(ends))
        assert victims.run(home, home.killed, dies=ends[done - 1]) == -signal.SIGKILL
        receipts = list(journals(f"{home.killed}.weft")[0].receipts())
        assert len(receipts) == done
        result = home.run(home.killed)
        assert result.rows_resumed == sum(r["rows"] for r in receipts) > 0
        saved += done
        home.check()
    report("F18 local", seeds=share(20, 2), units_saved=saved, seconds=elapsed(began))


def _puts_receipt(step: str) -> bool:
    return step.startswith("after os.link") and "/receipts/" in step


@pytest.mark.skipif(not ALL, reason="half a minute for each seed: make faults")
@pytest.mark.timeout(3600)
def test_killed_after_k_of_n_units_on_ray(tmp_path: Path) -> None:
    began, again, pictures = time.monotonic(), 0, photographs(tmp_path / "pictures", 80)
    settings = {"source": f"{pictures}/*", "seconds": 0.05}
    twin = tmp_path / "twin.lance"
    by_tasks(**settings, out=str(twin), log=str(tmp_path / "log")).run(engine="local", cluster=TWO)
    for seed in range(8):
        out, wanted = tmp_path / f"{seed}.lance", random.Random(seed).randrange(1, 9)
        here = settings | {"out": str(out), "log": str(tmp_path / f"{seed}.log")}
        text = f"import victims\nvictims.by_tasks(**{here!r}).run(engine='ray')"
        process = program(text)
        while len(list(out.with_name(f"{out.name}.weft").glob("runs/*/receipts/*.json"))) < wanted:
            assert process.poll() is None
            time.sleep(0.01)
        kill_all(process)
        result = by_tasks(**here).run(engine="local", cluster=TWO)
        assert result.rows_resumed > 0
        again += calls(Path(here["log"])).total() - 80
        assert contents(out) == contents(twin)
        assert tables.latest(str(out)) is not None
    report("F18 on Ray", seeds=8, rows_each=80, rows_again=again, seconds=elapsed(began))


def elapsed(began: float) -> int:
    return round(time.monotonic() - began)
