"""Recipes: what changes them, and what does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow as Table
from weft.connectors import Memory
from weft.pipelines.compile import plain_plan
from weft.pipelines.plan import Plan
from weft.pipelines.recipes import Recipes, derive
from weft.pipelines.runs.changes import Changes, compare

ROWS = pa.table({"id": ["x", "y"], "n": [1, 2], "t": ["a", "b"]})

Body = Callable[[Any], Any]

NAMES = itertools.count()


@weft.operator(version="1")
def half(n: int, by: int = 2) -> float:
    return n / by


@weft.operator(version="1")
def loud(t: str) -> str:
    return t.upper()


def plan(body: Body) -> Plan:
    name = f"recipes{next(NAMES)}"

    @weft.pipeline
    def made() -> Any:
        return body(weft.read(Table(ROWS, key="id"))).write(Memory(name))

    return plain_plan(made().graph)


def recipes(body: Body) -> Recipes:
    made = plan(body)
    (write,) = made.writes()
    return derive(made, write).recipes


def changes(before: Body, after: Body) -> Changes | str:
    made = plan(after)
    (write,) = made.writes()
    return compare(made, write, recipes(before))


def base(rows: Any) -> Any:
    return rows.apply(half, half="h").apply(loud, loud="l").where(pl.col("n") > 0)


def test_recipes_do_not_depend_on_order_names_or_what_else_there_is() -> None:
    def other(rows: Any) -> Any:
        rows = rows.where(pl.col("n") > 0).with_columns(more=pl.col("n") + 1)
        return rows.apply(loud, loud="l").apply(half, half="h").select("l", "h")

    one, two = recipes(base).fields, recipes(other).fields
    assert (one["h"], one["l"]) == (two["h"], two["l"])
    assert len({r for (r,) in one.values()}) == len(one)


def test_a_column_that_is_called_otherwise_keeps_its_recipe() -> None:
    one = recipes(base).fields
    two = recipes(lambda rows: base(rows).with_columns(again=pl.col("h"))).fields
    assert two["again"] == one["h"]


def test_recipes_are_read_as_they_were_written() -> None:
    found = recipes(base)
    assert Recipes.from_json(found.to_json()) == found


def test_secrets_are_not_in_them() -> None:
    @weft.operator(version="1")
    def signed(n: int, note: str = "") -> int:
        return n

    text = recipes(lambda rows: rows.apply(signed.replace(note="token=SECRET123"))).to_json()
    assert "SECRET123" not in text


@pytest.mark.parametrize(
    ("after", "fields", "own"),
    [
        (base, (), ()),
        (lambda rows: base(rows).select("h", "n"), (), ()),
        (
            lambda rows: (
                rows.apply(half.replace(by=3), half="h")
                .apply(loud, loud="l")
                .where(pl.col("n") > 0)
            ),
            ("h",),
            ("half",),
        ),
        (lambda rows: base(rows).apply(half, n="n", half="k"), ("k",), ("half_2",)),
        (lambda rows: base(rows).with_columns(m=pl.col("h") * 2), ("m",), ("with_columns",)),
        (lambda rows: base(rows).where(pl.col("n") > 1), (), ("where_2",)),
    ],
)
def test_what_differs(after: Body, fields: tuple[str, ...], own: tuple[str, ...]) -> None:
    found = changes(base, after)
    assert isinstance(found, Changes)
    assert found.fields == fields
    assert found.own == {*own}


def test_what_reads_what_changed_differs_too() -> None:
    def body(by: int) -> Body:
        return lambda rows: (
            rows.apply(half.replace(by=by), half="h")
            .with_columns(m=pl.col("h") * 2, same=pl.col("n") * 2)
            .where(pl.col("m") > 1)
        )

    found = changes(body(2), body(3))
    assert isinstance(found, Changes)
    assert found.fields == ("h", "m")
    assert (found.steps, found.own) == (("half", "with_columns", "where"), {"half"})
    assert found.asked == {"half", "with_columns", "where"}
    assert found.told == ("half was half(by=2)  n -> half=h, is half(by=3)  n -> half=h",)


def test_rows_are_asked_again_below_what_is_new() -> None:
    """A filter that stands where it stood; before it, an operator on which rows may fail now."""

    def body(rows: Any) -> Any:
        return rows.apply(loud, loud="l").apply(half, half="h").where(pl.col("h") > 1)

    def more(rows: Any) -> Any:
        rows = rows.apply(loud, loud="l").apply(half, half="h").apply(half, half="k")
        return rows.where(pl.col("h") > 1)

    found = changes(body, more)
    assert isinstance(found, Changes)
    assert found.asked == set(), "the filter moves before the new operator"
    found = changes(body, lambda rows: body(rows.apply(half, half="k").where(pl.col("k") > 0)))
    assert isinstance(found, Changes)
    assert "where" in found.asked
    same = {"read": "read", "loud": "loud"}
    assert found.names == {**same, "half": "half_2", "where": "where_2"}


def test_an_expand_that_reads_what_changed_makes_everything_anew() -> None:
    @weft.operator(version="1")
    def letters(l: str) -> Iterator[str]:  # noqa: E741
        yield from l

    @weft.operator(version="2")
    def loud(t: str) -> str:
        return t.upper()

    before = lambda rows: base(rows).apply(letters, letters="c")  # noqa: E731
    after = lambda rows: rows.apply(loud, loud="l").apply(letters, letters="c")  # noqa: E731
    assert (
        changes(before, after) == "letters, which decides which rows there are, reads what changed"
    )
    none = changes(before, base)
    assert none == "step letters, which decides which rows there are, is gone"
    assert changes(base, before) == "step letters, which decides which rows there are, is new"


def test_a_filter_above_a_group_is_part_of_it() -> None:
    def body(limit: int) -> Body:
        return lambda rows: rows.where(pl.col("n") > limit).group("t", many=pl.len())

    told = changes(body(0), body(1))
    assert isinstance(told, str)
    assert "which decides which rows there are" in told
