"""Truth: scikit-image's colour conversion and HOG, NumPy's histogramdd."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.color
import skimage.feature
from PIL import Image

from weft.operators.image import Descriptor, descriptor


def colour_and_shape(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vector = Descriptor()(image)
    assert vector.shape == (520,)
    assert vector.dtype == np.float32
    return vector[:196], vector[196:]


def small(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR)


def test_lab_is_the_one_of_skimage() -> None:
    """All greys, and a grid of colours."""
    grid = np.stack(np.meshgrid(*[np.arange(0, 256, 15)] * 3), axis=-1).reshape(-1, 3)
    colours = np.concatenate([grid, np.repeat(np.arange(256)[:, None], 3, axis=1)]).astype(np.uint8)
    truth = skimage.color.rgb2lab(colours[None])[0]
    assert np.abs(descriptor.to_lab(colours) - truth).max() < 1e-9


def test_colour_is_the_histogram_of_numpy(photograph: np.ndarray) -> None:
    lab = skimage.color.rgb2lab(np.asarray(small(photograph))).reshape(-1, 3)
    lab = np.clip(lab, (0, -64, -64), (100, 64, 64))
    counts, _ = np.histogramdd(lab, (4, 7, 7), [(0, 100), (-64, 64), (-64, 64)])
    colour, _ = colour_and_shape(photograph)
    assert np.allclose(colour * np.sqrt(2), np.sqrt(counts.reshape(-1) / 4096), atol=1e-6)


def test_shape_is_the_hog_of_skimage(photograph: np.ndarray) -> None:
    truth = skimage.feature.hog(
        np.asarray(small(photograph).convert("L"), float),
        orientations=9,
        pixels_per_cell=(16, 16),
        cells_per_block=(2, 2),
        block_norm="L2-Hys",
    )
    _, shape = colour_and_shape(photograph)
    assert np.allclose(shape * np.sqrt(2), truth / np.linalg.norm(truth), atol=1e-5)


def test_a_copy_is_nearer_than_any_other_photograph(photo: object) -> None:
    names = ("astronaut", "chelsea", "china", "coffee", "flower", "motorcycle", "rocket")
    vectors = {n: Descriptor()(np.asarray(photo(n))) for n in names}
    for name in names:
        image = photo(name)
        copy = image.crop((8, 8, image.width - 8, image.height - 8)).resize((160, 120))
        near = {n: float(v @ Descriptor()(np.asarray(copy))) for n, v in vectors.items()}
        assert max(near, key=near.__getitem__) == name
        assert near[name] > 0.9


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_unit_length_even_when_flat(channels: int) -> None:
    flat = np.full((20, 30, channels), 128, np.uint8)
    assert np.linalg.norm(Descriptor()(flat)) == pytest.approx(1, abs=1e-6)
    assert np.flatnonzero(Descriptor()(flat)).tolist() == [2 * 49 + 3 * 7 + 3]
