"""Frames of an open file to a stream of float32 samples."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import RowError
from weft.operators.audio.sound import BLOCK, Samples, Sound

MAX_CHANNELS = 8

MAX_PLANES = 7
"""Channels that a codec gives one by one, as those of lossy codecs do. From the eighth on PyAV
reads behind the list of planes."""

_SEEK_FROM_SECONDS = 2.0
"""A seek saves nothing before that."""

_ALONE = ("flac", "alac")
"""Codecs, besides those of plain samples, whose packets are decoded without those before them."""

_COUNTED = {"aiff": 0.0, "flac": 0.0, "mov,mp4,m4a,3gp,3g2,mj2": 0.1}
"""Containers whose header counts the samples, so that a missing end is seen; and how many seconds
may be missing: MP4 counts packets, of which the encoder's delay is left out."""

_FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


def decode(container: Any, stream: Any, what: str, *, start: float, max_seconds: float) -> Sound:
    """The sound of `stream`, as it is in the file, from `start` seconds or before.

    Raises:
        RowError: no sound, more than 8 channels, more than `max_seconds`, the format changes in
            the middle, or the end is missing. All but the first two only once that is decoded.
    """
    if stream.codec_context.name == "flac":
        # Its checksums are not looked at otherwise, and noise comes of a damaged frame.
        stream.codec_context.options = {"err_detect": "crccheck+explode"}
    skipped, frames = _from(container, stream, start)
    first = next(frames, None)
    if first is None:
        raise RowError(
            f"{what}: the file has an audio stream and no sound in it: nothing was decoded. "
            "Fetch it again, or drop the row."
        )
    channels = first.layout.nb_channels
    most = MAX_PLANES if first.format.is_planar else MAX_CHANNELS
    if channels > most:
        raise RowError(
            f"{what}: given {channels} channels of {first.format.name} samples; expected at most "
            f"{most}. Convert the file, or drop the row."
        )
    claimed = 0.0
    if container.format.name in _COUNTED and stream.duration is not None:
        seconds = float(stream.duration * stream.time_base)
        claimed = (seconds - _COUNTED[container.format.name]) * first.sample_rate
    counted = _bounded(frames, first, what, max_seconds)
    blocks = _blocks(counted, first, channels, what)
    return Sound(first.sample_rate, channels, _whole(blocks, skipped, claimed, what), skipped)


def _from(container: Any, stream: Any, start: float) -> tuple[int, Iterator[Any]]:
    """How many samples a seek leaves out, and the frames after them.

    A seek is made only where it cannot change a sample: the packets stand by themselves and are
    numbered in samples. What lossy codecs decode depends on the packets before (MP3's bit
    reservoir, Opus' predictors, AAC's noise), so those are decoded from their start; that runs at
    about 2,000 times realtime.
    """
    context = stream.codec_context
    rate = context.sample_rate
    alone = context.name in _ALONE or context.name.startswith("pcm_")
    if alone and start >= _SEEK_FROM_SECONDS and stream.time_base == Fraction(1, rate):
        target = round(start * rate)
        container.seek(target, stream=stream)
        frames = container.decode(stream)
        first = next(frames, None)
        if first is not None and first.pts is not None and 0 <= first.pts <= target:
            return first.pts, itertools.chain([first], frames)
        container.seek(0, stream=stream)  # past the end, or a file that misleads
    return 0, container.decode(stream)


def _bounded(frames: Iterable[Any], first: Any, what: str, max_seconds: float) -> Iterator[Any]:
    """`first` and `frames`, while they are alike and not too many."""
    alike = (first.sample_rate, first.layout.nb_channels, first.format.name)
    most = max_seconds * first.sample_rate
    decoded = 0
    for frame in itertools.chain([first], frames):
        given = (frame.sample_rate, frame.layout.nb_channels, frame.format.name)
        if given != alike:
            raise RowError(
                f"{what}: the sound changes from {alike} to {given} (Hz, channels, format) after "
                f"{decoded} samples; expected one format. Convert the file, or drop the row."
            )
        decoded += frame.samples
        if decoded > most:
            raise RowError(
                f"{what}: the sound is too long: more than {max_seconds:g} s were decoded. Ask for "
                "less of it with start and stop, or raise max_seconds."
            )
        yield frame


def _blocks(frames: Iterable[Any], first: Any, channels: int, what: str) -> Iterator[Samples]:
    kind, planar = first.format.name.removesuffix("p"), first.format.is_planar
    held: list[npt.NDArray[Any]] = []
    samples = 0
    for frame in frames:
        held.append(frame.to_ndarray())
        samples += frame.samples
        if samples >= BLOCK:
            yield _to_float(held, kind, planar, channels, what)
            held, samples = [], 0
    if samples:
        yield _to_float(held, kind, planar, channels, what)


def _to_float(
    held: list[npt.NDArray[Any]], kind: str, planar: bool, channels: int, what: str
) -> Samples:
    """Frames of one format as channels x samples; a whole number's full scale becomes 1."""
    stored = held[0] if len(held) == 1 else np.concatenate(held, axis=1)
    if not planar:
        stored = stored.reshape(-1, channels).T
    block = np.array(stored, np.float32, order="C")
    if kind == "u8":
        block -= 128
    if kind in _FULL_SCALE:
        block *= np.float32(1 / _FULL_SCALE[kind])
    elif not np.isfinite(block).all():
        raise RowError(
            f"{what}: the sound has samples that are not finite (NaN or infinity): the file is "
            "damaged or was made by a program in error. Fetch it again, or drop the row."
        )
    return block


def _whole(blocks: Iterator[Samples], skipped: int, claimed: float, what: str) -> Iterator[Samples]:
    """`blocks`, if they are as many samples as the header says."""
    decoded = skipped
    for block in blocks:
        decoded += block.shape[1]
        yield block
    if decoded < round(claimed):
        raise RowError(
            f"{what}: the file is damaged or cut short: {decoded} samples were decoded and its "
            f"header says {round(claimed)} or more. Fetch it again, or drop the row."
        )
