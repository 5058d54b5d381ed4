"""The sound of a video, as an audio file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from weft.operators.containers import audio_stream, open_container
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Encoded

_IN_MP4 = {"aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus", "vorbis"}
"""Codecs that MP4 holds and every reader of MP4 knows; QuickTime holds the others."""


@dataclass(frozen=True)
class AudioTrack(Map):
    """Take the first audio stream of a video out of its container, without encoding it again.

    Reads `content`: the bytes of a file in one of the containers of `weft.operators.containers`.
    Writes `audio`: a file of that stream alone, null where the video has no sound: MP4 or
    QuickTime (for PCM) if the video is one of these, else Matroska (RFC 9559).

    The compressed packets are the same, and so is how many samples are cut off the start, so
    decoders give the same samples. Times are counted from the start of the video file, as
    `Frames` and `Sample` count them. Nothing in the file tells when it was made: the same video
    gives the same bytes.

    >>> from weft.operators.video.drawn import drawn_clip
    >>> AudioTrack()(drawn_clip()) is None
    True

    Raises:
        RowError: no container that is known; damaged or cut short; a codec that this FFmpeg
            does not know.
    """

    version = "1"
    isolated = True
    reads = fields(content=Encoded("video"))
    writes = fields(audio=Encoded("audio") | None)

    def map_row(self, row: Row, loaded: Any) -> bytes | None:
        """One file."""
        with open_container(row["content"], self.name) as source:
            if not source.streams.audio:
                return None
            stream = audio_stream(source, self.name)
            start = Fraction(source.start_time or 0, 1_000_000)
            file = io.BytesIO()
            kind = _container(source.format.name, stream.codec_context.codec.canonical_name)
            with av.open(file, "w", format=kind, options={"fflags": "+bitexact"}) as target:
                track = target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if not packet.size:
                        continue
                    _shift(packet, round(start / packet.time_base))
                    packet.stream = track
                    target.mux(packet)
            return file.getvalue()


def _container(source: str, codec: str) -> str:
    """What holds the stream with nothing lost.

    AAC and MP3 begin with samples that are not sound. In MP4 an edit list cuts them off, which
    Matroska could only say in a field that FFmpeg's copying does not fill.
    """
    if "mp4" not in source:
        return "matroska"
    return "mp4" if codec in _IN_MP4 else "mov"


def _shift(packet: Any, ticks: int) -> None:
    if packet.pts is not None:
        packet.pts -= ticks
    if packet.dts is not None:
        packet.dts -= ticks
