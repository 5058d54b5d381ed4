"""Which frames of a clip are meant: every so many seconds, or some evenly spread.

A wanted time stands for the frame that is on the screen then: the last one shown at or before
it; before the first frame, the first. Both are compared in ticks of the stream's clock, a wanted
time being rounded to the nearest: WebM counts milliseconds, so that its second frame at 30
frames a second is shown at 0.033 and not at 1/30. Ranges are half open: [start, stop).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError, RowError
from weft.operators.video.clip import Clip

MAX_TIMES = 10_000_000
"""Wanted times of one clip. A header may claim a century."""


def check_range(start: Any, stop: Any, what: str) -> None:
    """Refuse a range of time that is none.

    Raises:
        DefinitionError: `start` is negative or not a time, or `stop` is not after it.
    """
    if not _is_time(start) or start < 0:
        raise DefinitionError(f"{what}: start={start!r}: expected seconds, at least 0.")
    if stop is not None and (not _is_time(stop) or stop <= start):
        raise DefinitionError(
            f"{what}: stop={stop!r}: expected seconds after start={start!r}, or None for the end."
        )


def check_every(every: Any, what: str) -> None:
    """Refuse a distance in time that is none.

    Raises:
        DefinitionError: not a positive number of seconds.
    """
    if not _is_time(every) or every <= 0:
        raise DefinitionError(f"{what}: every={every!r}: expected a positive number of seconds.")


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def every_so_often(
    clip: Clip, every: float, start: float, stop: float | None, what: str
) -> npt.NDArray[np.int64]:
    """The frames on the screen at start, start + every, … before `stop` and the end.

    Raises:
        RowError: more than `MAX_TIMES` times.
    """
    end = _end(clip, stop)
    count = max(math.ceil((end - start) / every), 0)
    if count > MAX_TIMES:
        raise RowError(
            f"{what}: every={every!r} is too often. Given a clip that claims to end at {end:.0f} "
            f"s, which makes {count} times; expected at most {MAX_TIMES}. Set stop, or drop the "
            "row."
        )
    wanted = clip.tick(start + every * np.arange(count, dtype=np.float64))
    # Rounding may have brought the last one to the end, which is outside.
    last = clip.tick(np.array([end]))[0]
    return on_screen(clip, wanted[wanted < last])


def evenly(clip: Clip, count: int, start: float, stop: float | None) -> npt.NDArray[np.int64]:
    """The frames on the screen in the middle of each of `count` equal parts of the range."""
    end = max(_end(clip, stop), start)
    return on_screen(clip, clip.tick(start + (end - start) * (np.arange(count) + 0.5) / count))


def within(clip: Clip, start: float, stop: float | None) -> npt.NDArray[np.int64]:
    """The frames that are first shown in the range."""
    bounds = clip.tick(np.array([start, math.inf if stop is None else stop]))
    first, last = np.searchsorted(clip.ticks, bounds)
    return np.arange(first, last)


def on_screen(clip: Clip, wanted: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The frame on the screen at each tick."""
    return np.maximum(np.searchsorted(clip.ticks, wanted, side="right") - 1, 0)


def _end(clip: Clip, stop: float | None) -> float:
    end = clip.seconds(clip.end)
    return end if stop is None else min(stop, end)
