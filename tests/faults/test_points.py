"""A driver that dies at any step that leaves something on the disk, or at any moment.

Whoever runs the pipeline again gets what an undisturbed run gives: rows, their order, ledger and
errors, in as many versions. The undisturbed run is of a second dataset, over the same files.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from harness import contents, report, share
from homes import FILES, Home, Victims

from weft.pipelines import tables
from weft.pipelines.runs.journal import journals


def some(steps: list[str], wanted: int) -> list[int]:
    """Numbers of `wanted` steps, evenly spread; of all, if there are no more."""
    wanted = min(wanted, len(steps))
    return [(2 * i + 1) * len(steps) // (2 * wanted) for i in range(wanted)]


@pytest.mark.timeout(3600)
def test_killed_at_each_step_of_a_first_run(victims: Victims, tmp_path: Path) -> None:
    began = time.monotonic()
    steps = victims.steps(Home(tmp_path / "undisturbed"))
    assert len(set(steps)) > 20
    for number in some(steps, share(10**6, 6)):
        home = Home(tmp_path / str(number))
        home.run(home.twin)
        killed = victims.run(home, home.killed, dies=number)
        assert killed == -signal.SIGKILL, steps[number]
        assert not tables.exists(home.killed) or shown(home.killed) in (None, shown(home.twin))
        home.run(home.killed)
        home.check()
    many = len(some(steps, share(10**6, 6)))
    report("F5 first run", points=many, named=len(set(steps)), seconds=elapsed(began))


@pytest.mark.timeout(3600)
def test_killed_at_each_step_of_an_increment(victims: Victims, tmp_path: Path) -> None:
    began, home = time.monotonic(), Home(tmp_path)
    for _ in range(2):  # from the second on, there are errors of earlier runs
        home.run(home.twin)
        home.run(home.killed)
        home.edit()
    steps = victims.steps(home)
    home.run(home.killed)
    for number in some(steps, share(10**6, 8)):
        before = contents(home.killed)
        home.edit()
        home.run(home.twin)
        assert victims.run(home, home.killed, dies=number) == -signal.SIGKILL, steps[number]
        seen = contents(home.killed)["rows"]
        assert seen in (before["rows"], contents(home.twin)["rows"]), steps[number]
        home.run(home.killed)
        home.check()
    many = len(some(steps, share(10**6, 8)))
    report("F5 increment", points=many, named=len(set(steps)), seconds=elapsed(began))


@pytest.mark.timeout(3600)
def test_killed_at_any_moment(victims: Victims, tmp_path: Path) -> None:
    began, home, chance = time.monotonic(), Home(tmp_path), random.Random(5)
    home.run(home.twin)
    started = time.monotonic()
    victims.run(home, home.killed)
    whole, hits, resumed = time.monotonic() - started, 0, 0
    for _ in range(share(50, 3)):
        home.edit()
        home.run(home.twin)
        hits += victims.run(home, home.killed, after=chance.uniform(0, whole)) == -signal.SIGKILL
        state = journals(f"{home.killed}.weft")[0].state()["state"]
        resumed += state in ("running", "publishing")
        home.run(home.killed)
        home.check()
    assert hits >= share(25, 1)
    report(
        "F5 random moments", kills=hits, within_a_run=resumed, rows=FILES, seconds=elapsed(began)
    )


def shown(uri: str) -> list[tuple[str, str]] | None:
    """The rows that readers see, if any."""
    return None if tables.latest(uri) is None else contents(uri)["rows"]


def elapsed(began: float) -> int:
    return round(time.monotonic() - began)
