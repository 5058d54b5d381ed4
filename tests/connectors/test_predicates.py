import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from weft.connectors.predicates import sift
from weft.pipelines.expressions import is_row_by_row

a, b = pl.col("a"), pl.col("b")


@pytest.mark.parametrize(
    "predicate",
    [
        a > 1,
        a.fill_null(0) + b > 1,
        a.is_in([1, 2]),
        a.is_between(1, b),
        ~a.is_null() & (b.cast(pl.String).str.contains("1")),
        pl.when(a > 1).then(b > 2).otherwise(pl.lit(value=False)),
        pl.any_horizontal(a > 1, b > 1),
        pl.coalesce("a", "b") > 1,
        pl.col("s") == ".filter(",
        pl.lit(value=False),
    ],
    ids=str,
)
def test_row_by_row(predicate):
    assert is_row_by_row(predicate)


@pytest.mark.parametrize(
    "predicate",
    [
        a.mean() < a,
        a.cum_sum() > 1,
        a.shift(1) > b,
        a.rank() > 1,
        a.sort() > 1,
        a.over("b") > 1,
        a.filter(b > 1) > 1,
        a.explode() > 1,
        a.is_in(b),
        a.is_in(b.implode()),
        a.fill_null(a.max()) > 1,
        a.fill_null(strategy="forward") > 1,
        pl.lit(pl.Series([1, 2])) < a,
        pl.len() > 1,
        pl.int_range(pl.len()) > 1,
        pl.when(a.max() > 1).then(a > 1),
        a.is_first_distinct(),
        a.shuffle() > 1,
        pl.all() > 1,
        a.map_batches(lambda s: s) > 1,
    ],
    ids=str,
)
def test_not_row_by_row(predicate):
    assert not is_row_by_row(predicate)


def test_a_row_that_a_predicate_drops_is_not_judged_by_the_next():
    columns = {"s": pa.array(["1", "x", "3"])}
    cast = pl.col("s").cast(pl.Int64)
    guarded = sift(columns, 3, [pl.col("s") != "x", cast > 1])
    assert (guarded.kept.tolist(), guarded.failed) == ([2], ())
    bare = sift(columns, 3, [cast > 1, pl.col("s") != "x"])
    assert (bare.kept.tolist(), [row for row, _ in bare.failed]) == ([2], [1])
    assert [(n, at.tolist()) for n, at in bare.dropped] == [(0, [0])]


def test_few_evaluations_for_few_faults(monkeypatch):
    count = 0
    real = pl.DataFrame.with_columns

    def counted(*args, **kwargs):
        nonlocal count
        count += 1
        return real(*args, **kwargs)

    values = np.arange(1024).astype(str).astype(object)
    values[[100, 900]] = "x"
    monkeypatch.setattr(pl.DataFrame, "with_columns", counted)
    sifted = sift({"s": pa.array(values)}, 1024, [pl.col("s").cast(pl.Int64) >= 0])
    assert [row for row, _ in sifted.failed] == [100, 900]
    assert len(sifted.kept) == 1022
    assert count <= 2 * 2 * 10 + 3
