"""Truth: OpenCV's Laplacian."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from weft.errors import RowError
from weft.operators.image import Sharpness


def opencv(luma: np.ndarray) -> float:
    return float(cv2.Laplacian(luma, cv2.CV_64F).var() ** 0.5 / 50)


def test_photographs(photograph: np.ndarray) -> None:
    luma = np.asarray(Image.fromarray(photograph).convert("L"))
    assert Sharpness()(photograph) == pytest.approx(opencv(luma), rel=1e-9)


def test_luma_is_the_one_of_opencv(photograph: np.ndarray) -> None:
    """OpenCV rounds the same weights a little differently; it may not matter."""
    luma = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
    assert Sharpness()(photograph) == pytest.approx(opencv(luma), rel=2e-3)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(2, 9), st.integers(2, 9), st.just(1))))
def test_any_grey_image(image: np.ndarray) -> None:
    assert Sharpness()(image) == pytest.approx(opencv(image[:, :, 0]), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_one_pixel_wide(shape: tuple[int, int]) -> None:
    image = (np.arange(shape[0] * shape[1]) ** 2 * 10).astype(np.uint8).reshape(*shape, 1)
    rows = np.pad(image[:, :, 0].astype(float), 1, "reflect" if max(shape) > 1 else "edge")
    laplacian = rows[:-2, 1:-1] + rows[2:, 1:-1] + rows[1:-1, :-2] + rows[1:-1, 2:]
    laplacian -= 4 * rows[1:-1, 1:-1]
    assert Sharpness()(image) == pytest.approx(laplacian.std() / 50)


def test_blur_lowers_it(photograph: np.ndarray) -> None:
    blurred = cv2.GaussianBlur(photograph, (0, 0), 2)
    assert Sharpness()(blurred) < 0.6 * Sharpness()(photograph)


def test_alpha_is_ignored(photograph: np.ndarray) -> None:
    alpha = np.random.default_rng(0).integers(0, 256, (*photograph.shape[:2], 1), np.uint8)
    assert Sharpness()(np.dstack([photograph, alpha])) == Sharpness()(photograph)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"shape \(4, 4\) and dtype uint8; expected height x width"),
        (np.zeros((4, 4, 3)), r"dtype float64; expected .* uint8 with 1, 3 or 4 channels"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"image without pixels, of shape \(0, 4, 3\)"),
        ([1, 2], r"shape None and dtype list"),
    ],
)
def test_not_an_image(image: object, message: str) -> None:
    with pytest.raises(RowError, match=message):
        Sharpness()(image)
