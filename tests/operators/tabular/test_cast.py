"""Truth: Polars' strict casts, Python's own conversions, and what a value is afterwards."""

from __future__ import annotations

import datetime as dt
import math
import pickle
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import weft
from weft.connectors import Memory, Parquet
from weft.errors import DefinitionError, RowError
from weft.operators.tabular import Cast
from weft.pipelines import tables
from weft.pipelines.fields import fields
from weft.pipelines.operator import digest
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.places import errors_uri
from weft.pipelines.types import (
    Arrow,
    Binary,
    Bool,
    Float32,
    Float64,
    Image,
    Int8,
    Int16,
    Int32,
    Int64,
    Text,
    Timestamp,
    Type,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
)  # fmt: skip

INTEGERS = [Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64]


def cast(value: object, kind: object) -> object:
    return Cast({"x": kind})(value)


def outcome(value: object, kind: object) -> object:
    try:
        return cast(value, kind)
    except RowError:
        return "refused"


@pytest.mark.parametrize("kind", INTEGERS)
@given(value=st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-300, 300)))
def test_integers_are_polars(kind: type[Type], value: int) -> None:
    dtype = pl.Series(pa.array([], kind().storage)).dtype
    try:
        truth = pl.Series([value], dtype=pl.Int64).cast(dtype, strict=True)[0]
    except pl.exceptions.InvalidOperationError:
        truth = "refused"
    assert outcome(value, kind) == truth


FLOATS = st.one_of(st.floats(), st.floats(width=32), st.integers(-(2**54), 2**54).map(float))


@pytest.mark.parametrize("kind", INTEGERS)
@given(value=FLOATS)
@example(3.7)
@example(2.0**63)
@example(-0.0)
@example(math.nan)
@example(math.inf)
def test_floats_become_integers_only_if_they_are(kind: type[Type], value: float) -> None:
    bounds = np.iinfo(kind().storage.to_pandas_dtype())
    whole = math.isfinite(value) and value == int(value) and bounds.min <= int(value) <= bounds.max
    made = outcome(value, kind)
    assert made == (int(value) if whole else "refused")


@given(FLOATS)
@example(1e300)
@example(3.4028235677973366e38)  # the first that rounds beyond the largest of 32 bits
@example(1e-60)
def test_floats_of_32_bits_are_rounded_and_never_infinite(value: float) -> None:
    with np.errstate(over="ignore"):
        rounded = np.float32(value)
    lost = math.isnan(value) or (np.isinf(rounded) and math.isfinite(value))
    assert outcome(value, Float32) == ("refused" if lost else rounded)


@given(st.integers(-(2**63), 2**63 - 1))
@example(2**53 + 1)
def test_integers_become_floats_only_if_exact_or_refused(value: int) -> None:
    made = outcome(value, Float64)
    assert made == "refused" or (float(made) == made and int(made) == value)
    assert made != "refused" or abs(value) > 2**53


@given(st.one_of(FLOATS.map(repr), st.integers().map(str), st.text(max_size=8),
                 st.text("0123456789.eE+-_ nif", max_size=8)))  # fmt: skip
@example("1e400")
@example("inf")
@example("-Infinity")
@example(" 1")
@example("1_000")
def test_text_becomes_floats_as_python_reads_it(text: str) -> None:
    """But for spaces, underscores, other alphabets' digits and a leading plus, which it takes."""
    made = outcome(text, Float64)
    if made != "refused":
        assert made == float(text)
        assert not (math.isinf(made) and "inf" not in text.lower())
    elif text.isascii() and not set(text) & set("_ +\t\n\r\v\f\x1c\x1d\x1e\x1f"):
        try:
            read = float(text)
        except ValueError:
            return
        assert not math.isfinite(read)


@given(st.one_of(st.integers(-(2**64), 2**64).map(str), st.text("0123456789.-+ e_", max_size=6)))
def test_text_becomes_integers_as_polars_reads_it(text: str) -> None:
    try:
        truth = pl.Series([text]).cast(pl.Int64, strict=True)[0]
    except pl.exceptions.InvalidOperationError:
        truth = "refused"
    if text.startswith("+"):  # Polars takes the sign, Arrow does not
        truth = "refused"
    assert outcome(text, Int64) == truth


