"""The distances of two samples: against scipy, against their definitions, and their laws."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from weft.pipelines.gates import drift
from weft.pipelines.gates.drift import EMPTY_SHARE, frechet, ks, mmd, psi, psi_of_categories

Floats = npt.NDArray[np.float64]

NUMBERS = st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=60)
WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60)
VECTORS = arrays(np.float64, st.tuples(st.integers(2, 12), st.just(3)),
                 elements=st.floats(-100, 100, width=32))  # fmt: skip


def normal(seed: int, n: int, d: int = 1, mean: float = 0, spread: float = 1) -> Floats:
    return np.random.default_rng(seed).normal(mean, spread, (n, d))


class TestPsi:
    def test_is_the_symmetric_relative_entropy_of_the_bins(self) -> None:
        """``Σ (p - q) ln(p / q) = KL(p‖q) + KL(q‖p)``, which scipy has."""
        for seed in range(20):
            one, other = normal(seed, 3000).ravel(), normal(seed + 99, 2000, mean=0.5).ravel()
            edges = np.quantile(one, np.arange(1, 10) / 10, method="inverted_cdf")
            bins = [-np.inf, *np.nextafter(edges, np.inf), np.inf]  # numpy's are open on the right
            p, q = (np.histogram(x, bins)[0] for x in (one, other))
            expected = scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)
            assert psi(one, other) == pytest.approx(expected, rel=1e-9)

    def test_is_chi_squared_where_nothing_drifted(self) -> None:
        """Yurdakul 2018: of samples of one distribution it is about ``(1/n + 1/m) χ²`` with as
        many degrees of freedom as bins, less one."""
        n, m = 2000, 1000
        found = [psi(normal(i, n), normal(i + 5000, m)) / (1 / n + 1 / m) for i in range(400)]
        assert np.mean(found) == pytest.approx(9, rel=0.1)
        assert np.quantile(found, 0.95) == pytest.approx(scipy.stats.chi2.ppf(0.95, 9), rel=0.12)

    def test_a_bin_that_empties(self) -> None:
        reference = np.repeat(np.arange(10.0), 100)
        sample = np.repeat(np.arange(9.0), 100)
        told = 9 * (1 / 9 - 0.1) * math.log((1 / 9) / 0.1)
        gone = (0.1 - EMPTY_SHARE) * math.log(0.1 / EMPTY_SHARE)
        assert psi(reference, sample) == pytest.approx(told + gone)

    def test_ties_cut_one_bin(self) -> None:
        assert psi([0] * 95 + [1] * 5, [0] * 5 + [1] * 95) == pytest.approx(2 * 0.9 * math.log(19))

    def test_a_constant_that_moves(self) -> None:
        assert psi([5] * 10, [5] * 3) == 0
        assert psi([5] * 10, [6] * 10) > 5

    @given(NUMBERS)
    def test_equal_samples(self, values: list[float]) -> None:
        assert psi(values, values) == 0

    @given(NUMBERS, NUMBERS, st.randoms(use_true_random=False))
    def test_order_and_sign(self, one: list[float], other: list[float], random: Any) -> None:
        found = psi(one, other)
        assert 0 <= found < 2 * math.log(1 / EMPTY_SHARE)
        random.shuffle(one)
        random.shuffle(other)
        assert psi(one, other) == found

    def test_grows_with_the_shift(self) -> None:
        found = [psi(normal(1, 5000), normal(1, 5000, mean=by)) for by in (0, 0.2, 0.5, 1, 2)]
        assert found == sorted(found)
        assert found[0] == 0
        assert found[1] < 0.1
        assert found[3] > 0.25


class TestPsiOfCategories:
    def test_is_the_symmetric_relative_entropy(self) -> None:
        p, q = np.array([50, 30, 20]), np.array([10, 45, 45])
        one, other = (list(np.repeat(["a", "b", "c"], n)) for n in (p, q))
        expected = scipy.stats.entropy(p, q) + scipy.stats.entropy(q, p)
        assert psi_of_categories(one, other) == pytest.approx(expected)

    def test_a_value_that_is_new(self) -> None:
        found = psi_of_categories(["a"] * 10, ["a"] * 9 + ["b"])
        expected = (1 - 0.9) * math.log(1 / 0.9)
        expected += (0.1 - EMPTY_SHARE) * math.log(0.1 / EMPTY_SHARE)
        assert found == pytest.approx(expected)

    def test_rare_values_share_a_bin(self) -> None:
        common = [f"common {i}" for i in range(drift.CATEGORIES)] * 10
        rare = [f"rare {i}" for i in range(50)]
        assert psi_of_categories(common + rare, common + ["another"] * 50) == 0

    @given(WORDS, WORDS, st.randoms(use_true_random=False))
    def test_laws(self, one: list[str], other: list[str], random: Any) -> None:
        one, other = [*one, *"abcdefgh"], [*other, *"abcdefgh"]
        found = psi_of_categories(one, other)
        assert psi_of_categories(one, one) == 0
        assert psi_of_categories(other, one) == pytest.approx(found)  # the bins are the same
        random.shuffle(one)
        random.shuffle(other)
        assert psi_of_categories(one, other) == pytest.approx(found)


class TestKs:
    @given(NUMBERS, NUMBERS)
    def test_is_that_of_scipy(self, one: list[float], other: list[float]) -> None:
        with warnings.catch_warnings(action="ignore"):  # of p-values, which nobody asks for
            expected = scipy.stats.ks_2samp(one, other, method="asymp").statistic
        assert ks(one, other) == pytest.approx(expected, abs=1e-12)

    @given(NUMBERS, NUMBERS, st.randoms(use_true_random=False))
    def test_laws(self, one: list[float], other: list[float], random: Any) -> None:
        found = ks(one, other)
        assert ks(one, one) == 0
        assert ks(other, one) == found <= 1
        random.shuffle(one)
        assert ks(one, other) == found

    def test_of_large_samples_and_ties(self) -> None:
        one, other = normal(1, 40_000).round(2).ravel(), normal(2, 30_000, mean=0.1).round(2)
        expected = scipy.stats.ks_2samp(one, other.ravel()).statistic
        assert ks(one, other) == pytest.approx(expected, abs=1e-12)

    def test_grows_with_the_shift(self) -> None:
        found = [ks(normal(1, 2000), normal(1, 2000, mean=by)) for by in (0, 0.1, 0.5, 1, 9)]
        assert found == sorted(found)
        assert found[-1] == 1


def mmd_by_definition(x: Floats, y: Floats) -> float:
    """Eq. 3 of Gretton et al. 2012, term by term."""
    pooled = [*x, *y]
    pairs = [math.dist(a, b) for i, a in enumerate(pooled) for b in pooled[i + 1 :]]
    width = float(np.median(pairs)) or 1.0

    def k(a: Floats, b: Floats) -> float:
        return math.exp(-(math.dist(a, b) ** 2) / (2 * width**2))

    m, n = len(x), len(y)
    within_x = sum(k(x[i], x[j]) for i in range(m) for j in range(m) if i != j)
    within_y = sum(k(y[i], y[j]) for i in range(n) for j in range(n) if i != j)
    across = sum(k(a, b) for a in x for b in y)
    return within_x / (m * (m - 1)) + within_y / (n * (n - 1)) - 2 * across / (m * n)


class TestMmd:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize(("m", "n", "d"), [(2, 2, 1), (13, 20, 1), (30, 17, 8), (25, 25, 64)])
    def test_is_its_definition(self, seed: int, m: int, n: int, d: int) -> None:
        x, y = normal(seed, m, d), normal(seed + 50, n, d, mean=0.5, spread=1.5)
        assert mmd(x, y) == pytest.approx(mmd_by_definition(x, y), abs=1e-12)

    def test_is_unbiased(self) -> None:
        """Of samples of one distribution its mean is 0, and about half are below."""
        found = np.array([mmd(normal(i, 40, 4), normal(i + 999, 40, 4)) for i in range(300)])
        assert abs(found.mean()) < 3 * found.std() / math.sqrt(len(found))
        assert 0.4 < (found < 0).mean() < 0.7

    def test_is_within_the_bound_of_corollary_11(self) -> None:
        """With kernels in 0..1 it is above ``4/√m sqrt(ln(1/a))`` by chance in a share `a` of
        cases at most (Gretton et al.)."""
        m, alpha = 50, 0.05
        found = [mmd(normal(i, m, 3), normal(i + 999, m, 3)) for i in range(200)]
        assert np.mean(np.array(found) > 4 / math.sqrt(m) * math.sqrt(-math.log(alpha))) <= alpha

    def test_sees_what_means_and_covariances_do_not(self) -> None:
        rng = np.random.default_rng(0)
        bell = rng.normal(size=(500, 1))
        two = np.where(rng.random((500, 1)) < 0.5, -1.0, 1.0)  # mean 0, variance 1
        assert frechet(bell, two) < 0.01
        assert mmd(bell, two) > 0.03 > abs(mmd(bell, rng.normal(size=(500, 1))))

    @given(VECTORS)
    def test_equal_samples(self, x: Floats) -> None:
        """Each vector meets itself across and not within, so it is 0 or just below."""
        assert -2 / len(x) - 1e-9 <= mmd(x, x) <= 1e-9

    @settings(max_examples=50)
    @given(VECTORS, VECTORS, st.randoms(use_true_random=False))
    def test_laws(self, x: Floats, y: Floats, random: Any) -> None:
        found = mmd(x, y)
        assert -2 <= found <= 2 + 1e-9
        assert mmd(y, x) == pytest.approx(found, abs=1e-6)
        order = list(range(len(x)))
        random.shuffle(order)
        assert mmd(x[order], y) == pytest.approx(found, abs=1e-6)

    def test_does_not_mind_where_the_origin_is(self) -> None:
        x, y = normal(1, 100, 8), normal(2, 100, 8, mean=1)
        assert mmd(x + 1e5, y + 1e5) == pytest.approx(mmd(x, y), abs=1e-8)

    def test_grows_with_the_shift(self) -> None:
        found = [mmd(normal(1, 200, 4), normal(1, 200, 4, mean=by)) for by in (0, 0.3, 1, 3)]
        assert found == sorted(found)

    def test_vectors_that_are_all_the_same(self) -> None:
        one = np.ones((5, 3))
        assert mmd(one, one) == 0
        assert mmd(one, np.zeros((5, 3))) == pytest.approx(2 - 2 * math.exp(-0.5))


def frechet_by_definition(x: Floats, y: Floats) -> float:
    """As Heusel et al. 2017 compute it, with the matrix root of scipy."""
    c1, c2 = (np.atleast_2d(np.cov(v, rowvar=False)) for v in (x, y))
    with warnings.catch_warnings(action="ignore"):  # that the product is singular
        root = scipy.linalg.sqrtm(c1 @ c2)
    gap = x.mean(0) - y.mean(0)
    return float(gap @ gap + np.trace(c1 + c2 - 2 * np.real(root)))


class TestFrechet:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize(("n", "d"), [(50, 1), (200, 4), (500, 32)])
    def test_is_its_definition(self, seed: int, n: int, d: int) -> None:
        x = normal(seed, n, d) @ normal(seed + 1, d, d)
        y = normal(seed + 2, n, d, mean=0.3) @ normal(seed + 3, d, d)
        assert frechet(x, y) == pytest.approx(frechet_by_definition(x, y), rel=1e-9)

    def test_of_normals_in_one_dimension(self) -> None:
        """``(μ₁ - μ₂)² + (σ₁ - σ₂)²``: Dowson & Landau 1982, of one variable."""
        x, y = normal(1, 1000, spread=2), normal(2, 500, mean=3, spread=5)
        exact = (x.mean() - y.mean()) ** 2 + (x.std(ddof=1) - y.std(ddof=1)) ** 2
        assert frechet(x, y) == pytest.approx(exact)

    def test_of_covariances_that_commute(self) -> None:
        x, y = normal(1, 4000, 3), normal(1, 4000, 3) * [2, 3, 0.5] + [1, 0, -1]
        assert frechet(x, y) == pytest.approx(2 + 1 + 4 + 0.25, abs=0.4)

    def test_fewer_vectors_than_numbers(self) -> None:
        """The covariances are singular, and scipy's root of such a product is only near."""
        x, y = normal(1, 10, 40), normal(2, 12, 40, mean=1)
        assert frechet(x, y) == pytest.approx(frechet_by_definition(x, y), rel=1e-4)

    def test_numbers_that_are_always_the_same(self) -> None:
        x, y = normal(1, 100, 4), normal(2, 100, 4)
        x[:, 1] = y[:, 1] = 7
        y[:, 2] = 9
        rest = [0, 3]
        expected = frechet(x[:, rest], y[:, rest]) + frechet(x[:, [2]], y[:, [2]])
        assert frechet(x, y) == pytest.approx(expected, rel=0.1)
        assert frechet(np.ones((5, 2)), np.zeros((5, 2))) == pytest.approx(2)

    def test_of_one_distribution_falls_with_the_sample(self) -> None:
        found = [frechet(normal(1, n, 64), normal(2, n, 64)) for n in (200, 2000, 20_000)]
        assert found == sorted(found, reverse=True)
        assert found[1] == pytest.approx(1, rel=0.2)  # as the docstring says

    @settings(max_examples=50)
    @given(VECTORS, VECTORS, st.randoms(use_true_random=False))
    def test_laws(self, x: Floats, y: Floats, random: Any) -> None:
        size = 1 + (x**2).sum() + (y**2).sum()
        found = frechet(x, y)
        assert frechet(x, x) <= 1e-6 * size
        assert frechet(y, x) == pytest.approx(found, abs=1e-6 * size)
        order = list(range(len(x)))
        random.shuffle(order)
        assert frechet(x[order], y) == pytest.approx(found, abs=1e-6 * size)

    def test_grows_with_the_shift(self) -> None:
        found = [frechet(normal(1, 200, 4), normal(1, 200, 4, mean=by)) for by in (0, 0.3, 1, 3)]
        assert found == sorted(found)
        assert found[0] == pytest.approx(0, abs=1e-6)
        assert found[2] == pytest.approx(4)
