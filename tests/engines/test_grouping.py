"""Rows that share a key, against plain Python; what fails, and the books of it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from weft.errors import ContractError, RowError
from weft.pipelines import grouping
from weft.pipelines.aggregates import infer_aggregate
from weft.pipelines.batch import ANCESTORS, ENVELOPE, Batch, Column
from weft.pipelines.engines.books import Count, Outcomes
from weft.pipelines.engines.grouping import GroupRunner, order_rows
from weft.pipelines.engines.runners import Work
from weft.pipelines.expressions import Expression
from weft.pipelines.fields import Fields
from weft.pipelines.plan import Step
from weft.pipelines.relations import Group

COLUMNS = weft.fields(label=weft.Text | None, n=weft.Int64 | None)
Row = tuple[str | None, int | None]


def batch_of(columns: Fields, values: dict[str, Sequence[Any]], **envelope: Any) -> Batch:
    """Rows r0, r1, … of version v0, v1, …."""
    many = len(next(iter(values.values())))
    own = {"_key": [f"r{i}" for i in range(many)], "_source": [f"v{i}" for i in range(many)]}
    own |= envelope
    return Batch(
        {n: Column(columns[n], array=columns[n].to_arrow(v)) for n, v in values.items()},
        {n: Column(ENVELOPE[n], array=ENVELOPE[n].to_arrow(v)) for n, v in own.items()},
    )


def rows_of(rows: Sequence[Row], **envelope: Any) -> Batch:
    labels, numbers = [a for a, _ in rows], [b for _, b in rows]
    return batch_of(COLUMNS, {"label": labels, "n": numbers}, **envelope)


def run(
    batch: Batch,
    by: Sequence[str],
    *,
    columns: Fields = COLUMNS,
    operator: Any = None,
    inputs: dict[str, str] | None = None,
    on_error: Literal["quarantine", "raise"] = "quarantine",
    **aggregates: pl.Expr,
) -> tuple[Batch, Work]:
    """The rows of a group, and the books."""
    exprs = tuple(Expression(e.alias(name)) for name, e in aggregates.items())
    ports = {p: p for p in operator.writes} if operator else {}
    made = (
        dict(operator.writes) if operator else dict(infer_aggregate(e, columns, by) for e in exprs)
    )
    action = Group(
        tuple(by), exprs, operator, tuple((inputs or {}).items()), tuple(ports.items()), on_error
    )
    out = {n: columns[n] for n in by if n in columns} | made
    picks = isinstance(operator, grouping.Pick)
    step = Step("group", action, ("read",), columns if picks else Fields(out))
    work = Work({"group": Count()})
    out_rows = GroupRunner(step, action, columns, "cpu", children=True)(batch, work)
    line = work.books["group"]
    assert line.taken == batch.rows == line.passed + line.dropped + line.failed
    assert line.emitted == out_rows.rows
    assert sum(len(o.keys) for o in work.outcomes) == batch.rows - (out_rows.rows if picks else 0)
    return out_rows, work


def listed(batch: Batch) -> list[dict[str, Any]]:
    names = [*batch.columns, *batch.envelope]
    columns = [batch.column(n).array.to_pylist() for n in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def outcome(work: Work, kind: str) -> Outcomes:
    (found,) = (o for o in work.outcomes if o.kind == kind)
    return found


rows = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "[null]", "", None]),
        st.none() | st.integers(-(2**40), 2**40),
    ),
    max_size=30,
)


def naive(many: Sequence[Row]) -> dict[str | None, list[int]]:
    """The rows of each group, in order."""
    found: dict[str | None, list[int]] = defaultdict(list)
    for number, (label, _) in enumerate(many):
        found[label].append(number)
    return found


@given(rows)
def test_aggregates_against_python(many: list[Row]) -> None:
    out, work = run(
        rows_of(many), ("label",), total=pl.col("n").sum(), many=pl.len(), all=pl.col("n"),
        best=pl.col("n").max(), last=pl.col("_key").last(),
    )  # fmt: skip
    expected = [
        {
            "label": label,
            "total": sum(many[i][1] or 0 for i in members),
            "many": len(members),
            "all": [many[i][1] for i in members],
            "best": max((n for i in members if (n := many[i][1]) is not None), default=None),
            "last": f"r{members[-1]}",
        }
        for label, members in naive(many).items()
    ]
    found = listed(out)
    assert [{n: row[n] for n in out.columns} for row in found] == expected
    keys = {row["label"]: row["_key"] for row in found}
    assert len(set(keys.values())) == len(keys)
    if many:
        ended = outcome(work, "grouped")
        assert ended.keys == [f"r{i}" for i in range(len(many))]
        assert ended.rows["_source"].to_pylist() == [f"v{i}" for i in range(len(many))]
        assert ended.rows["into"].to_pylist() == [keys[label] for label, _ in many]


def test_aggregates_against_pandas() -> None:
    rng = np.random.default_rng(0)
    labels = [f"label {i}" for i in rng.integers(0, 300, 5000)]
    numbers = rng.integers(-1000, 1000, 5000)
    out, _ = run(
        rows_of(list(zip(labels, numbers.tolist(), strict=True))), ("label",),
        mean=pl.col("n").mean(), std=pl.col("n").std(), median=pl.col("n").median(),
    )  # fmt: skip
    frame = pd.DataFrame({"label": labels, "n": numbers}).groupby("label", sort=False)["n"]
    expected = frame.agg(["mean", "std", "median"])
    assert out.columns["label"].values == list(expected.index)
    for name in ("mean", "std", "median"):
        np.testing.assert_allclose(np.array(out.columns[name].values, float), expected[name])


@given(rows)
def test_a_source_is_of_its_members_whatever_their_order(many: list[Row]) -> None:
    batch = rows_of(many)
    back = batch.take(np.arange(batch.rows)[::-1])
    one, other = (
        {row["_key"]: row["_source"] for row in listed(run(b, ("label",), n=pl.len())[0])}
        for b in (batch, back)
    )
    assert one == other
    assert all(len(source) == 32 for source in one.values())
    assert len(set(one.values())) == len(one)


def test_a_source_changes_with_any_member() -> None:
    many: list[Row] = [("a", 1), ("a", 2), ("b", 3)]
    before = [r["_source"] for r in listed(run(rows_of(many), ("label",), n=pl.len())[0])]
    changed = rows_of(many, _source=["v0", "w1", "v2"])
    after = [r["_source"] for r in listed(run(changed, ("label",), n=pl.len())[0])]
    assert before[0] != after[0]
    assert before[1] == after[1]
    shifted = rows_of(many, _key=["r0v", "r1", "r2"], _source=["0", "v1", "v2"])
    assert run(shifted, ("label",), n=pl.len())[0].envelope["_source"].values[0] != before[0]


@pytest.mark.parametrize(
    ("kind", "values", "keys"),
    [
        (weft.Text, ["a#b", "ü", ""], ["a#b", "ü", ""]),
        (weft.Text | None, [None, "[null]", "[]"], ["[null]", '["[null]"]', '["[]"]']),
        (weft.Int16 | None, [-3, None, 7], ["-3", "[null]", "7"]),
        (weft.Bool, [True, False], ["true", "false"]),
        (pa.date32(), [date(2024, 5, 1)], ["2024-05-01"]),
        (
            weft.Timestamp,
            [datetime(2024, 5, 1, 12, tzinfo=UTC), datetime(2024, 5, 1, 12, 0, 0, 5, UTC)],
            ["2024-05-01T12:00:00.000000+00:00", "2024-05-01T12:00:00.000005+00:00"],
        ),
    ],
)
def test_the_key_of_one_column(kind: Any, values: list[Any], keys: list[str]) -> None:
    columns = weft.fields(value=kind)
    out, _ = run(batch_of(columns, {"value": values}), ("value",), columns=columns, n=pl.len())
    assert out.keys == keys
    assert list(out.columns["value"].values) == values


def test_the_key_of_several_columns_is_a_list() -> None:
    columns = weft.fields(a=weft.Text | None, b=int, c=weft.Timestamp, d=bool)
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    values: dict[str, Any] = {
        "a": ["x", None, "x", 'q"'], "b": [1, 1, 1, 2], "c": [moment] * 4, "d": [True] * 4,
    }  # fmt: skip
    out, _ = run(batch_of(columns, values), ("a", "b", "c", "d"), columns=columns, n=pl.len())
    assert out.keys[0] == '["x",1,"2024-05-01T00:00:00.000000+00:00",true]'
    assert [json.loads(k)[0] for k in out.keys] == ["x", None, 'q"']
    assert list(out.columns["n"].values) == [2, 1, 1]


@given(rows)
def test_groups_by_two_columns(many: list[Row]) -> None:
    out, _ = run(rows_of(many), ("label", "n"), keys=pl.col("_key"))
    found: dict[Row, list[str]] = defaultdict(list)
    for number, row in enumerate(many):
        found[row].append(f"r{number}")
    made = {(r["label"], r["n"]): r["keys"] for r in listed(out)}
    assert made == found
    assert [json.loads(k) for k in out.keys] == [list(row) for row in found]


def test_without_columns_all_rows_are_one_group() -> None:
    out, work = run(rows_of([("a", 1), (None, 2), ("b", None)]), (), total=pl.col("n").sum())
    assert out.keys == ["[]"]
    assert list(out.columns) == ["total"]
    assert list(out.columns["total"].values) == [3]
    assert outcome(work, "grouped").rows["into"].to_pylist() == ["[]"] * 3


def test_no_rows_are_no_group() -> None:
    for by in ((), ("label",)):
        assert run(rows_of([]), by, total=pl.col("n").sum())[0].rows == 0


def test_only_the_columns_that_are_read_later() -> None:
    action = Group(
        ("label",), (Expression(pl.len().alias("n")), Expression(pl.col("n").max().alias("m")))
    )
    step = Step("group", action, ("read",), weft.fields(m=weft.Int64 | None))
    out = GroupRunner(step, action, COLUMNS, "cpu", children=True)(
        rows_of([("a", 1)]), Work({"group": Count()})
    )
    assert list(out.columns) == ["m"]
    assert out.keys == ["a"]


def test_a_chosen_image_is_an_image() -> None:
    columns = weft.fields(label=str, score=float, any_size=weft.Image, small=weft.Image(1, 2))
    images = [np.full((i + 1, 2, 3), i, np.uint8) for i in range(4)]
    small = np.stack([image[:1] for image in images])
    values = {"label": ["a", "b", "a", "b"], "score": [1.0, 4.0, 3.0, 2.0]}
    batch = batch_of(columns, {**values, "any_size": images, "small": small})
    out, _ = run(
        batch, ("label",), columns=columns,
        best=pl.col("any_size").sort_by("score").last(), first=pl.col("small").first(),
    )  # fmt: skip
    np.testing.assert_array_equal(out.columns["best"].values[0], images[2])
    np.testing.assert_array_equal(out.columns["best"].values[1], images[1])
    np.testing.assert_array_equal(out.columns["first"].values, small[:2])


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["1", "2", "x"])), max_size=20)
)
def test_groups_that_polars_cannot_aggregate_fail_alone(many: list[tuple[str, str]]) -> None:
    columns = weft.fields(label=str, text=str)
    batch = batch_of(columns, {"label": [a for a, _ in many], "text": [b for _, b in many]})
    out, work = run(batch, ("label",), columns=columns, total=pl.col("text").str.to_integer().sum())
    bad = {a for a, b in many if b == "x"}
    good = dict.fromkeys(a for a, _ in many if a not in bad)
    assert {r["label"]: r["total"] for r in listed(out)} == {
        label: sum(int(b) for a, b in many if a == label) for label in good
    }
    assert out.keys == list(good)
    if bad:
        failed = outcome(work, "failed")
        assert failed.keys == [f"r{i}" for i, (a, _) in enumerate(many) if a in bad]
        assert all("to_integer" in m or "integer" in m for _, m in failed.errors)


def test_a_run_may_end_at_the_first_failure() -> None:
    columns = weft.fields(label=str, text=str)
    batch = batch_of(columns, {"label": ["a", "b"], "text": ["1", "x"]})
    with pytest.raises(RowError, match="group: row 'r1': "):
        run(batch, ("label",), columns=columns, on_error="raise",
            total=pl.col("text").str.to_integer().sum())  # fmt: skip


@dataclass(frozen=True, eq=False)
class Called(grouping.Group):
    call: Callable[[Any], Any]
    reads = weft.fields(n=int)
    writes = weft.fields(total=int, longest=str)

    def group(self, rows: Any, loaded: Any) -> Any:
        return self.call(rows)


@dataclass(frozen=True, eq=False)
class Total(grouping.Group):
    call: Callable[[Any], Any]
    reads = weft.fields(n=int)
    writes = weft.fields(total=int)

    def group(self, rows: Any, loaded: Any) -> Any:
        return self.call(rows["n"])


N = {"n": "n"}


@given(rows)
def test_an_operator_sees_the_rows_of_each_group_in_order(many: list[Row]) -> None:
    seen: list[list[int]] = []

    def total(values: Any) -> int:
        seen.append([int(v) for v in values])
        return sum(int(v) for v in values)

    out, work = run(rows_of(many), ("label",), operator=Total(total), inputs=N)
    expected = {
        label: whole
        for label, members in naive(many).items()
        if (whole := [n for i in members if (n := many[i][1]) is not None])
    }
    assert seen == list(expected.values())
    assert {r["label"]: r["total"] for r in listed(out)} == {k: sum(v) for k, v in expected.items()}
    # A row with null is a member of its group; a group of such rows alone is none.
    into = {key for o in work.outcomes if o.kind == "grouped" for key in o.rows["into"].to_pylist()}
    assert into == set(out.keys)
    lost = [k for o in work.outcomes if o.kind == "dropped" for k in o.keys]
    assert lost == [f"r{i}" for i, (label, _) in enumerate(many) if label not in expected]


def test_an_operator_fails_by_groups() -> None:
    def call(rows: Any) -> Any:
        if rows["n"][0] == 2:
            raise ValueError("two")
        if rows["n"][0] == 3:
            return {"total": "three", "longest": "x"}
        if rows["n"][0] == 4:
            return {"total": 4}
        return {"total": sum(rows["n"]), "longest": "x" * len(rows["n"])}

    many: list[Row] = [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("b", 5), ("a", 6)]
    out, work = run(rows_of(many), ("label",), operator=Called(call), inputs=N)
    assert [(r["label"], r["total"], r["longest"]) for r in listed(out)] == [("a", 7, "xx")]
    failed = outcome(work, "failed")
    assert failed.keys == ["r1", "r2", "r3", "r4"]
    assert [kind for kind, _ in failed.errors] == [
        "ValueError", "ContractError", "ContractError", "ValueError",
    ]  # fmt: skip
    assert "Called.total: declared Int64" in failed.errors[1][1]
    assert "writes total, longest; for this group it returned total" in failed.errors[2][1]
    assert outcome(work, "grouped").keys == ["r0", "r5"]
    with pytest.raises(RowError, match="group: row 'r1': ValueError: two"):
        run(rows_of(many), ("label",), operator=Called(call), inputs=N, on_error="raise")


def test_all_groups_may_fail() -> None:
    columns = weft.fields(label=str, text=str)
    batch = batch_of(columns, {"label": ["a"], "text": ["x"]})
    total = pl.col("text").str.to_integer().sum()
    assert run(batch, ("label",), columns=columns, total=total)[0].rows == 0
    assert (
        run(rows_of([("a", 1)]), ("label",), operator=Total(lambda n: 1 / 0), inputs=N)[0].rows == 0
    )


def children(**more: Any) -> Batch:
    """Frames 0 and 1 of b.mp4 and frame 2 of a.mp4; the others were dropped."""
    return rows_of(
        [("x", 1), ("x", 2), ("y", 3)],
        **{
            "_key": ["b.mp4#0", "b.mp4#1", "a.mp4#2"],
            "_source": ["vb", "vb", "va"],
            "_parent": ["b.mp4", "b.mp4", "a.mp4"],
            "_index": [0, 1, 2],
            "_count": [2, 2, 3],
        }
        | more,
    )


def test_children_come_back_to_their_parent() -> None:
    out, work = run(
        children(), ("_parent",), ns=pl.col("n").sort_by("_index"), of=pl.col("_count").first()
    )
    assert listed(out) == [
        {
            "ns": [1, 2], "of": 2, "_key": "b.mp4", "_source": "vb",
            "_parent": None, "_index": None, "_count": None, "_above": None,
        },
        {
            "ns": [3], "of": 3, "_key": "a.mp4", "_source": "va",
            "_parent": None, "_index": None, "_count": None, "_above": None,
        },
    ]  # fmt: skip
    ended = outcome(work, "grouped")
    assert ended.rows["_parent"].to_pylist() == ["b.mp4", "b.mp4", "a.mp4"]
    assert ended.rows["into"].to_pylist() == ["b.mp4", "b.mp4", "a.mp4"]


def test_children_of_children_come_back_to_children() -> None:
    """What the parent was is carried: a key may look like anything."""
    first = [{"parent": "x", "index": 2, "count": 5}, {"parent": "a*b", "index": 11, "count": 12}]
    second = [{"parent": "[null]", "index": 0, "count": 1}]
    nested = children(_parent=["a*b#11*c", "a*b#11*c", "[null]#0"])
    above = Column(ENVELOPE["_above"], array=pa.array([first, first, second], ANCESTORS))
    nested.envelope["_above"] = above
    out, _ = run(nested, ("_parent",), n=pl.len())
    assert out.keys == ["a*b#11*c", "[null]#0"]
    assert list(out.envelope["_parent"].values) == ["a*b", "[null]"]
    assert list(out.envelope["_index"].values) == [11, 0]
    assert list(out.envelope["_count"].values) == [12, 1]
    assert out.envelope["_above"].values == [first[:1], []]


def test_a_name_that_looks_like_a_child_is_none() -> None:
    action = Group(("_parent",), (Expression(pl.len().alias("n")),))
    step = Step("group", action, ("read",), weft.fields(n=weft.UInt32))
    runner = GroupRunner(step, action, COLUMNS, "cpu", children=False)
    song = children(_parent=["song#1", "song#1", "song#2"])
    out = runner(song, Work({"group": Count()}))
    assert out.keys == ["song#1", "song#2"]
    assert out.envelope["_parent"].values == [None, None]


def test_rows_without_a_parent_are_a_group_of_their_own() -> None:
    mixed = children(_parent=["b.mp4", None, None])
    out, _ = run(mixed, ("_parent",), n=pl.len())
    assert out.keys == ["b.mp4", "[null]"]
    first, others = out.envelope["_source"].values
    assert first == "vb"
    assert len(others) == 32


def test_other_groups_of_children_have_no_parent() -> None:
    out, work = run(children(_read=["read", None, "read"]), ("label",), n=pl.len())
    for name in ("_parent", "_index", "_count", "_read"):
        assert out.envelope[name].values == [None, None]
    assert outcome(work, "grouped").rows["read"].to_pylist() == ["read", None, "read"]
    joined = rows_of([("a", 1)])
    joined.envelope["_joined"] = joined.column("_joined")
    assert "_joined" not in run(joined, ("label",), n=pl.len())[0].envelope


@dataclass(frozen=True, eq=False)
class Picked(grouping.Pick):
    call: Callable[[Any], Any]
    reads = weft.fields(n=int)

    def pick(self, rows: Any, loaded: Any) -> Any:
        return self.call([int(n) for n in rows["n"]])


@dataclass(frozen=True, eq=False)
class PickedAtOnce(Picked):
    at_once: Callable[[Any], Any] = lambda rows: None

    def pick_all(self, rows: Any, groups: Any, loaded: Any) -> Any:
        return self.at_once(rows)


@given(rows)
def test_picked_rows_go_on_as_they_are(many: list[Row]) -> None:
    batch = rows_of(many)
    out, work = run(
        batch, ("label",), operator=Picked(lambda n: [v == max(n) for v in n]), inputs=N
    )
    best = {
        label: max((n for i in members if (n := many[i][1]) is not None), default=None)
        for label, members in naive(many).items()
    }
    kept = [i for i, (label, n) in enumerate(many) if n is not None and n == best[label]]
    assert listed(out) == [listed(batch)[i] for i in kept]
    lost = [k for o in work.outcomes for k in o.keys]
    assert lost == [f"r{i}" for i in range(len(many)) if i not in kept]


def test_a_pick_fails_by_groups() -> None:
    def pick(n: list[int]) -> list[bool]:
        if 2 in n:
            raise ValueError("two")
        return [True] * (1 if 3 in n else len(n))

    many: list[Row] = [("a", 1), ("b", 2), ("c", 3), ("b", 4), ("a", 5), ("c", 6)]
    for operator in (Picked(pick), PickedAtOnce(pick, lambda rows: 1 / 0)):
        out, work = run(rows_of(many), ("label",), operator=operator, inputs=N)
        assert out.keys == ["r0", "r4"]
        failed = outcome(work, "failed")
        assert failed.keys == ["r1", "r2", "r3", "r5"]
        assert failed.errors[0] == ("ValueError", "two")
        assert "pick() must return 2 booleans, one for each row" in failed.errors[1][1]
    with pytest.raises(RowError, match="row 'r1': ValueError: two"):
        run(rows_of(many), ("label",), operator=Picked(pick), inputs=N, on_error="raise")


def test_a_pick_must_answer_for_each_row() -> None:
    out, work = run(
        rows_of([("a", 1), ("a", 2)]), ("label",), operator=Picked(lambda n: [True]), inputs=N
    )
    assert out.rows == 0
    assert "returned bool of shape (1,)" in outcome(work, "failed").errors[0][1]


def test_a_pick_of_all_must_answer_for_each_row() -> None:
    operator = PickedAtOnce(lambda n: [], lambda rows: [1])
    with pytest.raises(ContractError, match=r"pick_all\(\) must return 2 booleans"):
        run(rows_of([("a", 1), ("a", 2)]), ("label",), operator=operator, inputs=N)


def test_a_group_may_read_arrow_and_the_envelope() -> None:
    @dataclass(frozen=True)
    class Keys(grouping.Group):
        version = "1"
        reads = weft.fields(key=str, value=pa.list_(pa.int8()))
        writes = weft.fields(keys=pa.list_(pa.string()))

        def group(self, rows: Any, loaded: Any) -> Any:
            return [f"{k}{v}" for k, v in zip(rows["key"], rows["value"], strict=True)]

    columns = weft.fields(label=str, value=pa.list_(pa.int8()))
    batch = batch_of(columns, {"label": ["a", "b", "a"], "value": [[1], [2], [3, 4]]})
    out, _ = run(
        batch, ("label",), columns=columns, operator=Keys(),
        inputs={"key": "_key", "value": "value"},
    )  # fmt: skip
    assert out.columns["keys"].array.to_pylist() == [["r0[1]", "r2[3, 4]"], ["r1[2]"]]


@given(rows, st.booleans())
def test_order_against_python(many: list[Row], descending: bool) -> None:
    batch = rows_of(many)
    sign = -1 if descending else 1

    def place(i: int) -> Any:
        number = many[i][1]
        return (number is None, 0 if number is None else sign * number)

    numbers = list(range(len(many)))
    assert order_rows(batch, ("n",), descending).tolist() == sorted(numbers, key=place)
    texts = [i for i in numbers if many[i][0] is not None]
    # `reverse` leaves equal rows in their order, as is wanted.
    expected = sorted(texts, key=lambda i: str(many[i][0]).encode(), reverse=descending)
    expected += [i for i in numbers if many[i][0] is None]
    assert order_rows(batch, ("label",), descending).tolist() == expected


@given(rows)
def test_order_by_several_columns(many: list[Row]) -> None:
    order = order_rows(rows_of(many), ("label", "n"), descending=False)

    def place(i: int) -> Any:
        label, number = many[i]
        return (label is None, label or "", number is None, number or 0)

    assert order.tolist() == sorted(range(len(many)), key=place)
    assert order_rows(rows_of(many), (), descending=True).tolist() == list(range(len(many)))


def test_order_by_the_envelope_and_by_floats() -> None:
    assert order_rows(children(), ("_key",), descending=False).tolist() == [2, 0, 1]
    assert order_rows(children(), ("_index",), descending=True).tolist() == [2, 1, 0]
    columns = weft.fields(x=weft.Float64(nan=True, nullable=True))
    batch = batch_of(columns, {"x": [float("nan"), None, 1.0, float("inf"), -0.0]})
    assert order_rows(batch, ("x",), descending=False).tolist() == [4, 2, 3, 0, 1]
    assert order_rows(batch, ("x",), descending=True).tolist() == [0, 3, 2, 4, 1]
