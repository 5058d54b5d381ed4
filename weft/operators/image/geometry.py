"""Geometry that Decode, Resize and Crop share: what part of an image becomes how many pixels.

Everything here is a pure function of sizes, or of a Pillow image and a `Step`, so that a
decoder which takes over a resize cannot come to another answer than the resize itself.

Parameters of operators are (height, width), as arrays are. Inside this module sizes are
(width, height) and boxes (left, top, right, bottom), as Pillow has them; boxes are half open.

Every resampling is Pillow's BILINEAR: a triangle filter that widens with the reduction, so it
is antialiased, and never rings. It is what the loaders of torchvision and Ray Data use.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image as PilImage

from weft.errors import DefinitionError, RowError, nearest

Size = tuple[int, int]
Box = tuple[float, float, float, float]

FITS = ("contain", "cover", "fill")


@dataclass(frozen=True)
class Step:
    """`box` of an image becomes an image of `size`."""

    box: Box
    size: Size

    @property
    def crops(self) -> bool:
        """Whether pixels are only taken, not resampled."""
        left, top, right, bottom = self.box
        return (right - left, bottom - top) == self.size and left % 1 == 0 and top % 1 == 0


class Geometric(Protocol):
    """An operator that is one `Step` for each size of image."""

    def step(self, width: int, height: int) -> Step:
        """What becomes of an image of this size."""


def pair(size: Any, what: str) -> tuple[int, int]:
    """(height, width) from an int or a pair.

    Raises:
        DefinitionError: not a positive int, nor two of them.
    """
    both = (size, size) if isinstance(size, int) else size
    if (
        not isinstance(both, tuple | list)
        or len(both) != 2
        or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in both)
    ):
        raise DefinitionError(
            f"{what}={size!r}: expected a positive number of pixels, or (height, width)."
        )
    return both[0], both[1]


def check_fit(fit: str, what: str) -> None:
    """Refuse a way of fitting that does not exist.

    Raises:
        DefinitionError: `fit` is not one of `FITS`.
    """
    if fit not in FITS:
        hint = nearest(str(fit), FITS)
        raise DefinitionError(
            f"{what}={fit!r}: expected 'contain', 'cover' or 'fill'. {hint}".rstrip()
        )


def resize_step(width: int, height: int, target: Size, fit: str) -> Step:
    """The step that fits an image into `target`."""
    whole = (0.0, 0.0, float(width), float(height))
    if fit == "fill":
        return Step(whole, target)
    if fit == "cover":
        return Step(_same_aspect(width, height, target), target)
    return Step(whole, _contained(width, height, target))


def _same_aspect(width: int, height: int, target: Size) -> Box:
    """The largest centred box with the aspect of `target`; the arithmetic of ImageOps.fit."""
    aspect = target[0] / target[1]
    inner_width, inner_height = float(width), float(height)
    if width / height > aspect:
        inner_width = min(aspect * height, inner_width)
    elif width / height < aspect:
        inner_height = min(width / aspect, inner_height)
    left, top = (width - inner_width) * 0.5, (height - inner_height) * 0.5
    return left, top, min(left + inner_width, width), min(top + inner_height, height)


def _contained(width: int, height: int, target: Size) -> Size:
    """The largest size of the same aspect within `target`, never larger than the image.

    The side that is not given by `target` is rounded to the nearer aspect, as Image.thumbnail
    does.
    """
    across, down = target
    if across >= width and down >= height:
        return width, height
    aspect = width / height
    if across / down >= aspect:
        return _nearer(down * aspect, lambda n: abs(aspect - n / down)), down
    return across, _nearer(across / aspect, lambda n: abs(aspect - across / n) if n else 0.0)


def _nearer(value: float, distance: Any) -> int:
    return max(min(math.floor(value), math.ceil(value), key=distance), 1)


def check_holds(width: int, height: int, needed: Size, what: str) -> None:
    """Refuse to crop an image that is smaller than `needed`.

    Raises:
        RowError: it is smaller.
    """
    if width < needed[0] or height < needed[1]:
        raise RowError(
            f"{what}: the image is too small. Given {height}x{width} pixels (height x width), "
            f"expected at least {needed[1]}x{needed[0]}. Resize first with fit='cover', or drop "
            "small images by their width and height."
        )


def apply(image: PilImage.Image, step: Step) -> PilImage.Image:
    """Do one step."""
    if step.crops:
        if step.size == image.size:
            return image
        left, top, right, bottom = step.box
        return image.crop((int(left), int(top), int(right), int(bottom)))
    return image.resize(step.size, PilImage.Resampling.BILINEAR, box=step.box)


def apply_all(image: PilImage.Image, chain: Iterable[Geometric]) -> PilImage.Image:
    """Do the steps of a chain of operators, one after the other."""
    for operator in chain:
        image = apply(image, operator.step(*image.size))
    return image


_UPRIGHT = {
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}
"""What sets an image upright, by its EXIF orientation (EXIF 3.0, tag 0x0112)."""


def upright(image: PilImage.Image, orientation: int) -> PilImage.Image:
    """`image` as it was meant to be seen."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def upright_size(size: Size, orientation: int) -> Size:
    """The size of an image once it is upright."""
    return (size[1], size[0]) if orientation >= 5 else size


def as_stored(box: Box, orientation: int, size: Size) -> Box:
    """The box of the stored image, which has `size`, that `box` of the upright image shows.

    >>> as_stored((0, 0, 10, 5), 6, (100, 60))  # upright is 60 wide, 100 high
    (0, 50, 5, 60)
    """
    width, height = size
    left, top, right, bottom = box
    if orientation >= 5:
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom
