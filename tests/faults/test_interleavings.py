"""Two at a time on one dataset: as if one after the other, or one is refused by name.

Each pair is played in all orders of four phases each (a few of them without `WEFT_FAULTS=all`):
once as it is, where the lease keeps one of them out, and once with leases that count as stale at
once, where the first to hold it is a sleeper that wakes up anywhere between its phases.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from harness import ALL, report, share
from interleaving import Actor, Point, orders, play

import weft
from weft.connectors import Files, Lance
from weft.errors import Busy, CommitConflict, Refused
from weft.pipelines import cleaning, compaction, restoring, tables
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs import compact, forget, garbage, lease, publish, rollback
from weft.pipelines.runs.forgotten import forgotten_of, pending_of
from weft.pipelines.runs.places import errors_uri, ledger_uri

Rows = dict[str, str]

ONE = Cluster((Machine(cpus=1),))


@weft.pipeline
def first(folder: str, out: str) -> Any:
    rows = weft.read(Files(f"{folder}/*.txt")).with_columns(told=pl.col("key").str.to_uppercase())
    return rows.select("key", "told", "content").write(Lance(out))


@weft.pipeline
def second(folder: str, out: str) -> Any:
    rows = weft.read(Files(f"{folder}/*.txt")).with_columns(told=pl.col("key") + "!")
    return rows.select("key", "told", "content").write(Lance(out))


class Home:
    """Files, and a dataset that a run made of them before some changed."""

    def __init__(self, path: Path) -> None:
        self.path = path / "now"
        self.spare = path / "before"
        self.folder = self.path / "files"
        self.folder.mkdir(parents=True)
        self.out = str(self.path / "o.lance")
        for name in "abcdef":
            (self.folder / f"{name}.txt").write_text(name)
        self.base = self.run(first).run
        self.old = self.rows()
        (self.folder / "b.txt").write_text("changed")
        (self.folder / "g.txt").write_text("new")
        (self.folder / "a.txt").unlink()
        shutil.copytree(self.path, self.spare)

    def begin(self) -> None:
        """As it was before anybody played."""
        shutil.rmtree(self.path)
        shutil.copytree(self.spare, self.path)

    @property
    def state(self) -> str:
        return f"{self.out}.weft"

    def run(self, pipeline: Any) -> Any:
        return pipeline(str(self.folder), self.out).run(engine="local", cluster=ONE)

    def rows(self, tag: str = "latest") -> Rows:
        table = tables.read(self.out, tag)
        texts = [c.decode() for c in table["content"].to_pylist()]
        told = zip(table["told"].to_pylist(), texts, strict=True)
        return dict(zip(table["key"].to_pylist(), map(":".join, told), strict=True))

    def truth(self, how: Callable[[str], str]) -> Rows:
        return {p.name: f"{how(p.name)}:{p.read_text()}" for p in self.folder.glob("*.txt")}

    def check_whole(self) -> None:
        """That every version with a tag can be read, and the ledger says what is in it."""
        for uri in (self.out, ledger_uri(self.state), errors_uri(self.state)):
            for tag in tables.open_table(uri).tags.list():
                tables.read(uri, tag)
        ledger = tables.open_table(ledger_uri(self.state)).tags.list()
        for tag in tables.open_table(self.out).tags.list():
            if tag.startswith("run-") and tag in ledger:
                lines = pl.DataFrame(tables.read(ledger_uri(self.state), tag))
                kept = lines.filter(pl.col("outcome") == "kept")["_key"].to_list()
                assert sorted(kept) == sorted(self.rows(tag)), tag


Effect = Callable[[Home, Rows, set[str]], Rows]
"""What an actor makes of the rows that readers see; it may add to the keys that are forgotten."""

FORGOTTEN = "c.txt"


def makes(how: Callable[[str], str]) -> Effect:
    def effect(home: Home, rows: Rows, forgotten: set[str]) -> Rows:
        return {k: v for k, v in home.truth(how).items() if k not in forgotten}

    return effect


def forgets(home: Home, rows: Rows, forgotten: set[str]) -> Rows:
    forgotten.add(FORGOTTEN)
    return {k: v for k, v in rows.items() if k != FORGOTTEN}


class Kind:
    """What somebody does to a dataset, where it stops, and what that is to come to."""

    def __init__(self, work: Callable[[Home], Any], points: list[Point], effect: Effect) -> None:
        self.work = work
        self.points = [(lease, "_take", 1), *points]
        self.effect = effect


COMMITS: list[Point] = [(publish, "publish", 1), (tables, "tag", 3)]
DEEP: list[Point] = [(tables, "_transact", 2), (tables, "_transact", 3)]
KINDS = {
    "run": Kind(lambda h: h.run(first), COMMITS, makes(str.upper)),
    "run deep": Kind(lambda h: h.run(first), DEEP, makes(str.upper)),
    "other run": Kind(lambda h: h.run(second), COMMITS, makes(lambda key: f"{key}!")),
    "other run deep": Kind(lambda h: h.run(second), DEEP, makes(lambda key: f"{key}!")),
    "compact": Kind(
        lambda h: compact.compact(h.out, h.state),
        [(compaction, "compact", 1), (compaction, "_move", 2)],
        lambda home, rows, forgotten: rows,
    ),
    "gc": Kind(
        lambda h: garbage.collect(h.out, h.state),
        [(garbage, "_drop_orphans", 1), (cleaning, "remove", 2)],
        lambda home, rows, forgotten: rows,
    ),
    "forget": Kind(
        lambda h: forget.forget(h.out, [FORGOTTEN]),
        [(forget, "bar", 1), (forget.erasing, "erase", 1)],
        forgets,
    ),
    "rollback": Kind(
        lambda h: rollback.rollback(h.out, h.base),
        [(rollback, "restore_run", 1), (restoring, "show", 1)],
        lambda home, rows, forgotten: dict(home.old),
    ),
}

PAIRS = [
    ("run", "run"), ("run deep", "run deep"), ("run", "other run"), ("run deep", "other run deep"),
    ("run", "compact"), ("run", "gc"), ("run", "forget"), ("run", "rollback"),
]  # fmt: skip

REFUSALS = (Busy, CommitConflict, Refused)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("two"))


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("sleeping", [False, True], ids=["leased", "asleep"])
@pytest.mark.parametrize("pair", PAIRS, ids=" + ".join)
def test_two_at_a_time(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    pair: tuple[str, str],
    sleeping: bool,
) -> None:
    if sleeping:
        monkeypatch.setattr(lease, "lives", lambda *_: False)
    kinds = [KINDS[name] for name in pair]
    chosen = orders(4)
    random.Random(str(pair)).shuffle(chosen)
    ends = Counter[tuple[str, ...]]()
    stops = [set[str](), set[str]()]
    for order in chosen[: share(70, 1)]:
        home.begin()
        actors = [Actor(partial(kind.work, home), kind.points) for kind in kinds]
        play(order, dict(zip("AB", actors, strict=True)), [p for k in kinds for p in k.points])
        for stopped, actor in zip(stops, actors, strict=True):
            assert actor.error is None or refused(actor.error), (order, actor.error)
            stopped.update(actor.stops)
        home.check_whole()
        done = [k for k, a in zip(kinds, actors, strict=True) if a.error is None]
        # A forgetting that was refused in its midst keeps the row out until it is done again.
        begun = forgotten_of(home.state).has(FORGOTTEN)
        meant = [done, [*done, KINDS["forget"]]] if begun else [done]
        seen = [rows for those in meant for rows in serial(home, those)]
        assert home.rows() in seen, (order, [a.error for a in actors])
        forgotten = {FORGOTTEN} if begun or KINDS["forget"] in done else set()
        home.run(first)
        assert home.rows() == KINDS["run"].effect(home, {}, forgotten), order
        assert home.run(first).in_sync, order
        if begun or pending_of(home.state).exists():
            assert forget.forget(home.out, [FORGOTTEN]).complete, order
        home.check_whole()
        ends[tuple(type(a.error).__name__ if a.error else "done" for a in actors)] += 1
    if ALL:  # all of the points were met, so all of the orders were others
        assert stops == [{name for _, name, _ in kind.points} for kind in kinds]
    told = {" + ".join(end): many for end, many in sorted(ends.items())}
    report(f"F15 {' + '.join(pair)}", asleep=sleeping, orders=ends.total(), ends=told)


def refused(error: Exception) -> bool:
    """Whether an error says who was in the way."""
    return isinstance(error, REFUSALS)


def serial(home: Home, done: list[Kind]) -> list[Rows]:
    """What readers may see when all of `done` have been, in any order."""
    found = []
    for order in permutations(done):
        rows, forgotten = dict(home.old), set[str]()
        for kind in order:
            rows = kind.effect(home, rows, forgotten)
        found.append(rows)
    return found