@given(st.datetimes(timezones=st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-9.5))])))
def test_iso_8601_is_read_as_python_reads_it(moment: dt.datetime) -> None:
    for text in (moment.isoformat(), moment.isoformat(" ")):
        try:
            wanted = moment.astimezone(dt.UTC)
        except OverflowError:
            return
        assert cast(text, Timestamp) == wanted == dt.datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-29T00:00:00Z", dt.datetime(2024, 2, 29, tzinfo=dt.UTC)),
        ("2024-05-01 14:00+02:00", dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)),
        ("2024-05-01T14:00:00.5+0200", dt.datetime(2024, 5, 1, 12, 0, 0, 500_000, dt.UTC)),
        ("2023-02-29T00:00:00Z", None),
        ("2024-05-01", None),
        ("2024-05-01T12:00:00", None),
        ("2024-05-01T12:00:00.0000001Z", None),
        ("1 May 2024", None),
        ("05/01/2024", None),
        ("1714564800", None),
    ],
)
def test_timestamps(text: str, moment: dt.datetime | None) -> None:
    assert outcome(text, Timestamp) == ("refused" if moment is None else moment)


@pytest.mark.parametrize(
    ("value", "kind", "wanted"),
    [
        ("true", Bool, True), ("False", Bool, False), ("0", Bool, False), ("yes", Bool, "refused"),
        (1, Bool, True), (2, Bool, "refused"), (0.5, Bool, "refused"), (True, Int8, 1),
        (1.5, Text, "1.5"), (12, Text, "12"), (b"caf\xc3\xa9", Text, "café"),
        (b"\xff", Text, "refused"), ("é", Binary, b"\xc3\xa9"), ("0x1f", Int32, 31),
        ("nan", Float64, "refused"), ("", Float64, "refused"), ("", Text, ""),
        (dt.datetime(2024, 5, 1, tzinfo=dt.UTC), Arrow(pa.date32()), dt.date(2024, 5, 1)),
        (dt.datetime(2024, 5, 1, 1, tzinfo=dt.UTC), Arrow(pa.date32()), "refused"),
        ("2024-05-01", Arrow(pa.date32()), dt.date(2024, 5, 1)),
        (Decimal("3.00"), Int64, 3), (Decimal("3.25"), Int64, "refused"),
        (1.25, Arrow(pa.decimal128(5, 1)), "refused"),
        (0.1, Arrow(pa.decimal128(5, 3)), Decimal("0.1")),
        ([1, 300], Arrow(pa.list_(pa.int8())), "refused"),
    ],
)  # fmt: skip
def test_values(value: object, kind: object, wanted: object) -> None:
    assert outcome(value, kind) == wanted


def test_nan_where_the_type_says_so() -> None:
    assert math.isnan(cast("nan", Float64(nan=True)))
    assert math.isnan(cast(math.nan, Float32(nan=True)))


