"""Truth: OpenCV reads what we write; Pillow says what it is."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import skimage.metrics
from PIL import Image as PilImage

from weft.errors import DefinitionError, RowError
from weft.operators.image import Encode
from weft.pipelines.fields import fields
from weft.pipelines.types import Encoded, Image


@pytest.mark.parametrize("file_format", ["jpeg", "png", "webp", "avif"])
def test_photographs(photo: object, file_format: str) -> None:
    image = np.asarray(photo("coffee"))
    file = Encode(file_format)(image)
    assert PilImage.open(io.BytesIO(file)).format == file_format.upper()
    back = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR_RGB)
    if file_format == "png":
        assert np.array_equal(back, image)
    else:
        assert skimage.metrics.peak_signal_noise_ratio(image, back) > 35
        assert len(Encode(file_format, quality=30)(image)) < 0.6 * len(file)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_is_lossless(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 40, channels), np.uint8)
    back = cv2.imdecode(np.frombuffer(Encode("png")(image), np.uint8), cv2.IMREAD_UNCHANGED)
    back = back.reshape(30, 40, channels)
    assert np.array_equal(back[:, :, [2, 1, 0, 3][:channels]] if channels > 1 else back, image)


@pytest.mark.parametrize("file_format", ["webp", "avif"])
def test_alpha_is_kept(photo: object, file_format: str) -> None:
    alpha = np.asarray(photo("chelsea").resize((600, 400)).convert("L"))
    image = np.dstack([np.asarray(photo("coffee")), alpha])
    back = np.asarray(PilImage.open(io.BytesIO(Encode(file_format)(image))))
    assert back.shape == image.shape
    assert np.abs(back[:, :, 3].astype(int) - alpha).mean() < 2


def test_a_jpeg_has_no_alpha() -> None:
    message = r"image\.Encode: a JPEG has no alpha\. Given .*expected 1 or 3 channels\. Decode"
    with pytest.raises(DefinitionError, match=message):
        Encode("jpeg").infer(fields(image=Image(channels=4)))
    with pytest.raises(RowError, match=message):
        Encode("jpeg")(np.zeros((4, 4, 4), np.uint8))
    assert Encode("png").infer(fields(image=Image(channels=4))) == fields(encoded=Encoded("image"))


@pytest.mark.parametrize(("file_format", "side"), [("jpeg", 65_536), ("webp", 16_384)])
def test_too_long_for_the_format(file_format: str, side: int) -> None:
    with pytest.raises(
        RowError, match=rf"{file_format} cannot hold 1x{side} pixels .* format='png'"
    ):
        Encode(file_format)(np.zeros((1, side, 3), np.uint8))


@pytest.mark.parametrize(
    ("file_format", "quality", "message"),
    [
        ("jpg", 90, r"format='jpg': expected one of jpeg, png, webp, avif\. Did you mean 'jpeg'"),
        ("jpeg", 0, r"quality=0: expected 1 to 100"),
        ("jpeg", 101, r"quality=101"),
        ("jpeg", 9.5, r"quality=9\.5"),
    ],
)
def test_wrong_parameters(file_format: str, quality: int, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Encode(file_format, quality)
