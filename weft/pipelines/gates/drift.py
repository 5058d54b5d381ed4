"""How far two samples lie apart: pure functions of arrays.

=======================  ==================================  =============================
function                 of                                  source
=======================  ==================================  =============================
`psi`                    numbers, in bins of the reference   Yurdakul 2018, ch. 2
`psi_of_categories`      text, truth values, few integers    the same, a bin per value
`ks`                     numbers                             Kolmogorov 1933, Smirnov 1939
`mmd`                    vectors                             Gretton et al. 2012, JMLR 13
`frechet`                vectors                             Dowson & Landau 1982
=======================  ==================================  =============================

None takes missing values, and none depends on the order of a sample. `psi` asks which sample is
the reference, because its quantiles are the bins; the others are symmetric.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

BINS = 10
"""Quantiles of the reference that `psi` cuts by, as is usual."""

EMPTY_SHARE = 1e-4
"""What the share of an empty bin counts as, or its logarithm would be infinite. A bin of 10 % that
empties adds 0.69."""

CATEGORIES = 20
"""Values of the reference with a bin of their own, the most frequent; all others share one."""


def psi(reference: npt.ArrayLike, sample: npt.ArrayLike) -> float:
    """The population stability index of numbers: ``Σ (p - q) ln(p / q)`` over bins.

    The bins are cut at the deciles of the reference, equal ones once; the first and the last are
    open. Below 0.1 is usually read as stable, above 0.25 as a shift.

    >>> psi(range(1000), range(1000))
    0.0
    >>> round(psi(range(1000), range(100, 1100)), 2)
    0.76
    """
    before, after = _sorted(reference), _sorted(sample)
    edges = np.unique(np.quantile(before, np.arange(1, BINS) / BINS, method="inverted_cdf"))
    counts = [np.diff(np.searchsorted(x, edges, "right"), prepend=0, append=len(x))
              for x in (before, after)]  # fmt: skip
    return _index(*counts)


def psi_of_categories(reference: Iterable[Any], sample: Iterable[Any]) -> float:
    """The population stability index of values that are alike or not.

    >>> psi_of_categories(["cat", "dog"] * 50, ["dog", "cat"] * 10)
    0.0
    >>> round(psi_of_categories(["cat", "dog"] * 50, ["cat", "dog", "dog", "dog"]), 2)
    0.27
    """
    before, after = (pl.Series("value", v) for v in (reference, sample))
    common = before.value_counts(sort=True).sort("count", "value", descending=[True, False])
    names = common["value"].head(CATEGORIES)
    counts = []
    for values in (before, after):
        found = dict(values.value_counts().iter_rows())
        known = [found.get(name, 0) for name in names]
        counts.append(np.array([*known, len(values) - sum(known)]))
    return _index(*counts)


def ks(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """The two-sample Kolmogorov-Smirnov statistic: the largest distance of the two empirical
    distribution functions, 0 to 1.

    >>> ks([1, 2, 3, 4], [3, 4, 5, 6])
    0.5
    """
    x, y = _sorted(one), _sorted(other)
    points = np.concatenate([x, y])
    share_x = np.searchsorted(x, points, "right") / len(x)
    share_y = np.searchsorted(y, points, "right") / len(y)
    return float(np.abs(share_x - share_y).max())


def mmd(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """The squared maximum mean discrepancy of vectors, unbiased: eq. 3 of Gretton et al.

    The kernel is ``exp(-|x - y|² / 2s²)``, s the median distance of two vectors of both samples
    together, as in section 8 there. Unbiased means around 0, below it too, for samples of one
    distribution; at most 2. Takes time and memory of the squared number of vectors.

    >>> rng = np.random.default_rng(0)
    >>> one, alike, apart = (rng.normal(mean, size=(200, 8)) for mean in (0, 0, 1))
    >>> mmd(one, alike) < 0.01 < mmd(one, apart)
    True
    """
    x, y = _vectors(one, other)
    xx, yy, xy = _squares(x, x), _squares(y, y), _squares(x, y)
    pairs = [xx[np.triu_indices(len(x), 1)], yy[np.triu_indices(len(y), 1)], xy.ravel()]
    median = float(np.median(np.sqrt(np.concatenate(pairs))))
    scale = -0.5 / (median**2 or 1.0)
    alike = [(np.exp(scale * d).sum() - len(d)) / (len(d) * (len(d) - 1)) for d in (xx, yy)]
    return float(sum(alike) - 2 * np.exp(scale * xy).mean())


def frechet(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    """The squared Fréchet distance of two normal distributions with the means and covariances of
    the samples: ``|μ₁ - μ₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)``.

    That of Inception features is known as FID (Heusel et al. 2017). It sees no more than means
    and covariances. Samples of one distribution are apart too, the farther the fewer they are:
    with 2000 unit normal vectors of 64 numbers by about 1.

    >>> round(frechet([[0.0], [2.0]], [[3.0], [5.0]]), 6)
    9.0
    """
    x, y = _vectors(one, other)
    c1, c2 = (np.atleast_2d(np.cov(v, rowvar=False)) for v in (x, y))
    values, axes = np.linalg.eigh(c1)
    root = (axes * np.sqrt(values.clip(0))) @ axes.T
    # C₁C₂ has the eigenvalues of this product, which is symmetric: they are real and safe to find.
    shared = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root).clip(0)).sum()
    gap = x.mean(0) - y.mean(0)
    return max(0.0, float(gap @ gap + np.trace(c1) + np.trace(c2) - 2 * shared))


def _index(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> float:
    """The index of two counts by bin. A bin that is empty in both tells nothing."""
    p, q = (np.maximum(c / c.sum(), EMPTY_SHARE) for c in (before, after))
    return float(((p - q) * np.log(p / q)).sum())


def _sorted(values: npt.ArrayLike) -> Floats:
    return np.sort(np.asarray(values, np.float64).ravel())


def _vectors(one: npt.ArrayLike, other: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Both as n x d, around a common middle: distances are the same, and more exact."""
    x, y = np.asarray(one, np.float64), np.asarray(other, np.float64)
    middle = np.concatenate([x, y]).mean(0)
    return x - middle, y - middle


def _squares(x: Floats, y: Floats) -> Floats:
    """Squared distances of each of `x` to each of `y`."""
    lengths = (x**2).sum(1)[:, None] + (y**2).sum(1)
    squares: Floats = (lengths - 2 * x @ y.T).clip(0)
    if x is y:
        np.fill_diagonal(squares, 0.0)  # so that each is alike to itself, exactly
    return squares
