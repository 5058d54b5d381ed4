"""Semantic types: what a column means, how Arrow stores it, what an operator sees of it.

A type knows three things about a column. *Storage*: a plain Arrow type, or the canonical
extension type where Arrow has one, so that Lance, Polars and pyarrow read every column
without weft. *Values*: what operators are given, NumPy arrays where rows are equally shaped
and Python lists where they are not. *Compatibility*: whether a column may be bound to a port.
The meaning travels as field metadata under the key ``weft.type``.

A type that is not ``nullable`` never holds a null: the worker holds operators to it.
"""

from __future__ import annotations

import dataclasses
import json
import types as python_types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.errors import DefinitionError

Values = Sequence[Any] | npt.NDArray[Any]
"""The values of one column of one batch, as operators see them: a list or an array."""

METADATA_KEY = b"weft.type"

_UNKNOWN_IMAGE_BYTES = 1920 * 1280 * 3
"""What one image of unknown size is taken to weigh when batches are sized: a photograph."""

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
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in params.items()})


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


class Timestamp(_Numeric):
    """A moment: microseconds since 1970-01-01 UTC. A `datetime` must carry its time zone."""

    @property
    def storage(self) -> pa.DataType:
        return pa.timestamp("us", tz="UTC")

    def to_values(self, array: pa.Array) -> Values:
        """Aware `datetime` values in UTC."""
        values: list[Any] = array.to_pylist()
        return values


@dataclass(frozen=True)
class Arrow(Type):
    """Any other Arrow type, as itself: ``pa.list_(pa.int32())`` in a hint becomes this."""

    dtype: pa.DataType = dataclasses.field(default_factory=pa.null)

    @property
    def storage(self) -> pa.DataType:
        return self.dtype

    def accepts(self, other: Type) -> bool:
        return self.dtype == other.storage

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


@dataclass(frozen=True)
class Tensor(Type):
    """An array of one dtype; ``None`` in `shape` is a dimension that differs between rows.

    With a fixed shape it is stored as ``arrow.fixed_shape_tensor`` and seen as one array of
    shape ``(rows, *shape)``; otherwise as the storage of ``arrow.variable_shape_tensor`` (a
    struct of ``data`` and ``shape``) and seen as a list of arrays.
    """

    dtype: str = "float32"
    shape: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        try:
            pa.from_numpy_dtype(np.dtype(self.dtype))
        except (TypeError, pa.ArrowNotImplementedError) as error:
            raise DefinitionError(
                f"Tensor dtype {self.dtype!r} is not a NumPy dtype that Arrow can store; "
                "expected one like 'uint8' or 'float32'."
            ) from error

    @property
    def fixed(self) -> bool:
        """Whether every row has the same shape."""
        return None not in self.shape

    @property
    def storage(self) -> pa.DataType:
        element = pa.from_numpy_dtype(np.dtype(self.dtype))
        if self.fixed:
            return pa.fixed_shape_tensor(element, typing.cast("tuple[int, ...]", self.shape))
        return pa.struct(
            [("data", pa.list_(element)), ("shape", pa.list_(pa.int32(), len(self.shape)))]
        )

    @property
    def row_bytes(self) -> int:
        itemsize = np.dtype(self.dtype).itemsize
        if self.fixed:
            return int(np.prod(self.shape, dtype=np.int64)) * itemsize
        return _UNKNOWN_IMAGE_BYTES * itemsize

    def accepts(self, other: Type) -> bool:
        return (
            isinstance(other, Tensor)
            and (type(self) is Tensor or type(self) is type(other))
            and self.dtype == other.dtype
            and (not self.shape or _shape_fits(self.shape, other.shape))
        )

    def to_arrow(self, values: Values) -> pa.Array:
        if self.fixed:
            return self._fixed_to_arrow(values)
        return self._variable_to_arrow(values)

    def _fixed_to_arrow(self, values: Values) -> pa.Array:
        storage = self.storage
        nulls = _null_mask(values)
        if isinstance(values, np.ndarray) and values.dtype == self.dtype:
            block = values
        else:
            zero = np.zeros(typing.cast("tuple[int, ...]", self.shape), self.dtype)
            rows = [zero if v is None else self._checked(v) for v in values]
            block = np.stack(rows) if rows else np.zeros((0, *self.shape), self.dtype)  # type: ignore[arg-type]
        if block.shape[1:] != self.shape:
            raise ValueError(f"expected shape {self.shape} per row, got {block.shape[1:]}")
        flat = pa.array(np.ascontiguousarray(block).reshape(-1))
        size = int(np.prod(self.shape, dtype=np.int64))
        mask = None if nulls is None else pa.array(nulls)
        items = pa.FixedSizeListArray.from_arrays(flat, size, mask=mask)
        return pa.ExtensionArray.from_storage(storage, items)

    def _variable_to_arrow(self, values: Values) -> pa.Array:
        nulls = _null_mask(values)
        rows = [None if v is None else self._checked(v) for v in values]
        flat = [r.reshape(-1) for r in rows if r is not None]
        data = np.concatenate(flat) if flat else np.zeros(0, self.dtype)
        offsets = np.cumsum([0] + [0 if r is None else r.size for r in rows], dtype=np.int64)
        if offsets[-1] > np.iinfo(np.int32).max:
            raise ValueError(f"{offsets[-1]} values in one batch; Arrow lists hold 2147483647")
        shapes = np.array(
            [(0,) * len(self.shape) if r is None else r.shape for r in rows], np.int32
        ).reshape(-1)
        return pa.StructArray.from_arrays(
            [
                pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(data)),
                pa.FixedSizeListArray.from_arrays(pa.array(shapes), len(self.shape)),
            ],
            fields=list(self.storage),
            mask=None if nulls is None else pa.array(nulls),
        )

    def _checked(self, value: Any) -> npt.NDArray[Any]:
        array = np.asarray(value)
        if array.dtype != self.dtype:
            raise TypeError(f"expected an array of {self.dtype}, got {array.dtype}")
        if not _shape_fits(self.shape, array.shape):
            raise ValueError(f"expected shape {self.shape}, got {array.shape}")
        return array

    def to_values(self, array: pa.Array) -> Values:
        if self.fixed:
            storage = array.storage if isinstance(array, pa.ExtensionArray) else array
            size = int(np.prod(self.shape, dtype=np.int64))
            flat = storage.values.slice(storage.offset * size, len(storage) * size)
            block = flat.to_numpy(zero_copy_only=False).reshape(len(storage), *self.shape)
            if not storage.null_count:
                return block
            valid = storage.is_valid().to_pylist()
            return [row if ok else None for row, ok in zip(block, valid, strict=True)]
        data = array.field("data")
        flat = data.values.to_numpy(zero_copy_only=False)
        offsets = data.offsets.to_numpy()
        dims = array.field("shape")
        width = len(self.shape)
        shapes = dims.values.slice(dims.offset * width, len(dims) * width).to_numpy()
        shapes = shapes.reshape(len(array), width)
        valid = array.is_valid().to_pylist() if array.null_count else [True] * len(array)
        return [
            flat[start:stop].reshape(shape) if ok else None
            for start, stop, shape, ok in zip(
                offsets[:-1], offsets[1:], shapes, valid, strict=True
            )
        ]


