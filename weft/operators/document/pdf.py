"""A row for each page of a PDF."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from weft.errors import DefinitionError, RowError
from weft.operators.document.pdfium import POINTS_PER_INCH, Document
from weft.operators.image import Resize, arrays, geometry
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Expand, Later, Operator, Row
from weft.pipelines.types import Encoded, Float32, Image, Int32, Text

MAX_PIXELS = 89_478_485
"""A quarter of a GiB of RGB, as for `image.Decode`; A0 at 200 dpi has 62 million."""

MAX_PAGES = 10_000
"""A page costs about 25 us to list; the longest books and standards have some thousands."""

_LESS = 1 - 1e-9
"""Keeps 1275.0000000000002 pixels from being rounded up to 1276."""


@dataclass(frozen=True)
class PDF(Expand):
    """Make a row of each page of a PDF: its text, and its image if a later step reads it.

    Reads `content`: the bytes of a PDF.
    Writes, for each page in order:

    * `page`: its number, from 1, as viewers and poppler count;
    * `pages`: how many the file has;
    * `width_points`, `height_points`: the page as it is shown, cropped and turned, in 1/72 inch;
    * `text`: its words in the order of the file, lines ended by a line feed; empty where there
      are only pictures. A hyphen at the end of a line stays, and the line goes on after it;
    * `image`: height x width x 3 channels of 8 bits (RGB), drawn on white with its annotations
      and filled forms.

    A page is drawn at `dpi` pixels an inch, or, with `size`, at the scale at which it just fits
    the box: (height, width) in pixels, one number for a square; sizes are rounded up. Text and
    image are made only for pages that pass the ``where`` on the other ports that follows, and
    only if a later step reads them: ``PDF().where(pl.col("page") <= 10)`` touches ten pages. A
    page that is damaged fails alone.

    An `image.Resize` that follows is taken over as it is: the page is drawn at `dpi`, then
    resized, exactly as without. Drawing at the smaller scale at once (`size`) is several times
    faster and crisper, but another image: on a page of print it differs by 4 to 7 of 255 on
    average (measured at 224 to 1024 pixels), so a plan never does the one for the other.

    PDFium draws and reads; its calls take turns within a process, see
    `weft.operators.document.pdfium`.

    >>> import io; from PIL import Image as PilImage
    >>> file = io.BytesIO(); PilImage.new("L", (72, 36)).save(file, "PDF", resolution=72)
    >>> [page] = PDF(dpi=144)(file.getvalue())
    >>> page["page"], page["pages"], page["width_points"], page["text"], page["image"].shape
    (1, 1, 72.0, '', (72, 144, 3))

    Raises:
        DefinitionError: a parameter has no such value, or both `dpi` and `size` are given.
        RowError: no PDF; damaged or cut short; encrypted with a password; more than `max_pages`
            pages. Of a page: damaged; an image of more than `max_pixels`, which is checked
            before it is drawn.
    """

    dpi: float | None = None
    size: int | tuple[int, int] | None = None
    max_pages: int = MAX_PAGES
    max_pixels: int = MAX_PIXELS
    then: tuple[Operator, ...] = ()

    version = "1"
    isolated = True
    reads = fields(content=Encoded("pdf"))
    writes = fields(
        page=Int32(),
        pages=Int32(),
        width_points=Float32(),
        height_points=Float32(),
        text=Text(),
        image=Image(),
    )
    early = ("page", "pages", "width_points", "height_points")

    def __post_init__(self) -> None:
        if self.dpi is not None and self.size is not None:
            raise DefinitionError(
                f"{self.name}: dpi={self.dpi!r} and size={self.size!r}: expected one of them."
            )
        if self.dpi is not None and not _positive(self.dpi):
            raise DefinitionError(
                f"{self.name}: dpi={self.dpi!r}: expected a positive number of pixels an inch."
            )
        if self.size is not None:
            geometry.pair(self.size, f"{self.name}: size")
        for name in ("max_pages", "max_pixels"):
            if not isinstance(limit := getattr(self, name), int) or limit < 1:
                raise DefinitionError(f"{self.name}: {name}={limit!r}: expected at least 1.")
        for operator in self.then:
            if not isinstance(operator, Resize):
                raise DefinitionError(
                    f"{self.name}: then holds {operator!r}; expected image.Resize only. Apply "
                    "other operators after the pages."
                )

    def absorb(self, following: Operator, port: str) -> Operator | None:
        """Take over a resize of the image."""
        if port != "image" or not isinstance(following, Resize):
            return None
        return dataclasses.replace(self, then=(*self.then, following))

    def infer(self, inputs: Fields) -> Fields:
        """The size of the image where it does not depend on the row."""
        image = fields(image=Image())
        for operator in self.then:
            image = operator.infer(image)
        return self.writes.merge(image)

    def expand_row(self, row: Row, loaded: Any) -> Iterator[dict[str, Any]]:
        """The pages of one file."""
        document = Document(row["content"], self.max_pages, self.name)
        for index in range(document.pages):
            width, height = document.size_points(index)
            yield {
                "page": index + 1,
                "pages": document.pages,
                "width_points": width,
                "height_points": height,
                "text": Later(partial(_text, document, index)),
                "image": Later(partial(self._image, document, index, width, height)),
            }

    def _image(self, document: Document, index: int, width: float, height: float) -> arrays.Pixels:
        scale = self._scale(width, height)
        across, down = math.ceil(width * scale), math.ceil(height * scale)
        if not across * down <= self.max_pixels:
            raise RowError(
                f"{self.name}: page {index + 1} of {document.pages} is too large to draw: "
                f"{width:g}x{height:g} points would be {across}x{down} pixels; expected at most "
                f"{self.max_pixels}. Give a lower dpi, or a size."
            )
        image = document.render(index, scale)
        for resize in self.then:
            assert isinstance(resize, Resize)
            image = resize.map_row({"image": image}, None)
        return image

    def _scale(self, width: float, height: float) -> float:
        """Pixels a point."""
        if self.size is None:
            return (self.dpi or _DPI) / POINTS_PER_INCH * _LESS
        down, across = geometry.pair(self.size, f"{self.name}: size")
        return min(across / width, down / height) * _LESS


_DPI = 150
"""Small print stays legible; A4 is 1241 x 1754 pixels."""


def _text(document: Document, index: int) -> str:
    """Without PDFium's marks: CR before LF, and what it puts for a hyphen at the end of a line."""
    return (
        document.text(index)
        .replace("\r\n", "\n")
        .replace("\r", "\n")
        .replace("\ufffe", "-")
        .replace("\x02", "-")
        .replace("\0", "")
    )


def _positive(number: object) -> bool:
    return isinstance(number, int | float) and math.isfinite(number) and number > 0
