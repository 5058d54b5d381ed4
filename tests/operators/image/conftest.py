"""Photographs that ship with scikit-image and scikit-learn, and files made of them."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skimage.data
import sklearn.datasets
from PIL import Image

_SKIMAGE = os.path.dirname(skimage.data.__file__)
_SKLEARN = os.path.join(os.path.dirname(sklearn.datasets.__file__), "images")

_FILES = {
    "astronaut": f"{_SKIMAGE}/astronaut.png",
    "brick": f"{_SKIMAGE}/brick.png",
    "chelsea": f"{_SKIMAGE}/chelsea.png",
    "china": f"{_SKLEARN}/china.jpg",
    "coffee": f"{_SKIMAGE}/coffee.png",
    "flower": f"{_SKLEARN}/flower.jpg",
    "grass": f"{_SKIMAGE}/grass.png",
    "gravel": f"{_SKIMAGE}/gravel.png",
    "hubble": f"{_SKIMAGE}/hubble_deep_field.jpg",
    "ihc": f"{_SKIMAGE}/ihc.png",
    "motorcycle": f"{_SKIMAGE}/motorcycle_left.png",
    "page": f"{_SKIMAGE}/page.png",
    "retina": f"{_SKIMAGE}/retina.jpg",
    "rocket": f"{_SKIMAGE}/rocket.jpg",
}

PHOTOGRAPHS = sorted(_FILES)


def read(name: str) -> Image.Image:
    """A photograph in RGB; "noisy" is an enlarged one with the noise of a sensor on it."""
    if name == "noisy":
        large = np.asarray(read("china").resize((1920, 1280), Image.Resampling.BICUBIC), np.int16)
        noise = np.random.default_rng(0).normal(0, 4, (1280, 1920, 1)).round().astype(np.int16)
        return Image.fromarray(np.clip(large + noise, 0, 255).astype(np.uint8))
    with Image.open(_FILES[name]) as image:
        return image.convert("RGB")


@pytest.fixture(scope="session")
def photo() -> Callable[[str], Image.Image]:
    """A photograph by name, as an image; made once."""
    made: dict[str, Image.Image] = {}

    def get(name: str) -> Image.Image:
        if name not in made:
            made[name] = read(name)
        return made[name].copy()

    return get


@pytest.fixture(scope="session")
def encoded() -> Callable[..., bytes]:
    """The bytes of a file, written by Pillow."""

    def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    return encode


@pytest.fixture(params=PHOTOGRAPHS)
def photograph(request: pytest.FixtureRequest, photo: Callable[[str], Image.Image]) -> np.ndarray:
    """Each photograph as an array, height x width x 3."""
    return np.asarray(photo(request.param))
