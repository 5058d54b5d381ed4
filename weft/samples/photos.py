"""Photographs that packages carry, in several formats; three of the files are broken."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import skimage.data
import sklearn.datasets
from PIL import Image, ImageFilter

if TYPE_CHECKING:
    from weft.samples import Made

FOLDERS = (Path(skimage.data.__file__).parent, Path(sklearn.datasets.__file__).parent / "images")

REAL = (
    # from, to (another extension: stored in another format), label, caption
    ("astronaut.png", "astronaut.jpg", "person", "A smiling astronaut in an orange suit"),
    ("brick.png", "brick.png", "texture", "A wall of bricks"),
    ("camera.png", "camera.tif", "person", "A man with a camera on a tripod"),
    ("cell.png", "cell.tif", "microscope", "A cell under the microscope"),
    ("chelsea.png", "chelsea.webp", "animal", "The face of a tabby cat"),
    ("china.jpg", "china.jpg", "building", "The roof of a Chinese temple"),
    ("clock_motion.png", "clock-in-motion.png", "thing", "A clock, blurred by motion"),
    ("coffee.png", "coffee.jpg", "thing", "A cup of coffee on a saucer"),
    ("coins.png", "coins.png", "thing", "Old coins in rows"),
    ("flower.jpg", "flower.jpg", "plant", "A red dahlia in bloom"),
    ("grass.png", "grass.webp", "texture", "Grass from above"),
    ("gravel.png", "gravel.tif", "texture", "Gravel from above"),
    ("hubble_deep_field.jpg", "hubble-deep-field.jpg", "space", "Thousands of galaxies"),
    ("ihc.png", "tissue.png", "microscope", "Stained tissue"),
    ("microaneurysms.png", "microaneurysms.png", "microscope", "Small vessels of a retina"),
    ("moon.png", "moon.jpg", "space", "The surface of the moon"),
    ("motorcycle_left.png", "motorcycle-left.jpg", "thing", "A motorcycle in a garage"),
    ("motorcycle_right.png", "motorcycle-right.webp", "thing", "A motorcycle from the right"),
    ("page.png", "page.png", "text", "A page of a printed book"),
    ("retina.jpg", "retina.jpg", "microscope", "A retina"),
    ("rocket.jpg", "rocket.jpg", "thing", "A rocket on its launch pad"),
    ("text.png", "handwriting.png", "text", "A line of handwriting"),
)

_SIDEWAYS = 6
"""EXIF orientation of a camera that was held upright: turn by 90° to look at it."""

_FORMATS = {".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".png": "PNG"}


def open_photograph(name: str) -> Image.Image:
    """A photograph as its package has it."""
    return Image.open(_find(name))


def make() -> Made:
    """The files, and label, caption and size of each that is whole."""
    files: dict[str, bytes] = {}
    known: dict[str, dict[str, Any]] = {}
    for source, name, label, caption in REAL:
        same = Path(source).suffix == Path(name).suffix
        image = open_photograph(source)
        files[name] = _find(source).read_bytes() if same else encode(image, name)
        known[name] = {
            "label": label, "caption": caption, "width": image.width, "height": image.height,
        }  # fmt: skip
    for name, image, like, exif in _made():
        files[name] = encode(image, name, **({"exif": exif} if exif else {}))
        size = image.size[::-1] if exif else image.size
        known[name] = {**known[like], "width": size[0], "height": size[1]}
    broken = {
        "broken-cut-short.jpg": files["rocket.jpg"][:40_000],
        "broken-not-a-picture.jpg": b"<html><h1>404 Not Found</h1></html>\n",
        "broken-empty.png": b"",
    }
    return files | broken, known | {name: {"broken": True} for name in broken}


def _made() -> list[tuple[str, Image.Image, str, Image.Exif | None]]:
    china, coffee = open_photograph("china.jpg"), open_photograph("coffee.png")
    exif = Image.Exif()
    exif[0x0112] = _SIDEWAYS
    sideways = open_photograph("astronaut.png").transpose(Image.Transpose.ROTATE_90)
    large = china.resize((3200, 2135), Image.Resampling.LANCZOS)
    blurred = coffee.filter(ImageFilter.GaussianBlur(4))
    return [
        ("made-china-enlarged.jpg", large, "china.jpg", None),
        ("made-coffee-out-of-focus.jpg", blurred, "coffee.jpg", None),
        ("made-astronaut-sideways.jpg", sideways, "astronaut.jpg", exif),
    ]


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    """The bytes of a file of the format that the extension of `name` says."""
    file = io.BytesIO()
    image.save(file, _FORMATS[Path(name).suffix], quality=92, **options)
    return file.getvalue()


def _find(name: str) -> Path:
    return next(path for folder in FOLDERS if (path := folder / name).exists())
