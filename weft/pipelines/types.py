"""Every semantic type, and how to name one: by a hint, or by an Arrow field.

`plain` has the base and the types of single values, `tensors` those of arrays; this module is
where the rest of weft imports them from.
"""

from __future__ import annotations

import json
import types as python_types
import typing
from datetime import datetime
from typing import Any

import pyarrow as pa

from weft.errors import DefinitionError
from weft.pipelines.plain import (
    METADATA_KEY,
    Arrow,
    Binary,
    Bool,
    Encoded,
    Float32,
    Float64,
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
    Values,
)  # fmt: skip
from weft.pipelines.tensors import Embedding, Frames, Image, Tensor, Waveform

__all__ = [
    "METADATA_KEY", "TYPES", "Arrow", "Binary", "Bool", "Embedding", "Encoded", "Float32",
    "Float64", "Frames", "Image", "Int8", "Int16", "Int32", "Int64", "Tensor", "Text",
    "Timestamp", "Type", "UInt8", "UInt16", "UInt32", "UInt64", "Values", "Waveform", "as_type",
    "from_arrow",
]  # fmt: skip

TYPES: dict[str, type[Type]] = {
    t.__name__: t
    for t in (
        Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64,
        Text, Binary, Timestamp, Arrow, Encoded, Tensor, Image, Frames, Waveform, Embedding,
    )
}  # fmt: skip
"""Every semantic type by name, for reading field metadata."""

_PYTHON: dict[type, type[Type]] = {
    bool: Bool,
    int: Int64,
    float: Float64,
    str: Text,
    bytes: Binary,
    datetime: Timestamp,
}

_ARROW: dict[pa.DataType, type[Type]] = {
    t._storage: t
    for t in (
        Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64,
    )
} | {pa.string(): Text, pa.large_string(): Text, pa.string_view(): Text,
     pa.binary(): Binary, pa.large_binary(): Binary, pa.binary_view(): Binary,
     pa.timestamp("us", tz="UTC"): Timestamp}  # fmt: skip


def as_type(hint: Any) -> Type:
    """The type that a hint names: a weft type or instance, a Python type, an Arrow type.

    >>> print(as_type(Image), as_type(float), as_type(Float32 | None))
    Image Float64 Float32?

    Raises:
        DefinitionError: `hint` is none of these.
    """
    if isinstance(hint, Type):
        return hint
    if isinstance(hint, type) and issubclass(hint, Type):
        return hint()
    if isinstance(hint, type) and hint in _PYTHON:
        return _PYTHON[hint]()
    if isinstance(hint, pa.DataType):
        return from_arrow(pa.field("", hint, nullable=False))
    if isinstance(hint, python_types.UnionType) or typing.get_origin(hint) is typing.Union:
        inner = [a for a in typing.get_args(hint) if a is not python_types.NoneType]
        if len(inner) == 1:
            return as_type(inner[0]).or_null()
    raise DefinitionError(
        f"{hint!r} is not a column type. Expected a weft type (weft.Image, weft.Float32, …), "
        "bool, int, float, str, bytes, datetime, or a pyarrow type."
    )


def from_arrow(field: pa.Field) -> Type:
    """The semantic type of an Arrow field: its weft metadata if it has any, else its storage."""
    metadata = field.metadata or {}
    if METADATA_KEY in metadata:
        params = json.loads(metadata[METADATA_KEY])
        return TYPES[params.pop("type")]._from_params(params)
    dtype = field.type
    if dtype in _ARROW:
        found: Type = _ARROW[dtype]()
    elif isinstance(dtype, pa.FixedShapeTensorType):
        found = Tensor(str(dtype.value_type.to_pandas_dtype().__name__), tuple(dtype.shape))
    elif pa.types.is_fixed_size_list(dtype) and dtype.value_type == pa.float32():
        found = Embedding(dtype.list_size)
    elif pa.types.is_timestamp(dtype) and dtype.tz is not None:
        found = Timestamp()
    else:
        found = Arrow(dtype)
    return found.or_null() if field.nullable else found
