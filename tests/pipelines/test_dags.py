"""Random graphs of all verbs against a naive reference: see `dags`.

Whatever passes a plan went through and however its rows are cut into units, batches, partitions,
shares, slices and ranges, the rows of each sink are those of the reference, in its order where
there is one, and the books balance.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Memory
from weft.operators import tabular
from weft.pipelines.compile import PASSES, compile_plan
from weft.pipelines.engines.worker import units_of
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.budget import Budget

sys.path.insert(0, str(Path(__file__).parent))

import dags

CLUSTER = Cluster((Machine(cpus=8),))
LENIENT = Budget(rows=10**9)

CONSTANTS = {
    "weft.pipelines.lowering.PARTITIONS": (1, 2, 5, 64),
    "weft.pipelines.passes.broadcast_joins.BROADCAST_BYTES": (-1, 2**25),
    "weft.pipelines.runs.phases.UNIT_ROWS": (1, 8192),
    "weft.pipelines.runs.phases.UNIT_BYTES": (1, 4000, 2**26),
    "weft.pipelines.runs.phases.HELD_BYTES": (3000, 2**28),
    "weft.pipelines.engines.kept.HELD_ROWS": (1, 3, 65_536),
    "weft.pipelines.engines.meeting.HELD_ROWS": (1, 65_536),
    "weft.pipelines.engines.kept.READ_BYTES": (500, 2**25),
}
"""What decides where the rows of later phases are cut, and values small enough to cut them."""

MOVE = {"order_filters", "push_into_source", "push_into_decode"}
"""Passes after which a row may be dropped where it would have failed."""

_examples = itertools.count()


@contextmanager
def cut(chance: Random, passes: tuple[Any, ...]) -> Iterator[None]:
    """Runs whose plans go through `passes` only, and whose rows are cut wherever they can be."""
    batch_rows, unit_rows = chance.choice([1, 2, 5, None]), chance.choice([1, 3, 12])

    def planned(graph: Any, cluster: Cluster) -> Plan:
        plan = compile_plan(graph, cluster, passes)
        stages = [replace(s, batch_rows=batch_rows or s.batch_rows) for s in plan.stages]
        return replace(plan, stages=tuple(stages), unit_rows=unit_rows)

    with ExitStack() as stack:
        for name, values in CONSTANTS.items():
            stack.enter_context(patch(name, chance.choice(values)))
        stack.enter_context(patch("weft.pipelines.runs.run.compile_plan", planned))
        stack.enter_context(
            patch("weft.pipelines.runs.run.cut", lambda plan, *_: list(units_of(plan, unit_rows)))
        )
        yield


subsets = st.one_of(
    st.just(PASSES),
    st.lists(st.sampled_from(PASSES), unique=True).map(
        lambda chosen: tuple(p for p in PASSES if p in chosen)
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False), subsets)
def test_every_graph_gives_the_rows_of_the_reference(chance: Random, passes: Any) -> None:
    made = dags.make(chance, f"dag-{next(_examples)}")
    with cut(chance, passes):
        result = made.pipeline.run(engine="local", cluster=CLUSTER, budget=LENIENT)
    dags.check(made)
    if not MOVE & {p.__name__ for p in passes}:
        books = result.books
        assert {n: books[n].dropped for n in made.dropped} == made.dropped
        assert {n: books[n].failed for n in made.failed} == made.failed
    for name in made.sinks:
        Memory(name).clear()


TABLE = Arrow({"id": list("abcdefgh"), "n": list(range(8))}, key="id")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row is a unit, and every row that is kept a unit of the next phase."""
    for name, values in CONSTANTS.items():
        monkeypatch.setattr(name, values[0] if "PARTITIONS" not in name else 5)
    monkeypatch.setattr("weft.pipelines.runs.run.cut", lambda plan, *_: list(units_of(plan, 1)))


def rows_of(build: Callable[[Any], Any]) -> list[dict[str, Any]]:
    """What `build` makes of the rows of `TABLE`, by key."""

    @weft.pipeline
    def made() -> Any:
        return build(weft.read(TABLE)).write(Memory("dag"))

    made().run(engine="local", cluster=CLUSTER)
    table = Memory("dag").table()
    Memory("dag").clear()
    return table.drop_columns("_source").sort_by("_key").to_pylist()


@pytest.mark.usefixtures("small")
def test_rows_united_with_themselves_are_there_twice() -> None:
    found = rows_of(lambda rows: rows.union(rows, rows.where(pl.col("n") > 6)).select("n"))
    assert [r["n"] for r in found] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7]


@pytest.mark.usefixtures("small")
def test_rows_without_a_parent_are_one_group_wherever_they_are() -> None:
    def build(rows: Any) -> Any:
        children = rows.apply(dags.Parts(7), x="n").select("n")
        return rows.select("n").union(children).group("_parent", n=pl.col("n").sort())

    alone = {"_key": "[null]", "n": list(range(8))}
    of = [{"_key": key, "n": [n] * (n % 4)} for n, key in enumerate("abcdefgh") if n % 4]
    assert rows_of(build) == [alone, *of]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "between",
    [
        lambda rows: rows.apply(tabular.Sort("part", "n")),
        lambda rows: rows.join(rows.select("n"), on="_key", how="semi"),
        lambda rows: rows.group("part", operator=tabular.Top(100), value="n"),
    ],
)
def test_children_find_their_parents_after_they_were_moved(between: Any) -> None:
    def build(rows: Any) -> Any:
        return between(rows.apply(dags.Parts(7), x="n")).apply(tabular.Collect("part"))

    assert [(r["_key"], r["part"], r["count"]) for r in rows_of(build)] == [
        (key, list(range(n % 4)), n % 4) for n, key in enumerate("abcdefgh") if n % 4
    ]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("moved", [False, True])
def test_grandchildren_come_back_generation_by_generation(moved: bool) -> None:
    def build(rows: Any) -> Any:
        rows = rows.apply(dags.Parts(7), x="n")
        if moved:
            rows = rows.apply(tabular.Sort("part"))
        rows = rows.apply(dags.Parts(7), x="n", part="piece")
        rows = rows.group("_parent", pieces=pl.len(), n=pl.col("n").first())
        return rows.group("_parent", parts=pl.len(), pieces=pl.col("pieces").sum())

    assert [(r["_key"], r["parts"], r["pieces"]) for r in rows_of(build)] == [
        (key, n % 4, (n % 4) ** 2) for n, key in enumerate("abcdefgh") if n % 4
    ]


def test_a_join_after_a_worker_of_its_own_has_its_right_on_the_books() -> None:
    def build(rows: Any) -> Any:
        right = weft.read(Arrow({"n": [1, 2, 9]}))
        return rows.apply(dags.Under(100, 7), x="n").join(right, on="n")

    assert [r["_key"] for r in rows_of(build)] == ["b", "c"]
