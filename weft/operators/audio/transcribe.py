"""Speech to text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.errors import DefinitionError, RowError, nearest
from weft.operators.audio.sound import check_waveform
from weft.operators.batching import Batcher, micro_batches
from weft.operators.devices import Inputs, torch_dtype
from weft.operators.model import Model
from weft.pipelines.fields import fields
from weft.pipelines.operator import BatchView
from weft.pipelines.resources import Resources
from weft.pipelines.types import Arrow, Text, Values, Waveform

_RATE = 16_000
_WINDOW = 30 * _RATE
"""Samples that the model hears at once."""

_TASKS = ("transcribe", "translate")

_SEGMENTS = pa.list_(
    pa.struct(
        [("start_seconds", pa.float64()), ("end_seconds", pa.float64()), ("text", pa.string())]
    )
)


@dataclass(frozen=True)
class Transcribe(Model):
    """Transcribe speech with a model of the Whisper family.

    Reads `waveform`: one channel at 16 kHz; its type must say so.
    Writes `text`: all that is said; `segments`: the same in pieces, each with `start_seconds` and
    `end_seconds` as the model sets them (not after the end of the sound), and `text`; and
    `language`: its code, such as ``en``, null where there is no sound.

    `model` is a folder or ``owner/name`` with a `revision`: see `weft.operators.weights`.
    `language` is a code; ``None`` detects it in the first 30 seconds. ``task="translate"`` writes
    English. A model for English alone takes neither.

    A model hears 30 seconds. In longer sound the next 30 seconds begin where the last whole
    segment ended, as its timestamps say, so that no word is cut (Radford et al. 2023, §3.8,
    arXiv:2212.04356). Decoding is greedy: the most likely token each time, no temperature, and
    nothing of the text before is given as a prompt. The answer is that of transformers' own
    ``generate`` with timestamps for the clip alone, whatever other rows are in the batch, but for
    segments that begin after the sound has ended: the model made them up from the silence that
    fills its 30 seconds, and they are left out.

    Where nobody speaks Whisper may still write something; drop such rows with `VoiceActivity`.

    `batch_size` clips are decoded at once; fewer if they do not fit the device.

    Raises:
        DefinitionError: a parameter has no such value, or the model has no such language; it is
            not a Whisper model; transformers is not installed.
        RowError: the array is not a waveform of one channel, or its values are not finite.
    """

    language: str | None = None
    task: str = "transcribe"
    batch_size: int = field(default=16, kw_only=True)

    version = "1"
    reads = fields(waveform=Waveform(_RATE, 1))
    writes = fields(text=Text(), segments=Arrow(_SEGMENTS), language=Text | None)
    resources = Resources(gpus=1, or_cpu=True)  # of waveforms, a whole unit would be too much

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task not in _TASKS:
            raise DefinitionError(
                f"{self.name}: task={self.task!r}: expected one of {', '.join(_TASKS)}."
            )
        if not isinstance(self.batch_size, int) or self.batch_size < 1:
            raise DefinitionError(
                f"{self.name}: batch_size={self.batch_size!r}: expected at least 1."
            )
        self._check_model()

    def _check_model(self) -> None:
        config = self.weights.config()
        if config.get("model_type") != "whisper":
            raise DefinitionError(
                f"{self.name}: model={self.model!r} is of type {config.get('model_type')!r}; "
                "expected a Whisper model."
            )
        generation = self.weights.config("generation_config.json")
        languages = [t.strip("<|>") for t in generation.get("lang_to_id", {})]
        if not languages and (self.language is not None or self.task != "transcribe"):
            raise DefinitionError(
                f"{self.name}: model={self.model!r} is for English alone: leave out language and "
                "task, or use a multilingual one."
            )
        if self.language is not None and self.language not in languages:
            raise DefinitionError(
                f"{self.name}: language={self.language!r}: the model has no such language. It "
                f"has: {', '.join(languages)}. {nearest(self.language, languages)}".rstrip()
            )

    def params(self) -> dict[str, Any]:
        """The parameters that decide the answer; how many clips go together does not."""
        return {k: v for k, v in super().params().items() if k != "batch_size"}

    def setup(self, device: str) -> Batcher:
        """The model on its device."""
        whisper = _Whisper(self, device)
        return Batcher(device, whisper.collate, whisper.forward, self.name)

    def map(self, batch: BatchView, loaded: Batcher) -> dict[str, Values]:
        """Clips of up to 30 seconds together, and longer ones together, the longest first."""
        clips = [self._clip(waveform) for waveform in batch["waveform"]]
        sizes = [len(clip) for clip in clips]
        groups = (
            [i for i, size in enumerate(sizes) if size > _WINDOW],
            [i for i, size in enumerate(sizes) if 0 < size <= _WINDOW],
        )
        batches = [
            [group[i] for i in rows]
            for group in groups
            for rows in micro_batches([sizes[i] for i in group], self.batch_size)
        ]
        found = loaded.run(clips, sizes, batches)
        rows = [_Spoken("", [], None) if said is None else said for said in found]
        return {
            "text": [said.text for said in rows],
            "segments": [said.segments for said in rows],
            "language": [said.language for said in rows],
        }

    def _clip(self, waveform: Any) -> npt.NDArray[np.float32]:
        samples = check_waveform(waveform, self.name)
        if samples.shape[0] != 1:
            raise RowError(
                f"{self.name}: given {samples.shape[0]} channels; expected one. Decode with "
                "channels=1."
            )
        if not np.isfinite(samples).all():
            raise RowError(f"{self.name}: the waveform has values that are not finite.")
        clip: npt.NDArray[np.float32] = samples[0]
        return clip


@dataclass(frozen=True)
class _Spoken:
    """What is said in a clip."""

    text: str
    segments: list[dict[str, Any]]
    language: str | None


class _Whisper:
    """A model with its tokenizer and its spectrogram, as one worker holds them."""

    def __init__(self, operator: Transcribe, device: str) -> None:
        self.dtype = torch_dtype(operator.dtype)
        self.model = operator.load("WhisperForConditionalGeneration", device)
        self.extract = operator.load_part("WhisperFeatureExtractor")
        self.tokenizer = operator.load_part("WhisperTokenizer")
        self.language = operator.language
        self.task = operator.task
        ids = getattr(self.model.generation_config, "lang_to_id", None) or {}
        self.languages = {number: token.strip("<|>") for token, number in ids.items()}

    def collate(self, clips: list[npt.NDArray[np.float32]]) -> Inputs:
        """Spectrograms of clips that are all at most 30 seconds long, or all longer.

        Each is that of its clip alone. The short ones are padded with silence to 30 seconds as
        the model was trained on; the long ones behind their end, where it does not look.
        """
        import torch

        padding = "max_length" if len(clips[0]) <= _WINDOW else "longest"
        options = {"sampling_rate": _RATE, "truncation": False, "return_tensors": "pt"}
        spectra = [
            self.extract(clip, padding=padding, **options).input_features[0] for clip in clips
        ]
        frames = max(s.shape[1] for s in spectra)
        mask = torch.stack([(torch.arange(frames) < s.shape[1]).long() for s in spectra])
        pad = torch.nn.functional.pad
        padded = torch.stack([pad(s, (0, frames - s.shape[1])) for s in spectra])
        seconds = [len(clip) / _RATE for clip in clips]
        return {"features": padded.to(self.dtype), "mask": mask, "seconds": seconds}

    def forward(self, inputs: Inputs) -> Sequence[_Spoken]:
        """What is said in each clip."""
        features = inputs["features"]
        given: dict[str, Any] = {}
        languages = ["en"] * len(features)
        if self.languages:
            languages = self._languages(features)
            given = {"language": languages, "task": self.task}
        found = self.model.generate(
            features,
            attention_mask=inputs["mask"],
            return_timestamps=True,
            return_segments=True,
            do_sample=False,
            num_beams=1,
            condition_on_prev_tokens=False,
            **given,
        )
        rows = zip(found["segments"], inputs["seconds"], languages, strict=True)
        return [self._spoken(segments, seconds, language) for segments, seconds, language in rows]

    def _languages(self, features: Any) -> list[str]:
        if self.language is not None:
            return [self.language] * len(features)
        return [self.languages[i] for i in self.model.detect_language(features).tolist()]

    def _spoken(self, segments: Sequence[Any], seconds: float, language: str) -> _Spoken:
        within = [s for s in segments if float(s["start"]) < seconds]
        tokens = [t for s in within for t in s["tokens"].tolist()]
        pieces = [
            {
                "start_seconds": round(float(s["start"]), 2),  # tokens stand for steps of 20 ms
                "end_seconds": round(min(float(s["end"]), seconds), 2),
                "text": self._decode(s["tokens"].tolist()),
            }
            for s in within
        ]
        return _Spoken(self._decode(tokens), pieces, language)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text.strip()
