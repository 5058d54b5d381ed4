"""How loud a recording is, by the broadcasters' standards."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import RowError
from weft.operators.audio.resampling import resampled
from weft.operators.audio.sound import Samples, check_waveform, from_row
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Float32, Int32, Waveform

_WEIGHTS = {
    1: (1.0,),
    2: (1.0, 1.0),
    5: (1.0, 1.0, 1.0, 1.41, 1.41),
    6: (1.0, 1.0, 1.0, 0.0, 1.41, 1.41),
}
"""By channel, in the order left, right, centre, effects, surrounds: BS.1770-4, tables 3 and 4."""

_MIN_RATE = 8_000

_TRUE_PEAK_RATE = 192_000
"""Hz; four times 48 kHz."""

_FFT = 1 << 16

_RESPONSE_SECONDS = 0.25
"""The filter's answer to one sample is below 1e-12 of its height after that."""

_Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Loudness(Map):
    """Measure loudness (ITU-R BS.1770-4, EBU R 128) and peaks.

    Reads `waveform`: 1, 2, 5 (5.0) or 6 (5.1) channels, and its `sample_rate`, 8 kHz or more.
    Writes:

    * `loudness_lufs`: integrated loudness. 0 LUFS is about a full-scale sine at 1 kHz on both
      channels; broadcasts are at -23, streamed music at -14. Null where no 0.4 s is louder
      than -70 LUFS;
    * `loudness_range_lu`: between the 10th and the 95th percentile of 3 s stretches (EBU Tech
      3342). Null where no 3 s is louder than -70 LUFS;
    * `sample_peak_dbfs`: the highest sample. Null for silence;
    * `true_peak_dbtp`: the highest value between samples, at 192 kHz or more (BS.1770-4, annex
      2). Null for silence.

    >>> import numpy as np
    >>> time = np.arange(48_000) / 48_000
    >>> tone = (0.1 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    >>> measured = Loudness()(np.stack([tone, tone]), 48_000)
    >>> round(measured["loudness_lufs"], 1), round(measured["true_peak_dbtp"], 1)
    (-20.0, -20.0)

    Raises:
        RowError: the array is not a waveform, or of so many channels or such a rate.
    """

    version = "1"
    reads = fields(waveform=Waveform(), sample_rate=Int32())
    writes = fields(
        loudness_lufs=Float32(nullable=True),
        loudness_range_lu=Float32(nullable=True),
        sample_peak_dbfs=Float32(nullable=True),
        true_peak_dbtp=Float32(nullable=True),
    )

    def map_row(self, row: Row, loaded: Any) -> dict[str, float | None]:
        """One waveform."""
        waveform = check_waveform(row["waveform"], self.name)
        rate, channels = int(row["sample_rate"]), waveform.shape[0]
        if channels not in _WEIGHTS or rate < _MIN_RATE:
            raise RowError(
                f"{self.name}: given {channels} channels at {rate} Hz; expected "
                f"{', '.join(map(str, _WEIGHTS))} channels at {_MIN_RATE} Hz or more. Mix them "
                "with audio.Channels, or drop the row."
            )
        energies = _energies(waveform, rate)
        sample_peak = _peak(waveform)
        true_peak = max(sample_peak, _true_peak(row, self.name))
        return {
            "loudness_lufs": _integrated(_windows(energies, 4)),
            "loudness_range_lu": _range(_windows(energies, 30)),
            "sample_peak_dbfs": _decibels(sample_peak),
            "true_peak_dbtp": _decibels(true_peak),
        }


def _energies(waveform: Samples, rate: int) -> _Values:
    """The weighted sum over channels of the mean square of each whole 0.1 s, K-weighted."""
    count = waveform.shape[1] * 10 // rate
    edges = np.round(np.arange(count + 1) * (rate / 10)).astype(np.int64)
    total = np.zeros(count)
    for channel, weight in zip(waveform, _WEIGHTS[len(waveform)], strict=True):
        if weight and count:
            square = np.square(_k_weighted(channel, rate))
            sums = np.add.reduceat(square[: edges[-1]], edges[:-1])
            total += weight * sums / np.diff(edges)
    return total


