"""Bytes of a sound file to a waveform."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError, RowError
from weft.operators import containers
from weft.operators.audio import frames
from weft.operators.audio.channels import Channels
from weft.operators.audio.resample import Resample
from weft.operators.audio.sound import check_range, check_rate, collect
from weft.operators.audio.trim import Trim
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Operator, Row
from weft.pipelines.types import Encoded, Int32, Waveform

_STREAMED = (0, 0x7FFF_0000)
"""Sizes in a RIFF header below and above which its writer did not know the length."""


@dataclass(frozen=True)
class Decode(Map):
    """Decode WAV, FLAC, MP3, Ogg Vorbis, Opus, AAC, ALAC and what else FFmpeg has a decoder for.

    Reads `content`: the bytes of a file, of a video the first audio stream. What they are is read
    from the bytes, never a name.
    Writes `waveform`: channels x samples of float32, full scale is -1 to 1; and `sample_rate` in
    Hz. Encoder delay that the file declares is left out, as FFmpeg does.

    ``Decode(sample_rate, channels, start, stop)`` means ``Decode()``, then
    ``Trim(start, stop)``, ``Channels(channels)`` and ``Resample(sample_rate)``, in this order.
    `then` are further ones; a plan fills it with those that follow. All work while the file is
    decoded, so that memory holds the answer only, and decoding ends at `stop`. Samples are the
    same to the last bit either way. A seek replaces decoding what is before `start` where it
    cannot change a sample (WAV, AIFF, W64, FLAC, ALAC).

    A file that is cut short is refused where its format tells (WAV, AIFF, FLAC, MP4); the others
    are shorter without a word.

    >>> import io, wave
    >>> file = io.BytesIO()
    >>> with wave.open(file, "wb") as out:
    ...     out.setparams((1, 2, 8000, 0, "NONE", ""))
    ...     out.writeframes(b"\\x00\\x40" * 8000)
    >>> decoded = Decode(sample_rate=16_000)(file.getvalue())
    >>> decoded["waveform"].shape, decoded["sample_rate"]
    ((1, 16000), 16000)

    Raises:
        DefinitionError: a parameter has no such value.
        RowError: no sound in a known container; damaged; more than `max_seconds` decoded, which
            counts samples, not what a header says; more than 8 channels or 2 GiB; no rule to mix
            the channels; the format changes in the middle; samples that are not finite.
    """

    sample_rate: int | None = None
    channels: int | None = None
    start: float = 0.0
    stop: float | None = None
    max_seconds: float = 4 * 3600.0
    then: tuple[Operator, ...] = ()

    version = "1"
    isolated = True
    reads = fields(content=Encoded("audio"))
    writes = fields(waveform=Waveform(), sample_rate=Int32())

    def __post_init__(self) -> None:
        if self.sample_rate is not None:
            check_rate(self.sample_rate, f"{self.name}: sample_rate")
        if self.channels not in (None, 1, 2):
            raise DefinitionError(
                f"{self.name}: channels={self.channels!r}: expected 1, 2 or None, as in the file."
            )
        check_range(self.start, self.stop, self.name)
        if not isinstance(self.max_seconds, int | float) or not self.max_seconds > 0:
            raise DefinitionError(
                f"{self.name}: max_seconds={self.max_seconds!r}: expected a positive number."
            )
        for operator in self.then:
            if not isinstance(operator, Trim | Channels | Resample):
                raise DefinitionError(
                    f"{self.name}: then holds {operator!r}; expected Trim, Channels and Resample "
                    "only. Apply other operators after the decode."
                )

    def _chain(self) -> tuple[Trim | Channels | Resample, ...]:
        first: list[Trim | Channels | Resample] = []
        if self.start or self.stop is not None:
            first.append(Trim(self.start, self.stop))
        if self.channels is not None:
            first.append(Channels(self.channels))
        if self.sample_rate is not None:
            first.append(Resample(self.sample_rate))
        then = (op for op in self.then if isinstance(op, Trim | Channels | Resample))
        return (*first, *then)

    def absorb(self, following: Operator, port: str) -> Operator | None:
        """Take over a trim, a mix or a resampling."""
        if port != "waveform" or not isinstance(following, Trim | Channels | Resample):
            return None
        return dataclasses.replace(self, then=(*self.then, following))

    def infer(self, inputs: Fields) -> Fields:
        """Rate and channels where they do not depend on the row."""
        out = self.writes
        for operator in self._chain():
            out = out.merge(operator.infer(out))
        return out

    def setup(self, device: str) -> tuple[Trim | Channels | Resample, ...]:
        """All that is done to the sound, in order."""
        return self._chain()

    def map_row(self, row: Row, loaded: Sequence[Trim | Channels | Resample]) -> dict[str, Any]:
        """One file."""
        content = row["content"]
        _check_riff(content, self.name)
        start = loaded[0].start if loaded and isinstance(loaded[0], Trim) else 0.0
        with containers.open_container(content, self.name) as container:
            stream = containers.audio_stream(container, self.name)
            sound = frames.decode(
                container, stream, self.name, start=start, max_seconds=self.max_seconds
            )
            for operator in loaded:
                sound = operator.stream(sound)
            return {"waveform": collect(sound, self.name), "sample_rate": sound.rate}


def _check_riff(content: bytes, what: str) -> None:
    """Refuse a WAV that is shorter than it says; FFmpeg decodes what is there."""
    size = int.from_bytes(content[4:8], "little")
    known = content[:4] == b"RIFF" and _STREAMED[0] < size < _STREAMED[1]
    if known and size + 8 > len(content) + size % 2:  # the byte that makes it even may be missing
        raise RowError(
            f"{what}: the file is damaged or cut short: its header says {size + 8} bytes; given "
            f"{len(content)}. Fetch it again, or drop the row."
        )
