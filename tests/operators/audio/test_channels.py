"""Truth: FFmpeg's pan filter with the matrices written out, librosa, NumPy."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from weft.errors import DefinitionError, RowError
from weft.operators.audio import Channels
from weft.pipelines.fields import fields
from weft.pipelines.types import Waveform

from .conftest import RATE, ffmpeg_decoded, file_of, needs_ffmpeg


def noise(channels: int) -> np.ndarray:
    return np.random.default_rng(channels).uniform(-1, 1, (channels, 500)).astype(np.float32)


def test_two_to_one_is_the_mean() -> None:
    assert np.abs(Channels(1)(noise(2)) - librosa.to_mono(noise(2))).max() < 1e-7


def test_one_to_two_is_a_copy() -> None:
    assert np.array_equal(Channels(2)(noise(1)), np.repeat(noise(1), 2, axis=0))


@pytest.mark.parametrize("channels", [1, 2])
def test_as_many_as_there_are(channels: int) -> None:
    assert np.array_equal(Channels(channels)(noise(channels)), noise(channels))


@needs_ffmpeg
@pytest.mark.parametrize(
    ("channels", "left", "right"),
    [
        (5, "c0+.7071068*c2+.7071068*c3", "c1+.7071068*c2+.7071068*c4"),
        (6, "c0+.7071068*c2+.7071068*c4", "c1+.7071068*c2+.7071068*c5"),
        (
            8,
            "c0+.7071068*c2+.7071068*c4+.7071068*c6",
            "c1+.7071068*c2+.7071068*c5+.7071068*c7",
        ),
    ],
)  # fmt: skip
def test_surround_follows_bs775(channels: int, left: str, right: str) -> None:
    """``<`` makes FFmpeg divide by the sum of the weights."""
    content = file_of(noise(channels), RATE, "WAV", "FLOAT")
    stereo = ffmpeg_decoded(content, 2, "-af", f"pan=stereo|c0<{left}|c1<{right}")
    ours = Channels(2)(noise(channels))
    assert np.abs(ours - stereo).max() < 1e-6
    assert np.abs(Channels(1)(noise(channels)) - stereo.mean(axis=0)).max() < 1e-6


def test_nothing_exceeds_full_scale() -> None:
    for channels in (2, 5, 6, 8):
        for wanted in (1, 2):
            mixed = Channels(wanted)(np.ones((channels, 10), np.float32))
            assert np.abs(mixed - 1).max() < 1e-6


def test_type() -> None:
    assert Channels(1).infer(fields(waveform=Waveform(8_000, 2))) == fields(
        waveform=Waveform(8_000, 1)
    )


def test_errors() -> None:
    with pytest.raises(DefinitionError, match=r"audio\.Channels: channels=0: expected 1 or 2"):
        Channels(0)
    with pytest.raises(RowError, match=r"no rule to mix 3 channels to 1\. Expected 1, 2, 5, 6, 8"):
        Channels(1)(noise(3))
