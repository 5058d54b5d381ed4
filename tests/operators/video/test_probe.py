"""Truth: ffprobe, which also counts frames by decoding them."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.errors import DefinitionError, RowError
from weft.operators.video import Frames, Probe

from .clips import CLIPS, clip, made
from .truth import ffprobe, needs_ffmpeg

LONGER = {
    "h264 in AVI",
    "mpeg4 in AVI",
    "mpeg4 raw",
    "mpeg2 raw",
    "cut in",
    "av1",
    "vp9",
    "variable rate",
}
"""Durations that FFmpeg 5 and 8 estimate differently, by a frame or altogether."""


@needs_ffmpeg
@pytest.mark.parametrize("name", CLIPS)
def test_what_ffprobe_says(name: str, tmp_path: Path) -> None:
    content = made(name)
    probed = Probe(count=True)(content)
    told = ffprobe(content, tmp_path, "-count_frames", "-show_streams", "-show_format")
    stream = next(s for s in told["streams"] if s["codec_type"] == "video")
    sound = next((s for s in told["streams"] if s["codec_type"] == "audio"), None)
    assert probed["container"] == told["format"]["format_name"]
    assert probed["video_codec"] == stream["codec_name"]
    turn = next((s["rotation"] for s in stream.get("side_data_list", []) if "rotation" in s), 0)
    assert probed["rotation"] == -turn % 360
    size = (stream["width"], stream["height"])
    assert (probed["width"], probed["height"]) == (size[::-1] if turn % 180 else size)
    assert probed["frames_probed"] == (int(stream["nb_frames"]) if "nb_frames" in stream else None)
    assert probed["frames_decoded"] == int(stream["nb_read_frames"])
    if name not in LONGER:
        assert probed["duration_seconds"] == pytest.approx(float(told["format"]["duration"]))
        assert probed["bit_rate"] == pytest.approx(int(told["format"]["bit_rate"]), abs=1)
    up, down = map(int, stream["avg_frame_rate"].split("/"))
    if down and probed["frame_rate"]:
        assert probed["frame_rate"] == pytest.approx(up / down, rel=0.05)
    assert probed["has_audio"] == (sound is not None)
    assert probed["audio_codec"] == (sound and sound["codec_name"])
    assert probed["sample_rate"] == (sound and int(sound["sample_rate"]))
    assert probed["audio_channels"] == (sound and sound["channels"])


def test_size_is_that_of_frames() -> None:
    probed = Probe()(made("quarter turn"))
    assert (probed["height"], probed["width"], 3) == Frames(stop=0.01)(made("quarter turn"))[0][
        "image"
    ].shape
    assert probed["frames_decoded"] is None


def test_claims_and_counts_are_apart() -> None:
    """What an edit list cuts off is in the header; of a fragmented file only a part is."""
    probed = Probe(count=True)(made("edit list"))
    assert (probed["frames_probed"], probed["frames_decoded"]) == (90, 60)
    probed = Probe(count=True)(made("h264 fragmented"))
    assert probed["frames_probed"] < probed["frames_decoded"] == 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"no video or audio in a known container .* Given 0 bytes"),
        (b"#EXTM3U\nhttp://127.0.0.1/a.ts\n", r"no video or audio in a known container"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", r"no video or audio in a known container"),
    ],
)
def test_not_a_video(content: bytes, message: str) -> None:
    with pytest.raises(RowError, match=r"^video\.Probe: " + message):
        Probe()(content)


def test_sound_alone() -> None:
    from weft.operators.video import AudioTrack

    with pytest.raises(RowError, match=r"video\.Probe: the file has no video. Given streams: aud"):
        Probe()(AudioTrack()(made("h264")))


def test_limits() -> None:
    with pytest.raises(RowError, match=r"too large\. Given 320x240"):
        Probe(max_pixels=10)(made("h264"))
    with pytest.raises(RowError, match=r"too many frames\. Given more than 5"):
        Probe(count=True, max_frames=5)(made("h264"))
    with pytest.raises(DefinitionError, match=r"max_pixels=0: expected at least 1"):
        Probe(max_pixels=0)


def test_no_frame_decodes() -> None:
    content = bytearray(clip(frames=5, codec="mpeg4"))
    start = content.index(b"mdat") + 4
    content[start : start + 4000] = bytes(4000)
    with pytest.raises(RowError, match=r"video\.Probe: the (file is damaged|video has no frame)"):
        Probe()(bytes(content))