def _k_weighted(channel: npt.NDArray[np.float32], rate: int) -> _Values:
    """A channel through the K filter, as long as it was.

    The filter is recursive, but forgets within `_RESPONSE_SECONDS`: so it is a product of spectra,
    stretch by stretch, each with that much before it.
    """
    response = _k_response(rate)
    before = math.ceil(_RESPONSE_SECONDS * rate)
    size = 2 * (len(response) - 1)
    step = size - before
    padded = np.concatenate([np.zeros(before), channel])
    parts = [
        np.fft.irfft(np.fft.rfft(padded[at : at + size], size) * response, size)[before:]
        for at in range(0, len(channel), step)
    ]
    return np.concatenate(parts)[: len(channel)] if parts else np.zeros(0)


@functools.lru_cache(maxsize=32)
def _k_response(rate: int) -> npt.NDArray[np.complex128]:
    """The K filter at the frequencies of an FFT at least twice as long as it remembers."""
    size = max(_FFT, 1 << math.ceil(math.log2(2 * _RESPONSE_SECONDS * rate)))
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    response = np.ones(size // 2 + 1, np.complex128)
    for b, a in k_filter(rate):
        response *= np.polyval(b[::-1], delay) / np.polyval(a[::-1], delay)
    return response


def k_filter(rate: int) -> tuple[tuple[list[float], list[float]], ...]:
    """The two biquads of BS.1770-4 at a rate: a shelf for the head, then a high pass.

    The standard gives coefficients for 48 kHz. These are the analogue filters behind them, by the
    bilinear transform; at 48 kHz they are the standard's to 1e-9 (test).
    """
    k = math.tan(math.pi * 1681.974450955533 / rate)
    q, high = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band, scale = high**0.4996667741545416, 1 + k / q + k * k
    shelf = (
        [(high + band * k / q + k * k) / scale, 2 * (k * k - high) / scale,
         (high - band * k / q + k * k) / scale],
        [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale],
    )  # fmt: skip
    k, q = math.tan(math.pi * 38.13547087602444 / rate), 0.5003270373238773
    scale = 1 + k / q + k * k
    high_pass = ([1.0, -2.0, 1.0], [1.0, 2 * (k * k - 1) / scale, (1 - k / q + k * k) / scale])
    return shelf, high_pass


def _windows(energies: _Values, length: int) -> _Values:
    """Means of `length` energies in a row, one every 0.1 s."""
    if len(energies) < length:
        return np.zeros(0)
    means: _Values = np.lib.stride_tricks.sliding_window_view(energies, length).mean(axis=1)
    return means


def _gated(energies: _Values, relative: float) -> _Values:
    """Those louder than -70 LUFS, and than `relative` LU below the mean of these."""
    loud = energies[energies > _energy(-70.0)]
    return loud[loud > loud.mean() * 10 ** (relative / 10)] if len(loud) else loud


def _integrated(energies: _Values) -> float | None:
    kept = _gated(energies, -10.0)
    return _lufs(float(kept.mean())) if len(kept) else None


def _range(energies: _Values) -> float | None:
    kept = np.sort(_gated(energies, -20.0))
    if not len(kept):
        return None
    low, high = (kept[round((len(kept) - 1) * share)] for share in (0.10, 0.95))
    return _lufs(float(high)) - _lufs(float(low))


def _lufs(energy: float) -> float:
    return -0.691 + 10 * math.log10(energy)


def _energy(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


def _peak(block: Samples) -> float:
    return float(max(block.max(), -block.min())) if block.size else 0.0


def _true_peak(row: Row, what: str) -> float:
    sound = from_row(row, what)
    wanted = sound.rate * math.ceil(_TRUE_PEAK_RATE / sound.rate)
    blocks = resampled(sound.blocks, sound.channels, sound.rate, wanted)
    return max(map(_peak, blocks), default=0.0)


def _decibels(peak: float) -> float | None:
    return 20 * math.log10(peak) if peak > 0 else None
