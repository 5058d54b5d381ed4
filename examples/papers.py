"""Make a dataset of the pages of a folder of PDFs: their text, and a picture of each.

A page without words, such as a scan, keeps its picture; `pl.col("words") > 0` finds the others.

Run it:  weft run examples/papers.py --set source='papers/**/*.pdf' --set out=papers.lance
"""

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import document, image


@weft.pipeline
def papers(
    source: str = "papers/**/*.pdf",
    out: str = "papers.lance",
    size: int = 1024,
    most_pages: int = 50,
):
    """Text and pictures of the first pages of each paper."""
    rows = weft.read(Files(source, kind="pdf"))
    rows = rows.apply(document.Probe(), pages="in_file")
    rows = rows.apply(document.PDF(size=size))
    rows = rows.where(pl.col("page") <= most_pages)  # the others are neither read nor drawn
    rows = rows.with_columns(words=pl.col("text").str.count_matches(r"\S+"))
    rows = rows.apply(image.Encode("png"), encoded="picture")
    return rows.select(
        "uri", "title", "author", "page", "pages", "width_points", "height_points",
        "text", "words", "picture",
    ).write(Lance(out))  # fmt: skip
