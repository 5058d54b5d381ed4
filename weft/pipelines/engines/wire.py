"""What two processes say to each other: values as JSON, and their bytes beside it.

No pickle, on purpose: whoever takes over a decoder could have it run anything in the process
that reads it, and that one has the credentials. What comes back is checked as it is read, and
can be wrong but not harmful.

A *record* is a value on its way: its small buffers, then JSON that says where they are, one
after the other in a file in memory that is written anew for each request. Large arrays go by
segments, see `weft.pipelines.engines.segments`.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.pipelines.operator import Later

LARGE = 1 << 18
"""Bytes from which on an array goes by a segment. Below, a copy costs less than mapping one."""

_KEPT_BYTES = 128 << 20
"""What a file of records keeps when it is written anew. A batch of rows has 32 MiB."""

Bytes = npt.NDArray[np.uint8]

Place = list[int]
"""Where a buffer is: segment (-1: the record itself), offset, bytes."""

Put = Callable[[npt.NDArray[Any]], Place]
Get = Callable[[Place], Bytes]
LaterPut = Callable[[Later], int]
LaterGet = Callable[[int], Any]

_PLAIN = {type(None), bool, int, float, str}
_TIMES: dict[str, Any] = {t.__name__: t for t in (datetime.datetime, datetime.date, datetime.time)}


def encode(value: Any, put: Put, later: LaterPut | None = None) -> Any:
    """`value` as JSON; its bytes are `put` somewhere.

    Raises:
        TypeError: it is something that no column holds.
    """
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return [encode(v, put, later) for v in value]
    if isinstance(value, dict):
        return {"dict": [[encode(k, put), encode(v, put, later)] for k, v in value.items()]}
    if isinstance(value, bytes | bytearray | memoryview):
        return {"bytes": put(np.frombuffer(value, np.uint8))}
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return {"array": [value.dtype.str, value.shape, put(value)]}
    if isinstance(value, np.ndarray):
        return [encode(v, put, later) for v in value]
    if isinstance(value, Later) and later is not None:
        return {"later": later(value)}
    return _encode_rare(value, put)


def _encode_rare(value: Any, put: Put) -> Any:
    if isinstance(value, np.generic):
        return {"scalar": [value.dtype.str, put(np.array([value]))]}
    if type(value) in _TIMES.values():
        return {"time": [type(value).__name__, value.isoformat()]}
    if isinstance(value, datetime.timedelta):
        return {"delta": [value.days, value.seconds, value.microseconds]}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    for plain in (str, int, float):
        if isinstance(value, plain):  # an enumeration of texts, say
            return plain(value)
    if hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__"):
        stream = pa.BufferOutputStream()
        table = pa.table({"": pa.chunked_array(value)})
        with pa.ipc.new_stream(stream, table.schema) as writer:
            writer.write_table(table)
        return {"arrow": put(np.frombuffer(stream.getvalue(), np.uint8))}
    if hasattr(value, "__array__"):
        return encode(np.asarray(value), put)
    raise TypeError(
        f"a {type(value).__name__} cannot leave the process of its operator; expected numbers, "
        "text, bytes, times, arrays, and lists or dicts of them"
    )


def decode(said: Any, get: _Buffers, later: LaterGet | None = None) -> Any:
    """The value that `encode` was given.

    Raises:
        ValueError, TypeError, LookupError: it is none that `encode` made.
    """
    if type(said) in _PLAIN:
        return said
    if isinstance(said, list):
        return [decode(v, get, later) for v in said]
    [(kind, what)] = said.items()
    match kind:
        case "dict":
            return {decode(k, get): decode(v, get, later) for k, v in what}
        case "bytes":
            return get.copy(what)
        case "array":
            dtype, shape, place = what
            return get.array(place).view(dtype).reshape(shape)
        case "scalar":
            return get.array(what[1]).view(what[0])[0]
        case "time":
            return _TIMES[what[0]].fromisoformat(what[1])
        case "delta":
            return datetime.timedelta(*what)
        case "decimal":
            return decimal.Decimal(what)
        case "arrow":
            [column] = pa.ipc.open_stream(pa.py_buffer(get.copy(what))).read_all().columns
            column.validate(full=True)
            return column.combine_chunks()
        case "later" if later is not None:
            return later(what)
    raise ValueError(f"no value is called {kind!r}")


class Records:
    """A file in memory that one process writes records to, from its start for each request."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self._end = 0

    def start(self) -> None:
        """Begin anew. What was large is given back to the system."""
        if self._end > _KEPT_BYTES:
            os.ftruncate(self.handle, 0)
        self._end = 0

    def write(self, value: Any, put: Put | None = None, later: LaterPut | None = None) -> Place:
        """Write a value; where it starts, where its JSON does, and where that ends.

        Arrays of `LARGE` bytes or more are given to `put`, if there is one.
        """
        start = self._end

        def place(array: npt.NDArray[Any]) -> Place:
            if put is not None and array.nbytes >= LARGE:
                return put(array)
            data = flat(array)
            at = self._end - start
            self._append(data)
            return [-1, at, len(data)]

        try:
            said = json.dumps(encode(value, place, later)).encode()
            middle = self._end
            self._append(np.frombuffer(said, np.uint8))
        except BaseException:
            self._end = start
            raise
        return [start, middle, self._end]

    def read(
        self, where: Sequence[int], get: Get | None = None, later: LaterGet | None = None
    ) -> Any:
        """The value of the record at `where`; `get` finds what is in a segment."""
        start, middle, end = where
        said = json.loads(read_bytes(self.handle, end - middle, middle))
        return decode(said, _Buffers(self.handle, start, middle, get), later)

    def _append(self, data: Bytes) -> None:
        self._end += write_all(self.handle, data, self._end)


class _Buffers:
    """The buffers of a record, in the file or in segments."""

    def __init__(self, handle: int, start: int, end: int, get: Get | None) -> None:
        self._handle = handle
        self._start = start
        self._end = end
        self._get = get

    def array(self, place: Place) -> Bytes:
        """A copy of one that may be written to, or the segment itself."""
        segment, at, count = place
        if segment >= 0 and self._get is not None:
            return self._get(place)
        return np.frombuffer(bytearray(self._read(at, count)), np.uint8)

    def copy(self, place: Place) -> bytes:
        """The bytes of one."""
        segment, at, count = place
        if segment >= 0 and self._get is not None:
            return self._get(place).tobytes()
        return self._read(at, count)

    def _read(self, at: int, count: int) -> bytes:
        if not 0 <= at <= at + count <= self._end - self._start:
            raise ValueError(f"a buffer of {count} bytes at {at} is outside its record")
        return read_bytes(self._handle, count, self._start + at)


def flat(array: npt.NDArray[Any]) -> Bytes:
    """The bytes of an array, in place if they lie side by side."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def read_bytes(handle: int, count: int, at: int) -> bytes:
    """`count` bytes of a file; one call to the system gives at most 2 GiB.

    Raises:
        ValueError: there are fewer.
    """
    if not 0 <= at <= at + count <= os.fstat(handle).st_size:
        raise ValueError(f"{count} bytes at {at} are not in the file")
    parts = [os.pread(handle, count, at)]
    while parts[-1] and (have := sum(map(len, parts))) < count:
        parts.append(os.pread(handle, count - have, at + have))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def write_all(handle: int, data: Bytes, at: int) -> int:
    """Write all of `data` to a file; how many bytes that was."""
    view, done = memoryview(data.data), 0
    while done < len(view):
        done += os.pwrite(handle, view[done:], at + done)
    return done
