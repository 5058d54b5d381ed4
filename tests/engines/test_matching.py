"""Which rows meet, against plain loops, Polars and pandas; and what the rows are made of."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.pipelines.batch import ENVELOPE, JOINED, KEY, SOURCE, Batch, Column
from weft.pipelines.engines.matching import Matched, Matcher
from weft.pipelines.fields import Fields
from weft.pipelines.relations import AsOf, How, Join, Strategy
from weft.pipelines.types import Arrow, Image, Int8, Int64, Text, Type

HOWS: tuple[How, ...] = ("inner", "left", "semi", "anti")
STRATEGIES: tuple[Strategy, ...] = ("backward", "forward", "nearest")

SMALL = st.lists(st.none() | st.integers(0, 4), max_size=12)
WORDS = st.sampled_from([None, "", "a", "b", "ü", "ab"])


def batch_of(prefix: str, **arrays: pa.Array) -> Batch:
    """Rows of these columns, with keys ``{prefix}{row}``."""
    rows = len(next(iter(arrays.values())))
    texts = pa.array([f"{prefix}{i}" for i in range(rows)], pa.string())
    columns = {n: Column(Arrow(a.type, nullable=True), array=a) for n, a in arrays.items()}
    envelope = {
        KEY: Column(ENVELOPE[KEY], array=texts),
        SOURCE: Column(ENVELOPE[SOURCE], array=texts),
    }
    return Batch(columns, envelope, rows)


def match(
    left: Batch,
    right: Batch,
    on: Sequence[str] | tuple[Sequence[str], Sequence[str]] = ("k",),
    how: How = "inner",
    *,
    brings: Sequence[tuple[str, str]] = (),
    asof: AsOf | None = None,
) -> Matched:
    pairs = on if isinstance(on, tuple) and on and not isinstance(on[0], str) else (on, on)
    join = Join(how, tuple(pairs[0]), tuple(pairs[1]), tuple(brings), asof)
    kinds: dict[str, Type] = {n: c.type for n, c in left.columns.items()}
    kinds |= {new: right.columns[name].type.or_null() for name, new in brings}
    return Matcher("cameras", join, right, Fields(kinds))(left)


def naive(left: list[Any], right: list[Any], how: How) -> list[tuple[int, int]]:
    """(left row, right row or -1) by two loops over tuples of key values."""
    found = []
    for i, a in enumerate(left):
        met = [j for j, b in enumerate(right) if a == b and None not in a]
        if how == "inner":
            found += [(i, j) for j in met]
        elif how == "left":
            found += [(i, j) for j in met or [-1]]
        elif bool(met) == (how == "semi"):
            found.append((i, -1))
    return found


def pairs_of(matched: Matched) -> list[tuple[int, int]]:
    return list(zip(matched.left.tolist(), matched.right.tolist(), strict=True))


@pytest.mark.parametrize("how", HOWS)
@given(left=SMALL, right=SMALL)
def test_rows_meet_as_in_two_loops(how: How, left: list[Any], right: list[Any]) -> None:
    one, other = pa.array(left, pa.int32()), pa.array(right, pa.uint64())
    matched = match(batch_of("l", k=one), batch_of("r", k=other), how=how)
    wanted = naive([(v,) for v in left], [(v,) for v in right], how)
    assert pairs_of(matched) == wanted
    assert matched.rows.columns["k"].array.to_pylist() == [left[i] for i, _ in wanted]
    if how in ("inner", "left"):
        many = [v for v in left if v is not None and right.count(v) > 1]
        assert matched.several == [str(v) for v in many]
    else:
        assert matched.several == []


@pytest.mark.parametrize("how", HOWS)
@given(
    left=st.lists(st.tuples(st.none() | st.integers(0, 2), WORDS), max_size=10),
    right=st.lists(st.tuples(st.none() | st.integers(0, 2), WORDS), max_size=10),
)
def test_keys_of_several_columns(how: How, left: list[Any], right: list[Any]) -> None:
    def batch(name: str, rows: list[Any]) -> Batch:
        return batch_of(
            name,
            a=pa.array([a for a, _ in rows], pa.int64()),
            b=pa.array([b for _, b in rows], pa.string()),
        )

    matched = match(batch("l", left), batch("r", right), ("a", "b"), how)
    assert pairs_of(matched) == naive(left, right, how)
    if how == "inner":
        many = [list(v) for v in left if None not in v and right.count(v) > 1]
        assert [json.loads(text) for text in matched.several] == many


@given(left=SMALL, right=SMALL)
def test_polars_agrees_on_whole_frames(left: list[Any], right: list[Any]) -> None:
    one = pl.DataFrame({"k": pl.Series(left, dtype=pl.Int64)}).with_row_index("l")
    other = pl.DataFrame({"k": pl.Series(right, dtype=pl.Int64)}).with_row_index("r")
    for how in HOWS:
        order = None if how in ("semi", "anti") else "left_right"
        wanted = one.join(other, on="k", how=how, maintain_order=order)
        wanted = wanted if "r" in wanted.columns else wanted.with_columns(r=None)
        matched = match(
            batch_of("l", k=pa.array(left, pa.int64())),
            batch_of("r", k=pa.array(right, pa.int64())),
            how=how,
        )
        theirs = [(i, -1 if j is None else j) for i, j in wanted.select("l", "r").rows()]
        assert pairs_of(matched) == theirs


def test_integers_of_every_width_and_sign_are_compared_by_value() -> None:
    big = batch_of("l", k=pa.array([2**64 - 1, 2**63, 5, 0], pa.uint64()))
    signed = batch_of("r", k=pa.array([-1, -(2**63), 5], pa.int64()))
    assert pairs_of(match(big, signed)) == [(2, 2)]
    assert pairs_of(match(signed, big)) == [(2, 2)]
    same = batch_of("r", k=pa.array([2**63, 2**64 - 1], pa.uint64()))
    assert pairs_of(match(big, same)) == [(0, 1), (1, 0)]
    assert pairs_of(match(batch_of("l", k=pa.array([300, 44], pa.int16())),
                          batch_of("r", k=pa.array([44], pa.int8())))) == [(1, 0)]  # fmt: skip


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.array([True, None, False]), pa.array([False])),
        (pa.array([0, None, 3], pa.date32()), pa.array([3], pa.date32()).cast(pa.date64())),
        (pa.array(["b", None, "a"]), pa.array(["a"], pa.large_string())),
        (pa.array(["b", None, "a"], pa.string_view()), pa.array(["a"])),
        (pa.array([1, None, 2], pa.timestamp("s")), pa.array([2 * 10**9], pa.timestamp("ns"))),
        (
            pa.array([2_000_001, None, 2_000_000], pa.timestamp("us", "UTC")),
            pa.array([2], pa.timestamp("s", "Europe/Berlin")),
        ),
    ],
)
def test_other_types_of_key(left: pa.Array, right: pa.Array) -> None:
    one, other = batch_of("l", k=left), batch_of("r", k=right)
    assert pairs_of(match(one, other, how="left")) == [(0, -1), (1, -1), (2, 0)]
    assert pairs_of(match(other, one, how="left")) == [(0, 2)]


def test_keys_of_the_envelope() -> None:
    left = batch_of("", k=pa.array(["1", "x", "0"]))
    right = batch_of("", v=pa.array([10, 20]))
    assert pairs_of(match(left, right, (["k"], [KEY]))) == [(0, 1), (2, 0)]
    assert pairs_of(match(right, left, ([KEY], ["k"]))) == [(0, 2), (1, 0)]
    assert pairs_of(match(left, right, (["_parent"], [KEY]), "left")) == [(0, -1), (1, -1), (2, -1)]


def test_rows_are_made_of_both_sides() -> None:
    left = batch_of("l", k=pa.array([1, 2, 3, None]), v=pa.array(["a", "b", "c", "d"]))
    right = batch_of("r", k=pa.array([2, 1, 2]), v=pa.array([0.5, 1.5, 2.5]))
    made = match(left, right, how="left", brings=[("v", "v_right")]).rows
    assert list(made.columns) == ["k", "v", "v_right"]
    assert made.columns["v"].array.to_pylist() == ["a", "b", "b", "c", "d"]
    assert made.columns["v_right"].array.to_pylist() == [1.5, 0.5, 2.5, None, None]
    assert list(made.keys) == ["l0", "l1*r0", "l1*r2", "l2", "l3"]
    assert list(made.envelope[SOURCE].values) == ["l0", "l1", "l1", "l2", "l3"]
    met = made.envelope[JOINED].array.to_pylist()
    assert [[(e["step"], e["key"]) for e in row] for row in met] == [
        [("cameras", "r1")], [("cameras", "r0")], [("cameras", "r2")], [], [],
    ]  # fmt: skip


def test_a_chain_of_joins_remembers_all_that_rows_met() -> None:
    one, two, three = ({"step": n, "key": n} for n in "xyz")
    before: list[Any] = [None, [], [one], [two, three]]
    right = batch_of("r", k=pa.array([0, 2, 3, 3]))
    left = batch_of("l", k=pa.array([9, 0, 1, 2, 3]))
    array = pa.array([[{"step": "lost", "key": "lost"}], *before], ENVELOPE[JOINED].storage)
    left.envelope[JOINED] = Column(ENVELOPE[JOINED], array=array)
    left = left.slice(1, 5)  # an array with an offset
    made = match(left, right, how="left").rows.envelope[JOINED]
    assert made.type == ENVELOPE[JOINED]
    assert made.array.type == ENVELOPE[JOINED].storage
    made.array.validate(full=True)
    new = [{"step": "cameras", "key": f"r{n}"} for n in range(4)]
    assert made.array.to_pylist() == [
        [new[0]], [], [*before[2], new[1]], [*before[3], new[2]], [*before[3], new[3]],
    ]  # fmt: skip
    kept = match(left, right, how="semi").rows.envelope[JOINED].array
    assert kept.to_pylist() == [before[0], before[2], before[3]]
    assert JOINED not in match(batch_of("l", k=pa.array([0])), right, how="semi").rows.envelope


def test_only_columns_that_are_used_later_are_made() -> None:
    left = batch_of("l", k=pa.array([1, 2]), v=pa.array(["a", "b"]))
    right = batch_of("r", k=pa.array([2]), a=pa.array([1.5]), b=pa.array([7]))
    join = Join("left", ("k",), ("k",), (("a", "a"), ("b", "n")))
    columns = Fields({"n": Int64(nullable=True), "v": Text()})
    made = Matcher("j", join, right, columns)(left).rows
    assert {n: c.array.to_pylist() for n, c in made.columns.items()} == {
        "n": [None, 7], "v": ["a", "b"],
    }  # fmt: skip
    assert list(made.columns) == ["n", "v"]


@pytest.mark.parametrize("kind", [Image(2, 3), Image()])
@pytest.mark.parametrize("as_values", [True, False])
def test_images_on_both_sides(kind: Image, as_values: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 2, 3, 3), np.uint8)
    values: Any = pixels if kind.fixed else list(pixels)

    def image() -> Column:
        return (
            Column(kind, values=values) if as_values else Column(kind, array=kind.to_arrow(values))
        )

    left = batch_of("l", k=pa.array([2, 5, 0])).with_columns({"image": image()})
    right = batch_of("r", k=pa.array([0, 1, 2])).with_columns({"image": image()})
    made = match(left, right, how="left", brings=[("image", "other")]).rows
    assert all((a == b).all() for a, b in zip(made.columns["image"].values, pixels, strict=True))
    other = made.columns["other"].values
    assert (other[0] == pixels[2]).all()
    assert other[1] is None
    assert (other[2] == pixels[0]).all()


def test_a_left_whose_rows_all_meet_one_is_not_copied() -> None:
    left = batch_of("l", k=pa.array([1, 0]))
    right = batch_of("r", k=pa.array([0, 1]))
    assert match(left, right).rows.columns["k"] is left.columns["k"]
    assert match(left, right, how="semi").rows.columns["k"] is left.columns["k"]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("asof", [None, AsOf("t", "t")])
@pytest.mark.parametrize("on", [("k",), ()])
def test_sides_without_rows(how: How, asof: AsOf | None, on: tuple[str, ...]) -> None:
    image = Image(2, 2)
    some = batch_of("l", k=pa.array(["a", "b"]), t=pa.array([1, 2]))
    some = some.with_columns({"i": Column(image, values=np.zeros((2, 2, 2, 3), np.uint8))})
    none = some.slice(0, 0)
    brings = [("i", "j")] if how in ("inner", "left") else []
    matched = match(some, none, on, how, brings=brings, asof=asof)
    alone = [(0, -1), (1, -1)] if how in ("left", "anti") else []
    assert pairs_of(matched) == alone
    if how == "left":
        assert list(matched.rows.columns["j"].values) == [None, None]
        assert matched.rows.envelope[JOINED].array.to_pylist() == [[], []]
    for right in (some, none):
        matched = match(none, right, on, how, brings=brings, asof=asof)
        assert (matched.rows.rows, pairs_of(matched), matched.several) == (0, [], [])
        matched.rows.envelope[KEY].array.validate()


def test_no_keys_and_no_time_is_every_pair() -> None:
    left, right = batch_of("l", k=pa.array([1, None])), batch_of("r", k=pa.array([3, 4]))
    assert pairs_of(match(left, right, ())) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_keys_that_met_several_are_told_as_json() -> None:
    moment = datetime(2026, 11, 21, 1, 2, 3, tzinfo=UTC)
    columns: dict[str, list[Any]] = {
        "day": [date(2026, 11, 21)] * 2, "at": [moment] * 2, "name": ["ü"] * 2, "flag": [True] * 2,
    }  # fmt: skip
    both = batch_of("r", **{n: pa.array(v) for n, v in columns.items()})
    assert match(both.slice(0, 1), both, ("name",)).several == ['"\\u00fc"']
    assert match(both, both, ("flag",)).several == ["true", "true"]
    (text,) = match(both.slice(0, 1), both, ("day", "at", "name")).several
    day, at, name = json.loads(text)
    assert (day, datetime.fromisoformat(at).replace(tzinfo=UTC), name) == (
        "2026-11-21",
        moment,
        "ü",
    )


# --- nearest in time -----------------------------------------------------------------------

EVENTS = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.none() | st.integers(-8, 8)), max_size=12
)


def event_batch(prefix: str, rows: list[tuple[str | None, Any]], time: pa.DataType) -> Batch:
    return batch_of(
        prefix,
        k=pa.array([k for k, _ in rows], pa.string()),
        t=pa.array([t for _, t in rows], time),
    )


def nearest_in_a_loop(
    left: list[Any], right: list[Any], strategy: Strategy, tolerance: float | None
) -> list[int]:
    """The rule of `Matcher`, said as a choice of the best by a rank."""
    found = []
    for key, time in left:
        best: list[tuple[Any, int]] = []
        for j, (other, at) in enumerate(right):
            if None in (key, time, at) or key != other:
                continue
            early = at <= time
            if (strategy == "backward" and not early) or (strategy == "forward" and at < time):
                continue
            if tolerance is not None and abs(at - time) > tolerance:
                continue
            last = early and strategy != "forward"
            best.append(((abs(at - time), not early, -j if last else j), j))
        found.append(min(best)[1] if best else -1)
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tolerance", [None, 0, 2])
@given(left=EVENTS, right=EVENTS)
@settings(max_examples=20)  # of five types of time each
def test_the_nearest_in_time_as_in_two_loops(
    strategy: Strategy, tolerance: float | None, left: list[Any], right: list[Any]
) -> None:
    asof = AsOf("t", "t", strategy, tolerance)
    wanted = nearest_in_a_loop(left, right, strategy, tolerance)
    for time in (pa.int64(), pa.float64(), pa.int8(), pa.timestamp("us", "UTC"), pa.timestamp("s")):
        one, other = event_batch("l", left, time), event_batch("r", right, time)
        matched = match(one, other, ("k",), "left", asof=asof)
        assert pairs_of(matched) == list(enumerate(wanted))
        assert matched.several == []
        matched = match(one, other, ("k",), "inner", asof=asof)
        assert pairs_of(matched) == [(i, j) for i, j in enumerate(wanted) if j >= 0]


def made_events(rng: np.random.Generator, rows: int, span: int) -> tuple[Any, Any]:
    return rng.integers(0, 5, rows), rng.integers(0, span, rows)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("tolerance", [None, 3])
def test_pandas_agrees_on_the_nearest_ties_included(
    strategy: Strategy, tolerance: int | None
) -> None:
    import pandas as pd

    rng = np.random.default_rng(1)
    (lk, lt), (rk, rt) = made_events(rng, 3000, 2000), made_events(rng, 1000, 2000)
    left = pd.DataFrame({"k": lk, "t": lt, "l": range(len(lk))}).sort_values("t", kind="stable")
    right = pd.DataFrame({"k": rk, "t": rt, "r": range(len(rk))}).sort_values("t", kind="stable")
    wanted = pd.merge_asof(
        left, right, on="t", by="k", direction=strategy, tolerance=tolerance
    ).sort_values("l")
    asof = AsOf("t", "t", strategy, tolerance)
    one, other = (
        batch_of(n, k=pa.array(k), t=pa.array(t)) for n, k, t in (("l", lk, lt), ("r", rk, rt))
    )
    matched = match(one, other, ("k",), "left", asof=asof)
    assert matched.right.tolist() == wanted["r"].fillna(-1).astype(int).tolist()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_polars_agrees_where_no_two_are_equally_near(strategy: Strategy) -> None:
    rng = np.random.default_rng(2)
    lk, rk = rng.integers(0, 5, 3000), rng.integers(0, 5, 1000)
    lt, rt = rng.random(3000), rng.random(1000)
    left = pl.DataFrame({"k": lk, "t": lt}).with_row_index("l").sort("t")
    right = pl.DataFrame({"k": rk, "t": rt}).with_row_index("r").sort("t")
    wanted = left.join_asof(
        right, on="t", by="k", strategy=strategy, tolerance=0.002, check_sortedness=False
    ).sort("l")
    one, other = (
        batch_of(n, k=pa.array(k), t=pa.array(t)) for n, k, t in (("l", lk, lt), ("r", rk, rt))
    )
    matched = match(one, other, ("k",), "left", asof=AsOf("t", "t", strategy, 0.002))
    assert matched.right.tolist() == wanted["r"].cast(pl.Int64).fill_null(-1).to_list()


def test_the_tolerance_of_timestamps_is_in_microseconds_and_includes_its_end() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    left = batch_of("l", t=pa.array([start, start + timedelta(microseconds=1)]))
    right = batch_of("r", t=pa.array([start - timedelta(milliseconds=1)]))
    assert match(left, right, (), "left", asof=AsOf("t", "t", tolerance=1000)).right.tolist() == [
        0, -1,
    ]  # fmt: skip


def test_times_that_are_no_numbers_meet_nothing_and_names_may_differ() -> None:
    left = batch_of("l", a=pa.array([1.0, math.nan, None, 3.0]))
    right = batch_of("r", b=pa.array([math.nan, 0.5, None]), v=pa.array(["x", "y", "z"]))
    matched = match(left, right, (), "left", brings=[("v", "v")], asof=AsOf("a", "b", "nearest"))
    assert matched.right.tolist() == [1, -1, -1, 1]
    assert matched.rows.columns["v"].array.to_pylist() == ["y", None, None, "y"]
    assert list(matched.rows.keys) == ["l0", "l1", "l2", "l3"]


def test_values_of_narrow_types_match_as_arrow_does() -> None:
    left = batch_of("l", v=pa.array([0, 0]))
    left = left.with_columns({"k": Column(Int8(), values=np.array([3, -1], np.int8))})
    right = batch_of("r", k=pa.array([-1, 3]))
    assert match(left, right).right.tolist() == [1, 0]
