"""Pixels to bytes of an image file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError, RowError, nearest
from weft.operators.image import arrays
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Encoded, Image

FORMATS = ("jpeg", "png", "webp", "avif")


@dataclass(frozen=True)
class Encode(Map):
    """Encode as JPEG, PNG, WebP or AVIF.

    Reads `image`: height x width x 1, 3 or 4 channels, 8 bits.
    Writes `encoded`: the bytes of a file.

    PNG is lossless. The others lose detail: `quality` is 1..100 as each encoder understands
    it, so the same number means something else in another format; PNG has no use for it. JPEG
    halves the resolution of colour (4:2:0). WebP and AVIF store grey as colour.

    >>> import numpy as np
    >>> Encode("png")(np.zeros((4, 4, 3), np.uint8))[:4]
    b'\\x89PNG'

    Raises:
        DefinitionError: `format` or `quality` is not one of the above, or images with alpha
            are bound to a JPEG.
        RowError: the array is not an image, has alpha that a JPEG cannot hold, or more pixels
            on a side than the format can.
    """

    format: str = "jpeg"
    quality: int = 90

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(encoded=Encoded("image"))

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise DefinitionError(
                f"{self.name}: format={self.format!r}: expected one of {', '.join(FORMATS)}. "
                f"{nearest(str(self.format), FORMATS)}".rstrip()
            )
        if not isinstance(self.quality, int) or not 1 <= self.quality <= 100:
            raise DefinitionError(f"{self.name}: quality={self.quality!r}: expected 1 to 100.")

    def infer(self, inputs: Fields) -> Fields:
        """The bytes; alpha is refused for JPEG before anything runs."""
        given = inputs["image"]
        if self.format == "jpeg" and isinstance(given, Image) and given.channels == 4:
            raise DefinitionError(f"{self.name}: {self._no_alpha(str(given))}")
        return self.writes

    def map_row(self, row: Row, loaded: Any) -> bytes:
        """One image."""
        image = arrays.to_image(row["image"], self.name)
        if self.format == "jpeg" and image.mode == "RGBA":
            raise RowError(f"{self.name}: {self._no_alpha('an image of 4 channels')}")
        file = io.BytesIO()
        quality = {} if self.format == "png" else {"quality": self.quality}
        try:
            image.save(file, self.format.upper(), **quality)
        except (OSError, ValueError) as error:
            raise RowError(
                f"{self.name}: {self.format} cannot hold {image.height}x{image.width} pixels "
                f"({error}). Resize first, or use format='png'."
            ) from error
        return file.getvalue()

    @staticmethod
    def _no_alpha(given: str) -> str:
        return (
            f"a JPEG has no alpha. Given {given}; expected 1 or 3 channels. Decode with "
            "mode='RGB', or use format='png', 'webp' or 'avif'."
        )