@dataclass(frozen=True)
class Image(Tensor):
    """Pixels, height x width x channels (RGB order), 8 bits a channel unless said otherwise.

    ``Image()`` is any size; ``Image(224, 224)`` is one size and is seen as a single array of
    shape ``(rows, 224, 224, 3)``.
    """

    dtype: str = dataclasses.field(default="uint8", kw_only=True)
    shape: tuple[int | None, ...] = dataclasses.field(default=(), init=False, repr=False)
    height: int | None = None
    width: int | None = None
    channels: int | None = 3

    def __init__(
        self,
        height: int | None = None,
        width: int | None = None,
        channels: int | None = 3,
        *,
        dtype: str = "uint8",
        nullable: bool = False,
    ) -> None:
        for name, value in (
            ("height", height),
            ("width", width),
            ("channels", channels),
            ("dtype", dtype),
            ("nullable", nullable),
            ("shape", (height, width, channels)),
        ):
            object.__setattr__(self, name, value)
        self.__post_init__()

    def _describe(self) -> str:
        size = "" if self.height is None and self.width is None else f"{self.height}x{self.width}"
        extra = [] if self.channels == 3 else [f"channels={self.channels}"]
        extra += [] if self.dtype == "uint8" else [f"dtype={self.dtype!r}"]
        inside = ", ".join(filter(None, [size, *extra]))
        return f"Image({inside})" if inside else "Image"

    def to_json(self) -> dict[str, Any]:
        given = super().to_json()
        given.pop("shape", None)
        return given


@dataclass(frozen=True)
class Embedding(Tensor):
    """A vector of `dim` float32 values; stored as a fixed-size list, which Lance can index."""

    dtype: str = dataclasses.field(default="float32", init=False)
    shape: tuple[int | None, ...] = dataclasses.field(default=(), init=False, repr=False)
    dim: int | None = None

    def __init__(self, dim: int | None = None, *, nullable: bool = False) -> None:
        for name, value in (
            ("dim", dim),
            ("dtype", "float32"),
            ("nullable", nullable),
            ("shape", (dim,)),
        ):
            object.__setattr__(self, name, value)

    @property
    def storage(self) -> pa.DataType:
        return pa.list_(pa.float32(), -1 if self.dim is None else self.dim)

    @property
    def row_bytes(self) -> int:
        return 4 * (self.dim or 1024)

    def _describe(self) -> str:
        return "Embedding" if self.dim is None else f"Embedding({self.dim})"

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_json().items() if k not in ("shape", "dtype")}

    def to_arrow(self, values: Values) -> pa.Array:
        if self.dim is None:
            return pa.array([None if v is None else self._checked(v) for v in values], self.storage)
        stored = super().to_arrow(values)
        return stored.storage if isinstance(stored, pa.ExtensionArray) else stored

    def _fixed_to_arrow(self, values: Values) -> pa.Array:
        tensor = Tensor("float32", self.shape)
        return tensor._fixed_to_arrow(values).storage


TYPES: dict[str, type[Type]] = {
    t.__name__: t
    for t in (
        Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64, Float32, Float64,
        Text, Binary, Timestamp, Arrow, Encoded, Tensor, Image, Embedding,
    )
}  # fmt: skip
"""Every semantic type by name, for reading field metadata."""

_PYTHON = {bool: Bool, int: Int64, float: Float64, str: Text, bytes: Binary, datetime: Timestamp}

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

    >>> as_type(Image), as_type(float), as_type(Float32 | None)
    (Image(), Float64(nullable=False, nan=False), Float32(nullable=True, nan=False))

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


def _null_mask(values: Values) -> npt.NDArray[np.bool_] | None:
    if isinstance(values, np.ndarray):
        return None
    mask = np.fromiter((v is None for v in values), np.bool_, len(values))
    return mask if mask.any() else None


def _shape_fits(wanted: tuple[int | None, ...], given: tuple[int | None, ...]) -> bool:
    return len(wanted) == len(given) and all(
        w is None or w == g for w, g in zip(wanted, given, strict=True)
    )


def _storage_bytes(storage: pa.DataType) -> int:
    try:
        return max(1, storage.bit_width // 8)
    except ValueError:
        return _UNKNOWN_VALUE_BYTES
