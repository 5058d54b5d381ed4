"""How much an incremental run works: who is asked, for which rows, and what is written.

Operators write down each row that they are asked for, in whatever process they are.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Files, Lance
from weft.pipelines import tables
from weft.pipelines.runs.budget import Budget

sys.path.insert(0, str(Path(__file__).parent))

from law import calls as called

ROWS = 40


def step(log: Path, name: str, version: int = 1, adds: int = 1, bad: int = -1) -> Any:
    """An operator called `name` that adds to a number, fails on one, and notes what it is asked."""

    def answer(n: int) -> int:
        with log.open("a") as file:
            file.write(f"{name}\n")
        if n == bad:
            raise ValueError("not this one")
        return n + adds

    answer.__name__ = name
    return weft.operator(version=str(version))(answer)


@dataclass
class Case:
    """A table, a dataset made of it, and who was asked in the last run."""

    home: Path
    engine: str = "local"
    steps: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = list(range(ROWS))
        table = pa.table({"k": [f"row {n}" for n in numbers], "n": numbers})
        lance.write_dataset(table, str(self.source), enable_stable_row_ids=True)
        self.steps = {name: step(self.log, name) for name in "abcd"}

    @property
    def source(self) -> Path:
        return self.home / "table"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def change(self, name: str, **how: Any) -> None:
        """New code of an operator."""
        version = int(self.steps[name].version) + 1
        self.steps[name] = step(self.log, name, version, **how)

    def pipeline(self, limit: int = 1000, more: Callable[[Any], Any] | None = None) -> Any:
        """a of n, b of a, c of b; d of n; all of them kept."""

        @weft.pipeline
        def work() -> Any:
            rows = weft.read(Lance(str(self.source), key="k"))
            rows = rows.apply(self.steps["a"], n="n").apply(self.steps["d"], n="n")
            rows = rows.where(pl.col("a") < limit)
            rows = rows.apply(self.steps["b"], n="a").apply(self.steps["c"], n="b")
            return (more(rows) if more else rows).write(Lance(str(self.home / "out.lance")))

        return work()

    def run(self, pipeline: Any) -> Counter[str]:
        """Run it; how often each operator was asked."""
        result = pipeline.run(engine=self.engine, budget=Budget(rows=ROWS))
        assert not result.in_sync
        assert pipeline.run(engine=self.engine).in_sync
        return called(self.home)

    def values(self) -> dict[str, list[Any]]:
        """The dataset's columns, by key."""
        table = tables.read(str(self.home / "out.lance"), "latest").sort_by("n")
        return {name: table[name].to_pylist() for name in table.column_names if len(name) == 1}


@pytest.fixture(params=["local", "ray"])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    if request.param == "ray":
        request.getfixturevalue("ray_engine")
    return Case(tmp_path, request.param)


NUMBERS = np.arange(ROWS)


def test_new_code_runs_and_what_reads_it_and_nothing_else(case: Case) -> None:
    assert case.run(case.pipeline()) == dict.fromkeys("abcd", ROWS)
    case.change("b", adds=5)
    assert case.run(case.pipeline()) == dict.fromkeys("bc", ROWS)
    assert case.values()["b"] == [*(NUMBERS + 1 + 5)]
    assert case.values()["c"] == [*(NUMBERS + 1 + 5 + 1)]
    case.change("d", adds=2)
    assert case.run(case.pipeline()) == {"d": ROWS}
    case.change("c", adds=2)
    assert case.run(case.pipeline()) == {"c": ROWS}
    assert case.values()["c"] == [*(NUMBERS + 1 + 5 + 2)]


def test_new_code_that_answers_as_before_ends_there(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.run(case.pipeline())
    case.change("a", adds=1)
    assert case.run(case.pipeline()) == {"a": ROWS}
    case.change("b", adds=1)
    assert case.run(case.pipeline()) == {"b": ROWS}


def test_a_new_column_is_all_that_is_computed(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.run(case.pipeline())
    new = step(case.log, "e")
    assert case.run(case.pipeline(more=lambda rows: rows.apply(new, n="c"))) == {"e": ROWS}
    assert case.values()["e"] == [*(NUMBERS + 4)]
    expression = pl.col("c") + pl.col("d")
    more = case.pipeline(more=lambda r: r.apply(new, n="c").with_columns(s=expression))
    assert case.run(more) == {}
    assert case.values()["s"] == [*(2 * NUMBERS + 4)]
    assert case.run(case.pipeline()) == {}
    assert "e" not in case.values()


def test_a_filter_asks_the_rows_it_keeps_now_and_no_others(tmp_path: Path) -> None:
    case = Case(tmp_path)
    asked = case.run(case.pipeline(limit=11))  # d comes after it, as it needs not come before
    assert asked == {"a": ROWS, "d": 10, "b": 10, "c": 10}
    asked = case.run(case.pipeline(limit=6))  # what is there is asked, what was dropped is read
    assert asked == {"a": ROWS - 10}
    assert case.values()["n"] == [*range(5)]
    asked = case.run(case.pipeline(limit=9))
    assert asked == {"a": ROWS - 5, "d": 3, "b": 3, "c": 3}
    assert case.values()["n"] == [*range(8)]


def test_rows_that_failed_are_asked_again_by_new_code(tmp_path: Path) -> None:
    case = Case(tmp_path)
    case.steps["c"] = step(case.log, "c", bad=9)  # of which b is 9: row 7
    case.run(case.pipeline())
    assert len(case.values()["n"]) == ROWS - 1
    case.change("c")
    asked = case.run(case.pipeline())
    assert asked["c"] == ROWS
    assert asked["a"] == asked["d"] == asked["b"] == 1
    assert case.values()["c"] == [*(NUMBERS + 3)]


def test_a_changed_row_is_all_that_is_asked(case: Case) -> None:
    case.run(case.pipeline())
    lance.dataset(str(case.source)).update({"n": "n + 100"}, where="n = 3 OR n = 30")
    lance.dataset(str(case.source)).delete("n = 5")
    assert case.run(case.pipeline()) == dict.fromkeys("abcd", 2)


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_media_are_not_written_again(tmp_path: Path) -> None:
    """Fifty files of 100 KB: what a run adds for a new column is below 1% of the dataset."""
    folder, log, out = tmp_path / "in", tmp_path / "log", tmp_path / "out.lance"
    folder.mkdir()
    for number in range(50):
        (folder / f"{number}.jpg").write_bytes(os.urandom(100_000 + number))

    def pipeline(*more: Any) -> Any:
        @weft.pipeline
        def media() -> Any:
            rows = weft.read(Files(f"{folder}/*", kind="image")).where(pl.col("size") > 0)
            for name, operator in enumerate(more):
                rows = rows.apply(operator, n="size", **{operator.name: f"c{name}"})
            return rows.select("content", "size", *(f"c{n}" for n in range(len(more)))).write(
                Lance(str(out))
            )

        return media()

    pipeline(step(log, "a")).run(engine="local")
    whole = _bytes(out)
    assert whole > 50 * 100_000
    for change in (
        (step(log, "a"), step(log, "b")),
        (step(log, "a", 2, adds=3), step(log, "b")),
        (step(log, "b"),),
    ):
        before = _bytes(out)
        pipeline(*change).run(engine="local")
        assert _bytes(out) - before < 0.01 * whole
    table = tables.read(str(out), "latest")
    assert sorted(len(c) for c in table["content"].to_pylist()) == [100_000 + n for n in range(50)]
    assert table["c0"].to_pylist() == [n + 1 for n in table["size"].to_pylist()]
