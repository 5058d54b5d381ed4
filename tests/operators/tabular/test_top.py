"""Truth: Python's stable sort of each group, and Polars' `group_by(…).head`."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.operators.tabular import Top


def best(values: list[Any], k: int, *, descending: bool) -> list[bool]:
    """The rows with the `k` best values, by plain Python."""
    known = [i for i, v in enumerate(values) if v is not None and repr(v) != "nan"]
    # `reverse` leaves equal rows in their order.
    order = sorted(known, key=lambda i: values[i], reverse=descending)
    order += [i for i in range(len(values)) if i not in known]
    return [i in order[:k] for i in range(len(values))]


numbers = st.none() | st.floats(width=32) | st.sampled_from([0.0, -0.0, 1.0])


@given(st.lists(numbers, max_size=20), st.integers(1, 5), st.booleans())
def test_one_group(values: list[float | None], k: int, descending: bool) -> None:
    given_values = pa.array(values, pa.float64())
    assert Top(k, descending)(given_values) == best(values, k, descending=descending)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.none() | st.sampled_from("abcd")), max_size=20),
    st.integers(1, 3),
    st.booleans(),
)
def test_many_groups(rows: list[tuple[int, str | None]], k: int, descending: bool) -> None:
    groups = np.array([g for g, _ in rows], np.int64)
    values = pa.array([v for _, v in rows], pa.string())
    keep = Top(k, descending).pick_all({"value": values}, groups, None)
    for group in set(groups.tolist()):
        members = [v for g, v in rows if g == group]
        assert keep[groups == group].tolist() == best(members, k, descending=descending)


def test_polars() -> None:
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"g": rng.integers(0, 200, 5000), "v": rng.integers(0, 50, 5000)})
    frame = frame.with_row_index()
    keep = Top(3).pick_all({"value": frame["v"].to_arrow()}, frame["g"].to_numpy(), None)
    ordered = frame.sort("v", descending=True, maintain_order=True)
    truth = ordered.group_by("g", maintain_order=True).head(3)
    assert frame.filter(pl.Series(keep)).equals(truth.sort("index").select(frame.columns))


def test_moments_and_nan() -> None:
    moments = [datetime(2024, 5, 1, tzinfo=UTC) + timedelta(hours=h) for h in (2, 0, 1)]
    assert Top(1, descending=False)(moments) == [False, True, False]
    assert Top(2)([math.nan, None, 1.0]) == [True, False, True]
    assert Top(2)([]) == []


@pytest.mark.parametrize("k", [0, -1, 1.5, True])
def test_wrong_k(k: Any) -> None:
    with pytest.raises(DefinitionError, match=r"tabular\.Top: k=.*; expected a number of rows"):
        Top(k)


TABLE = pa.table(
    {
        "video": ["a", "b", "a", "a", "b", None, "a"],
        "score": [1.0, 5.0, 3.0, 2.0, None, 0.0, 3.0],
        "tags": [["x"]] * 7,
    }
)


@weft.pipeline
def best_rows() -> Any:
    rows = weft.read(Arrow(TABLE)).group("video", operator=Top(2), value="score")
    return rows.write(Memory("best_rows"))


def test_in_a_pipeline() -> None:
    result = best_rows().run(engine="local")
    rows = sorted(Memory("best_rows").table().to_pylist(), key=lambda row: row["_key"])
    assert [row["_key"] for row in rows] == ["1", "2", "4", "5", "6"]
    assert [row["score"] for row in rows] == [5.0, 3.0, None, 0.0, 3.0]
    assert rows[0]["tags"] == ["x"]
    line = result.books["group"]
    assert (line.taken, line.passed, line.dropped) == (7, 5, 2)


def test_a_column_without_an_order() -> None:
    @weft.pipeline
    def wrong() -> Any:
        return weft.read(Arrow(TABLE)).group("video", operator=Top(1), value="tags").write(Memory())

    with pytest.raises(
        DefinitionError, match=r"'value' as numbers, text, booleans or times.*'tags'"
    ):
        wrong()
