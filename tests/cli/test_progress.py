"""Progress and summary as values, without a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from weft.pipelines.engines.books import Books, Count, new_books
from weft.pipelines.observe.progress import Progress, duration, number
from weft.pipelines.observe.summary import summarise
from weft.pipelines.plan import Plan
from weft.pipelines.runs.result import RunResult


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plan(photos: Path) -> Plan:
    """Read, probe, where, decode, encode, select, write: one stage."""
    from weft.cli.target import load

    return load("tiny.py:small", {})[0].plan()


@pytest.fixture
def books(plan: Plan) -> Books:
    books = new_books(plan)
    books["read"] = Count(taken=50, passed=50, emitted=50, seconds=1.0)
    books["probe"] = Count(taken=50, passed=48, failed=2, emitted=48, seconds=1.0)
    books["where"] = Count(taken=48, passed=40, dropped=8, emitted=40)
    books["decode"] = Count(taken=40, passed=40, emitted=40, seconds=2.0)
    books["write"] = Count(taken=40, passed=40, emitted=40)
    return books


def test_rate_and_time_left(plan: Plan, books: Books) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.start(plan, 100, 0)
    assert (progress.rate, progress.eta_seconds) == (0.0, None)
    clock.now = 5.0
    progress.advance(50, books)
    assert progress.rate == 10.0
    assert progress.eta_seconds == 5.0
    assert progress.sentence() == (
        "50 of 100 rows (50%), 10.0 rows/s, 2 failed, 8 dropped, ETA 5.0 s"
    )


def test_rows_of_an_earlier_attempt_do_not_make_it_fast(plan: Plan, books: Books) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.start(plan, 100, 40)
    clock.now = 10.0
    progress.advance(50, books)
    assert progress.rate == 1.0
    assert progress.sentence().endswith("ETA 50.0 s")


def test_the_rate_forgets_what_was_long_ago(plan: Plan, books: Books) -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.start(plan, 10_000, 0)
    for second in range(1, 101):
        clock.now = float(second)
        progress.advance(second if second <= 50 else 50 + (second - 50) * 10, books)
    assert progress.rate == pytest.approx(10.0)
    clock.now = 200.0  # a stall is seen
    assert progress.rate < 3.0


def test_a_line_for_each_step_of_one_stage(plan: Plan, books: Books) -> None:
    progress = Progress(Clock())
    progress.start(plan, 100, 0)
    assert progress.lines() == []
    progress.advance(50, books)
    lines = {line.name: line for line in progress.lines()}
    assert list(lines) == ["read", "probe", "where", "decode", "encode", "write"]
    assert lines["probe"].failed == 2
    assert lines["where"].dropped == 8
    assert lines["decode"].share == 0.5


def test_a_line_for_each_of_several_stages(plan: Plan, books: Books) -> None:
    (stage,) = plan.stages
    plan = replace(
        plan,
        stages=(replace(stage, steps=stage.steps[:2]), replace(stage, steps=stage.steps[2:])),
    )
    progress = Progress(Clock())
    progress.start(plan, 100, 0)
    progress.advance(50, books)
    first, second = progress.lines()
    assert (first.name, first.taken, first.emitted, first.failed) == ("read → probe", 50, 48, 2)
    assert second.name == "where → decode → encode → write"
    assert (second.taken, second.emitted, second.dropped) == (48, 40, 8)


def result(plan: Plan, books: Books) -> RunResult:
    return RunResult(
        run="20261120-141500-1",
        state="published",
        plan=plan,
        rows=50,
        books=books,
        kept={"write": 40},
        versions={"write": 7},
        uris={"write": "/data/small.lance"},
        samples=(
            {"key": "a", "step": "probe", "error": "RowError", "message": "cut short"},
            {"key": "b", "step": "probe", "error": "RowError", "message": "no image"},
            {"key": "c", "step": "probe", "error": "RowError", "message": "cut short"},
        ),
        seconds=2.0,
        startup_seconds=6.1,
        rows_resumed=10,
        engine="ray",
    )


def test_summary(plan: Plan, books: Books) -> None:
    lines = summarise(result(plan, books))
    assert re.fullmatch(r"  dropped  8 by where: .*width.*25.*", lines.pop(3))
    assert lines == [
        "small: run 20261120-141500-1 published in 2.0 s, ray started in 6.1 s",
        "  /data/small.lance: version 7, 40 rows",
        "  rows     50 read, 40 kept, 8 dropped, 2 failed, 10 from an earlier attempt; 20.0 rows/s",
        "  failed   2 at probe: RowError: cut short (row a)",
        "             and: RowError: no image (row b)",
        "  time     decode 2.0 s (50%), read 1.0 s (25%), probe 1.0 s (25%), over all workers",
        '  read it  lance.dataset("/data/small.lance", version="latest")',
        '           media columns: .to_table(blob_handling="all_binary")',
        "  why      weft errors /data/small.lance",
    ]


def test_a_summary_fits_a_screen(plan: Plan, books: Books) -> None:
    many = {f"step_{i}": Count(taken=9, failed=3, dropped=3, seconds=1.0) for i in range(40)}
    assert len(summarise(replace(result(plan, books), books={**books, **many}))) <= 24


@pytest.mark.parametrize("terminal", [True, False])
def test_the_display_shows_a_run(
    plan: Plan, books: Books, monkeypatch: pytest.MonkeyPatch, *, terminal: bool
) -> None:
    import time

    from rich.console import Console

    from weft.cli import display

    monkeypatch.setattr(display, "LOG_SECONDS", 0.02)
    out = io.StringIO()
    make: Callable[..., Console] = lambda **_: Console(  # noqa: E731
        file=out, force_terminal=terminal, width=100, color_system=None
    )
    monkeypatch.setattr(display, "Console", make)
    with display.Display("ray") as shown:
        shown.engine_started("ray", 6.1)
        shown.notice("Going on with run 1.")
        shown.started(plan, "r1", 100, 0)
        shown.advanced(50, books, [])
        time.sleep(0.6 if terminal else 0.1)
    text = out.getvalue()
    assert "starting Ray… 6.1 s" in text
    assert "Going on with run 1." in text
    assert "small: run r1, 100 rows" in text
    assert "50 of 100 rows (50%), " in text
    assert ("passed on" in text) is terminal


def test_sigterm_stays_as_it_was_when_an_engine_takes_it() -> None:
    import signal

    from weft.cli.execute import _Display

    before = signal.getsignal(signal.SIGTERM)
    try:
        with _Display("local") as shown:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as importing Ray does, in effect
            shown.engine_started("local", 0.0)
            assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_words() -> None:
    assert [duration(s) for s in (0.5, 59.97, 3599.6)] == ["0.5 s", "1 min 00 s", "1 h 00 min"]
    assert [number(n) for n in (99.96, 1234)] == ["100.0", "1,234"]