class TestMessages:
    def test_of_a_row(self) -> None:
        message = r"^tabular\.Cast: column 'x': 300 cannot be Int8 \(Integer value 300 not in range"
        with pytest.raises(RowError, match=message):
            cast(300, Int8)
        with pytest.raises(
            RowError, match=r"'x': 1e\+300 cannot be Float32 \(it is out of range\)"
        ):
            cast(1e300, Float32)
        with pytest.raises(RowError, match=r"'x': 2 cannot be Bool \(it would be another value\)"):
            cast(2, Bool)
        with pytest.raises(
            RowError, match=r"'nan' cannot be Float64 \(it is no number; declare nan"
        ):
            cast("nan", Float64)

    def test_long_values_are_cut(self) -> None:
        with pytest.raises(RowError) as caught:
            cast("x" * 10_000, Int8)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize(
        ("given_type", "wanted"),
        [
            (Int64(), Timestamp), (Arrow(pa.timestamp("us")), Timestamp),
            (Arrow(pa.date32()), Timestamp),
        ],
    )  # fmt: skip
    def test_no_moment(self, given_type: Type, wanted: type[Type]) -> None:
        with pytest.raises(DefinitionError, match=r"'x' is .* does not say which moment .*epoch"):
            Cast({"x": wanted}).infer(fields(x=given_type))

    @pytest.mark.parametrize(
        ("given_type", "wanted"), [(Image(2, 2), Text), (Float64(), Arrow(pa.list_(pa.int8())))]
    )
    def test_impossible(self, given_type: Type, wanted: object) -> None:
        with pytest.raises(
            DefinitionError, match=r"tabular\.Cast: column 'x' is .* cannot be made"
        ):
            Cast({"x": wanted}).infer(fields(x=given_type))

    def test_nothing_to_do(self) -> None:
        with pytest.raises(DefinitionError, match=r"no columns given\. Expected some: Cast\({'pri"):
            Cast({})
        with pytest.raises(DefinitionError, match=r"'float64' is not a column type"):
            Cast({"x": "float64"})


def test_it_is_a_value() -> None:
    one, other = Cast({"a": float, "b": Timestamp}), Cast(fields(a=Float64, b=Timestamp()))
    assert one == other
    assert hash(one) == hash(other)
    assert digest(one.identity()) == digest(other.identity())
    assert digest(one.identity()) != digest(Cast({"a": float}).identity())
    again = pickle.loads(pickle.dumps(one))
    assert again == one
    assert (again.reads, again.writes) == (one.reads, one.writes)
    assert str(Cast({"a": float})) == "tabular.Cast(a: Float64)"


@weft.pipeline
def prices(source: str, out: str, on_error: str = "quarantine"):
    rows = weft.read(Parquet(source))
    rows = rows.apply(Cast({"price": float, "when": Timestamp}), on_error=on_error, when="taken")
    return rows.write(weft.connectors.Lance(out))


@pytest.fixture
def source(tmp_path: Path) -> str:
    frame = pl.DataFrame(
        {
            "price": [str(i) for i in range(20)] + ["dear", None],
            "taken": ["2024-05-01T12:00:00Z"] * 21 + ["2024-05-01T12:00:00+01:00"],
        }
    )
    frame.write_parquet(tmp_path / "prices.parquet")
    return str(tmp_path / "prices.parquet")


def test_in_a_pipeline(source: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.lance")
    result = prices(source=source, out=out).run(engine="local", budget=Budget(rows=5))
    assert result.books["cast"].failed == 1
    table = tables.read(out, "latest")
    assert table.schema.field("price").type == pa.float64()
    assert sorted(table["price"].drop_null().to_pylist()) == [float(i) for i in range(20)]
    assert table["price"].null_count == 1  # a null stays null, and its row stays
    errors = tables.read(errors_uri(f"{out}.weft")).to_pylist()
    assert [e["message"] for e in errors if "dear" in e["message"]] == [
        "tabular.Cast: column 'price': 'dear' cannot be Float64 "
        "(Failed to parse string: 'dear' as a scalar of type double)."
    ]


def test_null_instead_of_an_error(source: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out.lance")
    prices(source=source, out=out, on_error="null").run(engine="local", budget=Budget(rows=5))
    assert tables.read(out, "latest")["price"].null_count == 2


@weft.pipeline
def unclear(source: str):
    rows = weft.read(Parquet(source)).apply(Cast({"price": Timestamp}), price="number")
    return rows.write(Memory("unclear"))


def test_refused_on_the_users_line(tmp_path: Path) -> None:
    pl.DataFrame({"number": [1, 2]}).write_parquet(tmp_path / "n.parquet")
    with pytest.raises(
        DefinitionError, match=r"(?s)test_cast\.py.*'price' is Int64\?, which does not"
    ):
        unclear(source=str(tmp_path / "n.parquet"))
