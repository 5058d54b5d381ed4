"""A stretch of time of a waveform."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from weft.operators.audio.sound import Samples, Sound, check_range, collect, from_row
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Int32, Waveform


@dataclass(frozen=True)
class Trim(Map):
    """Keep the samples from `start` to before `stop`.

    Reads `waveform`: channels x samples, and its `sample_rate` in Hz.
    Writes `waveform`: ``waveform[:, round(start * sample_rate) : round(stop * sample_rate)]``;
    without samples where the sound ends before `start`.

    `start` and `stop` are seconds; ``stop=None`` is the end.

    >>> import numpy as np
    >>> second = np.zeros((1, 16_000), np.float32)
    >>> Trim(0.25, 0.75)(second, 16_000).shape
    (1, 8000)

    Raises:
        DefinitionError: not 0 <= start < stop.
        RowError: the array is not a waveform, or the rate no rate.
    """

    start: float = 0.0
    stop: float | None = None

    version = "1"
    reads = fields(waveform=Waveform(), sample_rate=Int32())
    writes = fields(waveform=Waveform())

    def __post_init__(self) -> None:
        check_range(self.start, self.stop, self.name)

    def infer(self, inputs: Fields) -> Fields:
        """The type of the input."""
        return inputs.only(["waveform"])

    def stream(self, sound: Sound) -> Sound:
        """The samples of the range; blocks after it are not asked for."""
        first = round(self.start * sound.rate)
        end = None if self.stop is None else round(self.stop * sound.rate)
        return replace(sound, blocks=_between(sound, first, end), skipped=0)

    def map_row(self, row: Row, loaded: Any) -> Samples:
        """One waveform."""
        return collect(self.stream(from_row(row, self.name)), self.name)


def _between(sound: Sound, first: int, end: int | None) -> Iterator[Samples]:
    at = sound.skipped
    for block in sound.blocks:
        stop = None if end is None else max(0, end - at)
        part = block[:, max(0, first - at) : stop]
        if part.shape[1]:
            yield part
        at += block.shape[1]
        if end is not None and at >= end:
            return
