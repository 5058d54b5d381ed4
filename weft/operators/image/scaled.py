"""Decode a JPEG at a fraction of its size, where a smaller image is asked for anyway.

libjpeg can leave out the high frequencies of each block and so decode at 1/2, 1/4 or 1/8,
which costs a fraction of the time. What is decoded is then resampled to the size asked for.
That is not the same as decoding everything and resampling: the triangle filter is sampled at
fewer points. How much the two differ depends on how many decoded pixels there are for each
pixel asked for, `kx` across and `ky` down, and falls with 1/kx² + 1/ky².

`LIMITS` bounds that sum. It was measured, not derived: with it the mean absolute difference
is at most 0.5 of 255 on all 13 photographs and textures of scikit-image and scikit-learn that
the tests use, and an enlarged one with noise, at qualities 75 and 90 and reductions of 2 to
12; single pixels differ by less than 16. With just two pixels for each (a sum of 0.5, Pillow's
``reducing_gap=2``) the mean would be up to 1.7 on gravel and grass. The smaller scales need
more room, as a smaller image has more detail per pixel. Small print differs by up to 0.75,
white noise, which no camera takes, by up to 1.5: use ``exact=True`` where that matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image as PilImage
from PIL import JpegImagePlugin

from weft.operators.image import geometry, pixels
from weft.operators.image.geometry import Box, Geometric, Step

LIMITS = {8: 0.10, 4: 0.15, 2: 0.23}
"""Scale -> the largest 1/kx² + 1/ky² that it is used for, smallest image first.

1920x1280 -> 224x224 decodes at 1/2 (0.18), 4000x3000 -> 224x224 at 1/4 (0.14).
"""


def decode(
    image: PilImage.Image, mode: str, chain: Sequence[Geometric], orientation: int, what: str
) -> tuple[PilImage.Image, Sequence[Geometric]] | None:
    """The image after the crops and the first resize of `chain`, and what is left of `chain`.

    ``None``, with nothing decoded yet, where no scale fits.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    stored = image.size
    width, height = geometry.upright_size(stored, orientation)
    clip: Box = (0, 0, width, height)
    for done, operator in enumerate(chain, start=1):
        step = operator.step(int(clip[2] - clip[0]), int(clip[3] - clip[1]))
        box = _within(clip, step.box)
        if step.crops:
            clip = box
            continue
        scale = _scale(step)
        drafted = image.draft(mode, (stored[0] // scale, stored[1] // scale)) if scale > 1 else None
        if drafted is None:
            return None
        scale = round(stored[0] / drafted[1][2])
        clip, box = (geometry.as_stored(b, orientation, stored) for b in (clip, box))
        size = geometry.upright_size(step.size, orientation)
        small = _resample(pixels.to_mode(image, mode, what), scale, clip, Step(box, size))
        return geometry.upright(small, orientation), chain[done:]
    return None


def _within(clip: Box, box: Box) -> Box:
    left, top = clip[:2]
    return box[0] + left, box[1] + top, box[2] + left, box[3] + top


def _scale(step: Step) -> int:
    across = (step.box[2] - step.box[0]) / step.size[0]
    down = (step.box[3] - step.box[1]) / step.size[1]
    for scale, limit in LIMITS.items():
        if (scale / across) ** 2 + (scale / down) ** 2 <= limit:
            return scale
    return 1


def _resample(image: PilImage.Image, scale: int, clip: Box, step: Step) -> PilImage.Image:
    """Do `step`, given in pixels of the full image, on one that is 1/`scale` of it.

    The filter must not see what an earlier crop took away, so that is cut off first, as far
    as whole pixels of the smaller image go. Sizes of scaled images are rounded up by libjpeg;
    the part of the last column and row that is beyond the image is outside of every box.
    """
    left, top = math.floor(clip[0] / scale), math.floor(clip[1] / scale)
    right, bottom = math.ceil(clip[2] / scale), math.ceil(clip[3] / scale)
    if (left, top, right, bottom) != (0, 0, *image.size):
        image = image.crop((left, top, right, bottom))
    box = step.box
    inside = (
        max(box[0] / scale - left, 0),
        max(box[1] / scale - top, 0),
        min(box[2] / scale - left, image.size[0]),
        min(box[3] / scale - top, image.size[1]),
    )
    return image.resize(step.size, PilImage.Resampling.BILINEAR, box=inside)
