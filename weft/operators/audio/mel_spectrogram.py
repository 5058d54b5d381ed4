"""Mel spectrograms, as torchaudio makes them and as Whisper wants them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError, RowError
from weft.operators.audio.sound import check_rate, check_waveform
from weft.operators.audio.threads import one_thread
from weft.operators.torchaudio_import import torchaudio
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Tensor, Waveform

_WHISPER_RATE = 16_000
_WHISPER: dict[str, Any] = {
    "n_fft": 400,
    "hop_length": 160,
    "norm": "slaney",
    "mel_scale": "slaney",
}
"""Windows of 25 ms every 10 ms; the mel scale and the areas of Slaney's Auditory Toolbox."""

_TORCHAUDIO: dict[str, Any] = {"n_fft": 400, "hop_length": 200, "norm": None, "mel_scale": "htk"}


@dataclass(frozen=True)
class MelSpectrogram(Map):
    """Make a mel spectrogram.

    Reads `waveform`: one channel at `sample_rate` Hz; its type must say so.
    Writes `mel`: `n_mels` x frames of float32.

    `convention`:

    * "whisper": log-mel as Whisper takes it (Radford et al., "Robust Speech Recognition via
      Large-Scale Weak Supervision", 2022): 16 kHz, 80 or 128 mels, Hann windows of 25 ms every
      10 ms, mirrored ends, the last frame left out; log10 of the power, no lower than 8 below
      the highest, then (x + 4) / 4;
    * "torchaudio": power on the HTK mel scale, no logarithm; what
      ``torchaudio.transforms.MelSpectrogram`` makes with its defaults: Hann windows of 400
      samples every 200. torchaudio warns where `n_mels` are more than so short windows tell apart.

    `seconds` pads with silence or cuts to so many seconds
    first, so that all rows have one shape: Whisper takes 30. Without it there is a frame for
    every 10 ms of the sound, and no padding.

    >>> import numpy as np
    >>> second = np.zeros((1, 16_000), np.float32)
    >>> MelSpectrogram()(second).shape, MelSpectrogram(seconds=30)(second).shape
    ((80, 100), (80, 3000))

    Raises:
        DefinitionError: a parameter has no such value; torchaudio is not installed; the type of
            the waveform has another rate, or none.
        RowError: the array is not a waveform of one channel, or shorter than half a window.
    """

    convention: str = "whisper"
    n_mels: int = 80
    seconds: float | None = None
    sample_rate: int = _WHISPER_RATE

    version = "1"
    reads = fields(waveform=Waveform(channels=1))
    writes = fields(mel=Tensor("float32", (None, None)))

    def __post_init__(self) -> None:
        if self.convention not in ("whisper", "torchaudio"):
            raise DefinitionError(
                f"{self.name}: convention={self.convention!r}: expected 'whisper' or 'torchaudio'."
            )
        check_rate(self.sample_rate, f"{self.name}: sample_rate")
        if self._whisper and (self.n_mels not in (80, 128) or self.sample_rate != _WHISPER_RATE):
            raise DefinitionError(
                f"{self.name}: n_mels={self.n_mels!r}, sample_rate={self.sample_rate}: Whisper "
                "has 80 or 128 mels at 16000 Hz. For others use convention='torchaudio'."
            )
        if self.n_mels < 1 or (self.seconds is not None and not 0 < self.seconds < np.inf):
            raise DefinitionError(
                f"{self.name}: n_mels={self.n_mels!r}, seconds={self.seconds!r}: expected "
                "positive numbers; seconds=None keeps the length."
            )

    @property
    def _whisper(self) -> bool:
        return self.convention == "whisper"

    def infer(self, inputs: Fields) -> Fields:
        """The number of mels; that of frames where `seconds` is given."""
        given = inputs["waveform"]
        if not isinstance(given, Waveform) or given.sample_rate != self.sample_rate:
            raise DefinitionError(
                f"{self.name} takes a waveform at {self.sample_rate} Hz; the column is {given}. "
                f"Decode to that rate: audio.Decode(sample_rate={self.sample_rate}, channels=1)"
            )
        frames = None
        if self.seconds is not None:
            settings = _WHISPER if self._whisper else _TORCHAUDIO
            frames = round(self.seconds * self.sample_rate) // settings["hop_length"]
            frames += 0 if self._whisper else 1
        return fields(mel=Tensor("float32", (self.n_mels, frames)))

    def setup(self, device: str) -> Any:
        """The transform, its window and filters computed once."""
        settings = _WHISPER if self._whisper else _TORCHAUDIO
        transforms = torchaudio().transforms
        return transforms.MelSpectrogram(self.sample_rate, n_mels=self.n_mels, **settings)

    def map_row(self, row: Row, loaded: Any) -> npt.NDArray[np.float32]:
        """One waveform."""
        import torch

        waveform = check_waveform(row["waveform"], self.name)
        samples = waveform.shape[1]
        if waveform.shape[0] != 1 or (self.seconds is None and samples <= loaded.n_fft // 2):
            raise RowError(
                f"{self.name}: given {waveform.shape[0]} channels of {samples} samples; expected "
                f"one channel of more than {loaded.n_fft // 2}. Decode with channels=1 and drop "
                "what is shorter, or give seconds to pad it."
            )
        wanted = samples if self.seconds is None else round(self.seconds * self.sample_rate)
        sound = torch.zeros(wanted)
        sound[:samples] = torch.tensor(waveform[0, :wanted])  # a copy: Arrow's are read-only
        with one_thread(), torch.inference_mode():
            mel = loaded(sound)
            mel = _compressed(mel[:, :-1]) if self._whisper else mel
        values: npt.NDArray[np.float32] = mel.numpy()
        return values


def _compressed(power: Any) -> Any:
    log = power.clamp(min=1e-10).log10()
    return (log.clamp(min=float(log.max()) - 8.0) + 4.0) / 4.0
