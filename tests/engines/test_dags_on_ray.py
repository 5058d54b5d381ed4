"""Random graphs of all verbs on Ray, against the reference that `tests/pipelines/dags.py` has.

Each phase costs Ray about a second, so a few graphs that have several phases each stand for all;
on the local engine hypothesis tries many more.
"""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DataError, DefinitionError
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.budget import Budget

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines"))

import dags

TWO = Cluster((Machine(cpus=2),))

SMALL = {
    "weft.pipelines.lowering.PARTITIONS": 3,
    "weft.pipelines.runs.phases.UNIT_ROWS": 8,
    "weft.pipelines.runs.phases.HELD_BYTES": 6000,
}
"""What the driver cuts by, small enough that every kind of unit is there."""

SEEDS = (1051, 1411, 2728)
"""Graphs of many verbs that have, together, every kind of exchange."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SMALL.items():
        monkeypatch.setattr(name, value)


def graph(seed: int) -> dags.Made:
    return dags.make(Random(seed), f"ray-dag-{seed}", 9)


@pytest.mark.usefixtures("small")
def test_the_graphs_have_exchanges_of_every_kind() -> None:
    plans = [graph(seed).pipeline.plan(TWO) for seed in SEEDS]
    kinds = {step.action.kind for plan in plans for step in plan.exchanges()}
    assert kinds == {"shuffle", "hold", "broadcast", "sort"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_graph_gives_the_rows_of_the_reference_on_ray(seed: int) -> None:
    made = graph(seed)
    result = made.pipeline.run(engine="ray", cluster=TWO, budget=Budget(rows=10**9))
    dags.check(made)
    assert sum(result.kept.values()) == sum(len(s.expected) for s in made.sinks.values()) > 40
    for name in made.sinks:
        Memory(name).clear()


@weft.pipeline
def doubled():
    left = weft.read(Arrow({"k": [7, 8, 7]}))
    return left.join(weft.read(Arrow({"k": [7, 9, 7]})), on="k").write(Memory("doubled"))


@pytest.mark.parametrize("broadcast", [-1, 2**25])
def test_many_to_many_is_refused_by_name_on_ray(
    broadcast: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.pipelines.passes.broadcast_joins.BROADCAST_BYTES", broadcast)
    with pytest.raises(DataError, match=r"^join: key 7 is there several times on both sides"):
        doubled().run(engine="ray", cluster=TWO)
    with pytest.raises(DefinitionError, match="Nothing is published"):
        Memory("doubled").table()
