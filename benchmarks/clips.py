"""Clips that nobody filmed: 1080p H.264 of about 5 Mbit/s, made once and found again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

WIDTH, HEIGHT, RATE = 1920, 1080, 30
BITS_PER_SECOND = 5_000_000
SHORTEST, LONGEST = 10, 20
"""Seconds of a clip; half open."""

KEYFRAMES = (60, 120, 250)
"""Frames from one keyframe to the next, clip by clip: streaming, broadcast, x264's own choice."""

WARM = 2
"""Clips of the warm-up, a second each: one for every worker of a small machine."""

Plane = npt.NDArray[np.uint8]


def seconds_of(number: int) -> int:
    """How long clip `number` is.

    >>> [seconds_of(n) for n in range(5)]
    [10, 17, 14, 11, 18]
    """
    return SHORTEST + number * 7 % (LONGEST - SHORTEST)


def make_clips(folder: Path, count: int) -> tuple[Path, Path]:
    """Two folders, of `count` clips and of those to warm up with. Made once, then found."""
    every, warm = folder / f"{count}", folder / "warm"
    wanted = [(every / f"{n:03d}.mp4", n, seconds_of(n)) for n in range(count)]
    wanted += [(warm / f"{n:03d}.mp4", n, 1) for n in range(WARM)]
    missing = [one for one in wanted if not one[0].exists()]
    if missing:
        print(f"making {len(missing)} clips in {folder}", file=sys.stderr)
        every.mkdir(parents=True, exist_ok=True)
        warm.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(make_clip, *zip(*missing, strict=True)))
    return every, warm


def make_clip(path: Path, number: int, seconds: int) -> None:
    """One clip, by one thread of x264: its bytes do not depend on the machine's cores."""
    import av

    temporary = path.with_suffix(".part")
    options = {"preset": "veryfast", "x264-params": "threads=1:lookahead-threads=1"}
    with av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = BITS_PER_SECOND
        stream.gop_size = KEYFRAMES[number % len(KEYFRAMES)]
        for planes in _frames(number, seconds * RATE):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    temporary.replace(path)  # a cache that was interrupted has no half clips


def _frames(number: int, count: int) -> Iterator[Plane]:
    """A camera that pans over a scene, a thing that moves across it, and grain."""
    rng = np.random.default_rng(number)
    scene = _scene(rng, WIDTH + 640, HEIGHT + 360)
    thing = _scene(rng, 320, 320)
    grain = [rng.normal(0, 2, (HEIGHT, WIDTH)).astype(np.int8) for _ in range(5)]
    for at in range(count):
        phase = 2 * np.pi * at / 600
        x, y = _even(320 * (1 + np.sin(phase + number))), _even(180 * (1 + np.cos(phase)))
        tx, ty = at * 8 % (WIDTH - 320), _even(380 + 300 * np.sin(3 * phase))
        planes = [
            _window(scene[0], x, y, WIDTH, HEIGHT),
            *(_window(c, x // 2, y // 2, WIDTH // 2, HEIGHT // 2) for c in scene[1:]),
        ]
        planes[0][ty : ty + 320, tx : tx + 320] = thing[0]
        for plane, part in zip(planes[1:], thing[1:], strict=True):
            plane[ty // 2 : ty // 2 + 160, tx // 2 : tx // 2 + 160] = part
        planes[0] += grain[at % 5].view(np.uint8)  # wraps as a sum of signed numbers does
        yield np.concatenate([p.reshape(-1) for p in planes]).reshape(HEIGHT * 3 // 2, WIDTH)


def _scene(rng: np.random.Generator, width: int, height: int) -> list[Plane]:
    """Light and shade and texture at three scales: luma at full size, chroma at half."""
    fine = np.asarray(_noise(rng, width, height, 6), np.float32)
    coarse = np.asarray(_noise(rng, width, height, 40), np.float32)
    light = np.asarray(_noise(rng, width, height, 300), np.float32)
    luma = 32 + (0.55 * light + 0.25 * coarse + 0.2 * fine) * 0.72  # far from where it would wrap
    chroma = [
        64 + np.asarray(_noise(rng, width // 2, height // 2, 90), np.float32) * 0.5
        for _ in range(2)
    ]
    return [plane.astype(np.uint8) for plane in (luma, *chroma)]


def _noise(rng: np.random.Generator, width: int, height: int, cell: int) -> Image.Image:
    """Random greys, one for each cell, with smooth changes between them."""
    few = rng.integers(0, 256, (height // cell + 2, width // cell + 2), np.uint8)
    return Image.fromarray(few).resize((width, height), Image.Resampling.BICUBIC)


def _window(plane: Plane, x: int, y: int, width: int, height: int) -> Plane:
    return plane[y : y + height, x : x + width].copy()


def _even(value: float) -> int:
    return int(value) // 2 * 2
