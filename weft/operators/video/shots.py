"""Where one shot of a video ends and the next begins."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image as PilImage

from weft.errors import DefinitionError
from weft.operators.containers import MAX_PIXELS
from weft.operators.video.clip import MAX_FRAMES, Clip, check_limits, read_clip
from weft.operators.video.cursor import Cursor
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Arrow, Encoded

_WIDTH = 256
"""Pixels across of the frames that are compared; small enough that noise averages out."""

_UNITS = np.array([180 / 255, 1.0, 1.0])
"""Pillow's hue is 0..255; thresholds are customary for OpenCV's 0..180."""

SHOT = pa.struct([("start_seconds", pa.float64()), ("end_seconds", pa.float64())])


@dataclass(frozen=True)
class Shots(Map):
    """Find the shots of a video: runs of frames between cuts.

    Reads `content`: the bytes of a file in one of the containers of `weft.operators.containers`.
    Writes `shots`: a list of {start_seconds, end_seconds}, half open, in order and without gaps
    from the first frame to the end of the last; counted from the start of the file. It is a
    list, not a row each, because shots are facts about a clip, to be stored and filtered with
    it; in Polars ``frame.explode("shots").unnest("shots")`` makes them rows.

    A cut is where hue, saturation and value differ from those of the frame before by at least
    `threshold` on average (0 to 255), and the shot so far has lasted `min_seconds`. That is
    PySceneDetect's content detector with its defaults, on frames reduced to 256 pixels across.
    It finds hard cuts; fades and dissolves change little from frame to frame and are not found.

    >>> from weft.operators.video.drawn import drawn_clip
    >>> Shots()(drawn_clip(seconds=2, cut=0.8))
    [{'start_seconds': 0.0, 'end_seconds': 0.8}, {'start_seconds': 0.8, 'end_seconds': 2.0}]

    Raises:
        DefinitionError: a parameter has no such value.
        RowError: no video; damaged or cut short; frames of more than `max_pixels` or more than
            `max_frames` of them in the file.
    """

    threshold: float = 27.0
    min_seconds: float = 0.6
    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES

    version = "1"
    isolated = True
    reads = fields(content=Encoded("video"))
    writes = fields(shots=Arrow(pa.list_(SHOT)))

    def __post_init__(self) -> None:
        for name, least in (("threshold", "more than 0"), ("min_seconds", "at least 0")):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
                raise DefinitionError(f"{self.name}: {name}={value!r}: expected {least}.")
        if not self.threshold:
            raise DefinitionError(f"{self.name}: threshold=0: expected more than 0.")
        check_limits(self)

    def map_row(self, row: Row, loaded: Any) -> list[dict[str, float]]:
        """One file."""
        clip = read_clip(
            row["content"], self.name, max_pixels=self.max_pixels, max_frames=self.max_frames
        )
        starts = [clip.seconds(clip.ticks[0])]
        for tick, score in zip(clip.ticks[1:], differences(clip, self.name), strict=True):
            time = clip.seconds(tick)
            if score >= self.threshold and time - starts[-1] >= self.min_seconds:
                starts.append(time)
        ends = [*starts[1:], clip.seconds(clip.end)]
        return [
            {"start_seconds": start, "end_seconds": end}
            for start, end in zip(starts, ends, strict=True)
        ]


def differences(clip: Clip, what: str) -> Iterator[float]:
    """How much each frame but the first differs from the one before, 0..255."""
    cursor = Cursor(clip, what)
    before: npt.NDArray[np.int16] | None = None
    for index in range(len(clip.shown)):
        now = _small(cursor.frame(index))
        if before is not None:
            if now.shape != before.shape:
                yield 255.0  # another size is another shot
            else:
                yield float(np.abs(now - before).mean(axis=(0, 1)) @ _UNITS / 3)
        before = now


def _small(frame: Any) -> npt.NDArray[np.int16]:
    """A frame as hue, saturation and value, at most 256 pixels across."""
    width = min(frame.width, _WIDTH)
    height = max(round(frame.height * width / frame.width), 1)
    small = frame.reformat(width, height, format="rgb24", interpolation="AREA", threads=1)
    hsv = PilImage.fromarray(small.to_ndarray()).convert("HSV")
    return np.asarray(hsv).astype(np.int16)
