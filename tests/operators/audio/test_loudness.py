"""Truth: FFmpeg's ebur128 filter, the test signals of EBU Tech 3341 and 3342, BS.1770-4."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable

import numpy as np
import pytest
import scipy.signal

from weft.errors import RowError
from weft.operators.audio import Decode, Loudness
from weft.operators.audio.loudness import k_filter

from .conftest import RATE, file_of, music, needs_espeak, needs_ffmpeg, pink, speech, tone


def stereo(*parts: np.ndarray) -> np.ndarray:
    return np.repeat(np.concatenate(parts, axis=1), 2, axis=0)


def ebur128(sound: np.ndarray, rate: int) -> tuple[float, float, float, float]:
    """Loudness, range, sample peak and true peak, to one decimal, by FFmpeg."""
    command = ["ffmpeg", "-hide_banner", "-nostats", "-i", "-"]
    command += ["-af", "ebur128=peak=true+sample", "-f", "null", "-"]
    content = file_of(sound, rate, "WAV", "FLOAT")
    said = subprocess.run(command, input=content, capture_output=True, check=True).stderr.decode()
    summary = said[said.index("Summary") :]
    found = [
        float(re.search(rf"{what}:\s+(-?[\d.]+)", summary)[1])  # type: ignore[index]
        for what in ("I", "LRA", r"Sample peak:\s+Peak", r"True peak:\s+Peak")
    ]
    return found[0], found[1], found[2], found[3]


def spoken() -> tuple[np.ndarray, int]:
    decoded = Decode()(speech())
    return decoded["waveform"], decoded["sample_rate"]


SIGNALS: dict[str, Callable[[], tuple[np.ndarray, int]]] = {
    "tone": lambda: (stereo(tone(-23, 5)), RATE),
    "low tone": lambda: (tone(-20, 5, 44_100, 40), 44_100),
    "pink 48 kHz": lambda: (pink(8, 2), RATE),
    "pink 44.1 kHz": lambda: (pink(8, 1, 44_100), 44_100),
    "pink 22.05 kHz": lambda: (pink(8, 2, 22_050, 0.3), 22_050),
    "pink 16 kHz": lambda: (pink(8, 1, 16_000), 16_000),
    "pink 8 kHz": lambda: (pink(8, 1, 8_000), 8_000),
    "pink 96 kHz": lambda: (pink(4, 1, 96_000), 96_000),
    "white": lambda: (np.random.default_rng(0).normal(0, 0.2, (2, 240_000)).astype("f4"), RATE),
    "gated": lambda: (
        np.concatenate([pink(5), np.zeros((1, 4 * RATE), "f4"), pink(5, level=0.05)], axis=1), RATE
    ),
    "steps": lambda: (stereo(tone(-20, 10), tone(-30, 10)), RATE),
    "5.1": lambda: (pink(5, 6), RATE),
    "music": lambda: (music(6), RATE),
}  # fmt: skip


@needs_ffmpeg
@pytest.mark.parametrize("name", [*SIGNALS, pytest.param("speech", marks=needs_espeak)])
def test_ffmpeg(name: str) -> None:
    sound, rate = spoken() if name == "speech" else SIGNALS[name]()
    ours = Loudness()(sound, rate)
    loudness, spread, sample_peak, true_peak = ebur128(sound, rate)
    assert ours["loudness_lufs"] == pytest.approx(loudness, abs=0.1)
    assert ours["sample_peak_dbfs"] == pytest.approx(sample_peak, abs=0.051)
    assert ours["true_peak_dbtp"] == pytest.approx(true_peak, abs=0.1)
    if ours["loudness_range_lu"] is None:
        assert spread == 0  # shorter than 3 s
    else:
        # Where the 10th percentile is in a fall to silence, one stretch of 3 s is worth 1 LU, which
        # is what Tech 3342 allows.
        near = 1 if name == "gated" else 0.2
        assert ours["loudness_range_lu"] == pytest.approx(spread, abs=near)


def surround(left: float, centre: float, back: float) -> np.ndarray:
    levels = [tone(v, 20) for v in (left, left, centre, -200, back, back)]
    return np.concatenate(levels)


@pytest.mark.parametrize(
    ("sound", "expected"),
    [
        (lambda: stereo(tone(-23, 20)), -23.0),
        (lambda: stereo(tone(-33, 20)), -33.0),
        (lambda: stereo(tone(-36, 10), tone(-23, 60), tone(-36, 10)), -23.0),
        (
            lambda: stereo(
                tone(-72, 10), tone(-36, 10), tone(-23, 60), tone(-36, 10), tone(-72, 10)
            ),
            -23.0,
        ),
        (lambda: stereo(tone(-26, 20), tone(-20, 20.1), tone(-26, 20)), -23.0),
        (lambda: surround(-28, -24, -30), -23.0),
    ],
    ids=[f"case {n}" for n in range(1, 7)],
)
def test_tech_3341(sound: Callable[[], np.ndarray], expected: float) -> None:
    assert Loudness()(sound(), RATE)["loudness_lufs"] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((-20, -30), 10), ((-20, -15), 5), ((-40, -20), 20), ((-50, -35, -20, -35, -50), 15)],
    ids=[f"case {n}" for n in range(1, 5)],
)
def test_tech_3342(levels: tuple[float, ...], expected: float) -> None:
    sound = stereo(*(tone(v, 20) for v in levels))
    assert Loudness()(sound, RATE)["loudness_range_lu"] == pytest.approx(expected, abs=1)


@pytest.mark.parametrize("degrees", [0, 45, 60, 67.5])
@pytest.mark.parametrize("part", [4, 6, 8])
def test_true_peak_of_tech_3341(part: int, degrees: float) -> None:
    """Cases 15 to 19: a sine at a part of the rate, whose peaks fall between the samples."""
    count = np.arange(2 * RATE)
    sound = 0.5 * np.sin(2 * np.pi * count / part + np.radians(degrees))
    fade = np.minimum(1, np.minimum(count, count[::-1]) / 4800)
    found = Loudness()((sound * fade)[None].astype(np.float32), RATE)["true_peak_dbtp"]
    assert -6.4 <= found <= -5.8


def test_the_filter_is_that_of_bs1770() -> None:
    """Tables 1 and 2."""
    (shelf_b, shelf_a), (high_b, high_a) = k_filter(48_000)
    assert shelf_b == pytest.approx([1.53512485958697, -2.69169618940638, 1.19839281085285])
    assert shelf_a == pytest.approx([1.0, -1.69065929318241, 0.73248077421585])
    assert high_b == [1.0, -2.0, 1.0]
    assert high_a == pytest.approx([1.0, -1.99004745483398, 0.99007225036621])


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
def test_the_filter_runs_as_its_recursion(rate: int) -> None:
    from weft.operators.audio.loudness import _k_weighted

    sound = np.random.default_rng(0).normal(0.3, 0.2, 3 * rate + 17).astype(np.float32)
    truth = sound.astype(np.float64)
    for b, a in k_filter(rate):
        truth = scipy.signal.lfilter(b, a, truth)
    assert np.abs(_k_weighted(sound, rate) - truth).max() < 1e-9


@pytest.mark.parametrize("samples", [0, 1, 19_199, 48_000])
def test_silence_and_short_sounds_have_no_loudness(samples: int) -> None:
    silent = Loudness()(np.zeros((2, samples), np.float32), RATE)
    assert set(silent.values()) == {None}


def test_short_sounds() -> None:
    short = Loudness()(tone(-20, 0.3), RATE)
    assert short["loudness_lufs"] is None
    assert short["sample_peak_dbfs"] == pytest.approx(-20, abs=0.01)
    second = Loudness()(tone(-20, 1), RATE)
    assert second["loudness_lufs"] == pytest.approx(-23, abs=0.05)
    assert second["loudness_range_lu"] is None


def test_errors() -> None:
    with pytest.raises(RowError, match=r"given 3 channels at 48000 Hz; expected 1, 2, 5, 6 chan"):
        Loudness()(np.zeros((3, 100), np.float32), RATE)
    with pytest.raises(RowError, match=r"given 1 channels at 4000 Hz"):
        Loudness()(np.zeros((1, 100), np.float32), 4_000)
