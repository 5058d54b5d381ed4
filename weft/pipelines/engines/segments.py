"""Large arrays between two processes, without a copy on the reader's side.

A segment is a file in memory that both map. The child makes an array in one
(`weft.pipelines.memory`), or copies it there, and the parent's array is that memory. Nobody writes
to a segment while an array looks at it; when the last one is gone, on both sides, the segment is
used again, because fresh pages cost more than the copy (7 MB: 3.0 ms fresh, 1.0 ms used again).
"""

from __future__ import annotations

import ctypes
import fcntl
import itertools
import math
import os
import socket
import struct
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.pipelines.engines.wire import LARGE, Bytes, Place, flat, write_all

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

_CHILD, _PARENT = "child", "parent"

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
    """The child's end: segments to put arrays into, or to make them in."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._maps: dict[int, Mapped] = {}
        self._at: dict[int, int] = {}  # the number, by the address
        self._users: dict[int, set[str]] = {}  # who looks at it: the child, the parent; or nobody
        self._let_go: deque[int] = deque()  # by whoever let go of the last array in this process
        self._numbers = itertools.count(1)
        self._given: list[int] = []
        self._owner = os.getpid(), threading.get_ident()

    def recycle(self, free: Sequence[int], gone: Sequence[int]) -> None:
        """Segments that the parent does not look at any more: to be used again, or never."""
        for number in free:
            self._users[number].discard(_PARENT)
        for number in gone:
            del self._at[self._maps.pop(number).address], self._users[number]

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any] | None:
        """An array in a segment, which `put` need not copy; ``None``: it is too small or too large
        for one, or this is another thread than the one that answers, or a fork of the process."""
        count = math.prod(shape) * np.dtype(dtype).itemsize
        if count < LARGE or self._owner != (os.getpid(), threading.get_ident()):
            return None
        number = self._find(count) or self._mapped(count)
        if number is None:
            return None
        self._users[number] = {_CHILD}
        held = _Held(self._maps[number], self._let_go, number)
        return np.asarray(held)[:count].view(dtype).reshape(shape)

    def put(self, array: npt.NDArray[Any]) -> Place:
        """Where an array is, which is copied into a segment if it is in none."""
        count = array.nbytes
        number = self._lent(array)
        if number is None:
            number = self._find(count) or self._mapped(count)
            if number is None:
                return [self._make(count, array), 0, count]
            memory = np.asarray(self._maps[number])[:count]
            np.copyto(memory.view(array.dtype).reshape(array.shape), array)
        self._users[number].add(_PARENT)
        self._given.append(number)
        return [number, 0, count]

    def begin(self) -> None:
        """Begin with the next answer."""
        self._given.clear()

    def take_back(self) -> None:
        """The parent will not hear of what was put since `begin`."""
        for number in self._given:
            self._users[number].discard(_PARENT)
        self._given.clear()

    def _lent(self, array: npt.NDArray[Any]) -> int | None:
        """The segment that an array was made in, unless the parent has it already."""
        if not array.flags.c_contiguous:
            return None
        number = self._at.get(array.__array_interface__["data"][0])
        return None if number is None or _PARENT in self._users[number] else number

    def _find(self, count: int) -> int | None:
        """A segment of about so many bytes that nobody looks at."""
        while self._let_go:
            self._users.get(self._let_go.popleft(), set()).discard(_CHILD)
        sizes = {n: self._maps[n].size for n, users in self._users.items() if not users}
        fits = [n for n, size in sizes.items() if count <= size <= 2 * count]
        return min(fits, key=lambda n: sizes[n], default=None)

    def _mapped(self, count: int) -> int | None:
        """A new segment that is kept to be used again; ``None``: there are enough of them, or no
        memory is left to map one."""
        if count + sum(m.size for m in self._maps.values()) > MAPPED_BYTES:
            return None
        try:
            return self._make(count)
        except OSError:
            return None

    def _make(self, count: int, array: npt.NDArray[Any] | None = None) -> int:
        """A new segment: one that stays mapped, or one with an array, which is forgotten."""
        number, kept = next(self._numbers), array is None
        # Sizes of rows differ a little: one that is made a little larger fits the next as well.
        size = count + (count >> 3 if kept else 0)
        size += -size % 4096
        handle = os.memfd_create("weft-segment", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(handle, size)
            if array is None:
                mapped = self._maps[number] = Mapped(handle, size)
                self._at[mapped.address], self._users[number] = number, set()
            else:
                write_all(handle, flat(array), 0)
            said = SEGMENT.pack(b"S", number, size, kept)
            socket.send_fds(self.channel, [said], [handle])
        finally:
            os.close(handle)
        return number


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
