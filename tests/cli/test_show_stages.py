"""`weft show` and `weft run` tell how busy each stage was, and which side held a pool up."""

from __future__ import annotations

from pathlib import Path

import pytest

PIPELINES = """\
import time

import weft
from weft.connectors import Arrow, Lance


@weft.operator(version="1")
def fed(n: weft.Int64, seconds: float = 0.0) -> weft.Int64:
    time.sleep(seconds)
    return n


@weft.operator(version="1", resources=weft.Resources(cpus=0.5, workers=1))
def held(fed: weft.Int64, seconds: float = 0.0) -> weft.Int64:
    time.sleep(seconds)
    return fed


@weft.pipeline
def pair(feeding: float = 0.0, holding: float = 0.0, out: str = "pair.lance"):
    rows = weft.read(Arrow({"n": list(range(40))})).apply(fed.replace(seconds=feeding))
    return rows.apply(held.replace(seconds=holding)).write(Lance(out))


@weft.pipeline
def alone(out: str = "alone.lance"):
    return weft.read(Arrow({"n": list(range(4))})).apply(fed).write(Lance(out))
"""


@pytest.fixture(autouse=True)
def pipelines(work: Path) -> None:
    (work / "stages.py").write_text(PIPELINES)


def run(weft, target: str, *settings: str) -> str:
    options = [part for setting in settings for part in ("--set", setting)]
    return weft("run", "--engine", "local", f"stages.py:{target}", *options).stdout


def test_a_pool_that_is_the_slow_side(weft, answer, work: Path) -> None:
    told = run(weft, "pair", "holding=0.02")
    lines = weft("show", "pair.lance").stdout.splitlines()
    [head] = [i for i, line in enumerate(lines) if line.startswith("stage ")]
    assert lines[head].split() == ["stage", "workers", "seconds", "busy"]
    feeders, device, writes = lines[head + 1 : head + 4]
    assert feeders.startswith("read, fed  ")
    assert "tasks on " in feeders
    assert device.startswith("held  ")
    assert "pool of 1 " in device
    assert writes.startswith("write  ")
    side = lines[head + 4]
    assert side.startswith("slow side  held: busy ")
    assert side.endswith("%, so it is the slow side, as it should be")
    assert f"  busy     {side.removeprefix('slow side  ')}" in told
    result = answer("show", work / "pair.lance")["state"]["result"]
    assert result["slow_side"] == side.removeprefix("slow side  ")
    use = result["stages"][1]
    assert (use["steps"], use["pooled"], use["workers"]) == (["held"], True, 1.0)
    assert 0.9 <= use["busy"] <= 1.0
    assert use["seconds"] >= 40 * 0.02


def test_feeders_that_are_the_slow_side(weft) -> None:
    told = run(weft, "pair", "feeding=0.02")
    shown = weft("show", "pair.lance").stdout
    assert "the slow side is read, fed, which feeds it (" in shown
    assert "the slow side is read, fed, which feeds it (" in " ".join(told.split())


def test_without_a_pool_no_side_is_named(weft) -> None:
    told = run(weft, "alone")
    shown = weft("show", "alone.lance").stdout
    assert "read, fed, write  tasks on " in shown
    assert "slow side" not in shown + told


def test_a_run_that_has_not_ended_has_no_stages(weft, work: Path) -> None:
    run(weft, "alone")
    [state] = (work / "alone.lance.weft" / "runs").glob("*/state.json")
    state.write_text('{"state": "interrupted", "at": "2026-11-20T14:15:00+00:00"}')
    shown = weft("show", "alone.lance").stdout
    assert "tasks on" not in shown
    assert "slow side" not in shown
