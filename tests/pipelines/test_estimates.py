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
from weft.pipelines.estimates import Estimate, estimate
from weft.pipelines.lowering import lower
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


def test_a_filter_in_the_source_is_one() -> None:
    @weft.pipeline
    def made():
        return ten().where(pl.col("v") > 3).select("v").write(Memory("estimates"))

    plan = compile_plan(made().graph, Cluster((Machine(cpus=4),)))
    assert plan.step("read").predicates
    assert str(estimate(plan)["read"]) == "≤ 10"


def test_a_source_that_cannot_say_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Arrow, "count", Source.count)
    assert str(written(ten)) == "?"
    assert written(ten).bytes is None
    assert str(written(lambda: ten().union(four(), missing="null"))) == "?"
    assert str(written(lambda: ten().group(n=pl.len()))) == "≤ 1"


def test_bytes_are_by_types_and_by_what_sources_measure(tmp_path: Any) -> None:
    for name, size in (("a", 100), ("b", 300)):
        (tmp_path / f"{name}.jpg").write_bytes(bytes(size))
    files = Files(f"{tmp_path}/*.jpg")
    found = written(lambda: weft.read(files).select("size", "content"))
    assert (found.rows, found.row_bytes, found.bytes) == (2, 8 + 200, 416)


@pytest.mark.parametrize(
    ("rows", "told"),
    [(0, "0"), (9_999_999, "9,999,999"), (10_000_000, "10.0 M"), (2_500_000_000, "2.5 G")],
)
def test_numbers_are_for_people(rows: int, told: str) -> None:
    assert str(Estimate(rows)) == told


# --- against runs


def _distinct(rows: Any) -> Any:
    return rows.group("k", v=pl.col("v").sum())


def _parents(rows: Any) -> Any:
    rows = rows.apply(copies).group("_parent", k=pl.col("k").max(), v=pl.col("copy").sum())
    return rows.with_columns(pl.col("k").fill_null(0), pl.col("v").fill_null(0))


ONE: list[Callable[[Any], Any]] = [
    lambda r: r.where(pl.col("v") % 2 == 0),
    lambda r: r.apply(double),
    lambda r: r.apply(copies),
    _parents,
    _distinct,
    lambda r: r.group(v=pl.len()).with_columns(k=pl.lit(1, dtype=pl.Int64)),
    lambda r: r.group("k", operator=Top(1), value="v"),
    lambda r: r.apply(Sort("v", limit=3)),
]


def _joins(how: str, many: bool) -> Callable[[Any, Any], Any]:
    def joins(left: Any, right: Any) -> Any:
        right = right.with_columns(w=pl.col("v")).select("k", "w")
        return left.join(right, on="k", how=how, many=many)

    return joins


TWO: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a.union(b),
    lambda a, b: a.join(_distinct(b), on="k", how="left", suffix="_b"),
    lambda a, b: a.join(b.select("v"), on="_key", suffix="_b"),
    *(_joins(how, many) for how in ("inner", "left", "semi") for many in (True, False)),
]

VERBS = st.lists(
    st.tuples(st.integers(0, len(ONE) + len(TWO) - 1), st.integers(0, 9), st.integers(0, 9)),
    min_size=2, max_size=8,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=12),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=12),
    VERBS,
)
def test_runs_pass_on_what_was_estimated(
    one: list[tuple[int, int]], two: list[tuple[int, int]], verbs: list[tuple[int, int, int]]
) -> None:
    tables = [[{"k": k, "v": v} for k, v in rows] for rows in (one, two)]

    @weft.pipeline
    def made():
        streams = [weft.read(Arrow(t)).with_columns(v=pl.col("v") + 0) for t in tables]
        for verb, i, j in verbs:
            a, b = streams[i % len(streams)], streams[j % len(streams)]
            new = ONE[verb](a) if verb < len(ONE) else TWO[verb - len(ONE)](a, b)
            streams.append(new.with_columns(v=pl.col("v").cast(pl.Int64)).select("k", "v"))
        return [s.write(Memory(f"estimates-{n}")) for n, s in enumerate(streams)]

    pipeline = made()
    try:
        result = pipeline.run(engine="local")
    except DataError:
        return  # a key several times on both sides, without many=True
    assert result.failed == 0, result.samples
    for name, found in estimate(result.plan).items():
        emitted = result.books[name].emitted
        if found.rows is not None:
            assert emitted <= found.rows, (name, found)
            assert emitted == found.rows or not found.exact, (name, found)
