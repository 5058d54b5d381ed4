"""Truth: ffprobe's times, ffmpeg's pixels, numbers in the frames, image.Resize."""

from __future__ import annotations

import bisect
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError, RowError
from weft.operators import image
from weft.operators.video import Frames, Resize, Sample
from weft.pipelines import types
from weft.pipelines.fields import fields

from .clips import HEIGHT, WIDTH, clip, made, numbers
from .truth import needs_ffmpeg, rgb_frames, shown_at

NAMES = (
    "h264", "h264 long GOP", "transport stream, open GOP", "variable rate", "mpeg4", "vp9",
    "mpeg2 in PS", "cut in",
)  # fmt: skip


@needs_ffmpeg
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("every", [0.25, 1 / 30, 0.7])
def test_the_frame_on_the_screen(name: str, every: float, tmp_path: Path) -> None:
    """By ffprobe's times, in microseconds, which is finer than the clocks of these files."""
    content = made(name)
    shown = [round(time * 1e6) for time in shown_at(content, tmp_path)]
    tick = 1000 if name == "vp9" else 1
    shift = 7000 if name == "vp9" else 0  # see test_times_are_those_of_ffprobe
    sampled = Sample(every=every, size=60)(content)
    first = 34 if name == "cut in" else 0
    wanted = [round(k * every * 1e6 / tick) * tick + shift for k in range(len(sampled["frames"]))]
    truth = [max(bisect.bisect_right(shown, w + 2) - 1, 0) for w in wanted]
    assert numbers(sampled["frames"]) == [first + t for t in truth]
    times = [(shown[t] - shift) / 1e6 for t in truth]
    assert sampled["times_seconds"] == pytest.approx(times, abs=2e-6)
    assert len(wanted) == pytest.approx((shown[-1] / 1e6 + 1 / 30) / every, abs=2)


@needs_ffmpeg
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", ["none", "BT.709", "full range"])
def test_colours_are_those_of_ffmpeg(pixels: str, matrix: str, tmp_path: Path) -> None:
    def name_colours(stream: object) -> None:
        context = stream.codec_context  # type: ignore[attr-defined]
        context.colorspace = {"BT.709": 1}.get(matrix, 5)
        context.color_range = 2 if matrix == "full range" else 1

    setup = None if matrix == "none" else name_colours
    content = clip(frames=4, pixels=pixels, setup=setup)
    ours = Sample(every=1 / 30)(content)["frames"]
    truth = rgb_frames(content, tmp_path, (HEIGHT, WIDTH, 3), "-sws_flags", "bilinear")
    difference = np.abs(ours.astype(int) - truth)
    assert ours.shape == truth.shape
    assert difference.max() == 0 or pixels == "yuv420p10le"
    assert difference.mean() < 1  # FFmpeg 5 and 8 round 10 bits in different ways


@needs_ffmpeg
@pytest.mark.parametrize("name", ["h264", "vp9", "mpeg4", "transport stream"])
def test_pixels_of_chosen_frames(name: str, tmp_path: Path) -> None:
    sampled = Sample(count=5)(made(name))["frames"]
    chosen = "+".join(f"eq(n,{n})" for n in numbers(sampled))
    options = ("-sws_flags", "bilinear", "-vf", f"select='{chosen}'")
    assert np.array_equal(sampled, rgb_frames(made(name), tmp_path, sampled.shape[1:], *options))


@pytest.mark.parametrize(("count", "start", "stop"), [(1, 0, None), (7, 0, None), (4, 0.5, 1.5)])
def test_count_is_the_middle_of_equal_parts(count: int, start: float, stop: float | None) -> None:
    sampled = Sample(count=count, start=start, stop=stop, size=60)(made("h264"))
    length = (2.0 if stop is None else stop) - start
    middles = [start + length * (i + 0.5) / count for i in range(count)]
    assert numbers(sampled["frames"]) == [int(m * 30 + 1e-9) for m in middles]


def test_more_frames_than_there_are() -> None:
    sampled = Sample(count=90, size=60)(made("gif"))
    assert sampled["frames"].shape == (90, 45, 60, 3)
    assert numbers(sampled["frames"]) == [int((i + 0.5) * 20 / 90) for i in range(90)]


def test_range() -> None:
    content = made("h264")
    sampled = Sample(every=0.5, start=0.25, stop=1.3, size=60)(content)
    assert sampled["times_seconds"] == pytest.approx([7 / 30, 22 / 30, 37 / 30])
    assert Sample(every=0.5, stop=9, size=60)(content)["times_seconds"] == [0, 0.5, 1, 1.5]
    with pytest.raises(RowError, match=r"the clip ends at 2\.000 s, before start=2"):
        Sample(every=1, start=2)(content)


def test_before_the_first_frame_comes_the_first() -> None:
    late = clip("matroska", frames=20, start=0.5, audio="flac", audio_start=0.0)
    sampled = Sample(every=0.3, size=60)(late)
    assert numbers(sampled["frames"])[:3] == [0, 0, 3]
    assert sampled["times_seconds"][:2] == [0.5, 0.5]


