"""Change the sample rate of waveforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.errors import RowError
from weft.operators.audio.resampling import LAYOUTS, resampled
from weft.operators.audio.sound import Sound, check_rate, collect, from_row
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Int32, Waveform


@dataclass(frozen=True)
class Resample(Map):
    """Bring a waveform to `sample_rate`, antialiased.

    Reads `waveform`: channels x samples, and its `sample_rate` in Hz.
    Writes `waveform`: the same channels, ``ceil(samples * wanted / given)`` samples; and
    `sample_rate`, which is now the same on every row.

    The resampler is FFmpeg's libswresample with its defaults, see
    `weft.operators.audio.resampling`. Up to 0.8 of the lower Nyquist frequency it differs from
    soxr at its highest quality by at most 1e-4 of full scale, 0.02 s at either end left out, where
    the silence around the sound is part of the answer.

    >>> import numpy as np
    >>> second = np.zeros((2, 44_100), np.float32)
    >>> resampled = Resample(16_000)(second, 44_100)
    >>> resampled["waveform"].shape, resampled["sample_rate"]
    ((2, 16000), 16000)

    Raises:
        DefinitionError: `sample_rate` is no rate.
        RowError: the array is not a waveform of at most 8 channels, or the rate no rate.
    """

    sample_rate: int

    version = "1"
    reads = fields(waveform=Waveform(), sample_rate=Int32())
    writes = fields(waveform=Waveform(), sample_rate=Int32())

    def __post_init__(self) -> None:
        check_rate(self.sample_rate, f"{self.name}: sample_rate")

    def infer(self, inputs: Fields) -> Fields:
        """Channels of the input, at the rate."""
        given = inputs["waveform"]
        channels = given.channels if isinstance(given, Waveform) else None
        return fields(waveform=Waveform(self.sample_rate, channels), sample_rate=Int32())

    def stream(self, sound: Sound) -> Sound:
        """The blocks at the rate."""
        blocks = resampled(sound.blocks, sound.channels, sound.rate, self.sample_rate)
        return Sound(self.sample_rate, sound.channels, blocks)

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One waveform."""
        sound = from_row(row, self.name)
        if sound.channels not in LAYOUTS:
            raise RowError(
                f"{self.name}: given {sound.channels} channels; expected at most {len(LAYOUTS)}."
            )
        waveform = collect(self.stream(sound), self.name)
        return {"waveform": waveform, "sample_rate": self.sample_rate}
