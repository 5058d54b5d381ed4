"""Semantic types, and those whose values are single things.

A type knows three things about a column. *Storage*: a plain Arrow type, or the canonical
extension type where Arrow has one, so that Lance, Polars and pyarrow read every column
without weft. *Values*: what operators are given, NumPy arrays where rows are equally shaped
and Python lists where they are not. *Compatibility*: whether a column may be bound to a port.
The meaning travels as field metadata under the key ``weft.type``.

A type that is not ``nullable`` never holds a null: the worker holds operators to it.
"""

from __future__ import annotations

import dataclasses
import types as python_types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Values = Sequence[Any] | npt.NDArray[Any]
"""The values of one column of one batch, as operators see them: a list or an array."""

METADATA_KEY = b"weft.type"

_UNKNOWN_VALUE_BYTES = 64
"""What one variable-length value is taken to weigh: a short text or a path."""


class _TypeMeta(type):
    def __or__(cls, other: Any) -> Any:
        """``weft.Float32 | None`` is the nullable type, in a hint as well."""
        if other is None or other is python_types.NoneType:
            return cls(nullable=True)
        return super().__or__(other)


@dataclass(frozen=True)
class Type(metaclass=_TypeMeta):
    """Base of all semantic types."""

    nullable: bool = dataclasses.field(default=False, kw_only=True)

    as_arrow: ClassVar[bool] = False
    """Whether an operator is given the Arrow array of the column bound to a port of this type."""

    @property
    def storage(self) -> pa.DataType:
        """The Arrow type of the column."""
        raise NotImplementedError(type(self).__name__)

    @property
    def row_bytes(self) -> int:
        """About how many bytes one value takes in memory; what batches are sized by."""
        return _storage_bytes(self.storage)

    def accepts(self, other: Type) -> bool:
        """Whether a column of type `other` may be bound to a port of this type."""
        return type(self) is type(other)

    def to_arrow(self, values: Values) -> pa.Array:
        """Store `values`; ``None`` is null.

        Raises:
            pa.ArrowException, TypeError, ValueError: a value is not of this type.
        """
        return pa.array(values, type=self.storage)

    def to_values(self, array: pa.Array) -> Values:
        """What an operator sees of `array`."""
        values: list[Any] = array.to_pylist()
        return values

    def or_null(self) -> Self:
        """This type, nullable."""
        return self if self.nullable else dataclasses.replace(self, nullable=True)

    def __or__(self, other: object) -> Self:
        if other is None or other is python_types.NoneType:
            return self.or_null()
        return NotImplemented

    def __str__(self) -> str:
        return self._describe() + ("?" if self.nullable else "")

    def _describe(self) -> str:
        given = [
            f"{f.name}={value!r}" if f.kw_only else repr(value)
            for f in dataclasses.fields(self)
            if f.name != "nullable" and (value := getattr(self, f.name)) != f.default
        ]
        return type(self).__name__ + (f"({', '.join(given)})" if given else "")

    def to_json(self) -> dict[str, Any]:
        """The type as canonical JSON, for field metadata and recipes."""
        given = {
            f.name: value
            for f in dataclasses.fields(self)
            if (value := getattr(self, f.name)) != f.default
        }
        return {"type": type(self).__name__} | given

    @classmethod
    def _from_params(cls, params: dict[str, Any]) -> Type:
        make: Callable[..., Type] = cls
        return make(**{k: tuple(v) if isinstance(v, list) else v for k, v in params.items()})


class _Numeric(Type):
    """A plain Arrow type whose values are a NumPy array."""

    def to_values(self, array: pa.Array) -> Values:
        if array.null_count:
            values: list[Any] = array.to_pylist()
            return values
        return typing.cast("npt.NDArray[Any]", array.to_numpy(zero_copy_only=False))


class _Plain(_Numeric):
    _storage: ClassVar[pa.DataType]

    @property
    def storage(self) -> pa.DataType:
        return self._storage


class Bool(_Plain):
    """True or false."""

    _storage = pa.bool_()


