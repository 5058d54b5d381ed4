"""Estimates of rows: rule by rule, and against what runs of random pipelines count."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Files, Memory
from weft.errors import DataError
from weft.operators.tabular import Sort, Top
from weft.pipelines.compile import compile_plan
from weft.pipelines.connector import Source
from weft.pipelines.lowering import lower
from weft.pipelines.observe.estimates import Estimate, estimate
from weft.pipelines.resources import Cluster, Machine

TEN = [{"id": f"r{i}", "k": i % 3, "v": i} for i in range(10)]
FOUR = [{"k": i, "w": i} for i in range(4)]


@weft.operator(version="1")
def copies(v: int) -> Iterator[weft.fields(copy=int)]:  # type: ignore[valid-type]
    return ({"copy": i} for i in range(v % 3))


@weft.operator(version="1")
def double(v: int) -> int:
    return 2 * v


def ten() -> Any:
    return weft.read(Arrow(TEN, key="id"))


def four() -> Any:
    return weft.read(Arrow(FOUR))


def written(make: Callable[[], Any]) -> Estimate:
    """What is estimated of the rows that `make` makes, in the plainest plan."""

    @weft.pipeline
    def made():
        return make().write(Memory("estimates"))

    return estimate(lower(made().graph))["write"]


def once() -> Any:
    """Rows whose `k` is there once, by what they are."""
    return four().group("k", w=pl.col("w").sum())


def keyed() -> Any:
    return four().with_columns(n=pl.col("w").cast(pl.Int64)).select("n")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (ten, "10"),
        (lambda: ten().apply(double).with_columns(x=pl.col("v") + 1).select("x"), "10"),
        (lambda: ten().where(pl.col("v") > 3), "≤ 10"),
        (lambda: ten().apply(copies), "?"),
        (lambda: ten().apply(copies).where(pl.col("copy") > 0), "?"),
        (lambda: ten().union(ten()), "20"),
        (lambda: ten().union(ten().where(pl.col("v") > 3)), "≤ 20"),
        (lambda: ten().union(four(), ten().apply(copies), missing="null"), "?"),
        # one row of the right for each of the left
        (lambda: ten().join(once(), on="k", how="left"), "10"),
        (lambda: ten().join(once().where(pl.col("w") > 0), on="k", how="left"), "10"),
        (lambda: ten().join(once(), on="k"), "≤ 10"),
        (lambda: ten().join(keyed(), on="_key", how="left"), "10"),
        (lambda: ten().join(four(), left_on=(), right_on=(), asof=("v", "w"), how="left",
                            suffix="_r"), "10"),
        # one of the left for each of the right
        (lambda: once().join(ten().select("k", "v"), on="k"), "≤ 10"),
        # nobody knows which of the two
        (lambda: ten().join(four(), on="k"), "≤ 14"),
        (lambda: ten().join(four(), on="k", how="left"), "≤ 14"),
        (lambda: ten().join(four(), on="k", many=True), "≤ 40"),
        (lambda: ten().join(four().where(pl.col("w") > 9), on="k", how="left", many=True), "≤ 40"),
        (lambda: ten().join(four(), on="k", how="semi"), "≤ 10"),
        (lambda: ten().join(four(), on="k", how="anti"), "≤ 10"),
        (lambda: ten().apply(copies).join(once(), on="k", how="left"), "?"),
        (lambda: ten().apply(copies).join(four(), on="k"), "?"),
        (lambda: ten().join(four().apply(double, v="w").apply(copies, v="w"), on="k"), "?"),
        # `_key` is still there once below an Expand and below a join that meets one, not a union
        (lambda: four().join(ten().apply(copies).select("copy"), on="_key"), "≤ 4"),
        (lambda: four().join(ten().join(once(), on="k").select("v"), on="_key", how="left"), "4"),
        (lambda: four().join(ten().union(ten()).select("v"), on="_key", how="left"), "≤ 24"),
        # a column that is made anew says nothing
        (lambda: ten().join(once().with_columns(k=pl.col("w") // 9), on="k", how="left"), "≤ 14"),
        (lambda: ten().group("k", n=pl.len()), "≤ 10"),
        (lambda: ten().group(n=pl.len()), "1"),
        (lambda: ten().where(pl.col("v") > 99).group(n=pl.len()), "≤ 1"),
        (lambda: ten().apply(copies).group("k", n=pl.len()), "?"),
        (lambda: ten().apply(copies).group("_parent", n=pl.len()), "≤ 10"),
        (lambda: ten().apply(copies).apply(copies, copy="c2").group("_parent", n=pl.len()), "?"),
        (lambda: ten().apply(copies).group("_parent", n=pl.len()).union(
            four().group(n=pl.len())), "≤ 11"),
        (lambda: ten().group("k", operator=Top(1), value="v"), "≤ 10"),
        (lambda: ten().apply(Sort("v")), "10"),
        (lambda: ten().apply(Sort("v", limit=3)), "3"),
        (lambda: ten().where(pl.col("v") > 3).apply(Sort("v", limit=3)), "≤ 3"),
        (lambda: ten().apply(copies).apply(Sort("v", limit=3)), "≤ 3"),
    ],
)  # fmt: skip
def test_what_is_known_before_a_run(make: Callable[[], Any], told: str) -> None:
    assert str(written(make)) == told
