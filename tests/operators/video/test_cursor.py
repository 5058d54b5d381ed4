"""Which frames a clip has and how they are reached. Truth: numbers in the frames, ffprobe."""

from __future__ import annotations

import random
import sys
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from weft.errors import RowError
from weft.operators.video import clip as clips_module
from weft.operators.video import pictures
from weft.operators.video.clip import Clip, decode_all, read_clip
from weft.operators.video.cursor import Cursor

from .clips import CLIPS, clip, made, number, numbers
from .truth import needs_ffmpeg, shown_at

FIRST = {"edit list": 30, "cut in": 34}
"""The number of the first frame that is shown, where it is not 0."""


def read(name: str) -> Clip:
    return read_clip(made(name), "test")


def stored(frame: object) -> np.ndarray:
    return frame.to_ndarray(format="rgb24", threads=1)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("name", CLIPS)
def test_every_frame_is_the_right_one(name: str) -> None:
    listed = read(name)
    cursor = Cursor(listed, "test")
    found = numbers(stored(cursor.frame(i)) for i in range(len(listed.shown)))
    first = FIRST.get(name, 0)
    assert found == list(range(first, first + len(found)))
    assert len(found) >= 20
    assert cursor.decoded <= len(listed.packets)


@pytest.mark.parametrize("name", CLIPS)
def test_the_way_to_a_frame_makes_no_difference(name: str) -> None:
    """Seeking, skipping and decoding everything give the same pixels."""
    listed = read(name)
    whole = {f.pts: stored(f) for f in decode_all(listed.packets, listed.context)}
    truth = [whole[int(packet)] for packet in listed.shown]
    chance = random.Random(name)
    for step in (3, 17, 29):
        cursor = Cursor(listed, "test")
        for index in range(chance.randrange(step), len(truth), step):
            assert np.array_equal(stored(cursor.frame(index)), truth[index])
    cursor = Cursor(listed, "test")
    for index in sorted(range(len(truth)), key=lambda _: chance.random())[:6]:  # also backwards
        assert np.array_equal(stored(cursor.frame(index)), truth[index])


UNTIMED = ("h264 in AVI", "mpeg4 in AVI", "mpeg2 raw", "mpeg4 raw")
"""Their packets have no presentation times; ffprobe 5.1 shows none."""


@needs_ffmpeg
@pytest.mark.parametrize("name", [name for name in CLIPS if name not in UNTIMED])
def test_times_are_those_of_ffprobe(name: str, tmp_path: Path) -> None:
    listed = read(name)
    ours = [listed.seconds(tick) for tick in listed.ticks]
    truth = shown_at(made(name), tmp_path)
    assert len(truth) == len(ours)
    # FFmpeg 5.1 begins a file 6.5 ms before its sound if that is Opus, 8 does not.
    assert ours == pytest.approx(truth, abs=0.0071 if name == "vp9" else 1e-6)


@pytest.mark.parametrize("name", UNTIMED)
def test_clips_without_times_have_a_steady_pace(name: str) -> None:
    listed = read(name)
    rate = 25 if "raw" in name else 30
    steps = np.diff([listed.seconds(tick) for tick in listed.ticks])
    assert steps == pytest.approx(np.full(59, 1 / rate))


def test_time_starts_with_the_file() -> None:
    """The sound begins 0.5 s before the picture."""
    late = clip("matroska", frames=10, start=0.5, audio="flac", audio_start=0.0)
    listed = read_clip(late, "test")
    assert listed.seconds(listed.ticks[0]) == 0.5
    early = read("transport stream")
    assert 0 <= early.seconds(early.ticks[0]) < 0.05


def test_a_jump_saves_decoding() -> None:
    listed = read("vp9")
    assert listed.keys.tolist() == [0, 12, 24, 36]
    for index, packets in ((0, 1), (11, 12), (12, 1), (37, 2)):
        cursor = Cursor(listed, "test")
        assert number(stored(cursor.frame(index))) == index
        assert cursor.decoded == packets


def test_frames_that_nothing_refers_to_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = read("h264 long GOP")
    cursor = Cursor(listed, "test")
    seen = []
    until = cursor._until

    def watch(index: int) -> object:
        frame = until(index)
        seen.append(cursor._clip.context.skip_frame)
        return frame

    monkeypatch.setattr(cursor, "_until", watch)
    decoded = []
    decode = cursor._decode

    def count(index: int) -> object:
        frames = decode(index)
        decoded.extend(frames)
        return frames

    monkeypatch.setattr(cursor, "_decode", count)
    assert number(stored(cursor.frame(80))) == 80
    assert len(decoded) < 60  # of the 81 frames up to there