class Int8(_Plain):
    """Signed integer of 8 bits."""

    _storage = pa.int8()


class Int16(_Plain):
    """Signed integer of 16 bits."""

    _storage = pa.int16()


class Int32(_Plain):
    """Signed integer of 32 bits."""

    _storage = pa.int32()


class Int64(_Plain):
    """Signed integer of 64 bits."""

    _storage = pa.int64()


class UInt8(_Plain):
    """Unsigned integer of 8 bits."""

    _storage = pa.uint8()


class UInt16(_Plain):
    """Unsigned integer of 16 bits."""

    _storage = pa.uint16()


class UInt32(_Plain):
    """Unsigned integer of 32 bits."""

    _storage = pa.uint32()


class UInt64(_Plain):
    """Unsigned integer of 64 bits."""

    _storage = pa.uint64()


@dataclass(frozen=True)
class _Float(_Numeric):
    nan: bool = dataclasses.field(default=False, kw_only=True)
    """Whether NaN is a legal value. It is not, unless the operator says so."""

    _storage: ClassVar[pa.DataType]

    @property
    def storage(self) -> pa.DataType:
        return self._storage


class Float32(_Float):
    """IEEE 754 number of 32 bits; NaN only with ``nan=True``."""

    _storage = pa.float32()


class Float64(_Float):
    """IEEE 754 number of 64 bits; NaN only with ``nan=True``."""

    _storage = pa.float64()


class Text(Type):
    """Unicode text."""

    @property
    def storage(self) -> pa.DataType:
        return pa.string()


class Binary(Type):
    """Bytes without a known meaning."""

    @property
    def storage(self) -> pa.DataType:
        return pa.large_binary()


class Timestamp(Type):
    """A moment: microseconds since 1970-01-01 UTC. A `datetime` must carry its time zone."""

    @property
    def storage(self) -> pa.DataType:
        return pa.timestamp("us", tz="UTC")

    def to_arrow(self, values: Values) -> pa.Array:
        for value in () if isinstance(values, np.ndarray) else values:
            if value is not None and getattr(value, "tzinfo", None) is None:
                raise ValueError(f"{value!r} is no datetime with a time zone, such as datetime.UTC")
        return super().to_arrow(values)


@dataclass(frozen=True)
class Arrow(Type):
    """Any other Arrow type, as itself: ``pa.list_(pa.int32())`` in a hint becomes this."""

    dtype: pa.DataType = dataclasses.field(default_factory=pa.null)

    @property
    def storage(self) -> pa.DataType:
        return self.dtype

    def accepts(self, other: Type) -> bool:
        return bool(self.dtype == other.storage)

    def _describe(self) -> str:
        return str(self.dtype)

    def to_json(self) -> dict[str, Any]:
        schema = pa.schema([pa.field("", self.dtype)]).serialize().to_pybytes().hex()
        return {"type": "Arrow", "schema": schema} | ({"nullable": True} if self.nullable else {})

    @classmethod
    def _from_params(cls, params: dict[str, Any]) -> Type:
        schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(params["schema"])))
        return cls(schema.field(0).type, nullable=params.get("nullable", False))


@dataclass(frozen=True)
class Encoded(Type):
    """Bytes in a file format, read as late as possible; `kind` is ``"image"``, ``"audio"``, ….

    ``Encoded()`` stands for any kind: a column of it may be bound to every `Encoded` port and
    is judged when its bytes are read.
    """

    kind: str | None = None

    @property
    def storage(self) -> pa.DataType:
        return pa.large_binary()

    @property
    def row_bytes(self) -> int:
        return 500_000  # a camera's JPEG; sources that list sizes say better

    def accepts(self, other: Type) -> bool:
        return isinstance(other, Encoded) and (
            self.kind is None or other.kind is None or self.kind == other.kind
        )


def _storage_bytes(storage: pa.DataType) -> int:
    try:
        return max(1, int(storage.bit_width) // 8)
    except ValueError:
        return _UNKNOWN_VALUE_BYTES
