"""Computed shuffles: bijections of every size, as uniform as their statistics can tell."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from weft.connectors.permutation import Permutation
from weft.connectors.shuffle import WINDOW_CLUMPS, Shuffle
from weft.errors import DefinitionError


@pytest.mark.parametrize("sizes", [range(1, 200), (255, 256, 257, 1000, 4095, 4096, 4097, 65_537)])
def test_a_permutation_is_a_bijection(sizes: range) -> None:
    for size in sizes:
        images = Permutation(size, "a").at(np.arange(size))
        assert np.array_equal(np.sort(images), np.arange(size)), size


@given(st.integers(1, 2**62), st.lists(st.integers(0, 2**62), min_size=1, max_size=20), st.text())
def test_an_image_is_in_range_and_does_not_depend_on_its_company(
    size: int, indices: list[int], key: str
) -> None:
    chosen = np.array(indices, np.int64) % size
    permutation = Permutation(size, key)
    images = permutation.at(chosen)
    assert ((images >= 0) & (images < size)).all()
    alone = [int(permutation.at(chosen[i : i + 1])[0]) for i in range(len(chosen))]
    assert images.tolist() == alone
    assert len(set(images.tolist())) == len(set(chosen.tolist()))


def test_all_orders_of_four_are_equally_likely() -> None:
    orders = Counter(
        tuple(Permutation(4, f"key {k}").at(np.arange(4)).tolist()) for k in range(1200)
    )
    counts = [orders[order] for order in itertools.permutations(range(4))]
    assert stats.chisquare(counts).pvalue > 0.001


def test_an_element_is_equally_likely_at_every_place() -> None:
    found = np.array([Permutation(50, f"key {k}").at(np.arange(50)) for k in range(1000)])
    for place in (0, 1, 24, 49):
        assert stats.chisquare(np.bincount(found[:, place], minlength=50)).pvalue > 0.001
    # Neighbours are independent: the difference modulo the size is uniform over 1..49.
    steps = np.bincount((found[:, 1] - found[:, 0]) % 50, minlength=50)
    assert steps[0] == 0
    assert stats.chisquare(steps[1:]).pvalue > 0.001


def test_large_orders_have_no_rank_correlation() -> None:
    images = Permutation(200_000, "k").at(np.arange(200_000))
    assert stats.spearmanr(np.arange(200_000), images).pvalue > 0.001
    # Runs of ascending elements, as in a random order: mean (n + 1) / 2.
    descents = int((np.diff(images) < 0).sum())
    assert abs(descents - 99_999.5) < 4 * np.sqrt(200_000 / 12)


def test_keys_make_different_orders() -> None:
    orders = {tuple(Permutation(64, f"seed {s}").at(np.arange(64)).tolist()) for s in range(50)}
    assert len(orders) == 50


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(1, 400), st.integers(0, 5), st.integers(0, 5))
def test_a_shuffle_has_every_row_once(rows: int, clump: int, seed: int, epoch: int) -> None:
    order = Shuffle(rows, seed, epoch, clump)
    found = order.rows_at(np.arange(rows))
    assert np.array_equal(np.sort(found), np.arange(rows))
    some = np.arange(rows)[:: max(1, rows // 7)]
    assert np.array_equal(order.rows_at(some), found[some])


def test_clumps_stay_within_a_window_and_move_with_the_epoch() -> None:
    rows, clump = 10_000, 10
    window = clump * WINDOW_CLUMPS
    clumps = []
    for epoch in range(2):
        found = Shuffle(rows, 0, epoch, clump).rows_at(np.arange(window))
        steps = np.diff(np.sort(found))
        assert 1 + (steps > 1).sum() <= WINDOW_CLUMPS  # ranges of neighbours
        assert (np.diff(found) != 1).mean() > 0.9  # and yet mixed
        clumps.append({int(row) for row in found})
    assert len(clumps[0] & clumps[1]) < window / 2


def test_the_score_tells_orders_apart() -> None:
    perfect, clumped, none = (
        Shuffle(100_000, seed, 0, clump).score(160) for seed, clump in ((0, 1), (0, 10), (None, 1))
    )
    assert perfect.displacement == pytest.approx(1, abs=0.05)
    assert clumped.displacement == pytest.approx(1, abs=0.05)
    assert none.displacement == 0
    assert perfect.reads_per_row > 0.99
    assert clumped.reads_per_row <= 0.1
    assert none.reads_per_row == 1 / 160


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(DefinitionError, match="no rows"):
        Shuffle(0, 0, 0)
    with pytest.raises(DefinitionError, match="clump_rows=0: expected 1"):
        Shuffle(1, 0, 0, 0)
