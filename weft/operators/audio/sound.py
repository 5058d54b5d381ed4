"""Sound on its way through a chain of operators: blocks of samples, one after the other.

`Decode`, `Trim`, `Channels` and `Resample` are all written for a stream of blocks. Alone, an
operator is given a waveform as such a stream; taken over by a decoder, it is given the
decoder's. It is the same code, and the answer does not depend on where blocks end, so a plan
may push operators into the decoder and every sample stays the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError, RowError
from weft.pipelines.operator import Row

Samples = npt.NDArray[np.float32]
"""channels x samples, full scale is -1 to 1."""

BLOCK = 1 << 16
"""Samples of one block: 1.4 s at 48 kHz. Smaller ones cost calls, larger ones miss the cache:
a minute in one piece is resampled at a third of the speed."""

MAX_VALUES = 2**29
"""Samples times channels of the longest waveform: 2 GiB, three hours of stereo at 24 kHz."""

MAX_RATE = 768_000
"""Hz; the fastest converters there are."""


@dataclass
class Sound:
    """A stream of blocks. `skipped` samples before the first one were left out by a seek."""

    rate: int
    channels: int
    blocks: Iterator[Samples]
    skipped: int = 0


class Streaming(Protocol):
    """An operator that works on a stream."""

    def stream(self, sound: Sound) -> Sound:
        """What becomes of `sound`; nothing is computed before its blocks are asked for."""
        ...


def from_row(row: Row, what: str) -> Sound:
    """The stream of a row's `waveform` and, where there is one, `sample_rate`; 0 stands for none.

    Raises:
        RowError: not channels x samples of float32, or no rate.
    """
    waveform = check_waveform(row["waveform"], what)
    rate = int(row["sample_rate"]) if "sample_rate" in row else 0
    if "sample_rate" in row and not 1 <= rate <= MAX_RATE:
        raise RowError(
            f"{what}: sample_rate={rate}; expected 1 to {MAX_RATE} Hz. audio.Decode writes it."
        )
    starts = range(0, waveform.shape[1], BLOCK)
    return Sound(rate, waveform.shape[0], (waveform[:, s : s + BLOCK] for s in starts))


def check_waveform(array: Any, what: str) -> Samples:
    """`array` as it is.

    Raises:
        RowError: not channels x samples of float32.
    """
    shape, dtype = getattr(array, "shape", None), getattr(array, "dtype", type(array).__name__)
    if shape is None or len(shape) != 2 or shape[0] == 0 or dtype != np.float32:
        raise RowError(
            f"{what}: given an array of shape {shape} and dtype {dtype}; expected channels x "
            "samples of float32. audio.Decode makes such arrays."
        )
    waveform: Samples = array
    return waveform


def collect(sound: Sound, what: str) -> Samples:
    """All blocks as one waveform.

    Raises:
        RowError: more than `MAX_VALUES`.
    """
    blocks: list[Samples] = []
    values = 0
    for block in sound.blocks:
        blocks.append(block)
        values += block.size
        if values > MAX_VALUES:
            raise RowError(
                f"{what}: the waveform is too large: more than {MAX_VALUES} samples in "
                f"{sound.channels} channels. Ask for less of it with start and stop, for a lower "
                "sample_rate or for fewer channels."
            )
    if not blocks:
        return np.zeros((sound.channels, 0), np.float32)
    return np.ascontiguousarray(blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1))


def check_rate(rate: Any, what: str) -> None:
    """Refuse what is no rate.

    Raises:
        DefinitionError: not a whole number of Hz from 1 to `MAX_RATE`.
    """
    if not isinstance(rate, int) or isinstance(rate, bool) or not 1 <= rate <= MAX_RATE:
        raise DefinitionError(f"{what}={rate!r}: expected a whole number of Hz, 1 to {MAX_RATE}.")


def check_range(start: Any, stop: Any, what: str) -> None:
    """Refuse what is no range of seconds.

    Raises:
        DefinitionError: not 0 <= start < stop.
    """
    numbers = all(isinstance(v, int | float) and np.isfinite(v) for v in (start, stop or 0.0))
    if not numbers or start < 0 or (stop is not None and stop <= start):
        raise DefinitionError(
            f"{what}: start={start!r}, stop={stop!r}: expected seconds, 0 <= start < stop; "
            "stop=None is the end."
        )
