"""The partition of a row by its key: the same in every process, on every machine.

Rows of one key, of either side of a join, must come together whatever unit, worker and version
of a library had them. So a key is hashed by its meaning: an integer by its value in any width, a
moment by its time in any unit, text by its UTF-8 bytes. Text goes through CRC-32, once for each
distinct value, and everything through the 64-bit finalizer of MurmurHash3, which spreads values
that are near to each other; neither is a defence against keys that are chosen to collide. A
million integers take 35 ms, a million texts 120 ms.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.pipelines.batch import Batch

Hashes = npt.NDArray[np.uint64]

_NULL = 0x6E756C6C
"""What null is hashed as. An integer that is equal only shares its partition."""

_MICROSECONDS = {"s": 1_000_000, "ms": 1000, "us": 1}

_DAY_MILLISECONDS = 86_400_000


def partition_of(
    batch: Batch, by: Sequence[str], partitions: int, *, salt: int = 0
) -> npt.NDArray[np.int64]:
    """The partition of each row, 0 to before `partitions`, by the columns `by`.

    Args:
        batch: the rows.
        by: columns of text, integers, booleans, dates or timestamps, or fields of the envelope;
            with none, all rows are in partition 0.
        partitions: how many there are.
        salt: another salt is another hash, which cuts what is one partition for this one.
    """
    if not by:
        return np.zeros(batch.rows, np.int64)
    hashes = fmix64(np.full(batch.rows, salt, np.uint64))
    for name in by:
        hashes = fmix64(hashes + _numbers(batch.column(name).array))
    return (hashes % np.uint64(partitions)).astype(np.int64)


def fmix64(numbers: Hashes) -> Hashes:
    """The finalizer of MurmurHash3_x64_128: a bijection that flips half of the bits for each.

    Source: Austin Appleby, SMHasher, ``MurmurHash3.cpp``.

    >>> hex(fmix64(np.array([1], np.uint64))[0])
    '0xb456bcfc34c2cb2c'
    """
    mixed = numbers ^ (numbers >> np.uint64(33))
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        mixed *= np.uint64(factor)
        mixed ^= mixed >> np.uint64(33)
    return mixed


def _numbers(array: pa.Array) -> Hashes:
    """A number for each value, equal for equal values; integers are their own, modulo 2**64."""
    if pa.types.is_integer(array.type):
        numbers = _plain(array).astype(np.uint64)
    elif pa.types.is_boolean(array.type):
        numbers = _plain(array.cast(pa.uint8())).astype(np.uint64)
    elif pa.types.is_date(array.type):
        numbers = _days(array).astype(np.uint64)
    elif pa.types.is_timestamp(array.type):
        numbers = _moments(array)
    else:
        numbers = _texts(array)
    if array.null_count:
        numbers[array.is_null().to_numpy(zero_copy_only=False)] = _NULL
    return numbers


def _plain(array: pa.Array) -> npt.NDArray[np.integer]:
    """Integers as NumPy has them; zero where they are null."""
    filled = array.fill_null(0) if array.null_count else array
    plain: npt.NDArray[np.integer] = filled.to_numpy(zero_copy_only=False)
    return plain


def _days(array: pa.Array) -> npt.NDArray[np.integer]:
    if pa.types.is_date32(array.type):
        return _plain(array.view(pa.int32()))
    return _plain(array.view(pa.int64())) // _DAY_MILLISECONDS


def _moments(array: pa.Array) -> Hashes:
    """Microseconds since 1970, modulo 2**64, and what nanoseconds are left over."""
    ticks = _plain(array.view(pa.int64())).astype(np.int64)
    if array.type.unit != "ns":
        return ticks.astype(np.uint64) * np.uint64(_MICROSECONDS[array.type.unit])
    whole, rest = np.divmod(ticks, 1000)
    rest = rest.astype(np.uint64)
    return whole.astype(np.uint64) + fmix64(rest)  # of zero it is zero


def _texts(array: pa.Array) -> Hashes:
    encoded = array.cast(pa.large_string()).dictionary_encode()
    values = encoded.dictionary.cast(pa.large_binary()).to_pylist()
    checks = np.fromiter(map(zlib.crc32, values), np.uint64, len(values))
    if not len(checks):
        return np.zeros(len(array), np.uint64)
    hashes: Hashes = checks[_plain(encoded.indices)]
    return hashes
