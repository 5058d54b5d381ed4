"""Aggregates: the types they make, and what is refused when the graph is built."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.errors import DefinitionError
from weft.pipelines.aggregates import infer_aggregate
from weft.pipelines.expressions import Expression
from weft.pipelines.types import Arrow, Type, UInt32

COLUMNS = weft.fields(
    label=str,
    n=int,
    score=weft.Float32,
    maybe=weft.Float32 | None,
    good=bool,
    image=weft.Image,
    small=weft.Image(2, 2),
    photo=weft.Encoded("image"),
    vector=weft.Embedding(4),
    taken=weft.Timestamp,
    tags=pa.list_(pa.string()),
)


def infer(expr: pl.Expr) -> Type:
    name, kind = infer_aggregate(Expression(expr.alias("made")), COLUMNS, ("label",))
    assert name == "made"
    return kind


@pytest.mark.parametrize(
    ("expr", "kind"),
    [
        (pl.len(), UInt32()),
        (pl.col("n").count(), UInt32()),
        (pl.col("label").n_unique(), UInt32()),
        (pl.col("n").sum(), weft.Int64()),
        (pl.col("n").sum() / pl.len(), weft.Float64(nullable=True, nan=True)),
        (pl.col("score").mean(), weft.Float32(nullable=True, nan=True)),
        (pl.col("good").all(), weft.Bool(nullable=True)),
        (pl.col("label").str.join(","), weft.Text(nullable=True)),
        (pl.col("taken").max() - pl.col("taken").min(), Arrow(pa.duration("us"), nullable=True)),
        (pl.lit("a"), weft.Text(nullable=True)),
    ],
)  # fmt: skip
def test_what_is_computed(expr: pl.Expr, kind: Type) -> None:
    assert infer(expr) == kind


@pytest.mark.parametrize(
    ("expr", "kind"),
    [
        (pl.col("score").max(), weft.Float32()),
        (pl.col("maybe").max(), weft.Float32(nullable=True)),
        (pl.col("taken").min(), weft.Timestamp()),
        (pl.col("_key").first(), weft.Text()),
        (pl.col("_index").max(), weft.Int32(nullable=True)),
        (pl.col("image").sort_by("score").last(), weft.Image()),
        (pl.col("small").first(), weft.Image(2, 2)),
        (pl.col("vector").sort_by("n", "score", descending=True).first(), weft.Embedding(4)),
        (pl.col("photo").filter(pl.col("good")).last(), weft.Encoded("image", nullable=True)),
        (pl.col("image").max_by("score"), weft.Image(nullable=True)),
        (pl.col("label").first(ignore_nulls=True), weft.Text(nullable=True)),
        (pl.col("n").filter(pl.col("good")).max(), weft.Int64(nullable=True)),
        (pl.col("photo").get(pl.col("score").arg_max()), weft.Encoded("image", nullable=True)),
    ],
)  # fmt: skip
def test_what_is_chosen_keeps_its_type(expr: pl.Expr, kind: Type) -> None:
    assert infer(expr) == kind


@pytest.mark.parametrize(
    ("expr", "dtype"),
    [
        (pl.col("n"), pa.list_(pa.int64())),
        (pl.col("label").sort_by("_index"), pa.list_(pa.string())),
        (pl.col("label").unique(maintain_order=True).head(2), pa.list_(pa.string())),
        (pl.col("tags"), pa.list_(pa.list_(pa.string()))),
        (pl.col("photo"), pa.list_(pa.large_binary())),
        (pl.col("image").is_null(), pa.list_(pa.bool_())),
        (pl.col("vector"), pa.list_(pa.list_(pa.float32(), 4))),
        (pl.struct("n", "label"), pa.list_(pa.struct([("n", pa.int64()), ("label", pa.string())]))),
        (pl.col("n").sample(2, seed=1), pa.list_(pa.int64())),
    ],
)  # fmt: skip
def test_what_does_not_aggregate_is_a_list(expr: pl.Expr, dtype: pa.DataType) -> None:
    assert infer(expr) == Arrow(dtype, nullable=True)


@pytest.mark.parametrize(
    ("expr", "message"),
    [
        (pl.col("scor").mean(), "There is no column 'scor'.*Did you mean 'score'"),
        (pl.col("_source").first(), "There is no column '_source'"),
        (pl.col("n").str.to_uppercase().first(), "Polars refuses"),
        (pl.col("score").mean().over("good"), "looks at rows of other groups.*join"),
        (pl.col("n").shuffle().first(), "is random.*seed=0"),
        (pl.col("small").sort_by("n"), r"makes lists of Image\(2x2\).*video.Stack"),
        (pl.col("image").head(2), "makes lists of Image, .*video.Stack"),
    ],
)
def test_refused(expr: pl.Expr, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        infer(expr)


def test_several_columns_are_refused() -> None:
    with pytest.raises(DefinitionError, match="one aggregate for each"):
        infer_aggregate(Expression(pl.col("n", "score").max()), COLUMNS, ("label",))


def test_the_name_of_a_key_is_refused() -> None:
    with pytest.raises(DefinitionError, match="'label' has the name of a column of the key"):
        infer_aggregate(Expression(pl.col("n").max().alias("label")), COLUMNS, ("label",))


def test_a_text_that_names_a_window_is_none() -> None:
    assert infer(pl.lit("Over")) == weft.Text(nullable=True)
    assert infer((pl.col("label") == "Over").any()) == weft.Bool(nullable=True)
