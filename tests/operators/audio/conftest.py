"""Sounds made with NumPy, and files of them made with FFmpeg's command line and libsndfile."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 48_000

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="needs ffmpeg (apt-get install ffmpeg)"
)
needs_espeak = pytest.mark.skipif(
    shutil.which("espeak-ng") is None, reason="needs espeak-ng (apt-get install espeak-ng)"
)

LOSSLESS = {
    "wav": ["-f", "wav"],
    "aiff": ["-f", "aiff"],
    "w64": ["-f", "w64"],
    "flac": ["-f", "flac"],
    "flac in matroska": ["-c:a", "flac", "-f", "matroska"],
    "alac": ["-c:a", "alac", "-f", "ipod"],
}
LOSSY = {
    "mp3": ["-f", "mp3"],
    "vorbis": ["-c:a", "libvorbis", "-f", "ogg"],
    "opus": ["-f", "opus"],
    "m4a": ["-c:a", "aac", "-f", "ipod"],
    "adts": ["-c:a", "aac", "-f", "adts"],
}
FORMATS = LOSSLESS | LOSSY
"""What to ask of FFmpeg for a file of each kind."""


def music(seconds: float, channels: int = 2, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Chords that change every half second, and noise: channels x samples, 16 bits exactly."""
    chance = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    note = 220 * 2 ** ((time * 2).astype(int) * 7 % 12 / 12)
    rows = [np.sin(2 * np.pi * np.cumsum(note) * k / rate) for k in range(1, channels + 1)]
    sound = 0.3 * np.stack(rows) + chance.normal(0, 0.05, (channels, len(time)))
    return (np.round(sound * 32768).clip(-32768, 32767) / 32768).astype(np.float32)


def pink(
    seconds: float, channels: int = 1, rate: int = RATE, level: float = 0.1, seed: int = 0
) -> np.ndarray:
    """Noise whose power falls by 3 dB an octave."""
    chance, count = np.random.default_rng(seed), round(seconds * rate)
    shape = (channels, count // 2 + 1)
    spectrum = chance.normal(size=shape) + 1j * chance.normal(size=shape)
    noise = np.fft.irfft(spectrum / np.sqrt(np.arange(shape[1]) + 1), count)
    return (level * noise / noise.std()).astype(np.float32)


def tone(decibels: float, seconds: float, rate: int = RATE, hertz: float = 1000) -> np.ndarray:
    """One channel of a sine whose peak is `decibels` below full scale."""
    time = np.arange(round(seconds * rate)) / rate
    return (10 ** (decibels / 20) * np.sin(2 * np.pi * hertz * time))[None].astype(np.float32)


def file_of(
    sound: np.ndarray, rate: int = RATE, file_format: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    """A file written by libsndfile."""
    out = io.BytesIO()
    soundfile.write(out, sound.T, rate, format=file_format, subtype=subtype)
    return out.getvalue()


def ffmpeg(*arguments: str, stdin: bytes = b"") -> bytes:
    """What FFmpeg's command line writes to its standard output."""
    command = ["ffmpeg", "-v", "error", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout


def ffmpeg_file(*arguments: str, stdin: bytes = b"") -> bytes:
    """What FFmpeg's command line writes to a real file: containers want to seek."""
    with tempfile.TemporaryDirectory() as folder:
        ffmpeg(*arguments, f"{folder}/out", stdin=stdin)
        return Path(folder, "out").read_bytes()


@functools.cache
def encoded(kind: str, seconds: float = 3.0, channels: int = 2) -> bytes:
    """`music` in one of `FORMATS`."""
    return ffmpeg_file("-i", "-", *FORMATS[kind], stdin=file_of(music(seconds, channels)))


def ffmpeg_decoded(content: bytes, channels: int, *arguments: str) -> np.ndarray:
    """channels x samples of float32 as FFmpeg's command line decodes them."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        raw = ffmpeg("-i", file.name, *arguments, "-f", "f32le", "-")
    return np.frombuffer(raw, "<f4").reshape(-1, channels).T


@functools.cache
def speech(words: str = "The quick brown fox jumps over the lazy dog.") -> bytes:
    """A WAV file of words spoken by espeak-ng."""
    return subprocess.run(["espeak-ng", "--stdout", words], capture_output=True, check=True).stdout
