"""Damaged and hostile files: a frame that is right, or a RowError, and soon."""

from __future__ import annotations

import io
import random
import struct
import time

import av
import numpy as np
import pytest

from weft.errors import RowError
from weft.operators.video import AudioTrack, Frames, Probe, Sample, Shots, whole

from .clips import made, numbers

CHECKED = ("h264", "h264 open GOP", "mpeg4 in AVI", "mpeg2 in PS", "av1", "h264 in FLV")
"""Codecs that notice damage. VP8, VP9 and GIF decode any bits to some picture."""

COMPLETE = ("h264", "h264 open GOP", "mpeg4 in AVI", "vp9", "vp8 altref", "av1", "gif")
"""Containers that say where they end."""


@pytest.mark.parametrize("name", COMPLETE)
def test_cut_short(name: str) -> None:
    """It is refused, unless only what comes after the frames is missing."""
    content = made(name)
    truth = Sample(every=0.5, size=60)(content)["frames"]
    refused = 0
    for cut in random.Random(name).sample(range(len(content)), 25):
        try:
            frames = Sample(every=0.5, size=60)(content[:cut])["frames"]
        except RowError:
            refused += 1
            with pytest.raises(RowError):
                Frames(stop=0.1)(content[:cut])
        else:
            assert np.array_equal(frames, truth)
            assert cut > 0.9 * len(content)
    assert refused >= 23


@pytest.mark.parametrize("name", ["transport stream", "mpeg2 in PS"])
def test_a_part_of_a_stream_is_a_shorter_clip(name: str) -> None:
    content = made(name)
    for cut in random.Random(name).sample(range(len(content) // 2, len(content)), 10):
        try:
            rows = Frames(stop=0.5, size=60)(content[:cut])
        except RowError:
            continue
        assert numbers(row["image"] for row in rows) == list(range(15))


@pytest.mark.parametrize("name", [*CHECKED, "vp9", "vp8 altref", "gif", "transport stream"])
def test_flipped_bytes(name: str) -> None:
    content = made(name)
    whole_frames = Sample(every=0.2, size=60)(content)["frames"]
    chance = random.Random(name)
    refused = right = 0
    for _ in range(25):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 3, 20])):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        began = time.monotonic()
        try:
            frames = Sample(every=0.2, size=60)(bytes(damaged))["frames"]
        except RowError:
            refused += 1
        else:
            assert frames.dtype == np.uint8
            right += frames.shape == whole_frames.shape and np.array_equal(frames, whole_frames)
        assert time.monotonic() - began < 10
    if name in CHECKED:
        assert refused + right >= 20


@pytest.mark.parametrize("name", ["h264", "mpeg4 in AVI"])
def test_a_frame_that_does_not_decode_fails_alone_with_those_that_lean_on_it(name: str) -> None:
    content = bytearray(made(name))
    whole = [child["image"].make() for child in Frames().expand_row({"content": made(name)}, None)]
    with av.open(io.BytesIO(bytes(content))) as container:
        packets = [p for p in container.demux(container.streams.video[0]) if p.size]
    keys = [i for i, p in enumerate(packets) if p.is_keyframe]
    middle = packets[(keys[1] + keys[2]) // 2]
    content[middle.pos + 5 : middle.pos + middle.size] = bytes(middle.size - 5)
    failed = []
    for child in Frames().expand_row({"content": bytes(content)}, None):
        try:
            image = child["image"].make()
        except RowError:
            failed.append(child["index"])
        else:
            assert np.array_equal(image, whole[child["index"]]), child["index"]
    assert failed
    assert min(failed) >= keys[1] - 3
    assert max(failed) < keys[2] + 3


@pytest.mark.parametrize("operator", [Probe(count=True), Shots(), AudioTrack(), Frames(every=0.5)])
def test_every_operator_survives(operator: object) -> None:
    content = made("h264")
    chance = random.Random(7)
    refused = 0
    for _ in range(30):
        damaged = bytearray(content)
        for _ in range(200):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            operator(bytes(damaged))  # type: ignore[operator]
        except RowError:
            refused += 1
    assert refused > 0


def test_a_header_that_claims_a_century() -> None:
    """The duration of each frame in an MP4 (stts), set to nearly a month."""
    content = bytearray(made("mpeg4"))
    at = content.index(b"stts") + 4 + 12
    content[at : at + 4] = struct.pack(">I", 2**31 - 1)
    with pytest.raises(RowError, match=r"too often|damaged"):
        Sample(every=0.001)(bytes(content))
    began = time.monotonic()
    assert len(Sample(count=3, size=60)(bytes(content))["frames"]) == 3
    assert time.monotonic() - began < 5


def test_segments_without_a_length_are_live() -> None:
    live = b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x01" + b"\xff" * 7
    assert whole._segment_end(live) == 0
    told = b"\x1a\x45\xdf\xa3\x80" + b"\x18\x53\x80\x67\x88"
    assert whole._segment_end(told) == len(told) + 8
    assert whole._segment_end(b"\x1a\x45\xdf\xa3") == 0
    assert whole._segment_end(b"RIFF") == 0
