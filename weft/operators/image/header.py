"""Open untrusted image bytes: the format and the header, no pixels.

Only formats on the allow-list are looked at; of Pillow's other formats some run programs
(EPS) or read other files. Pillow's own check of sizes warns, raises or does nothing depending
on module-level state, so the opener of each format is called directly and the size is checked
here, against the limit of the operator. No state of the process is changed.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PilImage

from weft.errors import RowError

_PLUGINS = (
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
    GifImagePlugin,
    TiffImagePlugin,
    BmpImagePlugin,
    AvifImagePlugin,
)
"""Imported to fill ``PIL.Image.OPEN``; most frequent first."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")
"""Pillow's names of the formats that are read, in the order in which they are tried."""

_NOT_THIS_FORMAT = (SyntaxError, IndexError, TypeError, struct.error)
"""What an opener raises for bytes that are another format; the list of ``PIL.Image.open``."""

_BROKEN = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
    struct.error,
    zlib.error,
    PilImage.DecompressionBombError,
)
"""What Pillow raises for damaged files: it parses them in Python, where any of these happens."""

_ORIENTATION = 0x0112

MAX_SCANS = 100
"""Scans of a progressive JPEG: encoders write about ten. Each is 14 bytes at least and goes over
every pixel again, so that 300 kB could take an hour."""


@contextmanager
def reading(content: bytes, what: str) -> Iterator[None]:
    """What goes wrong while `content` is read is the fault of its row.

    Raises:
        RowError: instead of the errors of Pillow.
    """
    try:
        yield
    except _BROKEN as error:
        raise RowError(
            f"{what}: the image is damaged or cut short ({type(error).__name__}: {error}). "
            f"Given {len(content)} bytes that start with {bytes(content[:8])!r}; expected a "
            "complete file. Fetch it again, or drop the row."
        ) from error


def open_header(content: bytes, what: str) -> ImageFile.ImageFile:
    """The image with its header read and its pixels not.

    Raises:
        RowError: the bytes are empty or not in one of `FORMATS`.
    """
    prefix = content[:16]
    for name in FORMATS:
        opener, accept = PilImage.OPEN[name]
        if accept is None or accept(prefix) is not True:  # a text says what is missing
            continue
        try:
            return opener(io.BytesIO(content), "")
        except _NOT_THIS_FORMAT as error:
            raise RowError(
                f"{what}: the header is damaged or cut short ({type(error).__name__}: {error}). "
                f"Given {len(content)} bytes that start like {name}; expected a complete file. "
                "Fetch it again, or drop the row."
            ) from error
    given = f"{len(content)} bytes that start with {bytes(prefix)!r}" if content else "0 bytes"
    raise RowError(
        f"{what}: not an image in a known format. Given {given}; expected {', '.join(FORMATS)}. "
        "The name of a file does not matter, its content does: convert it, or drop the row."
    )


def check_size(image: ImageFile.ImageFile, max_pixels: int, max_frames: int, what: str) -> None:
    """Refuse an image that is too large, before its pixels are decoded.

    Raises:
        RowError: more pixels or frames than allowed.
    """
    width, height = image.size
    if width * height > max_pixels:
        raise RowError(
            f"{what}: the image is too large. Given {height}x{width} = {width * height} pixels; "
            f"expected at most {max_pixels}. If it is no decompression bomb, raise max_pixels."
        )
    if (count := frames(image)) > max_frames:
        raise RowError(
            f"{what}: the image has too many frames. Given {count}; expected at most "
            f"{max_frames}. If it is no decompression bomb, raise max_frames."
        )


def check_scans(image: ImageFile.ImageFile, content: bytes, what: str) -> None:
    """Refuse a JPEG whose pixels are gone over too often.

    Raises:
        RowError: more than `MAX_SCANS`.
    """
    if not image.info.get("progressive"):
        return
    # Start of scan; in coded pixels 0xFF is followed by other bytes (ITU-T T.81, B.1.1.5).
    if (count := content.count(b"\xff\xda")) > MAX_SCANS:
        raise RowError(
            f"{what}: the progressive JPEG has too many scans. Given {count}; expected at most "
            f"{MAX_SCANS}. If it is no decompression bomb, save it again."
        )


def frames(image: ImageFile.ImageFile) -> int:
    """How many frames or pages the file has; 1 for a plain image. Decodes none of them."""
    if image.format == "TIFF" and isinstance(image.fp, io.BytesIO):
        return _pages(image.fp.getvalue())
    return int(getattr(image, "n_frames", 1))


def _pages(content: bytes) -> int:
    """How many directories a TIFF has (TIFF 6.0, section 2; 43: BigTIFF). A circle ends there.

    Pillow parses each, and looks for it in a list of those before: 20,000 pages take it seconds.
    """
    order, big = "<" if content[:2] == b"II" else ">", 43 in content[2:4]
    count, entry, place = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
    seen: set[int] = set()
    (at,) = struct.unpack_from(place, content, 8 if big else 4)
    while at and at not in seen:
        seen.add(at)
        (entries,) = struct.unpack_from(count, content, at)
        behind = at + struct.calcsize(count) + entry * entries
        (at,) = struct.unpack_from(place, content, behind)
    return len(seen)


def orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation, 1..8; 1 where there is none or it cannot be read.

    Does not decode: the way of PNG's own ``getexif`` would.
    """
    try:
        value = PilImage.Image.getexif(image).get(_ORIENTATION, 1)
    except _BROKEN:  # cameras and editors write broken EXIF into files that are fine
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
