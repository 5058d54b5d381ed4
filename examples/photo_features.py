"""Serve what is known of photographs as features, from the dataset of `photos.py`.

Run it:  weft run examples/photo_features.py --set source=photos.lance --set repo=features
"""

import polars as pl

import weft
from weft.connectors import FeatureStore, Lance


@weft.pipeline
def photo_features(source: str = "photos.lance", repo: str = "features"):
    """Measures and descriptor of each photograph, as of when its file was changed."""
    rows = weft.read(Lance(source)).with_columns(photo=pl.col("uri").str.split("/").list.last())
    return rows.select(
        "photo", "modified", "sharpness", "brightness", "contrast", "descriptor"
    ).write(FeatureStore(repo, "photos", entity="photo", timestamp="modified"))
