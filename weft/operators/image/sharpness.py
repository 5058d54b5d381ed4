"""How sharp an image is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.operators.image import arrays
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Float32, Image

_UNIT = 50
"""Levels of luma: the variance of 100 below which photographs are called blurred becomes 0.2."""


@dataclass(frozen=True)
class Sharpness(Map):
    """Measure sharpness: the standard deviation of the Laplacian of luma.

    Reads `image`: height x width x channels, 8 bits; alpha is ignored.
    Writes `sharpness`: 0 is flat; photographs at 512 pixels have 0.1 (soft) to 1 (crisp). The
    unit is 50 levels of luma, so that 0.2 is the customary threshold, a variance of 100. The
    most there can be is 20.4, a checkerboard of black and white pixels.

    It is the square root of the variance of the Laplacian (Pech-Pacheco et al., "Diatom
    autofocusing in brightfield microscopy: a comparative study", ICPR 2000): the root grows
    with contrast, the variance with its square. In OpenCV:
    ``cv2.Laplacian(luma, cv2.CV_64F).var() ** 0.5 / 50``; edges are mirrored (reflect 101). It
    depends on the size of the image: resize to one size before comparing.

    >>> board = np.indices((8, 8)).sum(axis=0) % 2 * 255
    >>> Sharpness()(board.astype(np.uint8)[:, :, None])
    20.4

    Raises:
        RowError: the array is not an image.
    """

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(sharpness=Float32())

    def map_row(self, row: Row, loaded: Any) -> float:
        """One image."""
        second = _laplacian(arrays.luma(row["image"], self.name)).reshape(-1).astype(np.float64)
        mean = float(second.mean())
        # Not `second @ second`: BLAS starts threads for it, which fight over the worker's core and
        # doubled the CPU time of a whole pipeline.
        squares = float(np.einsum("i,i->", second, second))
        variance = squares / second.size - mean * mean
        return float(np.sqrt(max(variance, 0.0)) / _UNIT)


def _laplacian(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Four neighbours minus four times the pixel; -1020..1020, so 16 bits hold it."""
    signed = luma.astype(np.int16)
    out = -4 * signed
    for axis in (0, 1):
        along, result = np.moveaxis(signed, axis, 0), np.moveaxis(out, axis, 0)
        last = len(along) - 1
        result[:-1] += along[1:]
        result[1:] += along[:-1]
        result[0] += along[min(1, last)]  # mirrored: what is before the first is the second
        result[-1] += along[max(last - 1, 0)]
    return out
