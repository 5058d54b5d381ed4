"""Recordings of nobody: something like speech in FLAC at 48 kHz, made once and found again."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE = 48_000
SHORTEST, LONGEST = 3.0, 8.0
"""Seconds of a recording, evenly spread."""

WARM = 32
"""Recordings of the warm-up."""


def make_recordings(folder: Path, count: int) -> tuple[Path, Path]:
    """Two folders, of `count` recordings and of those to warm up with. Made once."""
    every, warm = folder / f"{count}", folder / f"warm-{min(WARM, count)}"
    wanted = [every / f"{n:05d}.flac" for n in range(count)]
    wanted += [warm / f"{n:05d}.flac" for n in range(min(WARM, count))]
    missing = [path for path in wanted if not path.exists()]
    if missing:
        print(f"making {len(missing)} recordings in {folder}", file=sys.stderr)
        every.mkdir(parents=True, exist_ok=True)
        warm.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(_make, missing, chunksize=8))
    return every, warm


def _make(path: Path) -> None:
    import soundfile

    rng = np.random.default_rng(int(path.stem))
    seconds = rng.uniform(SHORTEST, LONGEST)
    temporary = path.with_suffix(".part")
    soundfile.write(temporary, _voice(rng, seconds), RATE, format="FLAC", subtype="PCM_16")
    temporary.replace(path)  # a cache that was interrupted has no half recordings


def _voice(rng: np.random.Generator, seconds: float) -> npt.NDArray[np.float64]:
    """Harmonics of a pitch that wanders, in syllables, with a room's noise: FLAC halves it."""
    time = np.arange(round(seconds * RATE)) / RATE
    knots = np.arange(0, seconds + 0.5, 0.25)
    pitch = np.interp(time, knots, rng.uniform(90, 220, len(knots)))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    loud = np.interp(time, knots, rng.uniform(0, 1, len(knots)) ** 2)
    formants = rng.uniform(400, 3000, 3)
    voice = np.zeros_like(time)
    for harmonic in range(1, 24):
        near = np.exp(-(((harmonic * 150 - formants) / 300) ** 2)).sum()
        voice += (near + 0.05) / harmonic**0.5 * np.sin(harmonic * phase)
    breath = rng.normal(0, 0.05, len(time)) * loud + rng.normal(0, 0.002, len(time))
    return 0.8 * (loud * voice / np.abs(voice).max() * 0.8 + breath * 0.5)
