"""What an image looks like as a vector, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from weft.operators.image import arrays
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Embedding, Image

_Vector = npt.NDArray[np.float32]

SIDE = 64
"""Images are looked at as SIDE x SIDE pixels."""

LAB_BINS = (4, 7, 7)
LAB_RANGES = ((0.0, 100.0), (-64.0, 64.0), (-64.0, 64.0))
"""Bins of L*, a* and b*. Few colours of photographs are outside of ±64; the last bins take them.
Bins of a* and b* are odd in number, so that greys are in the middle of one, not on an edge where
rounding decides."""

CELL, ORIENTATIONS, BLOCK = 16, 9, 2
_CELLS = SIDE // CELL
_BLOCKS = _CELLS - BLOCK + 1

COLOUR_DIM = LAB_BINS[0] * LAB_BINS[1] * LAB_BINS[2]
SHAPE_DIM = _BLOCKS * _BLOCKS * BLOCK * BLOCK * ORIENTATIONS
DIM = COLOUR_DIM + SHAPE_DIM

_EPSILON = 1e-5
"""Keeps flat blocks at zero; the value of scikit-image."""


@dataclass(frozen=True)
class Descriptor(Map):
    """Describe colours and shapes by a vector of unit length, for similarity without a model.

    Reads `image`: height x width x channels, 8 bits sRGB; alpha is ignored.
    Writes `descriptor`: 520 float32 values of unit length, so the inner product of two is
    their similarity, 0 to 1. The image is first resampled to 64 x 64 pixels, aspect ignored
    (Pillow's BILINEAR, antialiased). The layout:

    * 0..195, colour: the share of pixels in each of 4 x 7 x 7 bins of CIE L*a*b* (D65), L*
      slowest; its square root, so that inner products compare distributions (Hellinger;
      Arandjelović & Zisserman, CVPR 2012);
    * 196..519, shape: histograms of oriented gradients of luma (Dalal & Triggs, CVPR 2005),
      4 x 4 cells of 16 x 16 pixels, 9 directions, blocks of 2 x 2 cells with L2-Hys, as
      ``skimage.feature.hog`` lays them out.

    Each part has unit length before both are scaled to unit length together; a flat image has
    no shape, and its colour all the length.

    >>> red = np.zeros((80, 80, 3), np.uint8); red[:, :, 0] = 255
    >>> vector = Descriptor()(red)
    >>> vector.shape, vector.max(), np.flatnonzero(vector).tolist()
    ((520,), np.float32(1.0), [146])

    Raises:
        RowError: the array is not an image.
    """

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(descriptor=Embedding(DIM))

    def map_row(self, row: Row, loaded: Any) -> _Vector:
        """One image."""
        image = arrays.to_image(row["image"], self.name).convert("RGB")
        small = image.resize((SIDE, SIDE), PilImage.Resampling.BILINEAR)
        shape = _gradients(np.asarray(small.convert("L"), np.float64))
        length = float(np.linalg.norm(shape))
        vector = np.concatenate([_colours(np.asarray(small)), shape / length if length else shape])
        return np.asarray(vector / np.linalg.norm(vector), np.float32)


_LINEAR = np.arange(256) / 255
_LINEAR = np.where(_LINEAR <= 0.04045, _LINEAR / 12.92, ((_LINEAR + 0.055) / 1.055) ** 2.4)
"""sRGB levels as light (IEC 61966-2-1)."""

_WHITE_D65 = np.array([0.95047, 1.0, 1.08883])
_XYZ = (
    np.array(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    ).T
    / _WHITE_D65
)
"""Linear RGB to CIE XYZ over its white (ITU-R BT.709 primaries)."""


def to_lab(rgb: arrays.Pixels) -> npt.NDArray[np.float64]:
    """sRGB, ... x 3, as CIE L*a*b* with white D65."""
    xyz = _LINEAR[rgb] @ _XYZ
    root = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(root, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def _colours(rgb: arrays.Pixels) -> npt.NDArray[np.float64]:
    lab = to_lab(rgb.reshape(-1, 3))
    index = np.zeros(len(lab), np.int64)
    for axis, (bins, (low, high)) in enumerate(zip(LAB_BINS, LAB_RANGES, strict=True)):
        place = ((lab[:, axis] - low) * (bins / (high - low))).astype(np.int64)
        index = index * bins + np.clip(place, 0, bins - 1)
    return np.sqrt(np.bincount(index, minlength=COLOUR_DIM) / len(lab))


def _gradients(luma: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Blocks of normalised histograms of directions, top left first."""
    down, across = np.zeros_like(luma), np.zeros_like(luma)
    down[1:-1] = luma[2:] - luma[:-2]
    across[:, 1:-1] = luma[:, 2:] - luma[:, :-2]
    degrees = np.rad2deg(np.arctan2(down, across)) % 180
    direction = (degrees * (ORIENTATIONS / 180)).astype(np.int64) % ORIENTATIONS
    rows, columns = np.indices(luma.shape) // CELL
    index = (rows * _CELLS + columns) * ORIENTATIONS + direction
    strength = np.hypot(down, across).reshape(-1) / CELL**2
    size = _CELLS * _CELLS * ORIENTATIONS
    sums = np.bincount(index.reshape(-1), strength, size).astype(np.float64)
    cells = sums.reshape(_CELLS, _CELLS, ORIENTATIONS)
    windows = np.lib.stride_tricks.sliding_window_view(cells, (BLOCK, BLOCK), axis=(0, 1))
    blocks = np.moveaxis(windows, 2, -1).reshape(_BLOCKS * _BLOCKS, -1)
    return _unit(np.minimum(_unit(blocks), 0.2)).reshape(-1)


def _unit(blocks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.sqrt((blocks**2).sum(axis=1, keepdims=True) + _EPSILON**2)
    return np.asarray(blocks / length)
