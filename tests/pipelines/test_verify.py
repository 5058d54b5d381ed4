"""Every rule that a plan must keep, broken by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.lowering import lower
from weft.pipelines.plan import Plan, Step
from weft.pipelines.verify import verify


@weft.pipeline
def made() -> Any:
    rows = weft.read(Arrow({"n": [1], "m": [2]})).where(pl.col("n") > 0)
    return rows.select("m").write(Memory("out"))


PLAN = lower(made().graph)


def changed(name: str, **more: Any) -> Plan:
    return PLAN.replace_step(replace(PLAN.step(name), **more))


def staged(*stages: tuple[str, ...]) -> Plan:
    return replace(PLAN, stages=tuple(replace(PLAN.stages[0], steps=s) for s in stages))


def reordered(order: Callable[[tuple[Step, ...]], Any]) -> Plan:
    return replace(PLAN, steps=tuple(order(PLAN.steps)))


def test_sound() -> None:
    assert verify(PLAN) is PLAN


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            reordered(lambda steps: steps[::-1]),
            "write takes rows of select, which comes later or not at all",
        ),
        (
            changed("where", inputs=("nobody",)),
            "where takes rows of nobody, which comes later or not at all",
        ),
        (
            changed("read", columns=weft.fields(m=int)),
            "where reads ['n'], which read does not pass on",
        ),
        (
            changed("where", columns=weft.fields(m=int, x=int)),
            "where passes on ['x'], which nobody made",
        ),
        (changed("select", columns=weft.fields(m=str)), "select changes the type of ['m']"),
        (changed("write", columns=weft.fields(m=weft.Float32)), "write changes the type of ['m']"),
        (
            staged(("read",), ("where", "select")),
            "stages hold ['read', 'where', 'select'], the plan has "
            "['read', 'where', 'select', 'write']",
        ),
        (
            staged(("read",), ("where", "where"), ("select", "write")),
            "stages hold ['read', 'where', 'where', 'select', 'write'], the plan has "
            "['read', 'where', 'select', 'write']",
        ),
        (
            staged(("read",), ("select",), ("where",), ("write",)),
            "select runs before its input where",
        ),
        (staged((), ("read", "where", "select", "write")), "read reads in stage 2"),
        (
            staged(("read", "where", "select", "write"), ()),
            "write writes before the last stage",
        ),
        (staged(("read", "where"), (), ("select", "write")), "a stage is empty"),
        (
            replace(PLAN, stages=(replace(PLAN.stages[0], batch_rows=0), *PLAN.stages[1:])),
            "a stage has batches of 0 rows",
        ),
        (replace(PLAN, unit_rows=0), "units have 0 rows"),
    ],
)
def test_unsound(plan: Plan, message: str) -> None:
    with pytest.raises(AssertionError) as error:
        verify(plan)
    assert str(error.value) == f"unsound plan: {message}"
