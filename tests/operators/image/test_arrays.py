"""Arrays of Pillow's images, beside those that NumPy makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PilImage

from weft.operators.image import arrays


@given(
    mode=st.sampled_from(sorted(arrays.CHANNELS)),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    seed=st.integers(0, 9),
)
def test_every_pixel_is_there(mode: str, width: int, height: int, seed: int) -> None:
    shape = (height, width, arrays.CHANNELS[mode])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    image = PilImage.fromarray(pixels[:, :, 0] if mode == "L" else pixels)
    made = arrays.to_array(image)
    assert (made.shape, made.dtype) == (shape, np.uint8)
    assert made.flags.writeable
    np.testing.assert_array_equal(made, pixels)


@pytest.mark.parametrize("size", [(40_000, 3), (3, 40_000), (1999, 1501)])
@pytest.mark.parametrize("mode", sorted(arrays.CHANNELS))
def test_images_of_more_pixels_than_are_packed_at_a_time(mode: str, size: tuple[int, int]) -> None:
    image = PilImage.effect_noise(size, 50).convert(mode)
    image.putpixel((size[0] - 1, size[1] - 1), 7 if mode == "L" else (7, 8, 9))
    expected = np.asarray(image)
    np.testing.assert_array_equal(arrays.to_array(image).reshape(expected.shape), expected)
