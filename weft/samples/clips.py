"""Short H.264 videos: photographs that the camera pans over, with hard cuts and a tone each."""

from __future__ import annotations

import io
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from weft.samples.photos import open_photograph
from weft.samples.sounds import tone

if TYPE_CHECKING:
    from weft.samples import Made

WIDTH, HEIGHT = 320, 180
RATE = 25
"""Frames a second."""

SOUND_RATE = 48_000

CLIPS = {
    # scenes: a photograph and how many frames it is shown; the frequency of the tone, if any
    "journey.mp4": ((("china.jpg", 60), ("rocket.jpg", 45), ("moon.png", 50)), 440.0),
    "kitchen.mp4": ((("coffee.png", 75), ("flower.jpg", 75)), 880.0),
    "garage.mp4": ((("motorcycle_left.png", 100),), None),
}


def make() -> Made:
    """The clips, and frames, duration, cuts and tone of each that is whole."""
    files: dict[str, bytes] = {}
    known: dict[str, dict[str, Any]] = {}
    for name, (scenes, hertz) in CLIPS.items():
        counts = [count for _, count in scenes]
        files[name] = _encode([_pan(photo, count) for photo, count in scenes], hertz)
        known[name] = {
            "frames": sum(counts),
            "frame_rate": RATE,
            "duration_seconds": sum(counts) / RATE,
            "cuts_seconds": [sum(counts[:i]) / RATE for i in range(1, len(counts))],
            "tone_hertz": hertz,
            "width": WIDTH,
            "height": HEIGHT,
        }
    whole = files["kitchen.mp4"]
    files["broken-cut-short.mp4"] = whole[: len(whole) // 2]
    return files, known | {"broken-cut-short.mp4": {"broken": True}}


def _pan(photo: str, count: int) -> list[npt.NDArray[np.uint8]]:
    """`count` frames of a window that moves over a photograph."""
    image = open_photograph(photo).convert("RGB")
    scale = 1.25 * max(WIDTH / image.width, HEIGHT / image.height)
    size = round(image.width * scale), round(image.height * scale)
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS))
    ends = pixels.shape[0] - HEIGHT, pixels.shape[1] - WIDTH
    places = [(ends[0] * i // count, ends[1] * i // count) for i in range(count)]
    return [np.ascontiguousarray(pixels[y : y + HEIGHT, x : x + WIDTH]) for y, x in places]


def _encode(scenes: list[list[npt.NDArray[np.uint8]]], hertz: float | None) -> bytes:
    file = io.BytesIO()
    frames = [frame for scene in scenes for frame in scene]
    with av.open(file, "w", format="mp4") as container:
        # A keyframe every 2 s. No thread that looks ahead, nor code for this machine's processor:
        # they do not always make the same bytes.
        x264 = "threads=1:lookahead-threads=1:sliced-threads=0:sync-lookahead=0:scenecut=0:asm=0"
        options = {"crf": "26", "preset": "veryfast", "x264-params": x264}
        video = container.add_stream("libx264", rate=RATE, options=options)
        video.width, video.height, video.pix_fmt, video.gop_size = WIDTH, HEIGHT, "yuv420p", 50
        video.codec_context.time_base = Fraction(1, RATE)
        sound = None
        if hertz is not None:
            sound = container.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = number
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and hertz is not None:
            _encode_tone(container, sound, tone(hertz, len(frames) / RATE, SOUND_RATE))
    return file.getvalue()


def _encode_tone(container: Any, stream: Any, samples: npt.NDArray[np.float32]) -> None:
    for start in range(0, len(samples), 1024):
        part = samples[None, start : start + 1024]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
