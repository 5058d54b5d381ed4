"""Clips made with PyAV in which every frame says its own number, whatever coding does to it.

The upper half of frame n shows n in ten blocks of black (0) or white (1), the lower half a
picture that moves. So a frame that comes out of any decoder, at any size, is known by looking.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT, BITS = 320, 240, 10

Picture = Callable[[int], np.ndarray]


def numbered(number: int) -> np.ndarray:
    """Frame `number`, 0..1023: height x width x 3."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    wave = 128 + 60 * np.sin((across + 7 * number) / 23) + 40 * np.cos((down - 3 * number) / 17)
    image = np.stack([wave, 255 - wave, np.roll(wave, 5 * number, axis=1)], axis=2)
    side = WIDTH * 2 // BITS
    for bit in range(BITS):
        top, left = bit // 5 * HEIGHT // 4, bit % 5 * side
        image[top : top + HEIGHT // 4, left : left + side] = 235 if number >> bit & 1 else 20
    return image.astype(np.uint8)


def number(image: np.ndarray) -> int:
    """The number that a frame of `numbered` shows, at any size."""
    height, width = image.shape[:2]
    found = 0
    for bit in range(BITS):
        top, left = bit // 5 * height / 4, bit % 5 * width / 5
        inside = image[
            round(top + height / 16) : round(top + height * 3 / 16),
            round(left + width / 20) : round(left + width * 3 / 20),
        ]
        found |= int(inside.mean() > 128) << bit
    return found


def numbers(images: Iterable[np.ndarray]) -> list[int]:
    """The numbers of several frames."""
    return [number(image) for image in images]


def clip(
    container: str = "mp4",
    codec: str = "libx264",
    *,
    frames: int = 60,
    rate: int = 30,
    times: Sequence[Fraction] | None = None,
    start: float = 0.0,
    picture: Picture = numbered,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    hflip: bool = False,
    pixels: str = "yuv420p",
    audio: str | None = None,
    audio_start: float | None = None,
    setup: Callable[[Any], None] | None = None,
    output_options: dict[str, str] | None = None,
) -> bytes:
    """A clip of `frames` frames at `rate`, or at `times` in seconds; `rotation` is clockwise."""
    first = picture(0)
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=output_options or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = first.shape[1], first.shape[0], pixels
        stream.codec_context.thread_count = 1
        tick = Fraction(1, rate) if times is None else Fraction(1, 1000)
        stream.codec_context.time_base = tick
        if rotation or hflip:
            stream.set_display_rotation(-rotation, hflip=hflip)
        if setup is not None:
            setup(stream)
        sound = output.add_stream(audio, rate=48_000) if audio else None
        shown = [Fraction(i, rate) for i in range(frames)] if times is None else times
        for i, time in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            frame.pts, frame.time_base = round((time + Fraction(start)) / tick), tick
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if sound is not None:
            begins = start if audio_start is None else audio_start
            ends = start + float(shown[-1] + Fraction(1, rate))
            _tone(output, sound, ends - begins, begins)
    return file.getvalue()


def _tone(output: Any, stream: Any, seconds: float, start: float) -> None:
    samples = round(48_000 * seconds)
    wave = np.sin(np.arange(samples) ** 1.3 / 900) * 0.4
    stereo = (np.stack([wave, wave[::-1]]) * 32767).astype(np.int16)
    frame = av.AudioFrame.from_ndarray(stereo.T.reshape(1, -1).copy(), "s16", layout="stereo")
    frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
    frame.pts = round(48_000 * start)
    resampler = av.AudioResampler(
        stream.codec_context.format or "s16",
        stream.codec_context.layout or "stereo",
        stream.codec_context.sample_rate,
        frame_size=stream.codec_context.frame_size or 1024,
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(part))
    output.mux(stream.encode(None))


def remuxed(
    content: bytes, container: str, *, skip: int = 0, keep: int | None = None, shift: float = 0.0
) -> bytes:
    """The video packets from number `skip` on, `shift` seconds earlier, in another file."""
    file = io.BytesIO()
    with av.open(io.BytesIO(content)) as source, av.open(file, "w", format=container) as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        ticks = round(Fraction(shift) / stream.time_base)
        packets = [packet for packet in source.demux(stream) if packet.size]
        for packet in packets[skip:keep]:
            packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
            packet.stream = copy
            output.mux(packet)
    return file.getvalue()


_B = {"bf": "3", "g": "25"}
_OPEN = {"bf": "3", "x264-params": "open-gop=1:keyint=25:min-keyint=20:scenecut=0"}
_LONG = {"bf": "3", "x264-params": "b-pyramid=normal:keyint=300:scenecut=0"}
_QUICK = {"deadline": "realtime", "cpu-used": "8", "g": "12"}
_GOOD = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "25"}

CLIPS: dict[str, Callable[[], bytes]] = {
    "h264": lambda: clip(options=_B, audio="aac"),
    "h264 long GOP": lambda: clip(frames=90, options=_LONG),
    "h264 open GOP": lambda: clip("matroska", options=_OPEN),
    "h264 in AVI": lambda: clip("avi", options=_B),
    "h264 in FLV": lambda: clip("flv", options=_B),
    "h264 fragmented": lambda: clip(options=_B, output_options={"movflags": "frag_keyframe"}),
    "h264 intra refresh": lambda: clip(
        "mpegts", options={"bf": "0", "x264-params": "intra-refresh=1:keyint=25"}
    ),
    "transport stream": lambda: clip("mpegts", options=_B, audio="aac", start=2.5),
    "transport stream, open GOP": lambda: clip("mpegts", options=_OPEN),
    "variable rate": lambda: clip(
        times=[Fraction(i * i, 400) for i in range(40)], options={"bf": "3", "g": "10"}
    ),
    "quarter turn": lambda: clip(options=_B, rotation=90),
    "mpeg4": lambda: clip(codec="mpeg4", options=_B),
    "mpeg4 in AVI": lambda: clip("avi", "mpeg4", options=_B),
    "mpeg4 raw": lambda: clip("m4v", "mpeg4", rate=25, options=_B),
    "mpeg2 in PS": lambda: clip("mpeg", "mpeg2video", options={"bf": "2", "g": "12"}),
    "mpeg2 raw": lambda: clip("mpeg2video", "mpeg2video", rate=25, options={"bf": "2", "g": "12"}),
    "asf": lambda: clip("asf", "mpeg4"),
    "vp9": lambda: clip("webm", "libvpx-vp9", frames=40, options=_QUICK, audio="libopus"),
    "vp9 altref": lambda: clip("webm", "libvpx-vp9", frames=40, options=_GOOD),
    "vp8 altref": lambda: clip("webm", "libvpx", frames=40, options=_GOOD),
    "av1": lambda: clip("matroska", "libsvtav1", frames=30, options={"g": "12", "preset": "12"}),
    "gif": lambda: clip("gif", "gif", frames=20, rate=10, pixels="rgb8"),
    "edit list": lambda: remuxed(clip(frames=90, options=_B), "mp4", shift=1.0),
    "cut in": lambda: remuxed(clip("mpegts", frames=90, options=_B), "mpegts", skip=30),
}
"""Clips by what is particular about them."""


@functools.cache
def made(name: str) -> bytes:
    """One of `CLIPS`, made once."""
    with av.logging.Capture():  # SVT-AV1 would print its version
        return CLIPS[name]()
