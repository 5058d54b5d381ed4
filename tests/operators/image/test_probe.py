"""Truth: Pillow's own opener and exif_transpose."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PilImage

from weft.errors import RowError
from weft.operators.image import Decode, Probe

IMAGE = PilImage.fromarray(np.arange(40 * 60, dtype=np.uint16).astype(np.uint8).reshape(40, 60))


def exif(orientation: int) -> PilImage.Exif:
    made = PilImage.Exif()
    made[0x0112] = orientation
    return made


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_formats(encoded: object, file_format: str) -> None:
    probed = Probe()(encoded(IMAGE, file_format))
    mode = {"WEBP": "RGB", "AVIF": "RGB", "BMP": "P"}.get(file_format, "L")
    if file_format in ("BMP", "AVIF"):  # Pillow's choice of mode for grey differs by version
        mode = probed["mode"]
        assert mode in ("L", "P", "RGB")
    assert probed == {
        "format": file_format.lower(),
        "width": 60,
        "height": 40,
        "mode": mode,
        "orientation": 1,
        "frames": 1,
    }


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_modes_of_png(encoded: object, mode: str) -> None:
    assert Probe()(encoded(PilImage.new(mode, (6, 4)), "PNG"))["mode"] == mode


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_orientation_and_stored_size(encoded: object, file_format: str, orientation: int) -> None:
    probed = Probe()(encoded(IMAGE.convert("RGB"), file_format, exif=exif(orientation)))
    assert (probed["width"], probed["height"], probed["orientation"]) == (60, 40, orientation)


def test_exif_behind_the_pixels_of_a_png(encoded: object) -> None:
    """PNG 3rd edition §5.6 allows it; Pillow alone would decode the pixels to find it."""
    file = encoded(IMAGE, "PNG")
    body = b"eXIf" + exif(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    file = file[:-12] + chunk + file[-12:]
    assert Probe()(file)["orientation"] == 6
    assert Decode()(file).shape == (60, 40, 3)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_orientation_without_a_meaning_is_upright(encoded: object, orientation: int) -> None:
    file = encoded(IMAGE, "JPEG", exif=exif(orientation))
    assert Probe()(file)["orientation"] == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # what Pillow says of it
def test_broken_exif_is_no_exif(encoded: object) -> None:
    file = encoded(IMAGE, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff garbage")
    assert Probe()(file)["orientation"] == 1
    assert Decode()(file).shape == (40, 60, 3)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG", "AVIF", "MPO"])
def test_frames(encoded: object, file_format: str) -> None:
    frames = [PilImage.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    file = encoded(frames[0], file_format, save_all=True, append_images=frames[1:])
    probed = Probe()(file)
    assert probed["frames"] == 3
    assert probed["format"] == ("jpeg" if file_format == "MPO" else file_format.lower())


def test_no_size_is_too_large(encoded: object) -> None:
    file = encoded(PilImage.new("1", (20_000, 20_000)), "PNG")
    assert Probe()(file)["width"] == 20_000


def test_no_pixel_is_decoded(encoded: object) -> None:
    """A header followed by nothing is enough."""
    file = encoded(IMAGE.convert("RGB"), "PNG")
    assert Probe()(file[:60])["height"] == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"image\.Probe: not an image in a known format\. Given 0 bytes; expected JPEG, PNG"),
        (b"Dear Sir or Madam", r"Given 17 bytes that start with b'Dear Sir or Mada'"),
        (b"\xff\xd8\xff\xe0", r"header is damaged or cut short .* start like JPEG"),
    ],
)
def test_not_an_image(content: bytes, message: str) -> None:
    with pytest.raises(RowError, match=message):
        Probe()(content)
