"""The graph: order, names, recipe, and cycles made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import polars as pl
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.pipelines.graph import Graph, Node, Select, Write, build
from weft.pipelines.sites import Site

SITE = Site("pipeline.py", 7)


@weft.operator(version="1")
def doubled(n: int) -> int:
    return 2 * n


@weft.pipeline
def branched(limit: int = 1) -> Any:
    rows = weft.read(Arrow({"n": [1, 2]}))
    high = rows.where(pl.col("n") > limit).apply(doubled)
    low = rows.where(pl.col("n") <= limit)
    return high.write(Memory("high")), low.write(Memory("low"))


def test_names_and_order() -> None:
    graph = branched().graph
    names = [n.id for n in graph.nodes]
    assert names == ["read", "where", "doubled", "where_2", "write", "write_2"]
    assert [n.id for n in graph.writes()] == ["write", "write_2"]
    assert graph.node("doubled").columns == weft.fields(n=int, doubled=int)


def test_text() -> None:
    assert str(branched().graph) == (
        "branched\n"
        "  read         Arrow(<2 rows: n>)\n"
        '  where        col("n") > 1\n'
        "  doubled      doubled  n -> doubled\n"
        '  where_2      col("n") <= 1\n'
        "  write        Memory(name='high')\n"
        "  write_2      Memory(name='low')"
    )


def test_sites() -> None:
    lines = [n.site.text for n in branched().graph.nodes]
    assert lines[0] == 'rows = weft.read(Arrow({"n": [1, 2]}))'
    assert lines[-1] == 'return high.write(Memory("high")), low.write(Memory("low"))'


def test_recipe_is_what_decides_the_rows() -> None:
    graph = branched().graph
    moved = Graph("other", tuple(replace(n, site=SITE) for n in graph.nodes))
    assert moved.recipe() == graph.recipe()
    assert branched(2).graph.recipe() != graph.recipe()


def node(name: str, *inputs: str) -> Node:
    return Node(name, Select(("n",)), inputs, weft.fields(n=int), SITE)


def write(name: str, source: str) -> Node:
    return Node(name, Write(Memory(name)), (source,), weft.fields(n=int), SITE)


READ = branched().graph.node("read")


@pytest.mark.parametrize(
    ("nodes", "loop"),
    [
        ([node("a", "b"), node("b", "a")], "a -> b -> a"),
        ([node("a", "a")], "a -> a"),
        ([READ, node("a", "c"), node("b", "a"), node("c", "b"), write("w", "c")],
         "a -> b -> c -> a"),
        ([write("w", "a"), node("a", "b"), node("b", "a")], "b -> a -> b"),
    ],
)  # fmt: skip
def test_cycle(nodes: list[Node], loop: str) -> None:
    with pytest.raises(DefinitionError) as error:
        build("p", nodes, ["w"])
    shown = str(error.value)
    assert shown.startswith("pipeline.py:7\nThese rows are made from themselves: ")
    found = shown.removesuffix(".").rpartition(": ")[2]
    assert set(zip(found.split(" -> "), found.split(" -> ")[1:], strict=False)) == set(
        zip(loop.split(" -> "), loop.split(" -> ")[1:], strict=False)
    )


def test_nodes_come_after_their_inputs_otherwise_as_given() -> None:
    nodes = [write("w", "b"), node("b", "a"), READ, node("a", "read")]
    assert [n.id for n in build("p", nodes, ["w"]).nodes] == ["read", "a", "b", "w"]
    graph = branched().graph
    assert build("p", graph.nodes, ["write", "write_2"]).nodes == graph.nodes


def test_a_pipeline_that_writes_nothing() -> None:
    with pytest.raises(DefinitionError) as error:
        build("p", [replace(READ, site=SITE)], [])
    assert str(error.value) == (
        "pipeline.py:7\nPipeline 'p' writes nothing. End it with rows.write(Lance(out))."
    )
