"""Take a clip apart: its packets, and which frames they show when. Nothing is decoded for it.

The packets of a clip are kept in memory, compressed, so that decoding can go on from any
keyframe. That is why no operator here seeks in a container: where a seek lands differs between
containers and is often late; a packet in a list is where it is. It costs the size of the file
once more while its row is worked on.

A packet knows when its frame is shown; sorted by that, packets are the frames in the order of
presentation. Two kinds of clip do not say it, and are decoded once to find out: those with
packets without a time, and H.264 in AVI, where FFmpeg numbers packets as if none were reordered.

Not listed are frames that no decoder shows: those an edit list cuts off, those before the first
keyframe (a broadcast that is cut in), and reference frames of VP8 that are never shown.

Time 0 is where FFmpeg's tools and players start the file: the first moment of any of its
streams. A clip whose sound begins first has its first frame later than 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError, RowError
from weft.operators.containers import MAX_PIXELS, open_container, video_stream
from weft.operators.video.whole import check_whole

MAX_FRAMES = 1_000_000
"""Nine hours at 30 frames a second; a packet in a list takes about 400 bytes and its data."""

_MICROSECOND = Fraction(1, 1_000_000)

Ticks = npt.NDArray[np.int64]
"""Times in units of the stream's `time_base`."""


@dataclass(frozen=True)
class Clip:
    """The video of a file, ready to be decoded from any keyframe."""

    content: bytes
    context: Any
    """PyAV's decoder."""

    packets: Sequence[Any]
    """Compressed, in the order in which they are decoded. The `pts` of each is its number here:
    decoders hand it on unread, so that a frame tells by its `pts` which packet it came from."""

    shown: Ticks
    """The packet of each frame, frames in the order of presentation."""

    place: Ticks
    """For each packet, the number of its frame; the number of frames if it shows none, but of
    one that an edit list cuts off, that of the next frame."""

    keys: Ticks
    """Packets with which decoding can begin, ascending."""

    ticks: Ticks
    """When each frame is shown, ascending."""

    end: int
    """When the last frame ends."""

    time_base: Fraction
    """Seconds of a tick."""

    def seconds(self, tick: int) -> float:
        """A time in seconds."""
        return int(tick) * self.time_base.numerator / self.time_base.denominator

    def tick(self, seconds: npt.NDArray[np.float64]) -> Ticks:
        """The ticks nearest to times in seconds."""
        per_second = self.time_base.denominator / self.time_base.numerator
        limit = float(2**62)  # beyond any time of a file; keeps infinity out of the integers
        return np.clip(np.rint(seconds * per_second), -limit, limit).astype(np.int64)


def check_limits(operator: Any) -> None:
    """Refuse limits of an operator that are no positive numbers.

    Raises:
        DefinitionError: `max_pixels` or `max_frames` is less than 1.
    """
    for name in ("max_pixels", "max_frames"):
        if not isinstance(limit := getattr(operator, name), int) or limit < 1:
            raise DefinitionError(f"{operator.name}: {name}={limit!r}: expected at least 1.")


def read_clip(
    content: bytes, what: str, *, max_pixels: int = MAX_PIXELS, max_frames: int = MAX_FRAMES
) -> Clip:
    """The video in `content`, taken apart.

    Raises:
        RowError: no video, or one that is damaged, cut short or over a limit.
    """
    with open_container(content, what) as container:
        stream = video_stream(container, what, max_pixels=max_pixels)
        context = stream.codec_context
        # Without it decoders paint over what they cannot read, and say nothing.
        context.options = {**context.options, "err_detect": "explode"}
        packets = list(_packets(container, stream, max_frames, what))
        check_whole(content, stream, what)
        times = [packet.pts for packet in packets]
        for number, packet in enumerate(packets):
            packet.pts = number
        order = _order(packets, times, context)
        if not order:
            raise RowError(
                f"{what}: the video has no frame that can be decoded. Given {len(content)} "
                "bytes; expected at least one keyframe. Fetch the file again, or drop the row."
            )
        ticks = _ticks([times[i] for i in order], container, stream)
        place = _places(packets, times, order, ticks)
        keys = [i for i, p in enumerate(packets) if p.is_keyframe and place[i] < len(order)]
        return Clip(
            content=content,
            context=context,
            packets=packets,
            shown=np.array(order, np.int64),
            place=place,
            keys=np.array(keys or [0], np.int64),
            ticks=ticks,
            end=int(ticks[-1]) + _last_duration(packets[order[-1]], ticks, stream),
            time_base=stream.time_base,
        )


