"""Truth: the samples that ffmpeg decodes of the video and of the extracted file."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest

from weft.errors import RowError
from weft.operators.video import AudioTrack

from .clips import clip, made
from .truth import ffmpeg, needs_ffmpeg

SOURCES = [
    ("mp4", "mpeg4", "aac", "mp4"),
    ("mp4", "mpeg4", "libmp3lame", "mp4"),
    ("mp4", "mpeg4", "libopus", "mp4"),
    ("mov", "mpeg4", "pcm_s16le", "mov"),
    ("matroska", "mpeg4", "flac", "matroska"),
    ("matroska", "mpeg4", "ac3", "matroska"),
    ("webm", "libvpx", "libopus", "matroska"),
    ("avi", "mpeg4", "libmp3lame", "matroska"),
    ("mpegts", "mpeg2video", "mp2", "matroska"),
    ("flv", "libx264", "aac", "matroska"),
]


@needs_ffmpeg
@pytest.mark.parametrize(("container", "video", "audio", "kind"), SOURCES)
def test_the_same_samples(
    container: str, video: str, audio: str, kind: str, tmp_path: Path
) -> None:
    content = clip(container, video, frames=20, audio=audio)
    track = AudioTrack()(content)
    options = ("-map", "0:a:0", "-f", "s16le")
    truth = ffmpeg(content, tmp_path, *options)
    assert ffmpeg(track, tmp_path, *options) == truth
    assert len(truth) // 4 >= 48_000 * 20 / 30
    with av.open(io.BytesIO(track)) as opened:
        assert kind in opened.format.name
        assert [s.type for s in opened.streams] == ["audio"]


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_packets_are_copied(container: str) -> None:
    def packets(content: bytes) -> list[bytes]:
        with av.open(io.BytesIO(content)) as opened:
            return [bytes(p) for p in opened.demux(audio=0) if p.size]

    content = clip(container, frames=10, codec="mpeg4", audio="aac")
    assert packets(AudioTrack()(content)) == packets(content)


@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
def test_times_count_from_the_start_of_the_video(container: str) -> None:
    """The sound begins 0.5 s after the picture, which begins at 2 s."""
    content = clip(container, "mpeg2video", frames=30, start=2, audio="ac3", audio_start=2.5)
    with av.open(io.BytesIO(AudioTrack()(content))) as opened:
        first = next(opened.decode(audio=0))
        assert first.time == pytest.approx(0.5, abs=0.05)


def test_no_sound() -> None:
    assert AudioTrack()(made("vp8 altref")) is None


def test_the_same_bytes_each_time() -> None:
    for content in (made("h264"), made("vp9")):
        assert AudioTrack()(content) == AudioTrack()(content)


def test_not_a_video() -> None:
    with pytest.raises(RowError, match=r"^video\.AudioTrack: no video or audio in a known"):
        AudioTrack()(b"RIFF, it says")
