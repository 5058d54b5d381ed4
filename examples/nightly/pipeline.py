"""Photographs in labelled folders as a dataset, and what a model needs of them as features.

Run them:  weft run pipeline.py:photos; weft run pipeline.py:features
or let `jobs.toml` run them when they are due. Both process only what is new or changed.
"""

import polars as pl

import weft
from weft.connectors import FeatureStore, Files, Lance
from weft.operators import image


@weft.pipeline
def photos(inbox: str = "inbox/**/*.*", out: str = "photos.lance"):
    """Measures, descriptor and thumbnail of each photograph; its folder is its label."""
    rows = weft.read(Files(inbox, kind="image"))
    rows = rows.with_columns(photo=pl.col("key"), label=pl.col("key").str.extract("^(.*)/"))
    rows = rows.apply(image.Decode()).apply(image.Resize(512))
    rows = rows.apply(image.Sharpness()).apply(image.Exposure()).apply(image.Descriptor())
    rows = rows.apply(image.Encode("jpeg", quality=85), encoded="thumbnail")
    return rows.select(
        "photo", "label", "modified", "sharpness", "brightness", "contrast", "descriptor",
        "thumbnail",
    ).write(Lance(out))  # fmt: skip


@weft.pipeline
def features(dataset: str = "photos.lance", repo: str = "features"):
    """The narrow columns of the published dataset, for training and for serving."""
    rows = weft.read(Lance(dataset)).select(
        "photo", "label", "modified", "sharpness", "brightness", "contrast", "descriptor"
    )
    return rows.write(FeatureStore(repo, "photos", entity="photo", timestamp="modified"))