def test_leading_frames_of_an_open_gop_belong_to_the_gop_before() -> None:
    listed = read("h264 open GOP")
    key = int(listed.keys[1])
    leading = [i for i in range(key + 1, key + 4) if listed.place[i] < listed.place[key]]
    assert leading
    for packet in leading:
        index = int(listed.place[packet])
        cursor = Cursor(listed, "test")
        assert number(stored(cursor.frame(index))) == index
        assert cursor.decoded > 20  # from the keyframe before


def test_a_keyframe_that_is_not_clean_is_tried_and_left() -> None:
    listed = read("h264 intra refresh")
    cursor = Cursor(listed, "test")
    assert len(listed.keys) > 1
    assert number(stored(cursor.frame(int(listed.place[listed.keys[1]])))) == listed.keys[1]


def test_times_that_do_not_tell_are_found_by_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(
        clips_module, "decode_all", lambda *given: calls.append(1) or decode_all(*given)
    )
    read("h264 in AVI")
    assert calls == [1]
    read("h264")
    read("vp8 altref")
    assert calls == [1]


def test_frames_without_any_time_are_paced_by_the_rate() -> None:
    stream = SimpleNamespace(average_rate=Fraction(25), time_base=Fraction(1, 100))
    ticks = clips_module._ticks([None, 7, None], SimpleNamespace(start_time=None), stream)
    assert ticks.tolist() == [0, 4, 8]


def test_reference_frames_of_vp8_are_never_shown() -> None:
    listed = read("vp8 altref")
    assert len(listed.packets) >= len(listed.shown) == 40


class Hidden:
    """A packet of VP8 whose frame is not shown."""

    is_discard = False

    def __bytes__(self) -> bytes:
        return b"\x01"


def test_the_mark_of_a_frame_that_is_not_shown() -> None:
    assert not clips_module._visible(Hidden(), "vp8")
    assert clips_module._visible(Hidden(), "vp9")


def test_a_frame_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = read("mpeg4")
    cursor = Cursor(listed, "test")
    decode = cursor._decode
    missing = int(listed.shown[30])
    monkeypatch.setattr(cursor, "_decode", lambda i: [f for f in decode(i) if f.pts != missing])
    assert number(stored(cursor.frame(29))) == 29
    message = r"test: frame 30 at 1\.000 s does not decode: .* Given a video of 60 frames"
    with pytest.raises(RowError, match=message):
        cursor.frame(30)


def test_a_frame_of_no_packet_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = Cursor(read("mpeg4"), "test")
    decode = cursor._decode
    monkeypatch.setattr(cursor, "_decode", lambda i: [SimpleNamespace(pts=None), *decode(i)])
    assert number(stored(cursor.frame(29))) == 29


def test_frames_in_no_order_end_in_an_error() -> None:
    """Times that contradict the decoder would mean decoding the clip again for each frame."""
    listed = read("h264 long GOP")
    cursor = Cursor(listed, "test")

    def backwards() -> None:
        for index in reversed(range(len(listed.shown))):
            cursor.frame(index)

    with pytest.raises(RowError, match=r"do not come in the order of their times"):
        backwards()
    assert cursor.decoded <= 4 * len(listed.packets) + 1


def test_the_same_frame_twice_costs_nothing() -> None:
    cursor = Cursor(read("mpeg4"), "test")
    first = cursor.frame(10)
    before = cursor.decoded
    assert cursor.frame(10) is first
    assert cursor.decoded == before


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
@needs_ffmpeg
def test_upright(rotation: int, hflip: bool, tmp_path: Path) -> None:
    from .truth import rgb_frames

    content = clip(frames=2, rotation=rotation, hflip=hflip)
    frame = Cursor(read_clip(content, "test"), "test").frame(1)
    ours = pictures.pixels(frame)
    assert ours.shape == ((320, 240, 3) if rotation % 180 else (240, 320, 3))
    truth = rgb_frames(content, tmp_path, ours.shape)
    assert np.array_equal(ours, truth[1])
    assert pictures.CLOCKWISE[pictures.orientation(frame)] == rotation


def test_a_frame_is_free_once_it_is_converted() -> None:
    frame = Cursor(read("quarter turn"), "test").frame(3)
    before = sys.getrefcount(frame)
    pictures.pixels(frame)
    assert sys.getrefcount(frame) == before
