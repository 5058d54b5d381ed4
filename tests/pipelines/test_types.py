"""Semantic types: storage, values, compatibility, metadata."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import weft
from weft.errors import DefinitionError
from weft.pipelines.fields import arrow_field
from weft.pipelines.types import (
    TYPES,
    Arrow,
    Binary,
    Bool,
    Embedding,
    Encoded,
    Float32,
    Float64,
    Frames,
    Image,
    Int8,
    Int32,
    Int64,
    Tensor,
    Text,
    Timestamp,
    Type,
    UInt8,
    Waveform,
    as_type,
    from_arrow,
)  # fmt: skip

EVERY = [
    *(t() for name, t in TYPES.items() if name != "Arrow"),
    Arrow(pa.list_(pa.int32())), Encoded("image"), Float32(nan=True), Text(nullable=True),
    Tensor("uint8", (2, None)), Tensor("float64", (2, 3)), Image(4, 6), Image(4, None, 1),
    Image(2, 2, dtype="uint16", nullable=True), Frames(), Frames(2, 4, 4), Frames(None, 4, 4, 1),
    Waveform(), Waveform(16_000, 1, nullable=True), Embedding(8), Embedding(8, nullable=True),
]  # fmt: skip


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_meaning_survives_arrow(kind: Type) -> None:
    field = arrow_field("x", kind)
    assert from_arrow(field) == kind
    assert from_arrow(field).storage == kind.storage == field.type
    assert field.nullable is kind.nullable


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_nullable(kind: Type) -> None:
    nullable = kind | None
    assert nullable == kind.or_null()
    assert nullable.nullable
    assert nullable.or_null() is nullable
    assert nullable.storage == kind.storage
    assert str(nullable) == str(kind).removesuffix("?") + "?"


@pytest.mark.parametrize("kind", EVERY, ids=str)
def test_nothing_at_all(kind: Type) -> None:
    empty = kind.or_null().to_arrow([])
    assert empty.type == kind.storage
    assert len(kind.to_values(empty)) == 0
    nulls = kind.or_null().to_arrow([None, None])
    assert nulls.null_count == 2
    assert list(kind.to_values(nulls)) == [None, None]
    assert kind.row_bytes >= 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Image(), "Image"),
        (Image(224, 224), "Image(224x224)"),
        (Image(channels=1, dtype="uint16"), "Image(channels=1, dtype='uint16')"),
        (Embedding(512), "Embedding(512)"),
        (Frames(), "Frames"),
        (Frames(8, 224, 224), "Frames(8x224x224)"),
        (Frames(None, 4, 4, 1, nullable=True), "Frames(?x4x4, channels=1)?"),
        (Waveform(), "Waveform"),
        (Waveform(16_000, 1), "Waveform(16000 Hz, channels=1)"),
        (Embedding(nullable=True), "Embedding?"),
        (Tensor("uint8", (2, None)), "Tensor('uint8', (2, None))"),
        (Encoded("image"), "Encoded('image')"),
        (Float32(nan=True, nullable=True), "Float32(nan=True)?"),
        (Arrow(pa.list_(pa.int32())), "list<item: int32>"),
    ],
    ids=str,
)
def test_text(kind: Type, text: str) -> None:
    assert str(kind) == text


@pytest.mark.parametrize(
    ("port", "column", "fits"),
    [
        (Image(), Image(64, 64), True),
        (Image(224, 224), Image(64, 64), False),
        (Image(224, 224), Image(), False),
        (Image(224, 224), Image(224, 224), True),
        (Image(), Image(channels=1), False),
        (Image(channels=None), Image(channels=1), True),
        (Image(), Image(dtype="uint16"), False),
        (Image(), Encoded("image"), False),
        (Embedding(), Embedding(512), True),
        (Waveform(), Waveform(16_000, 1), True),
        (Waveform(16_000), Waveform(16_000, 2), True),
        (Waveform(16_000), Waveform(), False),
        (Waveform(16_000), Waveform(8_000), False),
        (Frames(), Frames(8, 4, 4), True),
        (Frames(8), Frames(4), False),
        (Frames(), Image(), False),
        (Embedding(512), Embedding(512), True),
        (Embedding(512), Embedding(768), False),
        (Embedding(512), Embedding(), False),
        (Tensor("uint8", (None, None, 3)), Image(4, 4), True),
        (Tensor("uint8"), Image(4, 4), True),
        (Image(4, 4), Tensor("uint8", (4, 4, 3)), False),
        (Encoded("image"), Encoded("audio"), False),
        (Encoded("image"), Encoded(), True),
        (Encoded(), Encoded("audio"), True),
        (Float32(), Float64(), False),
        (Float32(), Float32(nullable=True), True),
        (Int64(), Int32(), False),
        (Text(), Binary(), False),
        (Arrow(pa.int8()), Int8(), True),
        (Arrow(pa.int8()), UInt8(), False),
    ],
    ids=str,
)
def test_accepts(port: Type, column: Type, fits: bool) -> None:
    assert port.accepts(column) is fits


def arrays(dtype: str, shape: tuple[int | None, ...]) -> st.SearchStrategy[np.ndarray]:
    side = st.integers(0, 4)
    return st.tuples(*(side if n is None else st.just(n) for n in shape)).flatmap(
        lambda known: hnp.arrays(dtype, known, elements=st.integers(0, 200))
    )


@pytest.mark.parametrize(
    "kind",
    [Tensor("uint8", (2, 3)), Tensor("float32", (None, 2)), Image(2, 2), Image(), Embedding(3),
     Embedding(), Tensor("bool", (2,)), Tensor("int16", ())],
    ids=str,
)  # fmt: skip
@settings(deadline=None)  # the first example imports
@given(data=st.data())
def test_arrays_survive_storage(kind: Tensor, data: st.DataObject) -> None:
    dtype = "uint8" if kind.dtype == "bool" else kind.dtype
    one = st.none() | arrays(dtype, kind.shape).map(lambda a: a.astype(kind.dtype))
    rows = data.draw(st.lists(one, max_size=5))
    stored = kind.to_arrow(rows)
    start = data.draw(st.integers(0, len(rows)))
    for array, given_rows in ((stored, rows), (stored.slice(start), rows[start:])):
        found = kind.to_values(array)
        assert len(found) == len(given_rows)
        for was, now in zip(given_rows, found, strict=True):
            if was is None:
                assert now is None
            else:
                assert now.dtype == kind.dtype
                assert np.array_equal(was, now)


def test_one_size_is_seen_as_one_array() -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    seen = Image(2, 2).to_values(Image(2, 2).to_arrow(values))
    assert isinstance(seen, np.ndarray)
    assert np.array_equal(seen, values)


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (
            Image(2, 2),
            np.zeros((2, 3, 3), np.uint8),
            r"expected shape \(2, 2, 3\), got \(2, 3, 3\)",
        ),
        (Image(), np.zeros((2, 2, 3)), "expected an array of uint8, got float64"),
        (Embedding(3), np.zeros(4, np.float32), r"expected shape \(3,\), got \(4,\)"),
        (Embedding(), np.zeros(4), "expected an array of float32, got float64"),
    ],
    ids=str,
)
def test_wrong_array(kind: Tensor, value: np.ndarray, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
        kind.to_arrow([value])


def test_timestamps_have_a_time_zone() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert list(Timestamp().to_values(Timestamp().to_arrow([moment]))) == [moment]
    with pytest.raises(
        ValueError, match=r"datetime\(2026, 1, 2, 3, 4\) is no datetime with a time"
    ):
        Timestamp().to_arrow([datetime(2026, 1, 2, 3, 4)])
    with pytest.raises(ValueError, match=r"^5 is no datetime with a time zone"):
        Timestamp().to_arrow([5])


def test_numbers_are_an_array_unless_some_are_null() -> None:
    assert isinstance(Int64().to_values(pa.array([1, 2])), np.ndarray)
    assert Int64().to_values(pa.array([1, None])) == [1, None]


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (bool, Bool()), (int, Int64()), (float, Float64()), (str, Text()), (bytes, Binary()),
        (datetime, Timestamp()), (Image, Image()), (Image(2, 2), Image(2, 2)),
        (Float32 | None, Float32(nullable=True)), (str | None, Text(nullable=True)),
        (Embedding(3) | None, Embedding(3, nullable=True)), (None | Text, Text(nullable=True)),
        (pa.int8(), Int8()), (pa.string(), Text()),
        (pa.list_(pa.int8()), Arrow(pa.list_(pa.int8()))),
        (pa.list_(pa.float32(), 4), Embedding(4)), (pa.date32(), Arrow(pa.date32())),
        (pa.fixed_shape_tensor(pa.uint8(), (2, 3)), Tensor("uint8", (2, 3))),
    ],
    ids=str,
)  # fmt: skip
def test_hints(hint: object, kind: Type) -> None:
    assert as_type(hint) == kind


@pytest.mark.parametrize("hint", [list, 3, "Image", int | str, None])
def test_no_hint(hint: object) -> None:
    with pytest.raises(DefinitionError) as error:
        as_type(hint)
    assert str(error.value) == (
        f"{hint!r} is not a column type. Expected a weft type (weft.Image, weft.Float32, …), "
        "bool, int, float, str, bytes, datetime, or a pyarrow type."
    )


def test_unknown_dtype() -> None:
    with pytest.raises(DefinitionError, match=r"^Tensor dtype 'float33' is not a NumPy dtype that"):
        weft.Tensor("float33")


def test_types_are_values() -> None:
    assert Image(2, 2) == Image(2, 2) != Image(2, 3)
    assert hash(Embedding(4)) == hash(Embedding(4))
    assert Image(2, 2).to_json() == {"type": "Image", "height": 2, "width": 2}
    assert Embedding(4, nullable=True).to_json() == {
        "type": "Embedding",
        "dim": 4,
        "nullable": True,
    }