def decode_all(packets: Sequence[Any], context: Any) -> Iterator[Any]:
    """Every frame, in the order in which the decoder shows them."""
    for packet in packets:
        yield from context.decode(packet)
    yield from context.decode(None)
    context.flush_buffers()


def _packets(container: Any, stream: Any, max_frames: int, what: str) -> Iterator[Any]:
    """What can be decoded: from the first keyframe on, without what is shown before it."""
    first = None
    count = 0
    for packet in container.demux(stream):
        if not packet.size or (first is None and not packet.is_keyframe):
            continue
        first = first or packet
        if packet.pts is not None and first.pts is not None and packet.pts < first.pts:
            continue
        count += 1
        if count > max_frames:
            raise RowError(
                f"{what}: the video has too many frames. Given more than {max_frames}; expected "
                "at most as many. Cut the file, or raise max_frames."
            )
        yield packet


def _order(packets: Sequence[Any], times: Sequence[int | None], context: Any) -> list[int]:
    """The packets that show a frame, in the order of presentation."""
    known = [time for time in times if time is not None]
    # Frames are reordered, and the times know nothing of it.
    lie = context.reorder_depth and len(known) > 2 and known == sorted(known)
    if lie or len(known) < len(times):
        numbers = (frame.pts for frame in decode_all(packets, context))
        return list(dict.fromkeys(number for number in numbers if number is not None))
    visible = [
        i for i, packet in enumerate(packets) if _visible(packet, context.codec.canonical_name)
    ]
    return sorted(visible, key=known.__getitem__)


def _visible(packet: Any, codec: str) -> bool:
    if packet.is_discard:
        return False
    # RFC 6386, section 9.1: bit 4 of the first byte is show_frame.
    return codec != "vp8" or bool(bytes(packet)[0] & 0x10)


def _ticks(times: Sequence[int | None], container: Any, stream: Any) -> Ticks:
    """When frames are shown, from time 0."""
    if None in times:
        rate = stream.average_rate or stream.guessed_rate or 25
        return np.rint(np.arange(len(times)) / float(rate * stream.time_base)).astype(np.int64)
    ticks = np.sort(np.array(times, np.int64))
    return ticks - _zero(container, stream, int(ticks[0]))


def _zero(container: Any, stream: Any, first: int) -> int:
    """The container's start, or the first frame if that comes before."""
    if container.start_time is None:
        return first
    start: Fraction = container.start_time * _MICROSECOND / stream.time_base
    if abs(start - first) * stream.time_base <= _MICROSECOND:
        return first  # the container's clock is coarser than the stream's
    return min(round(start), first)


def _places(
    packets: Sequence[Any], times: Sequence[int | None], order: Sequence[int], ticks: Ticks
) -> Ticks:
    place = np.full(len(packets), len(order), np.int64)
    place[list(order)] = np.arange(len(order))
    first = times[order[0]]
    for i, packet in enumerate(packets):
        if packet.is_discard and (time := times[i]) is not None and first is not None:
            place[i] = np.searchsorted(ticks, time - first + ticks[0])
    return place


def _last_duration(packet: Any, ticks: Ticks, stream: Any) -> int:
    """What the last packet says, or else the mean of the other frames."""
    if packet.duration:
        return int(packet.duration)
    if len(ticks) > 1:
        return max(round((int(ticks[-1]) - int(ticks[0])) / (len(ticks) - 1)), 1)
    return max(round(1 / float((stream.average_rate or 25) * stream.time_base)), 1)
