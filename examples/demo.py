"""Photographs through a pipeline, from files to a picture of the dataset: ``make demo``.

The photographs are real: they come with scikit-image and scikit-learn, in the sizes they have
there. Files whose names begin with ``made-`` are made of them, and ``broken-`` ones are broken
on purpose, to show what becomes of such files.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path

import contact_sheet
import skimage.data
import sklearn.datasets
from PIL import Image, ImageFilter

FOLDER = Path("demo/photos")
DATASET = "demo/photos.lance"
SHEET = "demo/contact_sheet.png"

SKIMAGE = Path(skimage.data.__file__).parent
SKLEARN = Path(sklearn.datasets.__file__).parent / "images"

REAL = (
    # from, to: another extension means it is stored in another format
    ("astronaut.png", "astronaut.jpg"),
    ("brick.png", "brick.png"),
    ("camera.png", "camera.tif"),
    ("cell.png", "cell.tif"),
    ("chelsea.png", "chelsea.webp"),
    ("china.jpg", "china.jpg"),
    ("clock_motion.png", "clock-in-motion.png"),
    ("coffee.png", "coffee.jpg"),
    ("coins.png", "coins.png"),
    ("flower.jpg", "flower.jpg"),
    ("grass.png", "grass.webp"),
    ("gravel.png", "gravel.tif"),
    ("hubble_deep_field.jpg", "hubble-deep-field.jpg"),
    ("ihc.png", "tissue.png"),
    ("microaneurysms.png", "microaneurysms.png"),
    ("moon.png", "moon.jpg"),
    ("motorcycle_left.png", "motorcycle-left.jpg"),
    ("motorcycle_right.png", "motorcycle-right.webp"),
    ("page.png", "page.png"),
    ("retina.jpg", "retina.jpg"),
    ("rocket.jpg", "rocket.jpg"),
    ("text.png", "handwriting.png"),
)

SIDEWAYS = 6
"""EXIF orientation of a camera that was held upright: turn by 90° to look at it."""


def files() -> dict[str, bytes]:
    """The files of the demo by name."""
    made = {}
    for source, name in REAL:
        path = SKIMAGE / source if (SKIMAGE / source).exists() else SKLEARN / source
        same = path.suffix == Path(name).suffix
        made[name] = path.read_bytes() if same else encode(Image.open(path), name)

    china, coffee = Image.open(SKLEARN / "china.jpg"), Image.open(SKIMAGE / "coffee.png")
    large = china.resize((3200, 2135), Image.Resampling.LANCZOS)
    made["made-china-enlarged.jpg"] = encode(large, ".jpg")
    blurred = coffee.filter(ImageFilter.GaussianBlur(4))
    made["made-coffee-out-of-focus.jpg"] = encode(blurred, ".jpg")
    sideways = Image.open(SKIMAGE / "astronaut.png").transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = SIDEWAYS
    made["made-astronaut-sideways.jpg"] = encode(sideways, ".jpg", exif=exif)

    made["broken-cut-short.jpg"] = made["rocket.jpg"][:40_000]
    made["broken-not-a-picture.jpg"] = b"<html><h1>404 Not Found</h1></html>\n"
    made["broken-empty.png"] = b""
    return made


def encode(image: Image.Image, name: str, **options: object) -> bytes:
    """The bytes of a file of the format that its extension says."""
    file = io.BytesIO()
    kind = {".jpg": "JPEG", ".tif": "TIFF", ".webp": "WEBP", ".png": "PNG"}[
        name[name.rindex(".") :]
    ]
    image.save(file, kind, quality=92, **options)
    return file.getvalue()


def write_photographs() -> int:
    """Write the files that are not there yet, so that a second demo finds nothing to do."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    found = files()
    for name, content in found.items():
        path = FOLDER / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    return len(found)


def main() -> int:
    """Make the photographs, run the pipeline, draw the dataset."""
    began = time.monotonic()
    if shutil.which("weft") is None:
        print("The command weft is not on the PATH. Run: make demo", file=sys.stderr)
        return 2
    print(f"{write_photographs()} files in {FOLDER}, three of them broken on purpose.\n")

    options = ["--set", f"source={FOLDER}/*", "--set", f"out={DATASET}"]
    print(
        f"$ weft run examples/photos.py --set source='{FOLDER}/*' --set out={DATASET}", flush=True
    )
    ended = subprocess.run(["weft", "run", "examples/photos.py", *options], check=False)
    if ended.returncode:
        return ended.returncode

    contact_sheet.main(DATASET, SHEET)
    seconds = time.monotonic() - began
    print(
        f"\nThe dataset as a picture: {Path(SHEET).resolve()}  ({seconds:.0f} s)\n\n"
        "Next:\n"
        "  source .venv/bin/activate\n"
        f"  weft show {DATASET}          # the run in full\n"
        f"  weft errors {DATASET}        # the files that failed, and why\n"
        f"  weft run examples/photos.py --set source='{FOLDER}/*' --set out={DATASET}\n"
        "                                       # once more: in sync, nothing to do\n"
        "  weft plan examples/photos.py --set source='/your/photos/**/*.jpg'"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
