"""What an image file says of itself."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from PIL import ImageFile

from weft.errors import RowError
from weft.operators.image import geometry, header
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Encoded, Int8, Int32, Text

_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Probe(Map):
    """Read the header of an image file. No pixel is decoded, so no size is too large.

    Reads `content`: the bytes of a file in one of the formats of `Decode`.
    Writes:

    * `format`: "jpeg", "png", "webp", "gif", "tiff", "bmp" or "avif". Cameras' MPO, several
      JPEGs in one file, is "jpeg" with more than one frame;
    * `width`, `height`: in pixels as stored, before `orientation` is applied;
    * `mode`: the pixels, as Pillow names them: "L", "RGB", "RGBA", "P", "CMYK", "I;16", …;
    * `orientation`: 1..8 as EXIF 3.0 defines tag 0x0112; 1, upright, where there is none;
    * `frames`: of an animation or pages of a TIFF, else 1.

    >>> import io; from PIL import Image as PilImage
    >>> file = io.BytesIO(); PilImage.new("L", (60, 40)).save(file, "PNG")
    >>> probed = Probe()(file.getvalue())
    >>> probed["format"], probed["width"], probed["height"], probed["mode"]
    ('png', 60, 40, 'L')

    Raises:
        RowError: not an image in one of the formats, or its header is damaged.
    """

    version = "1"
    isolated = True
    reads = fields(content=Encoded("image"))
    writes = fields(
        format=Text(),
        width=Int32(),
        height=Int32(),
        mode=Text(),
        orientation=Int8(),
        frames=Int32(),
    )

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One file."""
        content = row["content"]
        with header.reading(content, self.name):
            image = header.open_header(content, self.name)
            turn = _orientation(image, content)
            # Pillow gives the upright size of a TIFF, and the stored one of all other formats.
            width, height = (
                geometry.upright_size(image.size, turn) if image.format == "TIFF" else image.size
            )
            frames = header.frames(image)
            if max(width, height, frames) > _INT32:
                raise RowError(
                    f"{self.name}: the header is damaged: it says {width}x{height} pixels and "
                    f"{frames} frames; no format has more than {_INT32}. Fetch the file again, or "
                    "drop the row."
                )
            return {
                "format": "jpeg" if image.format == "MPO" else str(image.format).lower(),
                "width": width,
                "height": height,
                "mode": image.mode,
                "orientation": turn,
                "frames": frames,
            }


def _orientation(image: ImageFile.ImageFile, content: bytes) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        # EXIF may stand behind the pixels, where Pillow finds it only after decoding them.
        exif = _png_chunk(content, b"eXIf")
        if exif is not None:
            image.info["exif"] = b"Exif\x00\x00" + exif
    return header.orientation(image)


def _png_chunk(content: bytes, wanted: bytes) -> bytes | None:
    """The first chunk of a kind: each is length, kind, that many bytes, checksum (PNG §5.3)."""
    position = 8
    while position + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, position)
        if kind == wanted:
            return content[position + 8 : position + 8 + length]
        position += 12 + length
    return None
