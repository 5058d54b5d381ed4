"""Locality-sensitive hashing: buckets in which things that are near likely meet.

A signature is cut into *bands*, and each band names a bucket. Two things are compared only if
they share a bucket (Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]


def bucket_numbers(parts: Numbers) -> npt.NDArray[np.int64]:
    """Buckets, rows x bands, of values, rows x bands x values of a band.

    Values of one band that are equal have one bucket; others, and those of other bands, have
    not, but for one pair in 2⁶⁴.
    """
    bands = _scattered(np.arange(parts.shape[1], dtype=np.uint64))
    numbers = np.broadcast_to(bands, parts.shape[:2])
    for place in range(parts.shape[2]):
        numbers = _scattered(numbers ^ parts[:, :, place])
    return numbers.view(np.int64)


def _scattered(numbers: Numbers) -> Numbers:
    """A bijection of 64 bits in which every bit moves all others: SplitMix64's next value.

    Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
    """
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


@functools.cache
def best_bands(threshold: float, places: int, miss_weight: float) -> tuple[int, int]:
    """Bands, and places of a band, of a signature of `places` that fit a threshold best.

    Two signatures that agree in a place with probability s share a bucket with probability
    1 - (1 - sʳ)ᵇ. The best b and r, b·r ≤ `places`, have the least weighted sum of two areas:
    under that curve below the threshold, of weight ``1 - miss_weight``, and above it from the
    threshold on. That is the rule of datasketch, and gives its numbers.

    >>> best_bands(0.8, 128, 0.5)
    (9, 13)
    """
    pairs = [(b, r) for b in range(1, places + 1) for r in range(1, places // b + 1)]
    bands, width = np.array(pairs).T[:, :, None]
    # The curve is a polynomial of degree b·r, which Gauss-Legendre of as many nodes integrates
    # without an error.
    nodes, weights = np.polynomial.legendre.leggauss(places // 2 + 1)

    def area(start: float, stop: float, of: bool) -> npt.NDArray[np.float64]:
        half = (stop - start) / 2
        missed = (1 - (start + half * (nodes + 1)) ** width) ** bands
        return np.asarray(half * ((1 - missed if of else missed) @ weights))

    extra, lost = area(0.0, threshold, of=True), area(threshold, 1.0, of=False)
    error = (1 - miss_weight) * extra + miss_weight * lost
    b, r = pairs[int(np.argmin(error))]
    return b, r


def meeting_probability(agreement: float, bands: int, width: int) -> float:
    """The probability 1 - (1 - sʳ)ᵇ that two signatures share a bucket, if each place of one
    agrees with that of the other with probability `agreement`.

    >>> round(meeting_probability(0.9, 9, 13), 3)
    0.929
    """
    return float(1 - (1 - agreement**width) ** bands)


def widest(agreement: float, bands: int, recall: float, most: int) -> int:
    """The most places of a band, up to `most`, with which signatures share one of `bands` buckets
    with probability `recall`; 0 if even one is too many.

    >>> widest(0.9, 16, 0.99, 32)
    13
    """
    if agreement >= 1:
        return most
    needed = -math.expm1(math.log1p(-recall) / bands)  # of one band
    return min(most, math.floor(math.log(needed) / math.log(agreement)))
