"""Bytes of an image file to pixels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image as PilImage

from weft.errors import DefinitionError, RowError
from weft.operators.image import arrays, geometry, header, pixels, scaled
from weft.operators.image.crop import Crop
from weft.operators.image.resize import Resize
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Operator, Row
from weft.pipelines.types import Encoded, Image

MAX_PIXELS = 89_478_485
"""A quarter of a GiB of RGB, the limit at which Pillow begins to warn."""

MAX_FRAMES = 10_000
"""Counting frames reads the file, so there is an end to it; one frame is decoded in any case."""


@dataclass(frozen=True)
class Decode(Map):
    """Decode JPEG, PNG, WebP, GIF, TIFF, BMP or AVIF; of an animation the first frame.

    Reads `content`: the bytes of a file. What they are is read from the bytes, never a name.
    Writes `image`: height x width x 3 channels of 8 bits, or 1 with ``mode="L"``, or 4 with
    ``mode="RGBA"``; upright, that is with EXIF orientation applied.

    ``Decode(size, fit)`` means ``Decode()`` then ``Resize(size, fit)``. `then` are further
    `Resize` and `Crop`, in order; a plan fills it with those that follow, so that a JPEG is
    decoded only as large as they need it. Its mean absolute difference to a full decode is at
    most 0.5 of 255 on photographs (measured, see `weft.operators.image.scaled`); with
    ``exact=True``, and for all other formats, there is none.

    Colour profiles are not applied; CMYK is converted by Pillow's plain formula. Transparency
    is put on white, unless the mode is RGBA. 16-bit grey is scaled to 8 bits. The grey of a
    JPEG is the luma in the file. See `weft.operators.image.pixels`.

    >>> import io; from PIL import Image as PilImage
    >>> file = io.BytesIO(); PilImage.new("RGB", (60, 40), "red").save(file, "PNG")
    >>> image = Decode(size=30)(file.getvalue())
    >>> image.shape, image[0, 0].tolist()
    ((20, 30, 3), [255, 0, 0])

    Raises:
        DefinitionError: a parameter has no such value.
        RowError: not an image in one of the formats; damaged or cut short; more than
            `max_pixels` pixels or `max_frames` frames, which is checked before decoding;
            pixels of 32 bits; a JPEG of more than 100 scans; too small for a crop.
    """

    size: int | tuple[int, int] | None = None
    fit: str = "contain"
    mode: str = "RGB"
    exact: bool = False
    max_pixels: int = MAX_PIXELS
    max_frames: int = MAX_FRAMES
    then: tuple[Operator, ...] = ()

    version = "1"
    isolated = True
    reads = fields(content=Encoded("image"))
    writes = fields(image=Image(channels=None))

    def __post_init__(self) -> None:
        geometry.check_fit(self.fit, f"{self.name}: fit")
        if self.size is not None:
            geometry.pair(self.size, f"{self.name}: size")
        if self.mode not in arrays.CHANNELS:
            raise DefinitionError(
                f"{self.name}: mode={self.mode!r}: expected one of {', '.join(arrays.CHANNELS)}."
            )
        for name in ("max_pixels", "max_frames"):
            if not isinstance(limit := getattr(self, name), int) or limit < 1:
                raise DefinitionError(f"{self.name}: {name}={limit!r}: expected at least 1.")
        for operator in self.then:
            if not isinstance(operator, Resize | Crop):
                raise DefinitionError(
                    f"{self.name}: then holds {operator!r}; expected Resize and Crop only. "
                    "Apply other operators after the decode."
                )

    def _chain(self) -> tuple[Resize | Crop, ...]:
        first = () if self.size is None else (Resize(self.size, self.fit),)
        return first + tuple(op for op in self.then if isinstance(op, Resize | Crop))

    def absorb(self, following: Operator, port: str) -> Operator | None:
        """Take over a resize or a crop."""
        if not isinstance(following, Resize | Crop):
            return None
        return dataclasses.replace(self, then=(*self.then, following))

    def infer(self, inputs: Fields) -> Fields:
        """Channels by `mode`; the size where it does not depend on the row."""
        out = fields(image=Image(channels=arrays.CHANNELS[self.mode]))
        for operator in self._chain():
            out = operator.infer(out)
        return out

    def setup(self, device: str) -> tuple[Resize | Crop, ...]:
        """All geometry, in order."""
        return self._chain()

    def map_row(self, row: Row, loaded: Sequence[Resize | Crop]) -> arrays.Pixels:
        """One file."""
        content = row["content"]
        with header.reading(content, self.name):
            file = header.open_header(content, self.name)
            header.check_size(file, self.max_pixels, self.max_frames, self.name)
            header.check_scans(file, content, self.name)
            image, rest = self._pixels(file, content, loaded)
            return arrays.to_array(geometry.apply_all(image, rest))

    def _pixels(
        self, file: Any, content: bytes, chain: Sequence[Resize | Crop]
    ) -> tuple[PilImage.Image, Sequence[Any]]:
        """An upright image in the right mode, and the operators that are not done yet."""
        if chain and not self.exact:
            done = scaled.decode(file, self.mode, chain, header.orientation(file), self.name)
            if done is not None:
                return done
        if self.mode == "L":
            file.draft("L", None)  # libjpeg gives the luma alone; nothing for other formats
        file.load()
        if file.format == "PNG" and content.rfind(b"IEND") < 0:
            # Pillow is content once it has all rows; then nobody would have seen the checksum.
            raise RowError(
                f"{self.name}: the PNG is cut short: its end is missing after {len(content)} "
                "bytes. Fetch it again, or drop the row."
            )
        image = pixels.to_mode(file, self.mode, self.name)
        return geometry.upright(image, header.orientation(file)), chain
