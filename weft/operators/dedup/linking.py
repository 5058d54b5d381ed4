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

Near = Callable[[Signatures, Signatures], npt.NDArray[np.bool_]]
"""Whether ``one[i]`` and ``other[i]`` are near; `one` may have one row, for all of `other`."""

_SMALL = 128
"""Members of a bucket up to which all pairs are judged at once, with those of other buckets:
below, calls of NumPy cost more than comparisons that could be spared."""

_VALUES = 1 << 20
"""Values of signatures that are compared at once: 4 or 8 MiB, of each side."""


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
    alone = np.unique(np.stack([buckets[shared], first]), axis=1)
    rows, sizes = shared[alone[1]], np.unique(alone[0], return_counts=True)[1]
    large = np.repeat(sizes > _SMALL, sizes)
    for one, other in _all_pairs(sizes[sizes <= _SMALL], _VALUES // max(1, signatures[:1].size)):
        left, right = rows[~large][one], rows[~large][other]
        close = near(signatures[left], signatures[right])
        pairs.append((left[close], right[close]))
    starts = np.cumsum(sizes) - sizes
    for start, size in zip(starts[sizes > _SMALL], sizes[sizes > _SMALL], strict=True):
        pairs += _grown(rows[start : start + size], signatures, near)
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


def _all_pairs(sizes: Indices, most: int) -> Iterator[tuple[Indices, Indices]]:
    """The pairs of places in runs of these sizes, one run after the other, about `most` at once."""
    places = np.arange(int(sizes.sum()))
    after = np.repeat(np.cumsum(sizes), sizes) - places - 1  # partners of each place
    ends = np.cumsum(after)
    start = 0
    while start < len(places):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + most, side="right")))
        counts = after[start:stop]
        one = np.repeat(places[start:stop], counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        yield one, one + 1 + np.arange(len(one)) - before
        start = stop


def _grown(rows: Indices, signatures: Signatures, near: Near) -> list[tuple[Indices, Indices]]:
    """Pairs that connect what is near among `rows`: each row reaches for those not reached yet."""
    pairs: list[tuple[Indices, Indices]] = []
    reached: list[int] = []
    while len(rows):
        if not reached:
            reached, rows = [int(rows[0])], rows[1:]
        one = reached.pop()
        close = _near_to(one, rows, signatures, near)
        found, rows = rows[close], rows[~close]
        pairs.append((found, np.full(len(found), one)))
        reached += found.tolist()
    return pairs


def _near_to(one: int, rows: Indices, signatures: Signatures, near: Near) -> npt.NDArray[np.bool_]:
    step = max(1, _VALUES // max(1, signatures[:1].size))
    me = signatures[one : one + 1]
    parts = [near(me, signatures[rows[i : i + step]]) for i in range(0, len(rows), step)]
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)
