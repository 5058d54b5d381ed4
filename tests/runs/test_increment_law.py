"""The law of incremental runs: what they leave is what a full run would make.

Random scripts of edits to sources and to pipelines, with crashes among them, drawn by hypothesis.
After every run rows, ledger and errors are compared with those of a full run of the pipeline as it
is at present.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import lance
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.pipelines.runs import parts
from weft.pipelines.runs.executing import Executor
from weft.pipelines.runs.journal import Journal

sys.path.insert(0, str(Path(__file__).parent))

from law import Killed, World, contents

ALL = os.environ.get("WEFT_FAULTS") == "all"
STEPS = 10


def play(home: Path, chance: Random, engine: str = "local") -> None:
    """A script: edits, runs of which some die, and what else is done to datasets."""
    world = World(home, chance, engine=engine)
    world.settle()
    for _ in range(STEPS):
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            world.edit()
        if chance.random() < 0.15:
            chance.choice([world.compact, world.roll_back])()
        if chance.random() < 0.25:
            world.crash()
            if chance.random() < 0.5:
                world.edit()
            world.settle()
        else:
            world.run(publish_every=chance.choice([None, None, 1.0]))
        if chance.random() < 0.1:
            world.told.append("failed rows are tried again")
            world.run(retry_failed=True)
        assert contents(world.out) == world.full(), "\n".join(world.told)


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    """A run that publishes early does so after two rows, and after sixteen more."""
    with mock.patch.object(parts, "_FIRST_ROWS", 2):
        yield


def scripts(count: int) -> Any:
    """Have a test play so many scripts, the same each time unless all harm is done. One that
    fails is made shorter."""
    checked = settings(
        max_examples=count, derandomize=not ALL, suppress_health_check=list(HealthCheck)
    )
    drawn = given(chance=st.randoms(use_true_random=False))
    return lambda test: pytest.mark.timeout(60 * count)(checked(drawn(test)))


@scripts(200 if ALL else 25)
def test_incremental_is_full(chance: Random, tmp_path_factory: pytest.TempPathFactory) -> None:
    play(tmp_path_factory.mktemp("world"), chance)


@pytest.mark.usefixtures("ray_engine")
@scripts(20 if ALL else 2)
def test_incremental_is_full_on_ray(
    chance: Random, tmp_path_factory: pytest.TempPathFactory
) -> None:
    play(tmp_path_factory.mktemp("world"), chance, "ray")


def _dies_before_its_backfill(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run with a backfill dies when its own units are done."""
    with monkeypatch.context() as patch:
        patch.setattr(Executor, "backfills", _die)
        with pytest.raises(Killed):
            world.run()


def _die(*_: object) -> None:
    raise Killed


def test_rows_that_come_after_a_run_died_are_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backfill of a run that is gone on with has the rows that were there when it began."""
    world = World(tmp_path / "world", Random(0), "chain")
    bad = replace(world.spec.codes["add"], bad=3)
    world.spec = replace(world.spec, on_error="null", codes=world.spec.codes | {"add": bad})
    world.settle()
    world.spec = replace(world.spec, extra=frozenset({"sum"}))
    _dies_before_its_backfill(world, monkeypatch)
    row = pa.table({"k": ["late"], "n": [10], "s": ["it fails"]})
    lance.write_dataset(row, str(world.home / "table"), mode="append")
    world.settle()
    assert contents(world.out) == world.full()


def test_rows_that_change_after_a_run_died_are_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world", Random(0), "children")
    (world.home / "left" / "file").write_text("one\ntwo two")
    world.settle()
    world.spec = replace(world.spec, extra=frozenset({"sum"}))
    _dies_before_its_backfill(world, monkeypatch)
    (world.home / "left" / "file").write_text("one")
    world.settle()
    assert contents(world.out) == world.full()


def test_errors_of_a_step_that_is_gone_go(tmp_path: Path) -> None:
    world = World(tmp_path / "world", Random(0), "media")
    bad = replace(world.spec.codes["add"], bad=5)
    world.spec = replace(world.spec, extra=frozenset({"y"}), codes=world.spec.codes | {"add": bad})
    world.settle()
    assert contents(world.out)["rows errors"]
    world.spec = replace(world.spec, extra=frozenset())
    world.run()
    assert contents(world.out)["rows errors"] == []
    assert contents(world.out) == world.full()


def test_a_run_that_died_when_all_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path / "world", Random(0), "chain")
    world.settle()
    world.spec = replace(world.spec, limit=1, on_error="null")  # some rows go
    drop = Journal.drop_kept

    def dies(journal: Journal) -> None:
        drop(journal)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Executor, "backfills", _noting(patch, dies, Executor.backfills))
        with pytest.raises(Killed):
            world.run()
    world.settle()
    assert contents(world.out) == world.full()


def _noting(patch: pytest.MonkeyPatch, dies: Any, backfills: Any) -> Any:
    """The journal drops what it keeps, and the process dies, once the backfills have run."""

    def noting(*arguments: Any) -> Any:
        found = backfills(*arguments)
        patch.setattr(Journal, "drop_kept", dies)
        return found

    return noting
