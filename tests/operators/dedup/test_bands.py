"""Truth: datasketch's choice of bands, probabilities by experiment, and arithmetic by hand."""

from __future__ import annotations

import numpy as np
import pytest
from datasketch.lsh import _optimal_param

from weft.operators.dedup.bands import best_bands, bucket_numbers, meeting_probability, widest


@pytest.mark.parametrize("places", [1, 2, 60, 128])
def test_the_bands_of_datasketch(places: int) -> None:
    for threshold in (0.1, 0.33, 0.5, 0.8, 0.9, 1.0):
        for weight in (0.1, 0.5, 0.9):
            theirs = _optimal_param(threshold, places, 1 - weight, weight)
            assert best_bands(threshold, places, weight) == theirs


def test_bands_by_experiment() -> None:
    """Of 20,000 pairs that agree in each place with probability 0.8, within four errors."""
    chance = np.random.default_rng(0)
    one = chance.integers(0, 2**32, (20_000, 128), np.uint64)
    other = np.where(chance.random(one.shape) < 0.8, one, one ^ np.uint64(1))
    for bands, width in ((9, 13), (14, 9), (32, 4)):
        parts = (s[:, : bands * width].reshape(-1, bands, width) for s in (one, other))
        met = (np.equal(*map(bucket_numbers, parts))).any(axis=1)
        expected = meeting_probability(0.8, bands, width)
        error = (expected * (1 - expected) / len(met)) ** 0.5
        assert abs(met.mean() - expected) < 4 * error


def test_equal_values_and_no_others_have_a_bucket() -> None:
    """Of a band. All values of 16 bits, and of 3 bands: no collision."""
    values = np.arange(2**16, dtype=np.uint64)[:, None, None].repeat(3, axis=1)
    buckets = bucket_numbers(values)
    assert buckets.dtype == np.int64
    assert len(np.unique(buckets)) == buckets.size
    assert np.array_equal(bucket_numbers(values[::-1])[::-1], buckets)
    pairs = np.stack(np.meshgrid(values[:200, 0], values[:200, 0]), -1).reshape(-1, 1, 2)
    assert len(np.unique(bucket_numbers(pairs))) == 40_000  # (a, b) is not (b, a)


def test_buckets_are_spread_over_the_cells() -> None:
    buckets = bucket_numbers(np.arange(400_000, dtype=np.uint64)[:, None, None])[:, 0]
    sizes = np.bincount(buckets % 4096, minlength=4096)
    expected = len(buckets) / 4096
    assert ((sizes - expected) ** 2 / expected).sum() == pytest.approx(4095, abs=4 * 90.5)  # χ²


@pytest.mark.parametrize("agreement", [0.5, 0.75, 0.9, 0.99])
def test_the_widest_band_is_the_last_that_is_enough(agreement: float) -> None:
    for bands in (1, 4, 16, 64):
        for recall in (0.5, 0.9, 0.99):
            width = widest(agreement, bands, recall, 1000)
            assert width == 0 or meeting_probability(agreement, bands, width) >= recall
            assert meeting_probability(agreement, bands, width + 1) < recall
    assert widest(1.0, 4, 0.9, 32) == 32
