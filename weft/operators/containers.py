"""Open untrusted video and audio bytes: shared by every operator that uses PyAV.

FFmpeg would follow what a file says: a playlist names other files and hosts, a demuxer runs
filters or opens devices. So bytes are opened without a name, through a list of containers that
hold their media themselves, and with no protocol but the pipe they come through; `max_pixels`
and `threads` are set before a codec opens. Durations and counts in headers are claims: loops
are bounded by what was decoded.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import av.container
import av.error

from weft.errors import RowError

FORMATS = (
    "aac", "aiff", "asf", "avi", "flac", "flv", "gif", "ivf", "m4v", "matroska,webm",
    "mov,mp4,m4a,3gp,3g2,mj2", "mp3", "mpeg", "mpegts", "mpegvideo", "ogg", "w64", "wav",
)  # fmt: skip
"""FFmpeg's names of the containers that are read. None of them names another file."""

MAX_PIXELS = 8192 * 4320
"""Pixels of the largest frame that is decoded: 8K."""

_OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "pipe"}

_BROKEN = (av.error.FFmpegError, ArithmeticError, EOFError, LookupError, OSError, ValueError)
"""What PyAV raises for damaged files."""


@contextmanager
def reading(content: bytes, what: str) -> Iterator[None]:
    """What goes wrong while `content` is read is the fault of its row.

    Raises:
        RowError: instead of the errors of PyAV.
    """
    try:
        yield
    except RowError:
        raise
    except _BROKEN as error:
        raise RowError(
            f"{what}: the file is damaged or cut short ({type(error).__name__}: "
            f"{_words(error)}). Given {_given(content)}; expected a complete file. "
            "Fetch it again, or drop the row."
        ) from error


@contextmanager
def open_container(content: bytes, what: str) -> Iterator[av.container.InputContainer]:
    """The container in `content`, headers read; closed on the way out.

    Damage that shows later, while it is decoded inside the ``with``, is a `RowError` too.

    Raises:
        RowError: the bytes are empty, no container of `FORMATS`, or damaged.
    """
    with reading(content, what):
        container = _open(content, what)
        try:
            yield container
        finally:
            container.close()


def _open(content: bytes, what: str) -> av.container.InputContainer:
    try:
        return av.open(
            io.BytesIO(content),  # nameless: from a name FFmpeg guesses playlists
            "r",
            options=dict(_OPTIONS),
            metadata_errors="replace",
        )
    except (av.error.InvalidDataError, av.error.ArgumentError, av.error.EOFError) as error:
        raise RowError(
            f"{what}: no video or audio in a known container ({_words(error)}). Given "
            f"{_given(content)}; expected one of {', '.join(FORMATS)}. "
            "Convert it, fetch it again, or drop the row."
        ) from error


def video_stream(
    container: Any, what: str, *, max_pixels: int = MAX_PIXELS, threads: int = 1
) -> Any:
    """The first video stream that is no cover picture, ready to decode within `max_pixels`.

    Raises:
        RowError: there is none; it has no decoder; its frames are too large or have no size.
    """
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        raise RowError(
            f"{what}: the file has no video. Given streams: {_kinds(container)}. Drop the row."
        )
    stream = streams[0]
    context = _context(stream, what)
    if not context.width or not context.height:
        raise RowError(
            f"{what}: the video has no size ({context.width}x{context.height}): its header is "
            "damaged. Fetch it again, or drop the row."
        )
    if context.width * context.height > max_pixels:
        raise RowError(
            f"{what}: the video is too large. Given {context.width}x{context.height} = "
            f"{context.width * context.height} pixels a frame; expected at most {max_pixels}. "
            "If it is no decompression bomb, raise max_pixels."
        )
    context.options = {**(context.options or {}), "max_pixels": str(max_pixels)}
    context.thread_count = threads
    if threads == 1:
        context.thread_type = "NONE"
    return stream


def audio_stream(container: Any, what: str) -> Any:
    """The first audio stream, ready to decode.

    Raises:
        RowError: there is none, it has no decoder, or it says no rate.
    """
    if not container.streams.audio:
        raise RowError(
            f"{what}: the file has no sound. Given streams: {_kinds(container)}. Drop the row."
        )
    stream = container.streams.audio[0]
    context = _context(stream, what)
    context.thread_count = 1
    return stream


def _context(stream: Any, what: str) -> Any:
    context = stream.codec_context
    if context is None:
        raise RowError(
            f"{what}: stream {stream.index} ({stream.type}) is in a codec that this FFmpeg cannot "
            "decode. Convert the file, or drop the row."
        )
    return context


def _is_cover(stream: Any) -> bool:
    return bool(stream.disposition & stream.disposition.__class__.attached_pic)


def _kinds(container: Any) -> str:
    return ", ".join(s.type for s in container.streams) or "none"


def _words(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).strip() or type(error).__name__


def _given(content: bytes) -> str:
    if not content:
        return "0 bytes"
    return f"{len(content)} bytes that start with {bytes(content[:12])!r}"
