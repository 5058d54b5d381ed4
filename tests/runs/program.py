"""A pipeline over photographs that takes its time, to be killed by tests."""

from __future__ import annotations

import time

import numpy as np
import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import image


@weft.operator(version="1")
def slow(image: weft.Image, seconds: float = 0.02) -> weft.Float32:
    time.sleep(seconds)
    return float(np.mean(image))


@weft.pipeline
def measured(source: str, out: str, seconds: float = 0.02):
    rows = weft.read(Files(source, kind="image")).where(pl.col("size") > 10)
    rows = rows.apply(image.Decode()).apply(slow.replace(seconds=seconds))
    return rows.select("key", "slow", "content").write(Lance(out))


@weft.pipeline
def two(source: str, out: str):
    rows = weft.read(Files(source, kind="image")).apply(image.Decode())
    small = rows.apply(image.Resize(16)).apply(image.Encode("png")).select("key", "encoded")
    sharp = rows.apply(image.Sharpness()).select("key", "sharpness")
    return small.write(Lance(f"{out}/small.lance")), sharp.write(Lance(f"{out}/sharp.lance"))


@weft.pipeline
def again(source: str, out: str, version: str = "latest"):
    """From one dataset to the next: some columns, some rows, media included."""
    rows = weft.read(Lance(source, version=version)).where(pl.col("slow") > 127.5)
    rows = rows.apply(image.Probe())
    return rows.select("key", "width", "content").write(Lance(out))
