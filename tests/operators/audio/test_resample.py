"""Truth: soxr at its highest quality, SciPy's polyphase resampler, sines that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError, RowError
from weft.operators.audio import Resample, resampling
from weft.operators.audio.resampling import resampled
from weft.operators.audio.sound import Samples
from weft.pipelines.fields import fields
from weft.pipelines.types import Int32, Waveform

from .conftest import tone

RATES = [
    (48_000, 16_000), (44_100, 16_000), (44_100, 48_000), (48_000, 44_100), (16_000, 48_000),
    (8_000, 16_000), (48_000, 8_000), (11_025, 16_000), (32_000, 44_100), (44_101, 16_000),
]  # fmt: skip


def band_limited(rate: int, other: int) -> np.ndarray:
    """2 s of noise up to 0.8 of the lower Nyquist frequency, peak 0.9."""
    spectrum = np.fft.rfft(np.random.default_rng(rate).normal(size=2 * rate))
    spectrum[np.fft.rfftfreq(2 * rate, 1 / rate) > 0.4 * min(rate, other)] = 0
    sound = np.fft.irfft(spectrum, 2 * rate)
    return (0.9 * sound / np.abs(sound).max()).astype(np.float32)


def middle(sound: np.ndarray, rate: int) -> np.ndarray:
    return sound[..., round(0.02 * rate) : -round(0.02 * rate)]


@pytest.mark.parametrize(("rate", "wanted"), RATES)
def test_soxr(rate: int, wanted: int) -> None:
    sound = band_limited(rate, wanted)
    ours = Resample(wanted)(sound[None], rate)["waveform"][0]
    truth = soxr.resample(sound, rate, wanted, quality="VHQ")
    assert len(ours) == len(truth) == 2 * wanted
    assert np.abs(middle(ours, wanted) - middle(truth, wanted)).max() < 1e-4


@pytest.mark.parametrize(("rate", "wanted"), RATES[:-1])
def test_scipy(rate: int, wanted: int) -> None:
    """SciPy's filter, made four times as long as its default so that it is flat to 0.8."""
    sound, common = band_limited(rate, wanted), math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    half = 40 * max(up, down)
    taps = scipy.signal.firwin(2 * half + 1, 0.97 / max(up, down), window=("kaiser", 9.0))
    truth = scipy.signal.resample_poly(sound.astype(np.float64), up, down, window=taps)
    ours = Resample(wanted)(sound[None], rate)["waveform"][0]
    assert len(ours) == len(truth)
    assert np.abs(middle(ours, wanted) - middle(truth, wanted)).max() < 1e-3


@pytest.mark.parametrize("hertz", [9_000, 12_000, 20_000])
def test_nothing_is_aliased(hertz: float) -> None:
    """What 16 kHz cannot hold is 60 dB down."""
    ours = Resample(16_000)(tone(0, 1.0, hertz=hertz), 48_000)["waveform"]
    assert np.abs(middle(ours, 16_000)).max() < 1e-3


def test_time_is_kept() -> None:
    ours = Resample(16_000)(tone(-6, 1.0, 44_100), 44_100)["waveform"]
    assert np.abs(middle(ours, 16_000) - middle(tone(-6, 1.0, 16_000), 16_000)).max() < 1e-4


@given(st.sampled_from(RATES), st.lists(st.integers(0, 30_000), max_size=12), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_where_blocks_end_does_not_matter(
    rates: tuple[int, int], cuts: list[int], seed: int
) -> None:
    sound = np.random.default_rng(seed).normal(0, 0.2, (2, 30_000)).astype(np.float32)
    whole = np.concatenate(list(resampled(iter([sound]), 2, *rates)), axis=1)
    blocks = iter(np.split(sound, sorted(cuts), axis=1))
    assert np.array_equal(np.concatenate(list(resampled(blocks, 2, *rates)), axis=1), whole)


@given(st.sampled_from(RATES), st.integers(0, 3_000), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_length(rates: tuple[int, int], samples: int, channels: int) -> None:
    rate, wanted = rates
    ours = Resample(wanted)(np.ones((channels, samples), np.float32), rate)
    assert ours["waveform"].shape == (channels, math.ceil(samples * wanted / rate))
    assert ours["sample_rate"] == wanted


def test_the_same_rate_is_the_same_sound() -> None:
    sound = tone(0, 0.1)
    assert np.array_equal(Resample(48_000)(sound, 48_000)["waveform"], sound)


def test_channels_are_not_mixed() -> None:
    sound = np.concatenate([tone(-6, 0.2, hertz=200 * k) for k in range(1, 7)])
    ours = Resample(16_000)(sound, 48_000)["waveform"]
    for channel, alone in zip(ours, sound, strict=True):
        assert np.array_equal(channel, Resample(16_000)(alone[None], 48_000)["waveform"][0])


def test_types() -> None:
    inferred = Resample(16_000).infer(fields(waveform=Waveform(None, 2), sample_rate=Int32()))
    assert inferred == fields(waveform=Waveform(16_000, 2), sample_rate=Int32())


def test_errors() -> None:
    with pytest.raises(DefinitionError, match=r"audio\.Resample: sample_rate=-1: expected a whole"):
        Resample(-1)
    with pytest.raises(RowError, match="given 9 channels; expected at most 8"):
        Resample(8_000)(np.zeros((9, 4), np.float32), 16_000)
    with pytest.raises(RowError, match=r"sample_rate=0; expected 1 to 768000 Hz"):
        Resample(8_000)(np.zeros((1, 4), np.float32), 0)
    with pytest.raises(RowError, match=r"shape \(4,\) and dtype float64; expected channels x"):
        Resample(8_000)(np.zeros(4), 16_000)


@pytest.mark.parametrize(
    ("rate", "wanted"),
    [(48_000, 16_000), (44_100, 16_000), (11_025, 48_000), (8_000, 44_100), (44_100, 44_099)],
)
def test_what_went_before_leaves_no_trace(rate: int, wanted: int) -> None:
    """A converter that has resampled other sounds answers to the bit as a new one."""
    rng = np.random.default_rng(rate)
    sounds = [
        rng.uniform(-1, 1, (2, count)).astype(np.float32) for count in (1, 7, 4001, 20_011, 313)
    ]

    def made(sound: Samples, *, anew: bool) -> Samples:
        if anew:
            resampling._resting.clear()
        return np.concatenate(list(resampled(iter([sound]), 2, rate, wanted)), axis=1)

    truth = [made(sound, anew=True) for sound in sounds]
    resampling._resting.clear()
    for sound, expected in [*zip(sounds, truth, strict=True)] * 2:
        assert np.array_equal(made(sound, anew=False), expected)
        assert len(resampling._resting[2, rate, wanted]) == 1
        if sound is sounds[2]:
            next(resampled(iter([sounds[3]]), 2, rate, wanted))  # left in the middle: not kept
            assert resampling._resting[2, rate, wanted] == []
