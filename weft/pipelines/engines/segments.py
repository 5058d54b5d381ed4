"""Large arrays between two processes, without a copy on the reader's side.

A segment is a file in memory that both map. The child writes an array into one, which is the only
copy, and the parent's array is that memory. Nobody writes to a segment while an array looks at
it; when the last one is gone the segment is used again, because fresh pages cost more than the
copy (7 MB: 3.0 ms fresh, 1.0 ms used again).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.pipelines.engines.wire import Bytes, Place, flat, write_all

SPARE_BYTES = 128 << 20
"""Segments that are kept to be used again, by one child. A batch of rows has 32 MiB."""

MAPPED_BYTES = 512 << 20
"""Segments that a child keeps mapped, within its limit of memory; others it writes and forgets."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_MMAP, _MUNMAP = _LIBC.mmap, _LIBC.munmap
_MMAP.restype = ctypes.c_void_p
_MMAP.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
)  # fmt: skip
_MUNMAP.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_READ_AND_WRITE, _SHARED = 3, 1

SEGMENT = struct.Struct("<cqq?")
"""The message that a segment is made, which its file goes with: b"S", number, bytes, used again."""


class Mapped:
    """The memory of a file, shared with whoever maps it too. `mmap.mmap` would keep it open, and
    a process may have more arrays than open files."""

    def __init__(self, handle: int, size: int) -> None:
        self.size = size
        address = _MMAP(None, size, _READ_AND_WRITE, _SHARED, handle, 0)
        if address in (None, ctypes.c_void_p(-1).value):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self.address = address
        weakref.finalize(self, _MUNMAP, address, size).atexit = False

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "shape": (self.size,),
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
        }


class Writer:
    """The child's end: segments to put arrays into."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._maps: dict[int, Mapped] = {}
        self._free: set[int] = set()
        self._count = 0

    def recycle(self, free: Sequence[int], gone: Sequence[int]) -> None:
        """Segments that nobody looks at any more: to be used again, or never."""
        self._free.update(free)
        for number in gone:
            del self._maps[number]

    def put(self, array: npt.NDArray[Any]) -> Place:
        """Copy an array into a segment."""
        count = array.nbytes
        fits = [n for n in self._free if count <= self._maps[n].size <= 2 * count]
        if fits:
            number = min(fits, key=lambda n: self._maps[n].size)
            self._free.discard(number)
        else:
            number = self._make(array)
        if number in self._maps:
            memory = np.asarray(self._maps[number])[:count]
            np.copyto(memory.view(array.dtype).reshape(array.shape), array)
        return [number, 0, count]

    def _make(self, array: npt.NDArray[Any]) -> int:
        self._count += 1
        kept = array.nbytes + sum(m.size for m in self._maps.values()) <= MAPPED_BYTES
        # Sizes of rows differ a little: one that is made a little larger fits the next as well.
        size = array.nbytes + (array.nbytes >> 3 if kept else 0)
        size += -size % 4096
        handle = os.memfd_create("weft-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(handle, size)
            if kept:
                self._maps[self._count] = Mapped(handle, size)
            else:
                write_all(handle, flat(array), 0)
            said = SEGMENT.pack(b"S", self._count, size, kept)
            socket.send_fds(self.channel, [said], [handle])
        finally:
            os.close(handle)
        return self._count


class Reader:
    """The parent's end: arrays that are the child's segments. Made anew for each child."""

    def __init__(self) -> None:
        self._maps: dict[int, Mapped] = {}
        self._kept: set[int] = set()
        self._spare: dict[int, int] = {}  # bytes by number
        self._let_go: deque[int] = deque()  # by whichever thread let go of the last array

    def take(self, number: int, size: int, kept: bool, handle: int) -> None:
        """A segment that the child has made. It cannot be cut: to read what is not there any
        more would end this process."""
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        if not 0 < size <= os.fstat(handle).st_size:
            raise ValueError(f"segment {number} has fewer than {size} bytes")
        self._maps[number] = Mapped(handle, size)
        if kept:
            self._kept.add(number)

    def get(self, place: Place) -> Bytes:
        """The array in a segment."""
        number, at, count = place
        mapped = self._maps[number] if number in self._kept else self._maps.pop(number)
        self._spare.pop(number, None)
        if not 0 <= at <= at + count <= mapped.size:
            raise ValueError(f"{count} bytes at {at} are not in segment {number}")
        held = _Held(mapped, self._let_go if number in self._kept else None, number)
        return np.asarray(held)[at : at + count]

    def released(self) -> tuple[list[int], list[int]]:
        """Segments that no array looks at any more: to be used again, and to be given up."""
        free, gone = [], []
        spare = sum(self._spare.values())
        while self._let_go:
            number = self._let_go.popleft()
            size = self._maps[number].size
            if spare + size <= SPARE_BYTES:
                free.append(number)
                self._spare[number] = size
                spare += size
            else:
                gone.append(number)
                self._kept.discard(number)
                del self._maps[number]
        return free, gone


class _Held:
    """What all arrays in a segment look at: when it goes, none of them is left."""

    def __init__(self, mapped: Mapped, let_go: deque[int] | None, number: int) -> None:
        self._mapped = mapped
        self._let_go = let_go
        self._number = number

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._mapped.__array_interface__

    def __del__(self) -> None:
        if self._let_go is not None:
            self._let_go.append(self._number)
