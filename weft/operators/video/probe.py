"""What a video file says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.errors import RowError
from weft.operators.containers import MAX_PIXELS, open_container, reading, video_stream
from weft.operators.image import geometry
from weft.operators.video import pictures
from weft.operators.video.clip import MAX_FRAMES, check_limits, decode_all, read_clip
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Bool, Encoded, Float64, Int32, Int64, Text


@dataclass(frozen=True)
class Probe(Map):
    """Read the header of a video file; with ``count=True`` also count its frames.

    Reads `content`: the bytes of a file in one of the containers of `weft.operators.containers`.
    Writes what the header claims; nothing holds a file to it, and null means that it says
    nothing:

    * `container`: FFmpeg's name, such as "mov,mp4,m4a,3gp,3g2,mj2" or "matroska,webm";
    * `duration_seconds`: of the longest stream;
    * `bit_rate`: of the whole file, in bits a second;
    * `video_codec`: FFmpeg's name, such as "h264", "hevc", "vp9" or "av1";
    * `frame_rate`: average, in frames a second;
    * `frames_probed`: how many frames the header tells of;
    * `has_audio`, `audio_codec`, `sample_rate` in Hz, `audio_channels`: the first audio stream.

    And what was seen:

    * `width`, `height`: in pixels, upright, that is after `rotation`. They are those of what
      `Sample` and `Frames` decode;
    * `rotation`: 0, 90, 180 or 270 degrees clockwise by which stored frames are turned to be
      upright;
    * `frames_decoded`: with ``count=True`` how many frames there are, all of them decoded, which
      takes as long as watching them does; else null.

    The first frame is decoded, as rotation is told with frames. The first video stream counts
    that is no cover picture.

    >>> from weft.operators.video.drawn import drawn_clip
    >>> probed = Probe(count=True)(drawn_clip(seconds=2, rate=10))
    >>> probed["video_codec"], probed["width"], probed["height"], probed["duration_seconds"]
    ('mpeg4', 160, 120, 2.0)
    >>> probed["frame_rate"], probed["frames_probed"], probed["frames_decoded"]
    (10.0, 20, 20)

    Raises:
        DefinitionError: a parameter has no such value.
        RowError: no video; the header or the first frame is damaged; frames of more than
            `max_pixels`. With ``count=True`` also: any frame is damaged, or there are more than
            `max_frames`.
    """

    count: bool = False
    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES

    version = "1"
    isolated = True
    reads = fields(content=Encoded("video"))
    writes = fields(
        container=Text(),
        duration_seconds=Float64() | None,
        bit_rate=Int64() | None,
        video_codec=Text(),
        width=Int32(),
        height=Int32(),
        rotation=Int32(),
        frame_rate=Float64() | None,
        frames_probed=Int64() | None,
        frames_decoded=Int64() | None,
        has_audio=Bool(),
        audio_codec=Text() | None,
        sample_rate=Int32() | None,
        audio_channels=Int32() | None,
    )

    def __post_init__(self) -> None:
        check_limits(self)

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One file."""
        content = row["content"]
        with open_container(content, self.name) as container:
            stream = video_stream(container, self.name, max_pixels=self.max_pixels)
            audio = next(iter(container.streams.audio), None)
            probed = {
                "container": container.format.name,
                "duration_seconds": container.duration / 1e6 if container.duration else None,
                "bit_rate": container.bit_rate or None,
                "video_codec": _codec(stream),
                "frame_rate": float(stream.average_rate) if stream.average_rate else None,
                "frames_probed": stream.frames or None,
                "frames_decoded": None,
                "has_audio": audio is not None,
            }
            probed |= _sound(audio) | self._seen(container, stream)
        if self.count:
            probed["frames_decoded"] = self._counted(content)
        return probed

    def _seen(self, container: Any, stream: Any) -> dict[str, int]:
        """Of the first frame that decodes."""
        frame = next(container.decode(stream), None)
        if frame is None:
            raise RowError(
                f"{self.name}: the video has no frame that can be decoded. Fetch the file again, "
                "or drop the row."
            )
        turn = pictures.orientation(frame)
        width, height = geometry.upright_size((frame.width, frame.height), turn)
        return {"width": width, "height": height, "rotation": pictures.CLOCKWISE[turn]}

    def _counted(self, content: bytes) -> int:
        clip = read_clip(content, self.name, max_pixels=self.max_pixels, max_frames=self.max_frames)
        with reading(content, self.name):
            return sum(1 for _ in decode_all(clip.packets, clip.context))


def _sound(stream: Any) -> dict[str, Any]:
    context = getattr(stream, "codec_context", None)
    return {
        "audio_codec": _codec(stream) if context else None,
        "sample_rate": context.sample_rate or None if context else None,
        "audio_channels": context.channels or None if context else None,
    }


def _codec(stream: Any) -> str:
    """The codec, where `codec_context.name` would be the library that decodes it."""
    return str(stream.codec_context.codec.canonical_name)
