"""Where in a recording somebody speaks."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import pyarrow as pa

from weft.errors import DefinitionError, RowError
from weft.operators.audio.sound import check_waveform
from weft.operators.audio.threads import one_thread
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Arrow, Float32, Waveform

_RATE = 16_000

_STRETCHES = pa.list_(pa.struct([("start_seconds", pa.float64()), ("end_seconds", pa.float64())]))


def _model_version() -> str:
    try:
        return metadata.version("silero-vad")
    except metadata.PackageNotFoundError:
        return "none"


@dataclass(frozen=True)
class VoiceActivity(Map):
    """Find the stretches of speech with Silero VAD, whose model comes in its package.

    Reads `waveform`: one channel at 16 kHz; its type must say so.
    Writes `speech`: the stretches in order, each with `start_seconds` and `end_seconds`, half
    open; and `speech_share`: their part of the duration, 0 to 1, 0 where there is no sound.

    The model gives a probability of speech for every 32 ms. Speech begins at one of `threshold`
    or more and ends where it stays more than 0.15 below that for `min_silence_seconds`. Stretches
    shorter than `min_speech_seconds` are left out; others are made longer by 0.03 s at both ends.
    The rules and their defaults are those of ``silero_vad.get_speech_timestamps``.

    Silero Team, "Silero VAD: pre-trained enterprise-grade Voice Activity Detector", 2021-.
    Another version of the package is another model, so it is part of this operator's version.

    >>> import numpy as np
    >>> VoiceActivity()(np.zeros((1, 16_000), np.float32))
    {'speech': [], 'speech_share': 0.0}

    Raises:
        DefinitionError: a parameter has no such value; silero-vad is not installed.
        RowError: the array is not a waveform of one channel.
    """

    threshold: float = 0.5
    min_speech_seconds: float = 0.25
    min_silence_seconds: float = 0.1

    version = f"1, silero-vad {_model_version()}"
    reads = fields(waveform=Waveform(_RATE, 1))
    writes = fields(speech=Arrow(_STRETCHES), speech_share=Float32())

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise DefinitionError(
                f"{self.name}: threshold={self.threshold!r}: expected a probability, 0 to 1."
            )
        for name in ("min_speech_seconds", "min_silence_seconds"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise DefinitionError(f"{self.name}: {name}={value!r}: expected at least 0.")

    def setup(self, device: str) -> Any:
        """The model. It is so small that it is run on the CPU."""
        return _silero_vad().load_silero_vad()

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One waveform."""
        import torch

        waveform = check_waveform(row["waveform"], self.name)
        if waveform.shape[0] != 1:
            raise RowError(
                f"{self.name}: given {waveform.shape[0]} channels; expected one. Decode with "
                "channels=1."
            )
        samples = waveform.shape[1]
        with one_thread():
            found = _silero_vad().get_speech_timestamps(
                torch.tensor(waveform[0]),  # a copy: Arrow's are read-only
                loaded,
                threshold=self.threshold,
                sampling_rate=_RATE,
                min_speech_duration_ms=self.min_speech_seconds * 1000,
                min_silence_duration_ms=self.min_silence_seconds * 1000,
            )
        speech = [
            {"start_seconds": f["start"] / _RATE, "end_seconds": f["end"] / _RATE} for f in found
        ]
        spoken = sum(f["end"] - f["start"] for f in found)
        return {"speech": speech, "speech_share": spoken / samples if samples else 0.0}


def _silero_vad() -> Any:
    """The package.

    Raises:
        DefinitionError: it is not installed.
    """
    try:
        with one_thread():  # it sets that itself when first imported, for the whole process
            return importlib.import_module("silero_vad")
    except ModuleNotFoundError as error:
        raise DefinitionError(
            f"audio.VoiceActivity: {error.name} is not installed. "
            "Install it: pip install 'weft[audio]'"
        ) from error
