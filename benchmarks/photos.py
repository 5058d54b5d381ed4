"""Photographs that nobody took: the same bytes on every machine with the same Pillow."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT, QUALITY = 1920, 1280, 88
WARM = 64
"""Images of the warm-up: work for every worker, and a fraction of a second of it."""


def make_photos(folder: Path, count: int) -> tuple[Path, Path]:
    """Two folders, of `count` images and of those to warm up with. Made once, then found.

    Every image is in ``all/``, and folders of a size are links to the first of these, so that
    runs of several sizes share the files.
    """
    everything = folder / "all"
    everything.mkdir(parents=True, exist_ok=True)
    missing = [p for i in range(count) if not (p := everything / f"{i:05d}.jpg").exists()]
    if missing:
        print(f"making {len(missing)} photographs in {everything}", file=sys.stderr)
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(_make, missing, chunksize=8))
    return _first(folder, count), _first(folder, min(WARM, count), "warm-")


def _first(folder: Path, count: int, prefix: str = "") -> Path:
    view = folder / f"{prefix}{count}"
    view.mkdir(exist_ok=True)
    for number in range(count):
        name = f"{number:05d}.jpg"
        if not (view / name).exists():
            os.link(folder / "all" / name, view / name)
    return view


def _make(path: Path) -> None:
    """Light and shade, texture at two scales, and grain: about 400 KB, as a camera's would be."""
    rng = np.random.default_rng(int(path.stem))
    layers = [_noise(rng, cell) for cell in (160, 24, 5)]
    image = Image.blend(Image.blend(layers[0], layers[1], 0.3), layers[2], 0.14)
    grain = rng.integers(-2, 3, (HEIGHT, WIDTH, 1), np.int16)
    pixels = np.clip(np.asarray(image, np.int16) + grain, 0, 255).astype(np.uint8)
    temporary = path.with_suffix(".part")
    Image.fromarray(pixels).save(temporary, "JPEG", quality=QUALITY)
    temporary.replace(path)  # a cache that was interrupted has no half images


def _noise(rng: np.random.Generator, cell: int) -> Image.Image:
    """Random colours, one for each cell, with smooth changes between them."""
    few = rng.integers(0, 256, (HEIGHT // cell + 1, WIDTH // cell + 1, 3), np.uint8)
    return Image.fromarray(few).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
