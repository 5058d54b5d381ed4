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

from weft.connectors import Memory
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
    """Graphs with two joins, groups or orders at least, and rows to show for it."""
    seed = 0
    while count:
        made = dags.make(Random(seed), f"ray-dag-{seed}", 9)
        labels = [n.action.label for n in made.pipeline.graph.nodes]
        rows = sum(len(s.expected) for s in made.sinks.values())
        if {"join", "group", "order"} <= {*labels} and "union" in labels and rows > 40:
            count -= 1
            yield seed, made
        seed += 1


@pytest.mark.parametrize("made", [pytest.param(made, id=f"{seed}") for seed, made in rich(6)])
def test_a_graph_gives_the_rows_of_the_reference_on_ray(made: dags.Made) -> None:
    with ExitStack() as stack:
        for name, value in SMALL.items():
            stack.enter_context(patch(name, value))
        result = made.pipeline.run(engine="ray", cluster=TWO, budget=Budget(rows=10**9))
    dags.check(made)
    assert result.kept == {
        step: len(stream.expected) for step, stream in zip(result.kept, made.sinks.values(), strict=True)
    }
    for name in made.sinks:
        Memory(name).clear()
