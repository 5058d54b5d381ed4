"""Types whose values are arrays: tensors, images, frames, waveforms, embeddings."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.errors import DefinitionError
from weft.pipelines.plain import Type, Values

_UNKNOWN_IMAGE_BYTES = 1920 * 1280 * 3
"""What one image of unknown size is taken to weigh when batches are sized: a photograph."""

_UNKNOWN_CLIP_FRAMES = 16
"""Frames that a clip of unknown length is taken to have when batches are sized."""

_UNKNOWN_WAVEFORM_SECONDS = 30
"""Seconds that a waveform is taken to last when batches are sized."""


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
    def _size(self) -> int:
        """Elements of one row of a fixed shape."""
        return math.prod(typing.cast("tuple[int, ...]", self.shape))

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
            return self._size * itemsize
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
        size = self._size
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
            size = self._size
            flat = storage.values.slice(storage.offset * size, len(storage) * size)
            block: npt.NDArray[Any] = flat.to_numpy(zero_copy_only=False)
            block = block.reshape(len(storage), *typing.cast("tuple[int, ...]", self.shape))
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
            for start, stop, shape, ok in zip(offsets[:-1], offsets[1:], shapes, valid, strict=True)
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
        _set(self, height=height, width=width, channels=channels)
        _set(self, dtype=dtype, nullable=nullable, shape=(height, width, channels))
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
class Frames(Tensor):
    """Pictures of one clip: frames x height x width x channels (RGB order), 8 bits a channel.

    ``Frames()`` is any number of any size; ``Frames(8, 224, 224)`` is eight of one size.
    """

    dtype: str = dataclasses.field(default="uint8", init=False)
    shape: tuple[int | None, ...] = dataclasses.field(default=(), init=False, repr=False)
    count: int | None = None
    height: int | None = None
    width: int | None = None
    channels: int | None = 3

    def __init__(
        self,
        count: int | None = None,
        height: int | None = None,
        width: int | None = None,
        channels: int | None = 3,
        *,
        nullable: bool = False,
    ) -> None:
        _set(self, count=count, height=height, width=width, channels=channels)
        _set(self, dtype="uint8", nullable=nullable, shape=(count, height, width, channels))

    @property
    def row_bytes(self) -> int:
        pixels = _UNKNOWN_IMAGE_BYTES
        if self.height is not None and self.width is not None:
            pixels = self.height * self.width * (self.channels or 3)
        return pixels * (self.count or _UNKNOWN_CLIP_FRAMES)

    def _describe(self) -> str:
        given = [str(v) for v in (self.count, self.height, self.width)]
        inside = "" if given == ["None"] * 3 else "x".join(given).replace("None", "?")
        extra = "" if self.channels == 3 else f"channels={self.channels}"
        inside = ", ".join(filter(None, [inside, extra]))
        return f"Frames({inside})" if inside else "Frames"

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_json().items() if k not in ("shape", "dtype")}


@dataclass(frozen=True)
class Waveform(Tensor):
    """Sound: channels x samples of float32, full scale is -1 to 1.

    `sample_rate` is in Hz; ``None`` means that it differs between rows.
    """

    dtype: str = dataclasses.field(default="float32", init=False)
    shape: tuple[int | None, ...] = dataclasses.field(default=(), init=False, repr=False)
    sample_rate: int | None = None
    channels: int | None = None

    def __init__(
        self,
        sample_rate: int | None = None,
        channels: int | None = None,
        *,
        nullable: bool = False,
    ) -> None:
        _set(self, sample_rate=sample_rate, channels=channels)
        _set(self, dtype="float32", nullable=nullable, shape=(channels, None))

    @property
    def row_bytes(self) -> int:
        return _UNKNOWN_WAVEFORM_SECONDS * (self.sample_rate or 48_000) * (self.channels or 1) * 4

    def accepts(self, other: Type) -> bool:
        return super().accepts(other) and (
            self.sample_rate is None
            or (isinstance(other, Waveform) and self.sample_rate == other.sample_rate)
        )

    def _describe(self) -> str:
        given = [] if self.sample_rate is None else [f"{self.sample_rate} Hz"]
        given += [] if self.channels is None else [f"channels={self.channels}"]
        return f"Waveform({', '.join(given)})" if given else "Waveform"

    def to_json(self) -> dict[str, Any]:
        return {k: v for k, v in super().to_json().items() if k not in ("shape", "dtype")}


@dataclass(frozen=True)
class Embedding(Tensor):
    """A vector of `dim` float32 values; stored as a fixed-size list, which Lance can index."""

    dtype: str = dataclasses.field(default="float32", init=False)
    shape: tuple[int | None, ...] = dataclasses.field(default=(), init=False, repr=False)
    dim: int | None = None

    def __init__(self, dim: int | None = None, *, nullable: bool = False) -> None:
        _set(self, dim=dim, dtype="float32", nullable=nullable, shape=(dim,))

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

    def to_values(self, array: pa.Array) -> Values:
        if self.dim is not None:
            return super().to_values(array)
        flat = array.values.to_numpy(zero_copy_only=False)
        offsets = array.offsets.to_numpy()
        valid = array.is_valid().to_pylist()
        return [
            flat[start:stop] if ok else None
            for start, stop, ok in zip(offsets[:-1], offsets[1:], valid, strict=True)
        ]

    def _fixed_to_arrow(self, values: Values) -> pa.Array:
        tensor = Tensor("float32", self.shape)
        return tensor._fixed_to_arrow(values).storage


def _set(value: Any, **fields: Any) -> None:
    """Set fields of a frozen value that is being made."""
    for name, given in fields.items():
        object.__setattr__(value, name, given)


def _null_mask(values: Values) -> npt.NDArray[np.bool_] | None:
    if isinstance(values, np.ndarray):
        return None
    mask = np.fromiter((v is None for v in values), np.bool_, len(values))
    return mask if mask.any() else None


def _shape_fits(wanted: tuple[int | None, ...], given: tuple[int | None, ...]) -> bool:
    return len(wanted) == len(given) and all(
        w is None or w == g for w, g in zip(wanted, given, strict=True)
    )
