"""Tones, noise and speech-like sound, as WAV and FLAC.

The speech-like sound is a voiced source with the formants of vowels (Peterson and Barney 1952)
in syllables and pauses: no words, but the rhythm and the spectrum of a voice, and it is known
to the sample when somebody speaks.
"""

from __future__ import annotations

import io
import wave
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from weft.samples import Made

Samples = npt.NDArray[np.float32]

VOICE_RATE = 16_000

FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))
"""The first three formants, in Hz, of the vowels of *father*, *see*, *boot* and *bed*."""

SPEECH = {
    # voice: pitch in Hz, and when it speaks, in seconds
    "speech-low.flac": (110.0, ((0.5, 2.1), (2.9, 5.0), (6.2, 7.4))),
    "speech-high.flac": (210.0, ((0.3, 1.6), (2.4, 4.4))),
}


def make() -> Made:
    """The sounds, and rate, duration, and frequency or speech of each that is whole."""
    files: dict[str, bytes] = {}
    known: dict[str, dict[str, Any]] = {}
    for hertz, rate in ((440.0, 44_100), (1000.0, 48_000)):
        name = f"tone-{hertz:.0f}-hz.wav"
        files[name] = wav(tone(hertz, 3.0, rate), rate)
        known[name] = {"tone_hertz": hertz, "sample_rate": rate, "duration_seconds": 3.0}
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * 32_000).astype(np.float32)
    files["noise.flac"] = flac(noise, 32_000)
    known["noise.flac"] = {"sample_rate": 32_000, "duration_seconds": 2.0}
    for name, (pitch, spoken) in SPEECH.items():
        seconds = spoken[-1][1] + 0.6
        files[name] = flac(voice(pitch, spoken, seconds), VOICE_RATE)
        known[name] = {
            "sample_rate": VOICE_RATE, "duration_seconds": seconds, "speech_seconds": spoken,
        }  # fmt: skip
    files["broken-cut-short.flac"] = files["speech-low.flac"][:30]
    return files, known | {"broken-cut-short.flac": {"broken": True}}


def tone(hertz: float, seconds: float, rate: int) -> Samples:
    """A sine of amplitude 0.25 that is faded in and out over 10 ms."""
    times = np.arange(round(seconds * rate)) / rate
    fade = np.clip(np.minimum(times, seconds - times) / 0.01, 0, 1)
    return (0.25 * fade * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def voice(pitch: float, spoken: tuple[tuple[float, float], ...], seconds: float) -> Samples:
    """Syllables of vowels where somebody speaks, and faint noise where nobody does."""
    rng = np.random.default_rng(round(pitch))
    out = 0.0005 * rng.standard_normal(round(seconds * VOICE_RATE))
    for start, stop in spoken:
        first, count = round(start * VOICE_RATE), round((stop - start) * VOICE_RATE)
        out[first : first + count] += _phrase(pitch, count, rng)
    return out.astype(np.float32)


def _phrase(pitch: float, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    times = np.arange(count) / VOICE_RATE
    syllable = (times / 0.22).astype(int)  # seconds a syllable lasts
    vowels = rng.integers(0, len(FORMANTS), syllable[-1] + 1)
    melody = pitch * (1 + 0.12 * np.sin(2 * np.pi * 0.6 * times) - 0.08 * times)
    phase = 2 * np.pi * np.cumsum(melody) / VOICE_RATE
    formants = np.array(FORMANTS, float)[vowels[syllable]]
    out = np.zeros(count)
    for harmonic in range(1, int(4000 / pitch)):
        hertz = harmonic * melody
        # Resonances 90 Hz wide, on a source that falls by 12 dB an octave.
        gain = (1 / (1 + ((hertz[:, None] - formants) / 90) ** 2)).sum(1) / harmonic
        out += gain * np.sin(harmonic * phase)
    loudness = np.sin(np.pi * ((times / 0.22) % 1)) ** 0.5  # falls between syllables
    found: npt.NDArray[np.float64] = 0.3 * out * loudness / np.abs(out).max()
    return found


def wav(samples: Samples, rate: int) -> bytes:
    """16-bit PCM in a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(_pcm(samples).tobytes())
    return file.getvalue()


def flac(samples: Samples, rate: int) -> bytes:
    """A FLAC file of 16 bits."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, layout="mono")
        stream.codec_context.format = "s16"
        pcm = _pcm(samples)
        for start in range(0, len(pcm), 4096):
            part = np.ascontiguousarray(pcm[None, start : start + 4096])
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def _pcm(samples: Samples) -> npt.NDArray[np.int16]:
    return np.round(np.clip(samples, -1, 1) * 32767).astype("<i2")
