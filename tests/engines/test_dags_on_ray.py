"""Random graphs of all verbs on Ray, against the reference that `tests/pipelines/dags.py` has.

Each phase costs Ray about a second, so a few graphs that have several phases each stand for all;
on the local engine hypothesis tries many more.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from unittest.mock import patch

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
    "weft.pipelines.passes.broadcast_joins.BROADCAST_BYTES": 600,
    "weft.pipelines.runs.phases.UNIT_ROWS": 8,
    "weft.pipelines.runs.phases.HELD_BYTES": 6000,
}
"""What the driver cuts by, small enough that every kind of unit is there."""


def rich(count: int) -> Iterator[tuple[int, dags.Made]]:
    """Graphs with a join, a group and an order at least, and rows to show for it."""
    seed = 0
    while count:
        made = dags.make(Random(seed), f"ray-dag-{seed}", 9)
        labels = [n.action.label for n in made.pipeline.graph.nodes]
        rows = sum(len(s.expected) for s in made.sinks.values())
        if {"join", "group", "order"} <= {*labels} and rows > 40:
            count -= 1
            yield seed, made
        seed += 1


@pytest.mark.parametrize("made", [pytest.param(made, id=f"{seed}") for seed, made in rich(4)])
def test_a_graph_gives_the_rows_of_the_reference_on_ray(made: dags.Made) -> None:
    with ExitStack() as stack:
        for name, value in SMALL.items():
            stack.enter_context(patch(name, value))
        result = made.pipeline.run(engine="ray", cluster=TWO, budget=Budget(rows=10**9))
    dags.check(made)
    assert [*result.kept.values()] == [len(s.expected) for s in made.sinks.values()]
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
