"""Holders that sleep, hosts whose clocks differ, containers: two never hold one lease at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

import lines
import psutil
import pytest
from harness import program, share, wait_for
from test_drain import ELSEWHERE, MOVE, needs_namespaces

from weft.pipelines import tables
from weft.pipelines.runs import run as runs
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.lease import holder

QUICK = """
from weft.pipelines.runs import lease
lease.BEAT_SECONDS, lease.STALE_SECONDS, lease._LOOK_SECONDS = 0.1, {stale}, 0.02
"""

SKEWED = """
import os, time
now, touch = time.time, os.utime
time.time = lease.time = lambda: now() + {skew}
os.utime = lambda path: touch(path, (now() + {skew},) * 2)  # storage that takes our word for it
"""


def ran(process: subprocess.Popen[str]) -> str:
    told, errors = process.communicate(timeout=90)
    assert process.returncode == 0, (told, errors)
    return told


@pytest.mark.parametrize("asleep", ["working", "publishing"][share(0, 1) :])
@needs_namespaces()
def test_a_holder_elsewhere_that_sleeps_too_long(tmp_path: Path, asleep: str) -> None:
    folder, out = lines.files(tmp_path / "lines", 16), tmp_path / "o.lance"
    gate = lines.close(folder)
    text = (
        QUICK.format(stale=1.0)
        + f"""
import lines, os, time
from pathlib import Path
from weft.pipelines import tables
commit = tables.commit
def slow(token, *arguments, **more):
    if token["uri"] == {str(out)!r} and {asleep == "publishing"}:
        Path({str(tmp_path)!r}, "there").touch()
        time.sleep(0.5)
    return commit(token, *arguments, **more)
tables.commit = slow
lines.lines({str(folder)!r}, {str(out)!r}).run(engine="local")
"""
    )
    sleeper = program(
        text, prefix=(*ELSEWHERE, MOVE), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_for(folder / "log", sleeper)
    if asleep == "publishing":
        gate.unlink()
        wait_for(tmp_path / "there", sleeper)
    inside = [p for p in processes_of(sleeper) if p != sleeper.pid]
    signal_all(inside, signal.SIGSTOP)
    gate.unlink(missing_ok=True)
    lost = holder(f"{out}.weft")
    assert lost is not None
    assert lost["host"] == "elsewhere"
    other = QUICK.format(stale=1.0) + "import lines\n"
    other += f"lines.lines({str(folder)!r}, {str(out)!r}).run(engine='local')"
    ran(program(other, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
    state = journals(f"{out}.weft")[0].state()
    before = tables.latest(str(out))
    assert state["state"] == "published"
    signal_all(inside, signal.SIGCONT)
    told, errors = sleeper.communicate(timeout=60)
    if asleep == "working":
        assert "weft.errors.Busy: Run " in errors, (told, errors)
        assert "lost the lease" in errors
    assert journals(f"{out}.weft")[0].state() == state  # it does not say otherwise
    assert tables.latest(str(out)) == before
    assert holder(f"{out}.weft") is None
    assert tables.read(str(out), "latest").num_rows == 16
    assert lines.lines(str(folder), str(out)).run(engine="local").in_sync


def processes_of(process: subprocess.Popen[str]) -> list[int]:
    return [p.pid for p in psutil.Process(process.pid).children(recursive=True)]


def signal_all(pids: list[int], how: signal.Signals) -> None:
    assert pids
    for pid in pids:
        os.kill(pid, how)


CONTENDER = """
import json
from weft.errors import Held
from weft.pipelines.runs.lease import hold
end = time.monotonic() + {seconds}
while time.monotonic() < end:
    try:
        with hold({state!r}, "r") as held:
            began = time.monotonic()
            time.sleep(0.15)
            held.check()
            print(json.dumps([held.epoch, began, time.monotonic()]), flush=True)
        time.sleep(0.3)  # others have their turn
    except Held:
        time.sleep(0.01)
"""


@needs_namespaces()
def test_hosts_with_other_clocks_take_turns(tmp_path: Path) -> None:
    text = (
        QUICK.format(stale=2.0)  # a holder that has no CPU for that long would lose it
        + "import time\n{skew}"
        + CONTENDER.format(seconds=share(20, 6), state=str(tmp_path / "state"))
    )
    contenders = []
    for skew in (-3600, 0, 3600):
        code = text.replace("{skew}", SKEWED.format(skew=skew))
        named = (*ELSEWHERE, MOVE.replace("elsewhere", f"host{skew % 7}"))
        contenders.append(
            program(code, prefix=named, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        )
    took = [[json.loads(line) for line in ran(c).splitlines()] for c in contenders]
    held = sorted((began, ended, epoch) for turns in took for epoch, began, ended in turns)
    assert sum(bool(turns) for turns in took) >= 2
    assert len(held) >= 3
    assert all(one[1] <= two[0] for one, two in pairwise(held))
    assert [epoch for *_, epoch in held] == sorted({epoch for *_, epoch in held})


def test_runs_follow_each_other_whatever_the_clock_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = lines.files(tmp_path / "lines", 4), tmp_path / "o.lance"
    ids = [lines.lines(str(folder), str(out)).run(engine="local").run]
    real = runs.new_run_id
    monkeypatch.setattr(runs, "new_run_id", lambda: "20250101-" + real()[9:])  # a year behind
    for name in ("x.txt", "y.txt"):
        (folder / name).write_text(name)
        ids.append(lines.lines(str(folder), str(out)).run(engine="local").run)
    assert ids == sorted(set(ids))
    assert [j.run for j in journals(f"{out}.weft")] == ids[::-1]
    assert ids[2][:19] > ids[1][:19] > ids[0][:19]
