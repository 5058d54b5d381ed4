"""Finding the near ones among things that share a bucket.

Every pair of a bucket is judged, so what comes out is exact. Equal signatures are put together
first. In a large bucket, whoever is near to something is not compared with anything but what is
not reached yet: a bucket of a million variants of one page takes a few rounds over it, not a
million. Only a large bucket of things that are not near takes time as the square of its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Signatures = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]
Pairs = Iterator[tuple[Indices, Indices]]

Near = Callable[[Signatures, Signatures], npt.NDArray[np.bool_]]
"""For each of some things and each of others whether they are near, as a matrix; or such
matrices for many pairs of sets at once, as `numpy.matmul` does it."""

_SMALL = 512
"""Members of a bucket up to which all pairs are judged at once, with those of other buckets:
below, calls of NumPy cost more than comparisons that could be spared."""

_VALUES = 1 << 22
"""Values of signatures that are compared at once: 4 MiB of answers, or 32 of numbers."""


def near_pairs(buckets: Indices, signatures: Signatures, near: Near) -> tuple[Indices, Indices]:
    """Pairs of rows that connect all rows which are near and share a bucket.

    Two rows are connected by the pairs exactly if a chain of such rows connects them. Rows of
    equal signatures are near, and share their buckets.
    """
    order = np.argsort(buckets, kind="stable")
    shared = order[_repeated(buckets[order])]
    if not len(shared):
        return shared, shared
    first = _first_equal(signatures[shared])
    pairs = [(shared, shared[first])]
    buckets, first = np.unique(np.stack([buckets[shared], first]), axis=1)
    rows, sizes = shared[first], np.unique(buckets, return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    for size in np.unique(sizes[sizes > 1]).tolist():
        members = rows[starts[sizes == size][:, None] + np.arange(size)]
        if size <= _SMALL:
            pairs += _all_at_once(members, signatures, near)
        else:
            for some in members:
                pairs += _grown(some, signatures, near)
    one, other = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return one[one != other], other[one != other]


def _repeated(ordered: Indices) -> npt.NDArray[np.bool_]:
    """Whether each of some ordered values is there more than once."""
    same = np.zeros(len(ordered) + 1, np.bool_)
    same[1:-1] = ordered[1:] == ordered[:-1]
    return same[1:] | same[:-1]


def _first_equal(signatures: Signatures) -> Indices:
    """For each row, the first one that is equal to it."""
    flat = np.ascontiguousarray(signatures).reshape(len(signatures), -1)
    rows = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).reshape(-1)
    _, first, number = np.unique(rows, return_index=True, return_inverse=True)
    return np.asarray(first[number])


def _all_at_once(members: Indices, signatures: Signatures, near: Near) -> Pairs:
    """The near pairs of buckets of one size, buckets x members."""
    size = members.shape[1]
    step = max(1, _VALUES // (size * size * max(1, signatures[:1].size)))
    for start in range(0, len(members), step):
        some = members[start : start + step]
        close = near(signatures[some], signatures[some])
        bucket, one, other = np.nonzero(np.triu(close, 1))
        yield some[bucket, one], some[bucket, other]


def _grown(rows: Indices, signatures: Signatures, near: Near) -> Pairs:
    """Pairs that connect what is near among `rows`: each row reaches for those not reached yet."""
    reached: list[int] = []
    while len(rows):
        if not reached:
            reached, rows = [int(rows[0])], rows[1:]
        one = reached.pop()
        close = _near_to(one, rows, signatures, near)
        found, rows = rows[close], rows[~close]
        yield found, np.full(len(found), one)
        reached += found.tolist()


def _near_to(one: int, rows: Indices, signatures: Signatures, near: Near) -> npt.NDArray[np.bool_]:
    step = max(1, _VALUES // max(1, signatures[:1].size))
    me = signatures[one : one + 1]
    parts = [near(me, signatures[rows[i : i + step]])[0] for i in range(0, len(rows), step)]
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)
