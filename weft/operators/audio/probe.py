"""What a sound file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.operators import containers
from weft.operators.audio import frames
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Encoded, Float64, Int32, Int64, Text

_HEADER = fields(
    codec=Text(),
    sample_rate=Int32(),
    channels=Int32(),
    channel_layout=Text(nullable=True),
    duration_seconds=Float64(nullable=True),
    bit_rate=Int64(nullable=True),
)

MAX_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Probe(Map):
    """Read the header of a sound file; decode it only if asked to count.

    Reads `content`: the bytes of a file in one of the formats of `Decode`.
    Writes:

    * `codec`: as FFmpeg names it: "flac", "mp3", "vorbis", "opus", "aac", "pcm_s16le", …;
    * `sample_rate`: in Hz; of HE-AAC FFmpeg says the rate that it decodes to;
    * `channels`, and `channel_layout`: "mono", "stereo", "5.1", …; null where the file does not
      say what they are, as most WAV files do not;
    * `duration_seconds`: a claim: of the header, or a guess from size and bit rate where it has
      none; null where there is neither;
    * `bit_rate`: in bits/s, likewise;
    * `samples_decoded`, with ``count=True`` only: the samples of each channel that there are,
      counted by decoding the whole file, 24 hours at most.

    >>> import io, wave
    >>> file = io.BytesIO()
    >>> with wave.open(file, "wb") as out:
    ...     out.setparams((2, 2, 8000, 0, "NONE", ""))
    ...     out.writeframes(bytes(4 * 4000))
    >>> probed = Probe(count=True)(file.getvalue())
    >>> probed["codec"], probed["channels"], probed["duration_seconds"]
    ('pcm_s16le', 2, 0.5)
    >>> probed["samples_decoded"]
    4000

    Raises:
        RowError: no sound in a known container, or the header is damaged; with ``count=True``
            all that `Decode` refuses.
    """

    count: bool = False

    version = "1"
    isolated = True
    reads = fields(content=Encoded("audio"))
    writes = _HEADER

    def __post_init__(self) -> None:
        if self.count:
            object.__setattr__(self, "writes", self.infer(self.reads))

    def infer(self, inputs: Fields) -> Fields:
        """With `samples_decoded` if asked to count."""
        return _HEADER.merge({"samples_decoded": Int64()}) if self.count else _HEADER

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One file."""
        with containers.open_container(row["content"], self.name) as container:
            stream = containers.audio_stream(container, self.name)
            context = stream.codec_context
            layout = context.layout.name
            probed = {
                "codec": context.codec.canonical_name,
                "sample_rate": context.sample_rate,
                "channels": context.layout.nb_channels,
                "channel_layout": None if layout.endswith("channels") else layout,
                "duration_seconds": _duration(container, stream),
                "bit_rate": context.bit_rate or container.bit_rate or None,
            }
            if self.count:
                sound = frames.decode(
                    container, stream, self.name, start=0.0, max_seconds=MAX_SECONDS
                )
                probed["samples_decoded"] = sum(b.shape[1] for b in sound.blocks)
            return probed


def _duration(container: Any, stream: Any) -> float | None:
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    return None if container.duration is None else container.duration / 1e6
