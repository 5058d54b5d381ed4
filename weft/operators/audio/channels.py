"""Mix the channels of waveforms down, or copy one to two."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import numpy as np

from weft.errors import DefinitionError, RowError
from weft.operators.audio.sound import Samples, Sound, collect, from_row
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Waveform

_HALF = sqrt(0.5)

_SPEAKERS = {1: "C", 2: "LR", 5: "LRClr", 6: "LRCElr", 8: "LRCElrlr"}
"""Speakers by channel, in the order of files and FFmpeg: left, right, centre, effects (LFE),
surround left and right. 8 channels are 7.1, with two pairs of surrounds."""

_TO_STEREO = {
    "L": (1.0, 0.0), "R": (0.0, 1.0), "C": (_HALF, _HALF), "E": (0.0, 0.0),
    "l": (_HALF, 0.0), "r": (0.0, _HALF),
}  # fmt: skip
"""What a speaker adds to left and right: ITU-R BS.775, annex 4."""


@dataclass(frozen=True)
class Channels(Map):
    """Mix a waveform to one channel or two.

    Reads `waveform`: channels x samples; 1, 2, 5 (5.0), 6 (5.1) or 8 (7.1) channels.
    Writes `waveform`: `channels` x samples.

    * 2 to 1 is the mean, 1 to 2 is a copy;
    * 5.0, 5.1 and 7.1 to 2 follow ITU-R BS.775: left + 0.7071 centre + 0.7071 of each left
      surround, likewise right, without the effects channel; both divided by the sum of their
      weights, so that nothing exceeds full scale;
    * 5.0, 5.1 and 7.1 to 1 are the mean of that.

    >>> import numpy as np
    >>> stereo = np.array([[0.5, 0.5], [0.0, 1.0]], np.float32)
    >>> Channels(1)(stereo).tolist()
    [[0.25, 0.75]]

    Raises:
        DefinitionError: `channels` is not 1 or 2.
        RowError: the array is not a waveform, or there is no rule for so many channels.
    """

    channels: int = 1

    version = "1"
    reads = fields(waveform=Waveform())
    writes = fields(waveform=Waveform())

    def __post_init__(self) -> None:
        if self.channels not in (1, 2) or isinstance(self.channels, bool):
            raise DefinitionError(f"{self.name}: channels={self.channels!r}: expected 1 or 2.")

    def infer(self, inputs: Fields) -> Fields:
        """The rate of the input, so many channels."""
        given = inputs["waveform"]
        rate = given.sample_rate if isinstance(given, Waveform) else None
        return fields(waveform=Waveform(rate, self.channels))

    def stream(self, sound: Sound) -> Sound:
        """The blocks, mixed."""
        if sound.channels == self.channels:
            return sound
        if sound.channels not in _SPEAKERS:
            raise RowError(
                f"{self.name}: there is no rule to mix {sound.channels} channels to "
                f"{self.channels}. Expected {', '.join(map(str, _SPEAKERS))} channels. Decode "
                "without channels and mix them with an operator of your own, or drop the row."
            )
        weights = _matrix(sound.channels, self.channels)
        blocks = (_mixed(block, weights) for block in sound.blocks)
        return replace(sound, channels=self.channels, blocks=blocks)

    def map_row(self, row: Row, loaded: Any) -> Samples:
        """One waveform."""
        return collect(self.stream(from_row(row, self.name)), self.name)


def _matrix(given: int, wanted: int) -> Samples:
    """Weights, wanted x given."""
    if given == 1:
        return np.ones((wanted, 1), np.float32)
    stereo = np.array([_TO_STEREO[s] for s in _SPEAKERS[given]]).T
    stereo /= stereo.sum(axis=1, keepdims=True)
    weights = stereo if wanted == 2 else stereo.mean(axis=0, keepdims=True)
    return weights.astype(np.float32)


def _mixed(block: Samples, weights: Samples) -> Samples:
    # Not a product of matrices: BLAS adds up in an order that depends on the size of the block.
    out = weights[:, :1] * block[:1]
    for channel in range(1, len(block)):
        out += weights[:, channel : channel + 1] * block[channel : channel + 1]
    return out
