"""Connected components: which things are one, if each pair of some is.

They are found piece by piece. A piece of the pairs is reduced to its *stars*: for each component
the pairs of its smallest member with every other one, at most one pair fewer than there are
members. The stars of several pieces together have the components of all their pairs, and so
pieces may be made anywhere, cut anyhow and merged in any order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def components(count: int, one: Indices, other: Indices) -> Indices:
    """For each of `count` things the smallest one of its component.

    ``one[i]`` and ``other[i]`` are the same. Trees of pointers to smaller things are hooked onto
    each other and flattened, all at once (Shiloach and Vishkin, "An O(log n) parallel
    connectivity algorithm", 1982).

    >>> components(5, np.array([4, 1]), np.array([2, 4]))
    array([0, 1, 1, 3, 1])
    """
    roots = np.arange(count)
    while len(one):
        low, high = np.minimum(roots[one], roots[other]), np.maximum(roots[one], roots[other])
        apart = low != high
        one, other = one[apart], other[apart]
        np.minimum.at(roots, high[apart], low[apart])
        above = roots[roots]
        while not np.array_equal(above, roots):
            roots, above = above, above[above]
    return roots


def stars(one: Sequence[str], other: Sequence[str]) -> tuple[list[str], list[str]]:
    """The stars of pairs of names: members but the smallest, and the smallest of each.

    >>> stars(["d", "b"], ["c", "d"])
    (['c', 'd'], ['b', 'b'])
    """
    names = sorted({*one, *other})
    numbers = {name: number for number, name in enumerate(names)}
    pairs = (np.array([numbers[n] for n in side], np.int64) for side in (one, other))
    roots = components(len(names), *pairs)
    members = np.flatnonzero(roots != np.arange(len(names)))
    return [names[m] for m in members.tolist()], [names[r] for r in roots[members].tolist()]