sizes = st.one_of(st.integers(8, 400), st.tuples(st.integers(8, 400), st.integers(8, 400)))
resizes = st.builds(Resize, sizes, st.sampled_from(["contain", "cover", "fill"]))


@settings(max_examples=25, deadline=None)
@given(st.lists(resizes, min_size=1, max_size=3))
def test_absorbing_a_resize_is_exact(chain: list[Resize]) -> None:
    content = made("quarter turn")
    plain = absorbed = Sample(count=2)
    frames = plain(content)["frames"]
    for operator in chain:
        absorbed = absorbed.absorb(operator, "frames")
        frames = operator(frames)
    answer = absorbed(content)
    assert np.array_equal(answer["frames"], frames)
    assert answer["times_seconds"] == plain(content)["times_seconds"]


def test_size_is_a_resize() -> None:
    content = made("quarter turn")
    whole = Sample(count=2)(content)["frames"]
    assert whole.shape == (2, 320, 240, 3)
    for fit in ("contain", "cover", "fill"):
        truth = np.stack([image.Resize((50, 90), fit)(frame) for frame in whole])
        assert np.array_equal(Sample(count=2, size=(50, 90), fit=fit)(content)["frames"], truth)
    assert Sample(count=2).absorb(Resize(9), "times_seconds") is None
    assert Sample(count=2).absorb(image.Resize(9), "frames") is None
    once = Sample(count=2, size=90).absorb(Resize(30), "frames")
    assert str(once) == "video.Sample(count=2, size=90, then=[video.Resize(size=30)])"


@pytest.mark.parametrize(
    ("sample", "inferred"),
    [
        (Sample(every=1), types.Frames()),
        (Sample(count=8), types.Frames(8)),
        (Sample(count=8, size=224, fit="cover"), types.Frames(8, 224, 224)),
        (Sample(every=1, size=(10, 20), fit="fill"), types.Frames(None, 10, 20)),
        (Sample(count=8, size=224), types.Frames(8)),
    ],
)
def test_types(sample: Sample, inferred: types.Frames) -> None:
    given_types = fields(content=types.Encoded("video"))
    assert sample.infer(given_types)["frames"] == inferred


def test_another_size_in_the_middle() -> None:
    """Two streams joined, as a transport stream may be."""
    small = clip("mpegts", frames=20, picture=lambda n: np.full((120, 160, 3), n, np.uint8))
    content = clip("mpegts", frames=20) + remade(small)
    with pytest.raises(RowError, match=r"frames have several sizes. Given \(240, 320\) first and"):
        Sample(every=0.1)(content)
    assert Sample(every=0.1, size=64, fit="fill")(content)["frames"].shape[1:] == (64, 64, 3)


def remade(content: bytes) -> bytes:
    from .clips import remuxed

    return remuxed(content, "mpegts", shift=-Fraction(20, 30))


def test_limits() -> None:
    content = made("h264")
    with pytest.raises(RowError, match=r"too large\. Given 320x240 = 76800 pixels"):
        Sample(count=1, max_pixels=76_799)(content)
    with pytest.raises(RowError, match=r"too many frames\. Given more than 59"):
        Sample(count=1, max_frames=59)(content)
    with pytest.raises(RowError, match=r"every=1e-07 is too often\. Given a clip that claims"):
        Sample(every=1e-7)(content)
    with pytest.raises(RowError, match=r"10000 of 240x320 pixels = 2304000000 bytes; expected"):
        Sample(count=10_000)(content)
    assert len(Sample(count=1, max_pixels=76_800, max_frames=60)(content)["frames"]) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, r"given every=None and count=None; expected one of them"),
        ({"every": 1, "count": 2}, r"given every=1 and count=2; expected one"),
        ({"every": 0}, r"every=0: expected a positive number of seconds"),
        ({"every": float("nan")}, r"every=nan"),
        ({"count": 0}, r"count=0: expected at least 1"),
        ({"count": True}, r"count=True"),
        ({"every": 1, "start": -1}, r"start=-1: expected seconds, at least 0"),
        ({"every": 1, "start": 3, "stop": 3}, r"stop=3: expected seconds after start=3"),
        ({"every": 1, "size": 0}, r"size=0: expected a positive number"),
        ({"every": 1, "fit": "crop"}, r"fit='crop': expected 'contain'"),
        ({"every": 1, "max_frames": 0}, r"max_frames=0: expected at least 1"),
        ({"every": 1, "then": (image.Resize(3),)}, r"then holds Resize\(.*expected video\.Resize"),
    ],
)
def test_wrong_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=r"^video\.Sample: " + message):
        Sample(**parameters)  # type: ignore[arg-type]


def test_sample_and_frames_agree() -> None:
    content = made("variable rate")
    sampled = Sample(every=0.2, size=60)(content)
    rows = Frames(every=0.2, size=60)(content)
    assert [row["time_seconds"] for row in rows] == sorted(set(sampled["times_seconds"]))
    by_time = dict(zip(sampled["times_seconds"], sampled["frames"], strict=True))
    assert all(np.array_equal(row["image"], by_time[row["time_seconds"]]) for row in rows)
