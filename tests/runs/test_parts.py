"""Runs that publish early: each part is a run, and together they are one."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
import polars as pl
import pytest

import weft
from weft.connectors import Files, Lance, Memory
from weft.errors import DefinitionError, PlanError
from weft.pipelines import tables
from weft.pipelines.runs import parts
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.parts import Pace
from weft.pipelines.runs.result import Listener

sys.path.insert(0, str(Path(__file__).parent))

from law import contents

LONG = 1e9
"""Seconds: every part is as large as it may be after the one before."""


SHOWN = "and published what came of them"


class Told(Listener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture(autouse=True)
def three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 3, 24, 192 rows."""
    monkeypatch.setattr(parts, "_FIRST_ROWS", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 texts."""
    made = tmp_path / "in"
    made.mkdir()
    for number in range(40):
        write(made, number, f"{number}")
    return made


def write(folder: Path, number: int, text: str) -> None:
    (folder / f"{number:02}.txt").write_text(text)
    os.utime(folder / f"{number:02}.txt", (0, 10**9 + sum(text.encode())))


@weft.operator(version="1")
def number(content: weft.Encoded) -> int:
    found = int(bytes(content))
    if found % 10 == 7:
        raise ValueError(f"{found} is not liked")
    return found


@weft.pipeline
def numbers(folder: Path, out: Path) -> Any:
    rows = weft.read(Files(f"{folder}/*.txt", kind="binary")).apply(number)
    return rows.where(pl.col("number") % 10 != 3).select("number").write(Lance(str(out)))


def run(pipeline: Any, **more: Any) -> tuple[Any, list[str]]:
    told = Told()
    return pipeline.run(engine="local", listener=told, **more), told.notices


def shown(out: Path, runs: Any) -> list[list[int]]:
    """What readers saw, run by run."""
    found = [tables.read(str(out), f"run-{run}")["number"].to_pylist() for run in runs]
    return [sorted(each) for each in found]


def test_parts_together_are_one_run(folder: Path, tmp_path: Path) -> None:
    early, whole = tmp_path / "early" / "o.lance", tmp_path / "whole" / "o.lance"
    result, notices = run(numbers(folder, early), publish_every=LONG)
    assert notices == [
        f"Processed 3 rows {SHOWN}; 37 are to come.",
        f"Since run {result.earlier[0]}: 24 new, 3 unchanged.",
        f"Processed 24 rows {SHOWN}; 13 are to come.",
        f"Since run {result.earlier[1]}: 13 new, 27 unchanged.",
    ]
    assert (len(result.earlier), result.put_off, result.rows) == (2, 0, 13)
    liked = [n for n in range(40) if n % 10 not in (3, 7)]
    seen = shown(early, [*result.earlier, result.run])
    assert seen == [[n for n in liked if n < some] for some in (3, 27, 40)]
    run(numbers(folder, whole))
    assert contents(early.parent) == contents(whole.parent)
    assert run(numbers(folder, early))[0].in_sync
    assert run(numbers(folder, early), publish_every=LONG)[0].in_sync


def test_rows_that_are_put_off_stay_as_they_were(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "early" / "o.lance"
    run(numbers(folder, out))
    before = shown(out, [journals(f"{out}.weft")[0].run])[0]
    for old in (0, 1, 2, 4, 5):
        write(folder, old, f"{old + 100}")
    (folder / "39.txt").unlink()
    write(folder, 40, "40")
    result, _ = run(numbers(folder, out), publish_every=LONG)
    assert result.increment == {
        "new": 1, "changed": 2, "deleted": 0, "retried": 0, "unchanged": 34 + 3,
    }  # fmt: skip
    first, last = shown(out, [*result.earlier, result.run])
    assert first == sorted({*before, 100, 101, 102} - {0, 1, 2, 39})
    assert last == sorted({*before, 100, 101, 102, 104, 105, 40} - {0, 1, 2, 4, 5, 39})
    whole = tmp_path / "whole" / "o.lance"
    run(numbers(folder, whole))
    assert contents(out.parent) == contents(whole.parent)


def test_two_sources_and_two_datasets(folder: Path, tmp_path: Path) -> None:
    @weft.pipeline
    def both(out: Path) -> Any:
        small = weft.read(Files(f"{folder}/0*.txt", kind="binary"))
        large = weft.read(Files(f"{folder}/[123]*.txt", kind="binary"))
        rows = small.union(large).apply(number)
        even = rows.where(pl.col("number") % 2 == 0).select("number")
        return rows.select("number").write(Lance(str(out / "all"))), even.write(
            Lance(str(out / "even"))
        )

    result, _ = run(both(tmp_path / "early"), publish_every=LONG)
    assert len(result.earlier) == 2
    run(both(tmp_path / "whole"))
    assert contents(tmp_path / "early") == contents(tmp_path / "whole")


def test_a_part_that_was_stopped_is_gone_on_with_and_so_is_the_rest(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "early" / "o.lance"
    armed = [True]

    class Number(weft.Map):
        """The number in a text; somebody stops it at 20."""

        version = "1"
        reads = weft.fields(content=weft.Encoded())
        writes = weft.fields(number=weft.Int64())

        def map_row(self, row: Any, loaded: Any) -> int:
            if int(bytes(row["content"])) == 20 and armed:
                raise KeyboardInterrupt
            return int(bytes(row["content"]))

    @weft.pipeline
    def stopped() -> Any:
        rows = weft.read(Files(f"{folder}/*.txt", kind="binary")).apply(Number())
        return rows.select("number").write(Lance(str(out)))

    with pytest.raises(BaseException, match="was stopped"):
        run(stopped(), publish_every=LONG)
    assert lance.dataset(str(out), version="latest").count_rows() == 3
    armed.clear()
    result, notices = run(stopped())
    assert "Going on with run" in notices[0]
    assert f"Processed 24 rows {SHOWN}; 13 are to come." in notices
    assert (len(result.earlier), result.rows) == (1, 13)
    assert shown(out, [result.run]) == [list(range(40))]
    assert run(stopped())[0].in_sync


def test_what_cannot_be_parted_is_published_at_once(folder: Path, tmp_path: Path) -> None:
    """Another operator, a fresh start, and rows that are retried."""
    out = tmp_path / "o.lance"
    run(numbers(folder, out))

    @weft.pipeline
    def more() -> Any:
        rows = weft.read(Files(f"{folder}/*.txt", kind="binary")).apply(number)
        rows = rows.where(pl.col("number") % 10 != 3).with_columns(double=pl.col("number") * 2)
        return rows.select("number", "double").write(Lance(str(out)))

    for old in range(4, 12):
        write(folder, old, f"{old + 200}")
    for options in ({}, {"fresh": True}, {"retry_failed": True}):
        result, _ = run(more(), publish_every=LONG, **options)
        assert result.earlier == ()
        assert not result.in_sync
    assert result.increment["retried"] == 4


@pytest.mark.parametrize("gone", ["filter", "operator"])
def test_rows_of_a_step_that_is_gone_come_at_once(folder: Path, tmp_path: Path, gone: str) -> None:
    """They are rows of before: the next run would not ask for those that were put off."""

    def pipeline(out: Path, steps: set[str]) -> Any:
        @weft.pipeline
        def some() -> Any:
            rows = weft.read(Files(f"{folder}/*.txt", kind="binary"))
            if "filter" in steps:
                rows = rows.where(pl.col("size") < 2)
            if "operator" in steps:
                rows = rows.apply(number)
            return rows.select("uri").write(Lance(str(out)))

        return some()

    early, whole = tmp_path / "early" / "o.lance", tmp_path / "whole" / "o.lance"
    run(pipeline(early, {"filter", "operator"}))
    result, _ = run(pipeline(early, {"filter", "operator"} - {gone}), publish_every=LONG)
    assert result.increment["retried"] > 3 or gone == "operator"
    run(pipeline(whole, {"filter", "operator"} - {gone}))
    assert contents(early.parent) == contents(whole.parent)
    assert run(pipeline(early, {"filter", "operator"} - {gone}))[0].in_sync


def test_rows_are_retried_after_a_part_was_gone_on_with(folder: Path, tmp_path: Path) -> None:
    out, mended = tmp_path / "o.lance", list[bool]()

    class Picky(weft.Map):
        """Fails on every tenth until it is mended; somebody stops it at 20."""

        version = "1"
        reads = weft.fields(content=weft.Encoded())
        writes = weft.fields(number=weft.Int64())

        def map_row(self, row: Any, loaded: Any) -> int:
            found = int(bytes(row["content"]))
            if found == 20 and not mended:
                raise KeyboardInterrupt
            if found % 10 == 1 and not mended:
                raise ValueError("not yet")
            return found

    @weft.pipeline
    def picky() -> Any:
        rows = weft.read(Files(f"{folder}/*.txt", kind="binary")).apply(Picky())
        return rows.select("number").write(Lance(str(out)))

    with pytest.raises(BaseException, match="was stopped"):
        run(picky(), publish_every=LONG)
    mended.append(True)
    run(picky(), publish_every=LONG, retry_failed=True)
    assert sorted(tables.read(str(out), "latest")["number"].to_pylist()) == list(range(40))


def test_a_source_that_never_has_less_to_come_is_done_at_once(folder: Path, tmp_path: Path) -> None:
    """Somebody adds as many rows as are processed."""
    coming = iter(range(40, 100))

    class Adds(Told):
        def finished(self, result: Any) -> None:
            for _ in range(min(result.rows, 30)):
                write(folder, (new := next(coming, 99)), f"{new}")

    told = Adds()
    result = numbers(folder, tmp_path / "o.lance").run(
        engine="local", listener=told, publish_every=LONG
    )
    assert len(result.earlier) == 2
    assert result.put_off == 0


def test_pipelines_without_parts_are_refused(folder: Path, tmp_path: Path) -> None:
    @weft.pipeline
    def grouped() -> Any:
        rows = weft.read(Files(f"{folder}/*.txt", kind="binary")).apply(number)
        return rows.group("number", count=pl.len()).write(Lance(str(tmp_path / "o.lance")))

    with pytest.raises(PlanError, match=r"group works on rows that are together.*publish_every"):
        run(grouped(), publish_every=LONG)

    @weft.pipeline
    def kept() -> Any:
        return weft.read(Files(f"{folder}/*.txt")).select("uri").write(Memory("kept"))

    with pytest.raises(PlanError, match="keeps no ledger"):
        run(kept(), publish_every=LONG)
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(DefinitionError, match=r"publish_every=.*; expected seconds"):
            run(numbers(folder, tmp_path / "o.lance"), publish_every=wrong)
    assert not (tmp_path / "o.lance").exists()


def test_the_pace_is_that_of_the_last_part(folder: Path, tmp_path: Path) -> None:
    pace = Pace(10)
    assert pace.rows == 3
    result, _ = run(numbers(folder, tmp_path / "o.lance"))
    for rows, resumed, seconds, expected in (
        (3, 0, 0.001, 24),  # ten seconds have room for more, but it was only a start
        (24, 0, 24.0, 10),
        (10, 6, 1.0, 40),  # what an earlier attempt did took no time
        (40, 0, 4000.0, 1),
        (0, 0, 1.0, 1),  # only deletions
    ):
        pace.learn(replace(result, rows=rows, rows_resumed=resumed, seconds=seconds))
        assert pace.rows == expected
