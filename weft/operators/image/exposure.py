"""How light is spread over an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.operators.image import arrays
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Float32, Image

_LEVELS = np.arange(256) / 255


@dataclass(frozen=True)
class Exposure(Map):
    """Measure exposure from the 256 levels of luma (0.299 R + 0.587 G + 0.114 B, BT.601).

    Reads `image`: height x width x channels, 8 bits; alpha is ignored.
    Writes:

    * `brightness`: mean luma, 0 (black) to 1 (white);
    * `contrast`: RMS contrast, the standard deviation of luma, 0 to 0.5 (Peli, "Contrast in
      complex images", JOSA A 7(10), 1990);
    * `clipped`: the share of pixels that are quite black or quite white, 0 to 1;
    * `entropy`: of the histogram, 0 (one level) to 8 (all alike) bits (Shannon 1948).

    >>> half = np.zeros((2, 2, 3), np.uint8); half[0] = 255
    >>> Exposure()(half)
    {'brightness': 0.5, 'contrast': 0.5, 'clipped': 1.0, 'entropy': 1.0}

    Raises:
        RowError: the array is not an image.
    """

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(brightness=Float32(), contrast=Float32(), clipped=Float32(), entropy=Float32())

    def map_row(self, row: Row, loaded: Any) -> dict[str, float]:
        """One image."""
        counts = arrays.luma_image(row["image"], self.name).histogram()
        share = np.asarray(counts, np.float64) / sum(counts)
        mean = float(share @ _LEVELS)
        present = share[share > 0]
        return {
            "brightness": mean,
            "contrast": float(np.sqrt(share @ (_LEVELS - mean) ** 2)),
            "clipped": float(share[0] + share[-1]),
            "entropy": abs(float(present @ np.log2(present))),
        }
