"""Describe a folder of photographs and keep the sharp ones.

Run it:  weft run examples/photos.py --set source='photos/**/*.jpg' --set out=photos.lance
"""

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import image


@weft.pipeline
def photos(source: str = "photos/**/*.jpg", out: str = "photos.lance", sharpness: float = 0.2):
    """Thumbnails, measures, hashes and descriptors of the photographs that are sharp."""
    rows = weft.read(Files(source))
    rows = rows.where(pl.col("size") > 0)
    rows = rows.apply(image.Probe())
    rows = rows.apply(image.Decode()).apply(image.Resize(512))
    rows = rows.apply(image.Sharpness())
    rows = rows.where(pl.col("sharpness") > sharpness)
    rows = rows.apply(image.Exposure()).apply(image.PerceptualHash()).apply(image.Descriptor())
    rows = rows.apply(image.Encode("jpeg", quality=85), encoded="thumbnail")
    return rows.select(
        "uri", "modified", "width", "height", "sharpness", "brightness", "contrast",
        "pdq", "pdq_quality", "descriptor", "thumbnail",
    ).write(Lance(out))  # fmt: skip
