"""Some frames of a video, by time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.errors import DefinitionError, RowError
from weft.operators.containers import MAX_PIXELS
from weft.operators.image import geometry
from weft.operators.video import pictures, times
from weft.operators.video.clip import MAX_FRAMES, Clip, check_limits, read_clip
from weft.operators.video.cursor import Cursor
from weft.operators.video.resize import Resize
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Operator, Row
from weft.pipelines.types import Arrow, Encoded, Frames

MAX_BYTES = 2**31 - 1
"""What one value of a column of `Frames` holds at most."""


@dataclass(frozen=True)
class Sample(Map):
    """Decode some frames of a video: one every so many seconds, or a number evenly spread.

    Reads `content`: the bytes of a file in one of the containers of `weft.operators.containers`.
    Writes:

    * `frames`: frames x height x width x 3 channels of 8 bits (RGB), upright, that is with the
      rotation of the file applied;
    * `times_seconds`: when each of these frames is first shown, from the start of the file.

    Give one of `every`, seconds, and `count`. With `every` the wanted times are `start`,
    `start` + `every`, … as long as they are before `stop` and before the end of the last frame.
    With `count` they are the middles of that many equal parts of that range, so there are
    always exactly that many. The frame of a wanted time is the one on the screen then: the last
    that is shown at or before it; before the first frame, the first. Times are compared in
    ticks of the video's own clock. A frame that is wanted twice comes twice.

    ``Sample(…, size=size, fit=fit)`` means ``Sample(…)`` then ``Resize(size, fit)``, exactly.
    `then` are further `Resize`, in order; a plan fills it with those that follow, so that only
    small frames are kept.

    Decoding begins at the last keyframe before a wanted frame where that is nearer than the
    frame decoded last; only wanted frames are converted to RGB. See
    `weft.operators.video.clip` for what counts as a frame and `weft.operators.video.pictures`
    for colours.

    >>> from weft.operators.video.drawn import drawn_clip
    >>> sampled = Sample(every=0.5, size=(60, 80))(drawn_clip(seconds=2))
    >>> sampled["frames"].shape, sampled["times_seconds"]
    ((4, 60, 80, 3), [0.0, 0.5, 1.0, 1.5])

    Raises:
        DefinitionError: a parameter has no such value.
        RowError: no video; damaged or cut short; frames of more than `max_pixels` or more than
            `max_frames` of them in the file; no wanted time is in the clip; frames of
            several sizes; a result of more than 2 GiB.
    """

    every: float | None = None
    count: int | None = None
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
    writes = fields(frames=Frames(), times_seconds=Arrow(pa.list_(pa.float64())))

    def __post_init__(self) -> None:
        if (self.every is None) == (self.count is None):
            raise DefinitionError(
                f"{self.name}: given every={self.every!r} and count={self.count!r}; expected one "
                "of them: every=seconds between frames, or count=frames of each clip."
            )
        if self.every is not None:
            times.check_every(self.every, self.name)
        if self.count is not None and (
            not isinstance(self.count, int) or isinstance(self.count, bool) or self.count < 1
        ):
            raise DefinitionError(f"{self.name}: count={self.count!r}: expected at least 1.")
        times.check_range(self.start, self.stop, self.name)
        check_limits(self)
        geometry.check_fit(self.fit, f"{self.name}: fit")
        if self.size is not None:
            geometry.pair(self.size, f"{self.name}: size")
        for operator in self.then:
            if not isinstance(operator, Resize):
                raise DefinitionError(
                    f"{self.name}: then holds {operator!r}; expected video.Resize only. Apply "
                    "other operators after the sample."
                )

    def _chain(self) -> tuple[Resize, ...]:
        first = () if self.size is None else (Resize(self.size, self.fit),)
        return first + tuple(op for op in self.then if isinstance(op, Resize))

    def absorb(self, following: Operator, port: str) -> Operator | None:
        """Take over a resize of the frames."""
        if port != "frames" or not isinstance(following, Resize):
            return None
        return dataclasses.replace(self, then=(*self.then, following))

    def infer(self, inputs: Fields) -> Fields:
        """How many frames with `count`; the size where it does not depend on the row."""
        out = fields(frames=Frames(self.count))
        for operator in self._chain():
            out = operator.infer(out)
        return out.merge(self.writes.only(["times_seconds"]))

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One file."""
        clip = read_clip(
            row["content"], self.name, max_pixels=self.max_pixels, max_frames=self.max_frames
        )
        wanted = self._wanted(clip)
        frames = self._decode(clip, wanted, [op.each for op in self._chain()])
        return {
            "frames": frames,
            "times_seconds": [clip.seconds(tick) for tick in clip.ticks[wanted]],
        }

    def _wanted(self, clip: Clip) -> npt.NDArray[np.int64]:
        end = clip.seconds(clip.end)
        if self.start >= end:
            raise RowError(
                f"{self.name}: the clip ends at {end:.3f} s, before start={self.start!r}. Drop "
                "short clips by the duration that Probe tells, or set an earlier start."
            )
        if self.count is not None:
            return times.evenly(clip, self.count, self.start, self.stop)
        assert self.every is not None
        return times.every_so_often(clip, self.every, self.start, self.stop, self.name)

    def _decode(
        self, clip: Clip, wanted: npt.NDArray[np.int64], chain: Sequence[Any]
    ) -> npt.NDArray[np.uint8]:
        """The wanted frames as one array, allocated once the first tells the size."""
        cursor = Cursor(clip, self.name)
        frames = self._room(len(wanted), pictures.pixels(cursor.frame(int(wanted[0])), chain))
        for number in range(1, len(wanted)):
            if wanted[number] == wanted[number - 1]:
                frames[number] = frames[number - 1]
                continue
            image = pictures.pixels(cursor.frame(int(wanted[number])), chain)
            if image.shape != frames.shape[1:]:
                raise RowError(
                    f"{self.name}: frames have several sizes. Given {frames.shape[1:3]} first and "
                    f"{image.shape[:2]} at {clip.seconds(clip.ticks[wanted[number]]):.3f} s "
                    "(height, width). Make them one: size=(height, width), fit='cover' or 'fill'."
                )
            frames[number] = image
        return frames

    def _room(self, count: int, first: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if count * first.size > MAX_BYTES:
            raise RowError(
                f"{self.name}: the frames are too many. Given {count} of {first.shape[0]}x"
                f"{first.shape[1]} pixels = {count * first.size} bytes; expected at most "
                f"{MAX_BYTES}. Give a size, sample fewer, or use video.Frames, one row a frame."
            )
        frames = np.empty((count, *first.shape), np.uint8)
        frames[0] = first
        return frames
