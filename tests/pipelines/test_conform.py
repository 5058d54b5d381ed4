"""What an operator returns is held to what it declares."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from weft.errors import ContractError
from weft.pipelines.engines.conform import conform
from weft.pipelines.types import (
    Bool,
    Embedding,
    Float32,
    Float64,
    Image,
    Int8,
    Int64,
    Tensor,
    Text,
    Timestamp,
    Type,
    UInt8,
)  # fmt: skip

NAN = float("nan")
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (Int64(), [1, 2], [1, 2]),
        (Int64(), np.array([1, 2], np.int8), [1, 2]),
        (UInt8(), np.array([1, 255]), [1, 255]),
        (Int64(), pa.array([1, 2], pa.int8()), [1, 2]),
        (Int64(), pl.Series([1, 2]), [1, 2]),
        (Int64(), pa.chunked_array([[1], [2]]), [1, 2]),
        (Float32(), np.array([1, 2]), [1.0, 2.0]),
        (Float32(nan=True), [NAN], [NAN]),
        (Text(), ["a", "b"], ["a", "b"]),
        (Text(), np.array(["a", "b"]), ["a", "b"]),
        (Text(), pl.Series(["a"]), ["a"]),
        (Text(nullable=True), ["a", None], ["a", None]),
        (Bool(), np.array([True, False]), [True, False]),
        (Timestamp(), [MOMENT], [MOMENT]),
        (Timestamp(), np.array(["2026-01-02"], "datetime64[s]"), [MOMENT]),
        (Float64(), [], []),
    ],
)
def test_fits(kind: Type, values: Any, expected: list[Any]) -> None:
    column, faults = conform("op.x", kind, values, len(expected))
    assert faults == {}
    assert column.type == kind
    assert column.array.type == kind.storage
    found = column.array.to_pylist()

    assert all(
        a == b or (str(a), str(b)) == ("nan", "nan") for a, b in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "values", "rows", "message"),
    [
        (
            Int64(), [1, 2], 3,
            "op.x has 2 values for a batch of 3 rows. Return one for each row; drop rows with a "
            "Filter, make more of them with an Expand.",
        ),
        (Int64(), 7, 3, "op.x is a int; expected 3 values, one for each row."),
        (Int64(), None, 1, "op.x is a NoneType; expected 1 values, one for each row."),
        (
            Int8(), np.array([1, 300]), 2,
            "op.x is declared Int8; the operator returned int64, which does not fit. "
            "Return int8 values.",
        ),
        (
            Int64(), np.array([0.5]), 1,
            "op.x is declared Int64; the operator returned float64, which does not fit. "
            "Return int64 values.",
        ),
        (
            Text(), np.array([1]), 1,
            "op.x is declared Text; the operator returned int64, which does not fit. "
            "Return object values.",
        ),
        (
            Float32(), np.zeros((2, 3)), 2,
            "op.x is declared Float32, one value a row; the operator returned an array of shape "
            "(2, 3).",
        ),
        (
            Embedding(3), np.zeros((2, 4), np.float32), 2,
            "op.x is declared Embedding(3) (rows, 3) of float32; the operator returned shape "
            "(2, 4) of float32.",
        ),
        (
            Image(), np.zeros((1, 2, 2, 3)), 1,
            "op.x is declared Image (rows, None, None, 3) of uint8; the operator returned shape "
            "(1, 2, 2, 3) of float64.",
        ),
    ],
)  # fmt: skip
def test_refused_as_a_whole(kind: Type, values: Any, rows: int, message: str) -> None:
    with pytest.raises(ContractError) as error:
        conform("op.x", kind, values, rows)
    assert str(error.value) == message


def test_arrow_of_another_type() -> None:
    with pytest.raises(ContractError, match=r"^op\.x is declared Int64, stored as int64; the op"):
        conform("op.x", Int64(), pa.array(["a"]), 1)


NAN_FAULT = "NaN; declare nan=True if that is meant"


@pytest.mark.parametrize(
    ("kind", "values", "faults"),
    [
        (Text(), ["a", None], {1: "null where Text is not nullable"}),
        (Int64(), pa.array([None, 1]), {0: "null where Int64 is not nullable"}),
        (Float32(), [1.0, NAN], {1: NAN_FAULT}),
        (Float32(), np.array([NAN, 1.0]), {0: NAN_FAULT}),
        (Float32(), np.array([1e300, 1.0]), {0: "1e+300 is beyond what Float32 holds"}),
        (Float64(nullable=True), pa.array([None, NAN]), {1: NAN_FAULT}),
        (Embedding(2), np.array([[1, 2], [NAN, 0]], np.float32), {1: NAN_FAULT}),
        (
            Embedding(2),
            [np.zeros(2, np.float32), None],
            {1: "null where Embedding(2) is not nullable"},
        ),
        (Embedding(), np.array([[NAN]], np.float32), {0: "NaN in the array"}),
        (Embedding(1), pa.array([[NAN], [0.0]], pa.list_(pa.float32(), 1)), {0: NAN_FAULT}),
        (
            Image(),
            [np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2), np.uint8)],
            {1: "expected shape (None, None, 3), got (1, 2)"},
        ),
        (Tensor("uint8", (2,)), [[1, 2]], {0: "expected an array of uint8, got int64"}),
        (
            Int64(),
            [1, "x", 2, None],
            {
                1: "declared Int64; the operator returned a str: Could not convert 'x' with type "
                "str: tried to convert to int64",
                3: "null where Int64 is not nullable",
            },
        ),
        (
            Timestamp(),
            np.array([1.5]),
            {0: "declared Timestamp; the operator returned a float: 1.5 is no datetime with a time "
             "zone, such as datetime.UTC"},
        ),
    ],
)  # fmt: skip
def test_refused_row_by_row(kind: Type, values: Any, faults: dict[int, str]) -> None:
    column, found = conform("op.x", kind, values, len(values))
    assert found == faults
    good = [i for i in range(len(values)) if i not in faults]
    assert len(column.take(np.array(good, np.int64))) == len(good)
    assert len(column) == len(values)


def test_infinities_are_numbers() -> None:
    values = np.array([float("inf"), float("-inf")])  # whose sum is NaN
    assert conform("op.x", Float64(), values, 2)[1] == {}
