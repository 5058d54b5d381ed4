"""Pictures that belong together, as one clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import RowError
from weft.pipelines.fields import Fields, fields
from weft.pipelines.grouping import Group
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Frames, Image


@dataclass(frozen=True)
class Stack(Group):
    """The pictures of each group as the frames of one clip, in the order of the source.

    Reads `image`: height x width x channels, 8 bits, all of a group alike. Writes `frames`:
    frames x height x width x channels. ``frames.group("_parent", operator=Stack())`` makes
    clips of the frames that `video.Frames` made of videos and that are still there.

    >>> import numpy as np
    >>> Stack()([np.zeros((4, 6, 3), np.uint8)] * 5).shape
    (5, 4, 6, 3)

    Raises:
        RowError: pictures of different sizes; no row of such a group goes on.
    """

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(frames=Frames(channels=None))

    def infer(self, inputs: Fields) -> Fields:
        """The size of the pictures, as far as it is known."""
        given = inputs["image"]
        assert isinstance(given, Image)
        return fields(frames=Frames(None, given.height, given.width, given.channels))

    def group(self, rows: BatchView, loaded: Any) -> npt.NDArray[np.uint8]:
        """One clip."""
        images: Any = rows["image"]
        first = images[0]
        for number, image in enumerate(images):
            if image.shape != first.shape:
                raise RowError(
                    f"{self.name}: picture 1 is {_size(first)} and picture {number + 1} is "
                    f"{_size(image)} (height x width x channels); expected pictures of one size. "
                    'Make them so before: image.Resize((224, 224), fit="cover")'
                )
        stacked: npt.NDArray[np.uint8] = np.stack(images)
        return stacked


def _size(image: npt.NDArray[np.uint8]) -> str:
    return " x ".join(map(str, image.shape))
