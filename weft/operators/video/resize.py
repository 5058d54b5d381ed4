"""Change the size of all frames of a clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import RowError
from weft.operators.image import Resize as ImageResize
from weft.operators.image import geometry
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Frames, Image


@dataclass(frozen=True)
class Resize(Map):
    """Make each frame fit a box, antialiased: `image.Resize` of every frame.

    Reads `frames`: frames x height x width x 1, 3 or 4 channels, 8 bits.
    Writes `frames`: as many, of the same channels; the size is known beforehand unless `fit` is
    "contain". `size` and `fit` are those of `image.Resize`.

    >>> import numpy as np
    >>> clip = np.zeros((5, 40, 60, 3), np.uint8)
    >>> Resize(30)(clip).shape, Resize(30, fit="cover")(clip).shape
    ((5, 20, 30, 3), (5, 30, 30, 3))

    Raises:
        DefinitionError: `size` or `fit` is not one that `image.Resize` takes.
        RowError: the array holds no frames.
    """

    size: int | tuple[int, int]
    fit: str = "contain"

    version = "1"
    reads = fields(frames=Frames(channels=None))
    writes = fields(frames=Frames(channels=None))

    def __post_init__(self) -> None:
        geometry.pair(self.size, f"{self.name}: size")
        geometry.check_fit(self.fit, f"{self.name}: fit")

    @property
    def each(self) -> ImageResize:
        """The same for one frame."""
        return ImageResize(self.size, self.fit)

    def infer(self, inputs: Fields) -> Fields:
        """Count and channels of the input; the size where it does not depend on the row."""
        given = inputs["frames"]
        if not isinstance(given, Frames):
            given = Frames(channels=None)
        image = fields(image=Image(given.height, given.width, given.channels))
        out = self.each.infer(image)["image"]
        assert isinstance(out, Image)
        return fields(frames=Frames(given.count, out.height, out.width, given.channels))

    def map_row(self, row: Row, loaded: Any) -> npt.NDArray[np.uint8]:
        """One clip."""
        frames = row["frames"]
        if getattr(frames, "ndim", 0) != 4 or 0 in frames.shape:
            raise RowError(
                f"{self.name}: given an array of shape {getattr(frames, 'shape', None)}; expected "
                "frames x height x width x channels, none of them 0. video.Sample makes such "
                "arrays."
            )
        resize = self.each
        return np.stack([resize(frame) for frame in frames])
