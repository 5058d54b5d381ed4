"""Truth: the formulas, in NumPy and SciPy, on OpenCV's luma and on Pillow's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import scipy.stats
import skimage.measure
from PIL import Image

from weft.operators.image import Exposure


def test_photographs(photograph: np.ndarray) -> None:
    luma = np.asarray(Image.fromarray(photograph).convert("L"))
    counts = np.bincount(luma.reshape(-1), minlength=256)
    assert Exposure()(photograph) == pytest.approx(
        {
            "brightness": luma.mean() / 255,
            "contrast": luma.std() / 255,
            "clipped": ((luma == 0) | (luma == 255)).mean(),
            "entropy": scipy.stats.entropy(counts, base=2),
        },
        rel=1e-9,
    )
    assert Exposure()(photograph)["entropy"] == pytest.approx(
        skimage.measure.shannon_entropy(luma, base=2)
    )


def test_luma_is_the_one_of_opencv(photograph: np.ndarray) -> None:
    luma = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
    ours = Exposure()(photograph)
    assert ours["brightness"] == pytest.approx(luma.mean() / 255, abs=2e-4)
    assert ours["contrast"] == pytest.approx(luma.std() / 255, abs=2e-4)


@pytest.mark.parametrize(
    ("levels", "answer"),
    [
        ([0], (0, 0, 1, 0)),
        ([255], (1, 0, 1, 0)),
        ([51], (0.2, 0, 0, 0)),
        ([0, 255], (0.5, 0.5, 1, 1)),
        (list(range(256)), (0.5, np.arange(256).std() / 255, 2 / 256, 8)),
    ],
)
def test_by_hand(levels: list[int], answer: tuple[float, ...]) -> None:
    image = np.array(levels, np.uint8).reshape(-1, 1, 1)
    assert tuple(Exposure()(image).values()) == pytest.approx(answer, abs=1e-12)


def test_a_number_is_never_minus_zero() -> None:
    assert str(Exposure()(np.zeros((2, 2, 3), np.uint8))["entropy"]) == "0.0"
