"""Traces of rows: bytes that tell them, and a search for these through all files of some folders.

A trace is a key, a text, or 64 bytes from the middle of a picture or a vector. A page that Lance
has compressed hides what it holds, so finding nothing is evidence and no proof; `forget` looks
for its traces before as well, and says how many it could see then.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

KEY_BYTES = 8
"""Keys and texts that are shorter are everywhere by chance, and are not searched for."""

TEXT_BYTES = 16
"""Texts of rows, other than keys, that are searched for."""

_WINDOW = 64
_DISTINCT = 16
"""Byte values that a window must have: a stretch of black tells nothing."""

_CHUNK = 16 << 20
"""Bytes of a file in memory at a time; the search takes some 15 times that."""


@dataclass(frozen=True)
class Scan:
    """What was searched, files and their `size` in bytes, and where which traces were found."""

    files: int
    size: int
    found: Mapping[bytes, tuple[str, ...]]


def of_keys(keys: Iterable[str]) -> set[bytes]:
    """Keys as they are in tables, and as JSON and HTML without other letters have them."""
    made = {k.encode() for k in keys} | {json.dumps(k)[1:-1].encode() for k in keys}
    return {trace for trace in made if len(trace) >= KEY_BYTES}


def of_rows(rows: pa.Table) -> set[bytes]:
    """Traces of the texts, media and vectors of some rows; keys are another matter."""
    found = set[bytes]()
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if name.startswith("_"):
            continue  # of the envelope: keys, and versions that many rows share
        values = column.drop_null()
        storage = getattr(column.type, "storage_type", column.type)
        if pa.types.is_string(storage) or pa.types.is_large_string(storage):
            texts = (value.encode() for value in values.to_pylist())
            found |= {t[: 4 * _WINDOW] for t in texts if len(t) >= TEXT_BYTES}
        elif pa.types.is_binary(storage) or pa.types.is_large_binary(storage):
            found.update(w for value in values.to_pylist() for w in windows(value))
        elif pa.types.is_fixed_size_list(storage) and pa.types.is_floating(storage.value_type):
            for chunk in values.chunks:
                plain = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
                numbers = plain.flatten().to_numpy(zero_copy_only=False)
                matrix = numbers.reshape(len(plain), storage.list_size)
                found.update(w for row in matrix for w in windows(row.tobytes()))
    return found


def windows(value: bytes) -> list[bytes]:
    """Three stretches of `value`, at a quarter, a half and three quarters, that tell it.

    >>> [len(w) for w in windows(bytes(range(256)) * 4)]
    [64, 64, 64]
    >>> windows(bytes(1024))
    []
    """
    starts = (len(value) * i // 4 for i in (1, 2, 3))
    found = (value[start : start + _WINDOW] for start in starts)
    return [w for w in found if len(w) == _WINDOW and len(set(w)) >= _DISTINCT]


def scan(roots: Iterable[Path], traces: Collection[bytes]) -> Scan:
    """Look for `traces` in every file below `roots`, or that is one of them.

    200 MB/s on one core, however many traces; 40 MB/s in texts that are much like them.
    """
    search = _Search(traces)
    files = size = 0
    found: dict[bytes, list[str]] = {}
    for path in _files(roots):
        files += 1
        size += path.stat().st_size
        with path.open("rb") as file:
            for trace in search.through(file):
                found.setdefault(trace, []).append(str(path))
    return Scan(files, size, {trace: tuple(paths) for trace, paths in found.items()})


def _files(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        below = sorted(root.rglob("*")) if root.is_dir() else [root]
        yield from (p for p in below if p.is_file() and not p.is_symlink())


class _Search:
    """A search for many strings of bytes at once: two bytes, then eight, then all of them."""

    def __init__(self, traces: Collection[bytes]) -> None:
        self._by_head: dict[int, list[bytes]] = {}
        for trace in traces:
            self._by_head.setdefault(int.from_bytes(trace[:8], "little"), []).append(trace)
        self._heads = np.array(sorted(self._by_head), np.uint64)
        self._pairs = np.zeros(1 << 16, bool)
        self._pairs[(self._heads & np.uint64(0xFFFF)).astype(np.int64)] = True
        self._longest = max(map(len, traces), default=0)

    def through(self, file: BinaryIO, chunk_bytes: int = _CHUNK) -> set[bytes]:
        """The traces that are in a file."""
        found, rest = set[bytes](), b""
        while self._longest and (chunk := file.read(chunk_bytes)):
            data = rest + chunk
            found |= self._within(data)
            rest = data[-self._longest + 1 :]
        return found

    def _within(self, data: bytes) -> set[bytes]:
        found = set[bytes]()
        for at, head in zip(*self._candidates(np.frombuffer(data, np.uint8)), strict=True):
            found.update(t for t in self._by_head[head] if data.startswith(t, at))
        return found

    def _candidates(self, data: npt.NDArray[np.uint8]) -> tuple[Sequence[int], Sequence[int]]:
        places = []
        for odd in (0, 1):
            pairs = data[odd : odd + (len(data) - odd) // 2 * 2].view("<u2")
            places.append(np.flatnonzero(self._pairs[pairs]) * 2 + odd)
        at = np.concatenate(places)
        at = at[at <= len(data) - 8]
        heads = data[at[:, None] + np.arange(8)].copy().view("<u8")[:, 0]
        keep = np.isin(heads, self._heads)
        return at[keep].tolist(), heads[keep].tolist()
