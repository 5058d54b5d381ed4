"""Hashes that stay near for images that look alike."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from weft.operators.image import arrays
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Binary, Image, UInt8, UInt64

_Matrix = npt.NDArray[np.float64]

_BT601 = np.array([0.299, 0.587, 0.114])

_SIDE = 64
"""PDQ looks at the image as 64 x 64 values of luma."""

_WINDOWS_PER_SIDE = 128
"""PDQ's box filter is this part of a side wide: half a pixel of the 64."""

_DECIMALS = 6
"""Coefficients are compared after rounding, far below what an image can differ by, so that a
flat image hashes to the same bits on every machine and not to the noise of its arithmetic."""


@dataclass(frozen=True)
class PerceptualHash(Map):
    """Three hashes of what an image looks like; near images have few differing bits.

    Reads `image`: height x width x channels, 8 bits; alpha is ignored.
    Writes:

    * `phash`: 64 bits, low frequencies of a 32 x 32 image against their median, as
      ``imagehash.phash``. Up to about 10 differing bits: probably the same picture;
    * `dhash`: 64 bits, whether each pixel of a 9 x 8 image is brighter than its left
      neighbour, as ``imagehash.dhash``;
    * `pdq`: 32 bytes, PDQ of Facebook's ThreatExchange ("The TMK+PDQF video-hashing algorithm
      and the PDQ image-hashing algorithm", 2019). Up to 31 differing bits: the same picture;
    * `pdq_quality`: 0 (nothing to be seen) to 100; below 50 `pdq` should not be trusted.

    The first bit, of the lowest frequencies or the upper left, is the most significant one of
    `phash` and `dhash`; the hexadecimal digits are those that the packages print.

    >>> flat = PerceptualHash()(np.full((80, 80, 3), 200, np.uint8))
    >>> f"{flat['phash']:016x}", flat["dhash"], flat["pdq_quality"]
    ('8000000000000000', 0, 0)

    Raises:
        RowError: the array is not an image.
    """

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(phash=UInt64(), dhash=UInt64(), pdq=Binary(), pdq_quality=UInt8())

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One image."""
        grey = arrays.luma_image(row["image"], self.name)
        pdq, quality = _pdq(row["image"])
        return {
            "phash": _number(_phash(grey)),
            "dhash": _number(_dhash(grey)),
            "pdq": pdq,
            "pdq_quality": quality,
        }


def _number(bits: npt.NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _phash(grey: PilImage.Image) -> npt.NDArray[np.bool_]:
    small = np.asarray(grey.resize((32, 32), PilImage.Resampling.LANCZOS), np.float64)
    basis = _cosines(32, 0, 8)
    low = np.round(basis @ small @ basis.T, _DECIMALS)
    return np.asarray(low > np.median(low))


def _dhash(grey: PilImage.Image) -> npt.NDArray[np.bool_]:
    small = np.asarray(grey.resize((9, 8), PilImage.Resampling.LANCZOS))
    return np.asarray(small[:, 1:] > small[:, :-1])


@functools.cache
def _cosines(length: int, first: int, count: int) -> _Matrix:
    """Rows `first` to `first + count` of the DCT-II, scaled to unit length (but for row 0)."""
    frequency = np.arange(first, first + count)[:, None]
    phase = np.pi / (2 * length) * frequency * (2 * np.arange(length) + 1)
    return np.asarray(np.sqrt(2 / length) * np.cos(phase))


def _pdq(image: arrays.Pixels) -> tuple[bytes, int]:
    luma = image[:, :, 0].astype(np.float64) if image.shape[2] == 1 else image[:, :, :3] @ _BT601
    height, width = luma.shape
    small = luma
    if (height, width) != (_SIDE, _SIDE):
        small = _sampling(height) @ luma @ _sampling(width).T
    basis = _cosines(_SIDE, 1, 16)  # without the mean, which is frequency 0
    low = np.round(basis @ small @ basis.T, _DECIMALS).reshape(-1)
    median = np.partition(low, 127)[127]  # the lower one of the two in the middle
    return np.packbits((low > median)[::-1]).tobytes(), _quality(small)


@functools.lru_cache(maxsize=64)  # a row of 64 numbers per pixel of a side, 8 bytes each
def _sampling(length: int) -> _Matrix:
    """What PDQ does to one axis, as a matrix: a box filter twice, then 64 samples.

    Both are linear and each axis is treated alone, so the whole image is left and right
    multiplied, instead of filtered at every pixel of which 64 x 64 are looked at.
    """
    window = -(-length // _WINDOWS_PER_SIDE)
    before, after = window - (window + 2) // 2, (window + 2) // 2 - 1

    def reach(center: int) -> slice:
        return slice(max(center - before, 0), min(center + after + 1, length))

    matrix = np.zeros((_SIDE, length))
    for row in range(_SIDE):
        outer = reach(int((row + 0.5) * length / _SIDE))
        for center in range(outer.start, outer.stop):
            inner = reach(center)
            weight = 1 / (outer.stop - outer.start) / (inner.stop - inner.start)
            matrix[row, inner] += weight
    return matrix


def _quality(small: _Matrix) -> int:
    """The sum of differences of neighbours, in whole hundredths of white; PDQ's own scale."""
    total = 0
    for axis in (0, 1):
        total += int(np.abs(np.diff(small, axis=axis) * 100 / 255).astype(np.int64).sum())
    return min(total // 90, 100)
