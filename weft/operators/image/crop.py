"""Take a part of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError
from weft.operators.image import arrays, geometry
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Image


@dataclass(frozen=True)
class Crop(Map):
    """Take the centre of an image, or a given box of it.

    Reads `image`: height x width x 1, 3 or 4 channels, 8 bits.
    Writes `image`: the same channels, exactly the size asked for.

    Give one of `size`, (height, width) in pixels or one number for a square, and `box`,
    (top, left, height, width) in pixels. Where the margins around the centre cannot be equal,
    the upper or left one is the smaller.

    >>> import numpy as np
    >>> photo = np.arange(5 * 5 * 3, dtype=np.uint8).reshape(5, 5, 3)
    >>> Crop(3)(photo).shape, Crop(box=(0, 1, 1, 1))(photo).tolist()
    ((3, 3, 3), [[[3, 4, 5]]])

    Raises:
        DefinitionError: neither or both of `size` and `box`, or not such numbers.
        RowError: the image is too small, or the array is not an image.
    """

    size: int | tuple[int, int] | None = None
    box: tuple[int, int, int, int] | None = None

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(image=Image(channels=None))

    def __post_init__(self) -> None:
        if (self.size is None) == (self.box is None):
            raise DefinitionError(
                f"{self.name}: given size={self.size!r} and box={self.box!r}; expected one of "
                "them: size=(height, width) of the centre, or box=(top, left, height, width)."
            )
        if self.box is not None:
            self._check_box(self.box)
        self._extent()

    def _check_box(self, box: Any) -> None:
        if (
            not isinstance(box, tuple | list)
            or len(box) != 4
            or not all(isinstance(n, int) for n in box)
            or min(box[:2]) < 0
        ):
            raise DefinitionError(
                f"{self.name}: box={box!r}: expected (top, left, height, width) in whole "
                "pixels, top and left not negative."
            )

    def _extent(self) -> tuple[int, int]:
        if self.box is not None:
            return geometry.pair(self.box[2:], f"{self.name}: box[2:]")
        return geometry.pair(self.size, f"{self.name}: size")

    def step(self, width: int, height: int) -> geometry.Step:
        """What becomes of an image of this size."""
        down, across = self._extent()
        if self.box is not None:
            top, left = self.box[:2]
            geometry.check_holds(width, height, (left + across, top + down), self.name)
        else:
            geometry.check_holds(width, height, (across, down), self.name)
            top, left = (height - down) // 2, (width - across) // 2
        return geometry.Step((left, top, left + across, top + down), (across, down))

    def infer(self, inputs: Fields) -> Fields:
        """Channels of the input, and the size."""
        given = inputs["image"]
        height, width = self._extent()
        return fields(
            image=Image(height, width, given.channels if isinstance(given, Image) else None)
        )

    def map_row(self, row: Row, loaded: Any) -> arrays.Pixels:
        """One image."""
        image = arrays.to_image(row["image"], self.name)
        return arrays.to_array(geometry.apply(image, self.step(*image.size)))
