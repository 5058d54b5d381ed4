"""A row for each frame of a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.operators.containers import MAX_PIXELS
from weft.operators.image import Resize as ImageResize
from weft.operators.image import arrays, geometry
from weft.operators.video import pictures, times
from weft.operators.video.clip import MAX_FRAMES, Clip, check_limits, read_clip
from weft.operators.video.cursor import Cursor
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Expand, Later, Operator, Row
from weft.pipelines.types import Encoded, Float64, Image, Int64


@dataclass(frozen=True)
class Frames(Expand):
    """Make a row of each frame of a video, or of those on the screen every so many seconds.

    Reads `content`: the bytes of a file in one of the containers of `weft.operators.containers`.
    Writes, for each frame in the order of presentation:

    * `image`: height x width x 3 channels of 8 bits (RGB), upright, that is with the rotation
      of the file applied;
    * `index`: the number of the frame in the clip, from 0, whichever frames are taken;
    * `time_seconds`: when it is first shown, from the start of the file.

    Without `every` these are all frames that are first shown in [`start`, `stop`). With `every`,
    seconds, they are the frames on the screen at `start`, `start` + `every`, …, as `Sample`
    defines it, each once.

    Frames are listed without decoding. Only images that a later step reads are decoded, and a
    ``where`` on `index` or `time_seconds` is asked before: ``Frames().where(pl.col("index") % 300
    == 0)`` decodes from the last keyframe before each frame it keeps. A wanted image that does
    not decode fails its row, and so do those after it up to the next keyframe: they may refer
    to it.

    ``Frames(…, size=size, fit=fit)`` means ``Frames(…)`` then ``image.Resize(size, fit)``,
    exactly. `then` are further `image.Resize`, in order; a plan fills it with those that follow.

    >>> from weft.operators.video.drawn import drawn_clip
    >>> for row in Frames(every=0.5, size=(60, 80))(drawn_clip(seconds=1)):
    ...     print(row["index"], row["time_seconds"], row["image"].shape)
    0 0.0 (60, 80, 3)
    5 0.5 (60, 80, 3)

    Raises:
        DefinitionError: a parameter has no such value.
        RowError: no video; damaged or cut short; frames of more than `max_pixels` or more than
            `max_frames` of them in the file.
    """

    every: float | None = None
    size: int | tuple[int, int] | None = None
    fit: str = "contain"
    start: float = 0.0
    stop: float | None = None
    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES
    then: tuple[Operator, ...] = ()

    version = "1"
    isolated = True
    reads = fields(content=Encoded("video"))
    writes = fields(image=Image(), index=Int64(), time_seconds=Float64())
    early = ("index", "time_seconds")

    def __post_init__(self) -> None:
        if self.every is not None:
            times.check_every(self.every, self.name)
        times.check_range(self.start, self.stop, self.name)
        check_limits(self)
        geometry.check_fit(self.fit, f"{self.name}: fit")
        if self.size is not None:
            geometry.pair(self.size, f"{self.name}: size")
        for operator in self.then:
            if not isinstance(operator, ImageResize):
                raise DefinitionError(
                    f"{self.name}: then holds {operator!r}; expected image.Resize only. Apply "
                    "other operators after the frames."
                )

    def _chain(self) -> tuple[ImageResize, ...]:
        first = () if self.size is None else (ImageResize(self.size, self.fit),)
        return first + tuple(op for op in self.then if isinstance(op, ImageResize))

    def absorb(self, following: Operator, port: str) -> Operator | None:
        """Take over a resize of the image."""
        if port != "image" or not isinstance(following, ImageResize):
            return None
        return dataclasses.replace(self, then=(*self.then, following))

    def infer(self, inputs: Fields) -> Fields:
        """The size where it does not depend on the row."""
        image = fields(image=Image())
        for operator in self._chain():
            image = operator.infer(image)
        return image.merge(self.writes.only(self.early))

    def expand_row(self, row: Row, loaded: Any) -> Iterator[dict[str, Any]]:
        """The frames of one file."""
        clip = read_clip(
            row["content"], self.name, max_pixels=self.max_pixels, max_frames=self.max_frames
        )
        cursor, chain = Cursor(clip, self.name), self._chain()
        for index in self._wanted(clip).tolist():
            yield {
                "image": Later(partial(_image, cursor, index, chain)),
                "index": index,
                "time_seconds": clip.seconds(clip.ticks[index]),
            }

    def _wanted(self, clip: Clip) -> npt.NDArray[np.int64]:
        if self.every is None:
            return times.within(clip, self.start, self.stop)
        return np.unique(times.every_so_often(clip, self.every, self.start, self.stop, self.name))


def _image(cursor: Cursor, index: int, chain: Sequence[ImageResize]) -> arrays.Pixels:
    return pictures.pixels(cursor.frame(index), chain)
