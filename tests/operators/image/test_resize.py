"""Truth: Pillow's own thumbnail, ImageOps.fit and resize."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from PIL import ImageOps

from weft.errors import DefinitionError
from weft.operators.image import Resize
from weft.pipelines.fields import fields
from weft.pipelines.types import Image

BILINEAR = PilImage.Resampling.BILINEAR


def pillow(image: PilImage.Image, height: int, width: int, fit: str) -> np.ndarray:
    if fit == "contain":
        image = image.copy()
        image.thumbnail((width, height), BILINEAR, reducing_gap=None)
    elif fit == "cover":
        image = ImageOps.fit(image, (width, height), BILINEAR)
    else:
        image = image.resize((width, height), BILINEAR)
    return np.asarray(image)


@pytest.mark.parametrize("fit", ["contain", "cover", "fill"])
@pytest.mark.parametrize("size", [(224, 224), (100, 300), (300, 100), (7, 5), (600, 900)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_photographs(photo: object, mode: str, size: tuple[int, int], fit: str) -> None:
    image = photo("coffee").convert(mode)
    if mode == "RGBA":
        image.putalpha(photo("chelsea").resize(image.size).convert("L"))
    array = np.asarray(image).reshape(image.height, image.width, -1)
    ours = Resize(size, fit)(array)
    truth = pillow(image, *size, fit)
    assert np.array_equal(ours, truth.reshape(ours.shape))


@settings(max_examples=300)
@given(
    *[st.integers(1, 80)] * 4,
    st.sampled_from(["contain", "cover", "fill"]),
)
def test_any_size(width: int, height: int, across: int, down: int, fit: str) -> None:
    values = np.random.default_rng(width * 81 + height).integers(0, 256, (height, width), np.uint8)
    ours = Resize((down, across), fit)(values[:, :, None])
    assert np.array_equal(ours[:, :, 0], pillow(PilImage.fromarray(values), down, across, fit))


@given(*[st.integers(1, 3000)] * 3)
def test_contain_is_within_and_never_larger(width: int, height: int, box: int) -> None:
    across, down = Resize(box).step(width, height).size
    assert across <= min(width, box)
    assert down <= min(height, box)
    assert (across, down) == (width, height) or box in (across, down)


def test_one_number_is_a_square(photo: object) -> None:
    array = np.asarray(photo("coffee"))
    assert np.array_equal(Resize(50, "fill")(array), Resize((50, 50), "fill")(array))


@pytest.mark.parametrize(
    ("resize", "given_type", "inferred"),
    [
        (Resize((10, 20), "fill"), Image(), Image(10, 20)),
        (Resize(10, "cover"), Image(channels=1), Image(10, 10, 1)),
        (Resize(10), Image(), Image()),
        (Resize(10), Image(channels=4), Image(channels=4)),
        (Resize(10), Image(40, 60), Image(7, 10)),
    ],
)
def test_types(resize: Resize, given_type: Image, inferred: Image) -> None:
    assert resize.infer(fields(image=given_type)) == fields(image=inferred)


@pytest.mark.parametrize(
    ("size", "fit", "message"),
    [
        (0, "fill", r"image\.Resize: size=0: expected a positive number of pixels, or \(height"),
        (-3, "fill", r"size=-3"),
        (True, "fill", r"size=True"),
        (2.5, "fill", r"size=2\.5"),
        ((1, 2, 3), "fill", r"size=\(1, 2, 3\)"),
        ((5, 0), "fill", r"size=\(5, 0\)"),
        (5, "covr", r"fit='covr': expected 'contain', 'cover' or 'fill'\. Did you mean 'cover'\?"),
    ],
)
def test_wrong_parameters(size: object, fit: str, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Resize(size, fit)  # type: ignore[arg-type]
