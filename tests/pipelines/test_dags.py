"""Random graphs of all verbs against a naive reference: see `dags`.

Whatever passes a plan went through and however its rows are cut into units, batches, partitions,
shares, slices and ranges, the rows of each sink are those of the reference, in its order where
there is one, and the books balance.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.connectors import Memory
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
    "weft.pipelines.engines.meeting._LEAST_ROWS": (1, 4096),
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
