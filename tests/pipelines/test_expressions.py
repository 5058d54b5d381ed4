"""Which expressions are refused, what columns they make, what they answer."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.errors import DefinitionError
from weft.pipelines.batch import ENVELOPE, KEY, Batch, Column
from weft.pipelines.expressions import (
    Expression,
    check_predicate,
    evaluate,
    infer_column,
    matches,
)  # fmt: skip
from weft.pipelines.fields import Fields
from weft.pipelines.types import Float64, Image, Int64, Text

COLUMNS = weft.fields(x=int, y=Int64(nullable=True), s=str, image=Image())
x, y, s = pl.col("x"), pl.col("y"), pl.col("s")

ROW_BY_ROW = [
    x + 1, x * y, -x, x / 2, x // 2, x % 2, (x / 3).round(1), x.cast(pl.Float64), x.abs(),
    x.fill_null(0), x.replace({1: 2}), x.hash(), pl.lit(1).alias("one"), s.str.to_uppercase(),
    s.str.len_chars() + x, pl.concat_str(s, pl.lit("!")), pl.coalesce(y, x),
    pl.max_horizontal(x, y), pl.when(x > 0).then(x).otherwise(y), pl.struct("x", "s"),
]  # fmt: skip

BY_BATCH = [
    x - x.mean(), x / x.max(), x.sum(), x.shift(1), x.diff(), x.rank(), x.cum_sum(), x.sort(),
    x.reverse(), x.is_unique(), x.is_first_distinct(), x.head(1), x.slice(0, 1), x.first(),
    x.rolling_mean(2), x.forward_fill(), x.fill_null(strategy="mean"), x.interpolate(),
    x.sum().over("s"), x.filter(x > 0), x.unique(), pl.len() + x, x / pl.len(),
    pl.int_range(pl.len()), x.is_in(y.implode()), x.shuffle(seed=1), pl.when(x > x.mean()).then(1),
]  # fmt: skip


@pytest.mark.parametrize("expr", ROW_BY_ROW, ids=str)
def test_row_by_row(expr: pl.Expr) -> None:
    infer_column(Expression(expr), COLUMNS)


@pytest.mark.parametrize("expr", BY_BATCH, ids=str)
def test_what_depends_on_the_batch_is_refused(expr: pl.Expr) -> None:
    expression = Expression(expr)
    with pytest.raises(DefinitionError) as error:
        infer_column(expression, COLUMNS)
    assert str(error.value) == (
        f"{expression} depends on other rows of the batch, so its answer would change with the "
        "size of batches. Only row by row expressions can be used here."
    )


@pytest.mark.parametrize(
    "expr", [x > 0, x.is_in([1, 2]), y.is_null(), (x > 0) & (s == "a")], ids=str
)
def test_predicates(expr: pl.Expr) -> None:
    check_predicate(Expression(expr), COLUMNS)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (
            x + 1,
            'col("x") + 1 is Int64, and a predicate must be Boolean. '
            'Compare it with something: pl.col("x") > 0',
        ),
        (
            pl.col("z") > 0,
            "There is no column 'z'. Given: x, y, s, image.",
        ),
        (
            pl.col("imag").is_null(),
            "There is no column 'imag'. Given: x, y, s, image. Did you mean 'image'?",
        ),
        (
            x > x.mean(),
            'col("x") > col("x").mean() depends on other rows of the batch, so its answer '
            "would change with the size of batches. Only row by row expressions can be used here.",
        ),
    ],
)
def test_refused_predicates(expr: pl.Expr, message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        check_predicate(Expression(expr), COLUMNS)
    assert str(error.value) == message


def test_what_polars_refuses() -> None:
    with pytest.raises(DefinitionError, match=r"^Polars refuses .*str.*: "):
        check_predicate(Expression(x.str.contains("a")), COLUMNS)


@pytest.mark.parametrize(
    "expr",
    [x.map_elements(lambda v: v, return_dtype=pl.Int64) > 1, x.map_batches(lambda v: v)],
)
def test_python_functions_are_refused(expr: pl.Expr) -> None:
    with pytest.raises(DefinitionError) as error:
        Expression(expr)
    assert str(error.value) == (
        f"{expr} calls Python code, which Polars cannot describe, so runs could not tell when it "
        "changes. Make it an operator: @weft.operator"
    )


def test_a_text_that_looks_like_python_is_no_python() -> None:
    Expression(s == '"AnonymousFunction":')


@pytest.mark.parametrize(
    ("expr", "name", "kind"),
    [
        (x.alias("n"), "n", Int64()),
        (pl.col("image").alias("picture"), "picture", Image()),
        (x + 1, "x", Int64(nullable=True)),
        (x / 2, "x", Float64(nullable=True, nan=True)),
        (s.str.to_uppercase().alias("t"), "t", Text(nullable=True)),
    ],
    ids=str,
)
def test_columns_made(expr: pl.Expr, name: str, kind: weft.Tensor) -> None:
    assert infer_column(Expression(expr), COLUMNS) == (name, kind)


def test_several_columns_at_once() -> None:
    with pytest.raises(DefinitionError, match=r"makes several columns\. Write one expression for"):
        infer_column(Expression(pl.col("x", "y") + 1), COLUMNS)


def batch(**columns: pa.Array) -> Batch:
    rows = len(next(iter(columns.values())))
    made = {n: Column(COLUMNS[n], array=pa.array(c)) for n, c in columns.items()}
    return Batch(made, {KEY: Column(ENVELOPE[KEY], values=[str(n) for n in range(rows)])})


def test_evaluate() -> None:
    given = batch(x=[1, 2, 3], s=["a", "b", "c"])
    kinds = Fields({"x": Int64(), "twice": Int64(nullable=True), "one": pa.int32()})
    made = evaluate(
        (Expression(x), Expression((x * 2).alias("twice")), Expression(pl.lit(1).alias("one"))),
        given,
        kinds,
    )
    assert made["x"] is given.columns["x"]
    assert list(made["twice"].values) == [2, 4, 6]
    assert list(made["one"].values) == [1, 1, 1]
    only = evaluate((Expression(pl.lit(1).alias("one")),), given, kinds)
    assert list(only["one"].values) == [1, 1, 1]


def test_a_column_nobody_wants_is_computed_and_not_given() -> None:
    given = batch(s=["1", "x"])
    cast = Expression(s.cast(pl.Int64).alias("n"))
    with pytest.raises(pl.exceptions.InvalidOperationError):
        evaluate((cast,), given, Fields())
    assert evaluate((cast,), given.slice(0, 1), Fields()) == {}


def test_matches() -> None:
    given = batch(y=[1, None, 3])
    assert matches(Expression(y > 1), given).tolist() == [False, False, True]
    assert matches(Expression(pl.lit(True)), given).tolist() == [True, True, True]
    assert matches(Expression(y > 1), given.take(np.array([], np.int64))).tolist() == []


def test_expressions_are_values() -> None:
    one = Expression(x + 1)
    assert one == Expression(pl.col("x") + 1) != Expression(x + 2)
    assert hash(one) == hash(Expression(x + 1))
    for other in (pickle.loads(pickle.dumps(one)), copy.copy(one)):
        assert other == one
        assert other.identity() == one.identity()
    assert (one.name, one.column, one.roots) == ("x", None, ("x",))
    assert Expression(x.alias("n")).column == "x"
    assert repr(one) == 'Expression(col("x") + 1)'
