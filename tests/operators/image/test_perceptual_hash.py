"""Truth: the packages imagehash 4.3 and pdqhash 0.2 (ThreatExchange's own C++)."""

from __future__ import annotations

import io

import imagehash
import numpy as np
import pdqhash
import pytest
from PIL import Image

from weft.operators.image import PerceptualHash


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def pdq(image: np.ndarray) -> tuple[int, int]:
    vector, quality = pdqhash.compute(np.ascontiguousarray(image))
    return int("".join(map(str, vector)), 2), quality


def test_phash_and_dhash_are_those_of_imagehash(photograph: np.ndarray) -> None:
    ours = PerceptualHash()(photograph)
    image = Image.fromarray(photograph)
    assert f"{ours['phash']:016x}" == str(imagehash.phash(image))
    assert f"{ours['dhash']:016x}" == str(imagehash.dhash(image))


@pytest.mark.parametrize("size", [None, (64, 64), (512, 512), (200, 131), (100, 700), (40, 30)])
def test_pdq_is_the_one_of_threatexchange(
    photograph: np.ndarray, size: tuple[int, int] | None
) -> None:
    if size is not None:
        photograph = np.asarray(Image.fromarray(photograph).resize(size))
    ours = PerceptualHash()(photograph)
    truth, quality = pdq(photograph)
    assert ours["pdq"].hex() == f"{truth:064x}"
    assert ours["pdq_quality"] == quality


def test_grey_is_grey(photograph: np.ndarray) -> None:
    grey = np.asarray(Image.fromarray(photograph).convert("L"))[:, :, None]
    assert PerceptualHash()(grey) == PerceptualHash()(np.repeat(grey, 3, axis=2))


def test_near_for_the_same_picture_and_far_for_others(photo: object, encoded: object) -> None:
    hashes = {}
    for name in ("astronaut", "chelsea", "coffee", "motorcycle", "rocket"):
        image = photo(name)
        small = image.resize((image.width // 2, image.height // 2))
        file = encoded(small, "JPEG", quality=50)
        hashes[name] = (
            PerceptualHash()(np.asarray(image)),
            PerceptualHash()(np.asarray(Image.open(io.BytesIO(file)))),
        )
    for name, (large, copy) in hashes.items():
        assert distance(large["phash"], copy["phash"]) <= 10
        assert distance(large["dhash"], copy["dhash"]) <= 10
        assert distance(*(int.from_bytes(h["pdq"], "big") for h in (large, copy))) <= 31
        for other, (stranger, _) in hashes.items():
            if other != name:
                assert distance(*(int.from_bytes(h["pdq"], "big") for h in (large, stranger))) > 90


@pytest.mark.parametrize("level", [0, 37, 200, 255])
@pytest.mark.parametrize("shape", [(80, 80, 3), (64, 64, 1), (301, 17, 3)])
def test_a_flat_image_has_no_noise_in_its_hash(level: int, shape: tuple[int, ...]) -> None:
    """Only the mean of phash is above the median; everything else is equal, so no bit is set."""
    assert PerceptualHash()(np.full(shape, level, np.uint8)) == {
        "phash": 1 << 63 if level else 0,
        "dhash": 0,
        "pdq": bytes(32),
        "pdq_quality": 0,
    }
