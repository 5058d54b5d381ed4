"""Lowering a graph, asking a plan, printing it."""

from __future__ import annotations

from typing import Any

import polars as pl

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.compile import PASSES, compile_plan
from weft.pipelines.lowering import lower
from weft.pipelines.resources import Cluster, Machine

CLUSTER = Cluster((Machine(4),))


@weft.operator(version="1")
def parts(n: int) -> list[int]:
    return [n]


@weft.pipeline
def branched() -> Any:
    rows = weft.read(Arrow({"n": [1, 2], "m": [3, 4]})).where(pl.col("n") > 0)
    low = rows.where(pl.col("n") < 2)
    return low.apply(parts).write(Memory("low")), rows.select("m").write(Memory("all"))


PLAN = lower(branched().graph)

LOWERED = """\
branched: units of 256 rows
  stage 1: tasks, cpus=1, batches of 64 rows
    read: Arrow(<2 rows: n, m>)
      reads n: Int64, m: Int64
  stage 2: tasks, cpus=1, batches of 64 rows
    where: col("n") > 0
  stage 3: tasks, cpus=1, batches of 64 rows
    where_2: col("n") < 2
  stage 4: tasks, cpus=1, batches of 64 rows
    parts: parts  n -> parts
      adds parts: Int64
  stage 5: tasks, cpus=1, batches of 64 rows
    select: m  from where
      drops n
  stage 6: tasks, cpus=1, batches of 64 rows
    write: Memory(name='low')  from parts
      writes n: Int64, m: Int64, parts: Int64
    write_2: Memory(name='all')  from select
      writes m: Int64"""

COMPILED = """\
branched: units of 16384 rows
  stage 1: tasks, cpus=1, batches of 8192 rows
    read: Arrow(<2 rows: n, m>)
      only col("n") > 0  [where]
      reads n: Int64, m: Int64
    where_2: col("n") < 2
    parts: parts  n -> parts
      adds parts: Int64
    write: Memory(name='low')
      writes n: Int64, m: Int64, parts: Int64
    select: m  from read
      drops n
    write_2: Memory(name='all')
      writes m: Int64"""


def test_lower() -> None:
    assert str(PLAN) == LOWERED


def test_compile() -> None:
    assert str(compile_plan(branched().graph, CLUSTER)) == COMPILED
    assert str(compile_plan(branched().graph, CLUSTER, passes=())) == LOWERED


def test_the_recipe_does_not_depend_on_the_plan() -> None:
    assert compile_plan(branched().graph, CLUSTER, PASSES).recipe == PLAN.recipe


def test_questions() -> None:
    assert [s.id for s in PLAN.consumers("where")] == ["where_2", "select"]
    assert PLAN.stage_of("parts") == 3
    assert [s.id for s in PLAN.stage_steps(5)] == ["write", "write_2"]
    assert [PLAN.ports(i) for i in range(6)] == [
        ("read",), ("where",), ("where", "where_2"), ("where", "parts"), ("parts", "select"), (),
    ]  # fmt: skip
    assert PLAN.upstream("write_2") == {"read", "where", "select", "write_2"}
    assert PLAN.step("parts").expands
    assert not PLAN.step("where").expands


def test_what_steps_read_and_make() -> None:
    found = {s.id: (sorted(s.reads()), sorted(s.makes())) for s in PLAN.steps}
    assert found == {
        "read": ([], ["m", "n"]),
        "where": (["n"], []),
        "where_2": (["n"], []),
        "parts": (["n"], ["parts"]),
        "select": ([], []),
        "write": (["m", "n", "parts"], []),
        "write_2": (["m"], []),
    }


def test_remove_step() -> None:
    less = PLAN.remove_step("where_2")
    assert less.step("parts").inputs == ("where",)
    assert [s.steps for s in less.stages] == [
        ("read",), ("where",), ("parts",), ("select",), ("write", "write_2"),
    ]  # fmt: skip
