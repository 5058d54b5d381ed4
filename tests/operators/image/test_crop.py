"""Truth: slices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DefinitionError, RowError
from weft.operators.image import Crop
from weft.pipelines.fields import fields
from weft.pipelines.types import Image


def test_box_is_a_slice(photograph: np.ndarray) -> None:
    assert np.array_equal(Crop(box=(10, 20, 30, 40))(photograph), photograph[10:40, 20:60])


@given(st.data(), st.integers(1, 20), st.integers(1, 20))
def test_centre(data: st.DataObject, height: int, width: int) -> None:
    down = data.draw(st.integers(1, height))
    across = data.draw(st.integers(1, width))
    image = np.arange(height * width, dtype=np.uint16).astype(np.uint8).reshape(height, width, 1)
    top, left = (height - down) // 2, (width - across) // 2
    below, right = height - down - top, width - across - left
    assert 0 <= below - top <= 1
    assert 0 <= right - left <= 1
    truth = image[top : top + down, left : left + across]
    assert np.array_equal(Crop((down, across))(image), truth)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_and_types(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 9, channels), np.uint8)
    assert np.array_equal(Crop(5)(image), image[2:7, 2:7])
    given_type = fields(image=Image(channels=channels))
    assert Crop(5).infer(given_type) == fields(image=Image(5, 5, channels))
    assert Crop(box=(0, 1, 2, 3)).infer(given_type) == fields(image=Image(2, 3, channels))


@pytest.mark.parametrize(
    ("crop", "needed"),
    [(Crop(11), "11x11"), (Crop((10, 30)), "10x30"), (Crop(box=(5, 0, 6, 1)), "11x1")],
)
def test_too_small(crop: Crop, needed: str) -> None:
    message = rf"image\.Crop: .* too small\. Given 10x20 pixels .* at least {needed}\. Resize"
    with pytest.raises(RowError, match=message):
        crop(np.zeros((10, 20, 3), np.uint8))


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({}, r"given size=None and box=None; expected one of them"),
        ({"size": 1, "box": (0, 0, 1, 1)}, r"given size=1 and box=\(0, 0, 1, 1\)"),
        ({"size": 0}, r"size=0: expected a positive number"),
        ({"box": (0, 0, 1)}, r"box=\(0, 0, 1\): expected \(top, left, height, width\)"),
        ({"box": (-1, 0, 1, 1)}, r"top and left not negative"),
        ({"box": (0.5, 0, 1, 1)}, r"in whole pixels"),
        ({"box": (0, 0, 0, 1)}, r"box\[2:\]=\(0, 1\)"),
    ],
)
def test_wrong_parameters(given_params: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Crop(**given_params)  # type: ignore[arg-type]
