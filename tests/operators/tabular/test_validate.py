"""Truth: Polars' own answer to the rules, row by row."""

from __future__ import annotations

import pickle
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from weft.connectors import Lance, Memory, Parquet
from weft.errors import DefinitionError, RowError
from weft.operators.tabular import Validate
from weft.pipelines import tables
from weft.pipelines.fields import fields
from weft.pipelines.operator import digest
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.places import errors_uri
from weft.pipelines.types import Float64, Int64, Text

RULES = {
    "positive": pl.col("price") > 0,
    "ordered": pl.col("low") <= pl.col("high"),
    "known": pl.col("name").is_in(["a", "b"]),
}


@given(
    price=st.floats(-2, 2),
    low=st.integers(-3, 3),
    high=st.integers(-3, 3),
    name=st.sampled_from("abc"),
)
def test_polars(**row: object) -> None:
    answers = pl.DataFrame([row]).select(r.alias(n) for n, r in RULES.items()).row(0, named=True)
    broken = [name for name, holds in answers.items() if not holds]
    if not broken:
        assert Validate(RULES)(**row) is True
        return
    with pytest.raises(RowError) as caught:
        Validate(RULES)(**row)
    assert [name for name in RULES if f"'{name}' is broken" in str(caught.value)] == broken


def test_the_message_has_the_rule_the_expression_and_the_values() -> None:
    with pytest.raises(RowError) as caught:
        Validate(RULES)(price=-1.0, low=3, high=2, name="a")
    assert str(caught.value) == (
        "tabular.Validate: 'positive' is broken: col(\"price\") > 0; given price=-1.0; "
        '\'ordered\' is broken: col("low") <= col("high"); given low=3, high=2.'
    )


def test_long_values_are_cut() -> None:
    with pytest.raises(RowError, match=r"given name='x{98}…\.$"):
        Validate({"short": pl.col("name").str.len_chars() < 5})("x" * 1000)


def test_null_is_not_true() -> None:
    rule = pl.col("price") > 0
    with pytest.raises(RowError, match=r"'positive' is broken: .*; given price=None"):
        Validate({"positive": rule})(None)
    assert Validate({"positive": rule.fill_null(True)})(None)
    with pytest.raises(RowError, match="given price=None"):
        Validate({"there": pl.col("price").is_not_null()})(None)


def test_it_is_a_value() -> None:
    one, other = Validate(RULES), Validate(dict(reversed(RULES.items())))
    assert one == Validate(RULES)
    assert hash(one) == hash(Validate(RULES))
    assert digest(one.identity()) == digest(other.identity())
    assert digest(one.identity()) != digest(Validate({"positive": pl.col("price") > 1}).identity())
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert list(again.reads) == ["price", "low", "high", "name"]
    assert str(Validate({"positive": pl.col("price") > 0})) == (
        'tabular.Validate(positive: col("price") > 0)'
    )


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({}, r"tabular\.Validate: no rules given\. Expected some by name"),
        ({"a": True}, r"rule 'a' is True; expected a Polars expression on columns"),
        ({"a": pl.lit(True)}, r"rule 'a' is true; expected a Polars expression on columns"),
        ({"a": pl.col("x").map_elements(bool)}, r"calls Python code"),
    ],
)
def test_wrong_rules(rules: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Validate(rules)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (pl.col("x") + 1, r"Validate: rule 'r': .* is Int64, and a predicate must be Boolean"),
        (pl.col("x") > pl.col("x").mean(), r"rule 'r': .* depends on other rows of the batch"),
        (pl.col("x").str.len_chars() > 1, r"rule 'r': Polars refuses"),
    ],
)
def test_rules_that_do_not_fit_the_columns(rule: pl.Expr, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Validate({"r": rule}).infer(fields(x=Int64))
    assert len(Validate({"r": pl.col("x") > 1}).infer(fields(x=Float64, y=Text))) == 0


@weft.pipeline
def checked(source: str, out: str, on_error: str = "quarantine"):
    check = Validate({"sold": pl.col("price") > 10, "named": pl.col("title").str.len_chars() > 1})
    rows = weft.read(Parquet(source)).apply(check, title="name", on_error=on_error)
    return rows.write(Lance(out))


@pytest.fixture
def source(tmp_path: Path) -> str:
    frame = pl.DataFrame(
        {
            "price": [*range(100), None, 50],
            "name": [*(f"n{i}" for i in range(99)), "x", "null", "fine"],
        },
        schema={"price": pl.Int32, "name": pl.String},
    )
    frame.write_parquet(tmp_path / "prices.parquet")
    return str(tmp_path / "prices.parquet")


def test_in_a_pipeline(source: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.lance")
    result = checked(source=source, out=out).run(engine="local", budget=Budget(rows=50))
    frame = pl.read_parquet(source)
    kept = frame.filter((pl.col("price") > 10) & (pl.col("name").str.len_chars() > 1))
    assert result.books["validate"].failed == len(frame) - len(kept) == 13
    assert result.books["validate"].dropped == 0
    stored = pl.DataFrame(tables.read(out, "latest")).select("price", "name")
    assert stored.sort("price", "name").equals(kept.sort("price", "name"))
    told = {e["message"] for e in tables.read(errors_uri(f"{out}.weft")).to_pylist()}
    assert "tabular.Validate: 'sold' is broken: col(\"price\") > 10; given price=3." in told
    assert (
        "tabular.Validate: 'named' is broken: (col(\"title\").str.len_chars()) > 1; "
        "given title='x'." in told
    )


def test_raise_stops_the_run(source: str, tmp_path: Path) -> None:
    with pytest.raises(RowError, match=r"validate: row '.*': RowError: .*'\w+' is broken"):
        checked(source=source, out=str(tmp_path / "o.lance"), on_error="raise").run(engine="local")


def test_a_batch_of_nulls_has_the_type_of_its_column(tmp_path: Path) -> None:
    frame = pl.DataFrame({"name": [None, None, "x", None]}, schema={"name": pl.String})
    frame.write_parquet(tmp_path / "names.parquet")
    result = named(source=str(tmp_path / "names.parquet")).run(
        engine="local", budget=Budget(rows=5)
    )
    assert result.books["validate"].failed == 1


@weft.pipeline
def named(source: str):
    rule = (pl.col("name").str.len_chars() > 1).fill_null(True)
    return weft.read(Parquet(source)).apply(Validate({"named": rule})).write(Memory("named"))
