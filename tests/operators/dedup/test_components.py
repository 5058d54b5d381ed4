"""Truth: SciPy's connected components, and a slow search; laws of pieces and orders."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.operators.dedup.components import components, stars
from weft.operators.dedup.steps import Merge

PAIRS = st.lists(st.tuples(st.integers(0, 29), st.integers(0, 29)), max_size=60)


def spread(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """For each thing the smallest that it is connected to, by walking from each."""
    beside: dict[int, set[int]] = {n: set() for n in range(count)}
    for a, b in pairs:
        beside[a].add(b)
        beside[b].add(a)
    first = [-1] * count
    for start in range(count):
        waiting = [start]
        while waiting:
            one = waiting.pop()
            if first[one] < 0:
                first[one] = start
                waiting += beside[one]
    return first


def sides(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    one, other = np.array(pairs, np.int64).reshape(-1, 2).T
    return one, other


@settings(max_examples=300, deadline=None)
@given(PAIRS)
def test_a_slow_search(pairs: list[tuple[int, int]]) -> None:
    assert components(30, *sides(pairs)).tolist() == spread(30, pairs)


def test_scipy() -> None:
    chance = np.random.default_rng(0)
    for count, edges in ((1, 0), (10, 3), (5_000, 2_000), (5_000, 5_000), (200_000, 150_000)):
        one, other = chance.integers(0, count, (2, edges))
        ours = components(count, one, other)
        graph = scipy.sparse.coo_array((np.ones(edges), (one, other)), (count, count))
        many, theirs = scipy.sparse.csgraph.connected_components(graph, directed=False)
        assert len(np.unique(ours)) == many
        assert len(np.unique(np.stack([ours, theirs]), axis=1).T) == many
        assert (ours <= np.arange(count)).all()
        assert np.array_equal(ours[ours], ours)


def test_chains_in_bad_orders() -> None:
    """Long chains, whose links are in no order, up, down, and from both ends to the middle."""
    chance = np.random.default_rng(1)
    count = 20_000
    ends = np.stack([np.arange(count), np.arange(count)[::-1]], axis=1).reshape(-1)[:count]
    for order in (chance.permutation(count), np.arange(count), np.arange(count)[::-1], ends):
        assert not components(count, order[1:], order[:-1]).any()


@settings(max_examples=200, deadline=None)
@given(PAIRS, st.lists(st.integers(0, 4), min_size=60, max_size=60), st.randoms())
def test_stars_of_pieces_are_the_stars_of_the_whole(
    pairs: list[tuple[int, int]], piece: list[int], chance: object
) -> None:
    """However pairs are cut, shuffled and merged, in one step or in two."""
    named = [(f"n{a:02}", f"n{b:02}") for a, b in pairs]
    whole = dict(zip(*stars(*_unzip(named)), strict=True))
    first = spread(30, pairs)
    assert whole == {f"n{n:02}": f"n{f:02}" for n, f in enumerate(first) if f != n}

    shuffled = list(zip(named, piece[: len(named)], strict=True))
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    parts = [stars(*_unzip([p for p, where in shuffled if where == n])) for n in range(5)]
    half = Merge()([p[0] for p in parts[:3]], [p[1] for p in parts[:3]])
    members = [half["members"], *(p[0] for p in parts[3:])]
    roots = [half["roots"], *(p[1] for p in parts[3:])]
    merged = Merge()(members, roots)
    assert dict(zip(merged["members"], merged["roots"], strict=True)) == whole


def _unzip(pairs: list[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [a for a, _ in pairs], [b for _, b in pairs]
