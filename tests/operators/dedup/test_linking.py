"""Truth: every pair of every bucket, judged one by one; comparisons are counted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.operators.dedup import linking
from weft.operators.dedup.components import components
from weft.operators.dedup.linking import near_pairs
from weft.operators.dedup.near_text import TextLink

ROWS = st.lists(st.integers(0, 60), max_size=40)


def within_two(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    apart = one.astype(np.int64)[..., :, None] - other.astype(np.int64)[..., None, :]
    return np.asarray(np.abs(apart) <= 2)


def every_pair(buckets: np.ndarray, values: np.ndarray) -> np.ndarray:
    near = [
        (a, b)
        for a, b in itertools.combinations(range(len(values)), 2)
        if buckets[a] == buckets[b] and abs(values[a] - values[b]) <= 2
    ]
    return components(len(values), *np.array(near, np.int64).reshape(-1, 2).T)


@pytest.mark.parametrize("small", [1, 3, 128])
@pytest.mark.parametrize("values", [1, 7, 1 << 20])
def test_every_pair(small: int, values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small buckets and large ones, and however few are compared at once."""
    monkeypatch.setattr(linking, "_SMALL", small)
    monkeypatch.setattr(linking, "_VALUES", values)

    @settings(max_examples=100, deadline=None)
    @given(ROWS)
    def check(rows: list[int]) -> None:
        numbers = np.array(rows, np.int64)
        buckets = numbers // 20  # equal signatures share their buckets, as those of operators do
        one, other = near_pairs(buckets, numbers, within_two)
        assert (one != other).all()
        found = components(len(rows), one, other)
        assert np.array_equal(found, every_pair(buckets, numbers))

    check()


def test_one_row_in_many_buckets() -> None:
    """A cell has a row several times, once for each of its buckets there."""
    buckets = np.array([1, 1, 2, 2, 3], np.int64)
    values = np.array([10, 11, 11, 13, 40], np.int64)
    assert components(5, *near_pairs(buckets, values, within_two)).tolist() == [0, 0, 0, 0, 4]


class Counting:
    """A judge that counts what it compares."""

    def __init__(self, judge: Any) -> None:
        self.judge = judge
        self.compared = 0

    def __call__(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        answers = np.asarray(self.judge(one, other))
        self.compared += answers.size
        return answers


def test_a_bucket_of_one_page_takes_few_rounds() -> None:
    """100,000 variants of a boilerplate: all within a few places of it."""
    chance = np.random.default_rng(0)
    pages = np.tile(chance.integers(0, 2**32, 64, np.uint32), (100_000, 1))
    pages[np.arange(100_000), chance.integers(0, 64, 100_000)] = np.arange(100_000)
    judge = Counting(TextLink(56 / 64).near)
    one, other = near_pairs(np.zeros(100_000, np.int64), pages, judge)
    assert not components(100_000, one, other).any()
    assert len(one) == 99_999
    assert judge.compared < 200_000  # all pairs are 5,000,000,000


def test_copies_are_not_compared() -> None:
    """50,000 copies each of ten pages, in one bucket."""
    pages = np.repeat(np.arange(10, dtype=np.uint64) * 100, 50_000)
    judge = Counting(within_two)
    one, other = near_pairs(np.zeros(len(pages), np.int64), pages, judge)
    assert judge.compared == 100
    assert len(np.unique(components(len(pages), one, other))) == 10


def test_nothing() -> None:
    for rows in (0, 1, 3):
        one, other = near_pairs(np.arange(rows), np.zeros(rows, np.uint64), within_two)
        assert len(one) == len(other) == 0
