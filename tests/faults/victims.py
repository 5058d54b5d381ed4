"""Pipelines that tests kill."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import weft
from weft.connectors import Files, Lance
from weft.operators import image
from weft.pipelines.operator import Map


@weft.operator(version="1")
def looked(key: str, image: weft.Image, log: str = "", seconds: float = 0.0) -> weft.Float32:
    """The mean of a picture; leaves a line for each row."""
    with open(log, "a") as file:
        file.write(f"{key}\n")
    time.sleep(seconds)
    return float(np.mean(image))


@weft.pipeline
def by_tasks(source: str, out: str, log: str, seconds: float = 0.0) -> Any:
    """Pictures, decoded, in tasks of Ray."""
    rows = weft.read(Files(source, kind="image")).apply(image.Decode())
    rows = rows.apply(looked.replace(log=log, seconds=seconds))
    rows = rows.apply(image.Resize(32)).apply(image.Encode("png"))
    return rows.select("key", "looked", "encoded").write(Lance(out))


@dataclass(frozen=True)
class Model(Map):
    """Takes its time to load; leaves a file for each process that loads, has loaded and is called,
    and a line for each row."""

    log: str = ""
    loading_seconds: float = 0.5
    seconds: float = 0.02

    version = "1"
    reads = weft.fields(key=str, image=weft.Image)
    writes = weft.fields(score=weft.Float32)
    resources = weft.Resources(workers=1)

    def setup(self, device: str) -> float:
        self._mark("loading")
        time.sleep(self.loading_seconds)
        self._mark("loaded")
        return 0.5

    def map_row(self, row: Any, loaded: float) -> dict[str, float]:
        with open(self.log, "a") as file:
            file.write(f"{row['key']}\n")
        self._mark("called")
        time.sleep(self.seconds)
        return {"score": float(np.mean(row["image"])) * loaded}

    def _mark(self, what: str) -> None:
        Path(f"{self.log}.{what}-{os.getpid()}").touch()


@weft.operator(version="1")
def held(key: str, image: weft.Image, gate: str = "") -> weft.Float32:
    """Lets no row pass before a file is there."""
    while gate and not Path(gate).exists():
        time.sleep(0.02)
    return float(image[0, 0, 0])


@weft.pipeline
def by_actors(source: str, out: str, log: str, gate: str = "", loading: float = 0.5) -> Any:
    """Pictures, decoded in tasks, looked at by a pool of one actor."""
    rows = weft.read(Files(source, kind="image")).apply(image.Decode())
    rows = rows.apply(held.replace(gate=gate)).apply(image.Resize(64))
    rows = rows.apply(Model(log=log, loading_seconds=loading))
    return rows.select("key", "held", "score").write(Lance(out))


@dataclass(frozen=True)
class Slow(Map):
    """Takes pictures more slowly than they come."""

    log: str = ""
    seconds: float = 0.05

    version = "1"
    reads = weft.fields(key=str, image=weft.Image)
    writes = weft.fields(corner=weft.Float32)
    resources = weft.Resources(workers=1)

    def map_row(self, row: Any, loaded: None) -> dict[str, float]:
        with open(self.log, "a") as file:
            file.write(f"{row['key']}\n")
        time.sleep(self.seconds)
        return {"corner": float(row["image"][0, 0, 0])}


@weft.pipeline
def piled_up(source: str, out: str, log: str, seconds: float) -> Any:
    """Pictures that are decoded fast and looked at slowly."""
    rows = weft.read(Files(source, kind="image")).apply(image.Decode())
    rows = rows.apply(looked.replace(log=f"{log}.decoded"))
    rows = rows.apply(Slow(log=log, seconds=seconds))
    return rows.select("key", "looked", "corner").write(Lance(out))
