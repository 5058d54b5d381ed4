"""SQL made from a Polars predicate keeps the rows that Polars keeps."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from weft.connectors.sql_filter import quoted, to_sql

NEGATIVE_NAN = float(np.array([0xFFF8000000000000], np.uint64).view(np.float64)[0])
INTERESTING = [0.0, -0.0, 0.2, 1.5, -1.0, float("inf"), float("-inf"), float("nan"), NEGATIVE_NAN]
TEXTS = ["", "a", "A", "a'b", "`", '"', "%", "\\n", "\n", "ü", "日本", "null", "-- x", "\U0001f600"]

SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "Small": pa.uint8(),
        "big": pa.int64(),
        "f": pa.float32(),
        "g": pa.float64(),
        "flag": pa.bool_(),
        "other": pa.bool_(),
        "größe": pa.string(),
    }
)


def floats(width: int) -> st.SearchStrategy[float]:
    return st.sampled_from(INTERESTING) | st.floats(width=width)  # type: ignore[arg-type]


ROW = st.fixed_dictionaries(
    {
        "Small": st.none() | st.integers(0, 255),
        "big": st.none() | st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
        "f": st.none() | floats(32),
        "g": st.none() | floats(64),
        "flag": st.none() | st.booleans(),
        "other": st.none() | st.booleans(),
        "größe": st.none() | st.sampled_from(TEXTS) | st.text(max_size=3),
    }
)


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    """A table of `rows` that keeps the sign of a NaN, which `pa.array` of objects may not."""
    arrays = []
    for field in SCHEMA:
        values = range(len(rows)) if field.name == "row" else [r[field.name] for r in rows]
        if pa.types.is_floating(field.type):
            mask = np.array([v is None for v in values], bool)
            block = np.array([0.0 if v is None else v for v in values], np.float64)
            with np.errstate(over="ignore"):
                arrays.append(pa.array(block.astype(field.type.to_pandas_dtype()), mask=mask))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.table(arrays, schema=SCHEMA)


def python_predicate(value: int) -> bool:
    return len(str(value)) > 1


OPS = ["__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__"]


@st.composite
def leaves(draw: st.DrawFn) -> pl.Expr:
    name = draw(st.sampled_from(["Small", "big", "f", "g", "flag", "größe"]))
    column = pl.col(name)
    literals = {
        "Small": st.integers(-2, 300),
        "big": st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
        "f": floats(64) | st.integers(-3, 3) | st.integers(),
        "g": floats(64) | st.integers(-3, 3),
        "flag": st.booleans(),
        "größe": st.sampled_from(TEXTS) | st.text(max_size=3),
    }[name]
    kind = draw(st.sampled_from(["compare", "flip", "null", "in", "between", "flag"]))
    if kind == "flag":
        return pl.col(draw(st.sampled_from(["flag", "other"])))
    if kind == "null":
        return column.is_null() if draw(st.booleans()) else column.is_not_null()
    if kind == "in":
        values = draw(st.lists(st.none() | literals, max_size=3))
        return column.is_in(pl.Series(values, strict=False))
    if kind == "between":
        closed = draw(st.sampled_from(["both", "left", "right", "none"]))
        bounds = [pl.lit(draw(literals)) for _ in range(2)]
        return column.is_between(*bounds, closed=closed)
    left, right = column, pl.lit(draw(literals))
    if kind == "flip":
        left, right = right, left
    compared: pl.Expr = getattr(left, draw(st.sampled_from(OPS)))(right)
    return compared


PREDICATES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        inner.map(lambda e: ~e),
        st.tuples(inner, inner).map(lambda p: p[0] & p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] | p[1]),
    ),
    max_leaves=5,
)

ALL_SIGNS = [
    {"Small": i, "big": i, "f": v, "g": v, "flag": None, "other": True, "größe": "a"}
    for i, v in enumerate([*INTERESTING, None])
]


@settings(max_examples=300, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=8), PREDICATES)
@example(ALL_SIGNS, pl.col("f") > 0.2)
@example(ALL_SIGNS, pl.col("f") <= 0.2)
@example(ALL_SIGNS, pl.col("g") >= 0)
@example(ALL_SIGNS, pl.col("g") < -0.0)
@example(ALL_SIGNS, ~(pl.col("f") == 0))
@example(ALL_SIGNS, pl.col("f") != 0.2)
def test_sql_keeps_what_polars_keeps(rows: list[dict[str, object]], predicate: pl.Expr) -> None:
    sql = to_sql(predicate, SCHEMA)
    if sql is None:
        return
    table = table_of(rows)
    folder = Path(tempfile.mkdtemp())
    try:
        dataset = lance.write_dataset(table, str(folder / "t.lance"))
        expected = pl.from_arrow(table).filter(predicate)["row"].to_list()
        filtered = dataset.to_table(columns=["row"], filter=sql)["row"].to_pylist()
        answers = dataset.scanner(columns={"row": "`row`", "keep": sql}).to_table().to_pylist()
    finally:
        shutil.rmtree(folder)
    assert filtered == expected, sql
    assert [a["row"] for a in answers if a["keep"]] == expected, sql


@settings(max_examples=200, deadline=None)
@given(leaves())
def test_most_simple_predicates_are_translated_or_clearly_refused(predicate: pl.Expr) -> None:
    sql = to_sql(predicate, SCHEMA)
    assert sql is None or sql.count("`") >= 2


@pytest.mark.parametrize(
    ("predicate", "sql"),
    [
        (pl.col("big") > 1, "`big` > 1"),
        (pl.lit(1) < pl.col("big"), "`big` > 1"),
        (pl.lit("a'b") == pl.col("größe"), "`größe` = 'a''b'"),
        (pl.col("flag"), "`flag`"),
        (pl.col("f") > 0.2, "(`f` > 0.20000000298023224 OR isnan(`f`))"),
        (pl.col("g") <= 1, "(`g` <= 1.0 AND NOT isnan(`g`))"),
        (pl.col("big").is_between(1, 3, closed="left"), "(`big` >= 1 AND `big` < 3)"),
        (pl.col("größe").is_in(["a", "b"]), "`größe` IN ('a', 'b')"),
        ((pl.col("big") > 1).and_(~pl.col("flag")), "(`big` > 1 AND NOT (`flag`))"),
    ],
)
def test_what_is_translated(predicate: pl.Expr, sql: str) -> None:
    assert to_sql(predicate, SCHEMA) == sql


@pytest.mark.parametrize(
    "predicate",
    [
        pl.col("Small") > 256,
        pl.col("Small") > -1,
        pl.col("big") > 2**63,
        pl.col("big") > 0.5,
        pl.col("big") + 1 > 2,
        pl.col("big") > pl.col("Small"),
        pl.col("f") > pl.lit(float("nan")),
        pl.col("f") > float("inf"),
        pl.col("f") < 1e300,
        pl.col("f") > 2**24 + 1,
        pl.col("f").is_in([1.0]),
        pl.col("big").is_in([]),
        pl.col("big").is_in([1, None]),
        pl.col("flag") > False,
        pl.col("größe") == "a\0b",
        pl.col("größe").str.starts_with("a"),
        pl.col("missing") > 1,
        pl.col("big", "Small") > 1,
        pl.col("big").eq_missing(1),
        pl.col("flag") ^ pl.col("other"),
        pl.lit(value=True),
        pl.col("big").sum() > 1,
        (pl.col("big") > 1).over("flag"),
        pl.col("big").map_elements(python_predicate, return_dtype=pl.Boolean),
        pl.col("big") > datetime(2024, 1, 1, tzinfo=UTC),
    ],
    ids=str,
)
def test_what_is_refused(predicate: pl.Expr) -> None:
    assert to_sql(predicate, SCHEMA) is None


def test_a_backtick_cannot_be_quoted() -> None:
    with pytest.raises(ValueError, match="holds a backtick"):
        quoted("a`b")
