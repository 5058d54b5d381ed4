"""One decode, two branches, two datasets: small thumbnails of all, measures of the large ones.

Run it:  weft run examples/branches.py --set source='photos/**/*.jpg' --set folder=.

Each photograph is read and decoded once, and both datasets are published by one run. Read them
with Lance alone; bytes of pictures come when they are asked for:

    lance.dataset("measures.lance", version="latest").to_table()
    lance.dataset("thumbnails.lance", version="latest").to_table(blob_handling="all_binary")
"""

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import image


@weft.pipeline
def branches(source: str = "photos/**/*.jpg", folder: str = ".", min_width: int = 600):
    """Thumbnails of all photographs, and measures of those that are wide enough."""
    rows = weft.read(Files(source)).apply(image.Probe()).apply(image.Decode())

    thumbnails = rows.apply(image.Resize(128)).apply(image.Encode("webp", quality=80))
    thumbnails = thumbnails.select("uri", "encoded")

    wide = rows.where(pl.col("width") >= min_width)
    measures = wide.apply(image.Resize(512)).apply(image.Sharpness()).apply(image.Exposure())
    measures = measures.with_columns(megapixels=pl.col("width") * pl.col("height") / 1e6)
    measures = measures.select("uri", "megapixels", "sharpness", "brightness", "contrast")

    return (
        thumbnails.write(Lance(f"{folder}/thumbnails.lance")),
        measures.write(Lance(f"{folder}/measures.lance")),
    )
