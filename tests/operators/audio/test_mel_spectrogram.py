"""Truth: transformers' WhisperFeatureExtractor, librosa, SciPy's spectra, torchaudio."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal

from weft.errors import DefinitionError, RowError
from weft.operators.audio import MelSpectrogram
from weft.operators.torchaudio_import import torchaudio
from weft.pipelines.fields import fields
from weft.pipelines.types import Tensor, Waveform

from .conftest import music, pink, tone

RATE = 16_000


def sounds() -> list[np.ndarray]:
    return [music(3.21, 1, RATE), pink(7.7, rate=RATE), tone(-3, 0.5, RATE), pink(1, rate=RATE) * 0]


@pytest.fixture(scope="module")
def whisper() -> object:
    """transformers imports torchaudio on its way."""
    torchaudio()
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor


@pytest.mark.parametrize("mels", [80, 128])
@pytest.mark.parametrize("sound", sounds(), ids=["music", "pink", "tone", "silence"])
def test_whisper(whisper: object, sound: np.ndarray, mels: int) -> None:
    extract = whisper(feature_size=mels)  # type: ignore[operator]
    options = {"sampling_rate": RATE, "return_tensors": "np"}
    padded = extract(sound[0], **options)["input_features"][0]
    as_long = extract(sound[0], padding=False, truncation=False, **options)["input_features"][0]
    ours = MelSpectrogram(n_mels=mels, seconds=30)(sound)
    assert ours.shape == padded.shape == (mels, 3000)
    assert np.abs(ours - padded).max() <= 1e-4
    ours = MelSpectrogram(n_mels=mels)(sound)
    assert ours.shape == as_long.shape == (mels, sound.shape[1] // 160)
    assert np.abs(ours - as_long).max() <= 1e-4


def test_whisper_cuts_what_is_longer(whisper: object) -> None:
    sound = pink(31, rate=RATE)
    truth = whisper()(sound[0], sampling_rate=RATE, return_tensors="np")  # type: ignore[operator]
    ours = MelSpectrogram(seconds=30)(sound)
    assert np.abs(ours - truth["input_features"][0]).max() <= 1e-4


@pytest.mark.parametrize("mels", [80, 128])
def test_whisper_by_librosa(mels: int) -> None:
    for sound in sounds():
        power = librosa.feature.melspectrogram(
            y=sound[0], sr=RATE, n_fft=400, hop_length=160, n_mels=mels, pad_mode="reflect"
        )[:, :-1]
        log = np.log10(np.maximum(power, 1e-10))
        truth = (np.maximum(log, log.max() - 8) + 4) / 4
        assert np.abs(MelSpectrogram(n_mels=mels)(sound) - truth).max() <= 1e-4


@pytest.mark.parametrize(("rate", "mels"), [(16_000, 80), (16_000, 40), (44_100, 32)])
def test_torchaudio_by_librosa(rate: int, mels: int) -> None:
    sound = music(2, 1, rate)
    ours = MelSpectrogram("torchaudio", n_mels=mels, sample_rate=rate)(sound)
    truth = librosa.feature.melspectrogram(
        y=sound[0], sr=rate, n_fft=400, hop_length=200, n_mels=mels, htk=True, norm=None,
        pad_mode="reflect",
    )  # fmt: skip
    assert ours.shape == truth.shape
    assert np.abs(ours - truth).max() <= 1e-4 * max(1, truth.max())


def test_power_by_scipy() -> None:
    """A power spectrum made frame by frame, through torchaudio's own filters."""
    sound = music(1, 1, RATE)
    window = scipy.signal.get_window("hann", 400)
    padded = np.pad(sound[0].astype(np.float64), 200, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, 400)[::200]
    power = np.abs(scipy.fft.rfft(frames * window)) ** 2
    weights = torchaudio().functional.melscale_fbanks(201, 0.0, RATE / 2, 80, RATE).numpy()
    ours = MelSpectrogram("torchaudio")(sound)
    assert np.abs(ours - (power @ weights).T).max() <= 1e-5 * ours.max()


def test_seconds_give_a_fixed_shape() -> None:
    given = fields(waveform=Waveform(RATE, 1))
    for mel in (
        MelSpectrogram(seconds=30),
        MelSpectrogram(seconds=1.5, n_mels=128),
        MelSpectrogram("torchaudio", seconds=2, n_mels=40),
    ):
        shape = mel.infer(given)["mel"].shape  # type: ignore[attr-defined]
        for samples in (0, 10, 16_000, 50_000):
            assert mel(np.zeros((1, samples), np.float32)).shape == shape
    assert MelSpectrogram().infer(given) == fields(mel=Tensor("float32", (80, None)))


def test_the_input_is_not_changed() -> None:
    sound = music(1, 1, RATE)
    sound.flags.writeable = False  # as Arrow gives it
    MelSpectrogram()(sound)
    assert np.array_equal(sound, music(1, 1, RATE))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"convention": "htk"}, r"audio\.MelSpectrogram: convention='htk': expected 'whisper' or"),
        ({"n_mels": 64}, r"n_mels=64, sample_rate=16000: Whisper has 80 or 128 mels at 16000 Hz"),
        ({"sample_rate": 8_000}, r"sample_rate=8000: Whisper has 80 or 128"),
        ({"seconds": 0}, r"seconds=0: expected positive numbers"),
        ({"convention": "torchaudio", "n_mels": 0}, r"n_mels=0, seconds=None: expected positive"),
        ({"convention": "torchaudio", "sample_rate": 0}, r"sample_rate=0: expected a whole number"),
    ],
)
def test_wrong_parameters(params: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        MelSpectrogram(**params)  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [None, 48_000])
def test_the_rate_must_be_known(rate: int | None) -> None:
    message = r"takes a waveform at 16000 Hz; the column is Waveform.*audio\.Decode\(sample_rate="
    with pytest.raises(DefinitionError, match=message):
        MelSpectrogram().infer(fields(waveform=Waveform(rate, 1)))


def test_rows_at_fault() -> None:
    with pytest.raises(RowError, match=r"given 2 channels of 1000 samples; expected one channel"):
        MelSpectrogram()(np.zeros((2, 1000), np.float32))
    with pytest.raises(RowError, match=r"given 1 channels of 200 samples; .* more than 200"):
        MelSpectrogram()(np.zeros((1, 200), np.float32))
