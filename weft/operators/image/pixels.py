"""From what files hold to 8 bits a channel: grey, RGB or RGBA.

* Colour profiles are not applied: numbers are taken as sRGB. CMYK is converted by Pillow's
  plain formula; that of a JPEG is taken to be inverted, as Adobe's are.
* Transparent pixels are put on white where the result has no alpha.
* 16-bit grey is scaled, so that white stays white: round(v * 255 / 65535), PNG 3rd edition
  §13.12. Of 16-bit colour Pillow keeps the high byte; it differs by at most one level.
* 32-bit grey, whole or float, has no agreed white and is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from weft.errors import RowError

_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")
_TIFF_BITS_PER_SAMPLE = 258
_TIFF_PHOTOMETRIC = 262
_WHITE_IS_ZERO = 0


def to_mode(image: PilImage.Image, mode: str, what: str) -> PilImage.Image:
    """`image`, decoded, in mode L, RGB or RGBA.

    Raises:
        RowError: the pixels have no 8-bit meaning.
    """
    if image.mode in _SIXTEEN_BITS:
        image = _from_16_bits(image)
    elif image.mode in ("I", "F"):
        raise RowError(
            f"{what}: given pixels of 32 bits (Pillow's mode {image.mode!r}), which have no "
            "agreed white; expected 8 or 16 bits. Scale them to 16 bits, or drop the row."
        )
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        image = image if mode == "RGBA" else _on_white(image)
    return image if image.mode == mode else image.convert(mode)


def _on_white(image: PilImage.Image) -> PilImage.Image:
    white = PilImage.new("RGB", image.size, (255, 255, 255))
    white.paste(image, mask=image.getchannel("A"))
    return white


def _from_16_bits(image: PilImage.Image) -> PilImage.Image:
    values = np.asarray(image).astype(np.uint32)
    transparent = image.info.get("transparency")
    tags: Any = getattr(image, "tag_v2", {})
    white = 2 ** int(tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0]) - 1  # TIFF has 12 bits as well
    scaled = ((values * 255 + white // 2) // white).astype(np.uint8)
    if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO:
        scaled = 255 - scaled
    if transparent is None:
        return PilImage.fromarray(scaled)
    return PilImage.fromarray(_with_alpha(scaled, values != transparent))


def _with_alpha(grey: npt.NDArray[np.uint8], opaque: npt.NDArray[np.bool_]) -> Any:
    return np.dstack([grey, np.where(opaque, np.uint8(255), np.uint8(0))])
