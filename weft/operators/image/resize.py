"""Change the size of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.operators.image import arrays, geometry
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Image


@dataclass(frozen=True)
class Resize(Map):
    """Make an image fit a box, antialiased.

    Reads `image`: height x width x 1, 3 or 4 channels, 8 bits.
    Writes `image`: the same channels; its size is known beforehand unless `fit` is "contain".

    `size` is (height, width) in pixels, one number for a square. `fit`:

    * "contain": the largest size within the box, aspect kept, never enlarged;
    * "cover": aspect kept, the centre that fills exactly the box;
    * "fill": exactly the box, aspect ignored.

    The filter is Pillow's BILINEAR, a triangle as wide as two output pixels. Channels with
    alpha are premultiplied while they are resampled.

    >>> import numpy as np
    >>> photo = np.zeros((40, 60, 3), np.uint8)
    >>> Resize(30)(photo).shape, Resize(30, fit="cover")(photo).shape
    ((20, 30, 3), (30, 30, 3))

    Raises:
        DefinitionError: `size` or `fit` is not one of the above.
        RowError: the array is not an image.
    """

    size: int | tuple[int, int]
    fit: str = "contain"

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(image=Image(channels=None))

    def __post_init__(self) -> None:
        geometry.pair(self.size, f"{self.name}: size")
        geometry.check_fit(self.fit, f"{self.name}: fit")

    def step(self, width: int, height: int) -> geometry.Step:
        """What becomes of an image of this size."""
        down, across = geometry.pair(self.size, f"{self.name}: size")
        return geometry.resize_step(width, height, (across, down), self.fit)

    def infer(self, inputs: Fields) -> Fields:
        """Channels of the input; the size where it does not depend on the row."""
        given = inputs["image"]
        channels = given.channels if isinstance(given, Image) else None
        height, width = geometry.pair(self.size, f"{self.name}: size")
        if self.fit != "contain":
            return fields(image=Image(height, width, channels))
        if isinstance(given, Image) and given.height and given.width:
            width, height = self.step(given.width, given.height).size
            return fields(image=Image(height, width, channels))
        return fields(image=Image(channels=channels))

    def map_row(self, row: Row, loaded: Any) -> arrays.Pixels:
        """One image."""
        image = arrays.to_image(row["image"], self.name)
        return arrays.to_array(geometry.apply(image, self.step(*image.size)))
