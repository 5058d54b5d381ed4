"""Fixtures for all tests: real photographs in a folder, and one Ray for the whole run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import skimage.data
import sklearn.datasets
from hypothesis import settings
from PIL import Image

if TYPE_CHECKING:
    from weft.pipelines.resources import Cluster

# An example may take long because the machine is busy, which says nothing about the law it tests.
settings.register_profile("weft", deadline=None)
settings.load_profile("weft")

_FOLDERS = (
    Path(skimage.data.__file__).parent,
    Path(sklearn.datasets.__file__).parent / "images",
)

PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "china.jpg",
    "coffee.png",
    "flower.jpg",
    "moon.png",
    "rocket.jpg",
)
"""Pictures that come with scikit-image and scikit-learn: sharp, soft, wide, tall and grey."""


@pytest.fixture
def photographs(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder of photographs as JPEG files: ``photographs("china", "moon")``.

    Without names it has all of `PHOTOGRAPHS`. ``broken=True`` adds ``broken.jpg``, which stops
    in the middle.
    """

    def make(*names: str, broken: bool = False) -> Path:
        folder = tmp_path / "photos"
        folder.mkdir(exist_ok=True)
        for file in PHOTOGRAPHS:
            stem = os.path.splitext(file)[0]
            if not names or stem in names:
                with Image.open(_find(file)) as image:
                    image.convert("RGB").save(folder / f"{stem}.jpg", quality=90)
        if broken:
            whole = _find("rocket.jpg").read_bytes()
            (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
        return folder

    return make


def _find(file: str) -> Path:
    return next(path for folder in _FOLDERS if (path := folder / file).exists())


@pytest.fixture(scope="session")
def ray_engine() -> Cluster:
    """Ray on two CPUs, started once for the whole test run; it ends with the process."""
    from weft.pipelines.engines import ray

    return ray.start(cpus=2)
