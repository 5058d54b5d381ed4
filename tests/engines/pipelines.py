"""Pipelines that the contract suite puts through every engine, and the rows they must give."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.dsl import Pipeline

NUMBERS = [{"id": f"r{i:03d}", "n": i, "text": f"row {i}" if i % 7 else None} for i in range(100)]


@weft.operator(version="1")
def doubled(n: int) -> int:
    return 2 * n


@weft.operator(version="1")
def picky(n: int) -> int:
    if n % 10 == 3:
        raise ValueError(f"{n} is not to my liking")
    return n


@weft.operator(version="1")
def even(n: int) -> weft.Keep:
    return n % 2 == 0


@weft.operator(version="1")
def shouted(text: str) -> str:
    return text.upper()


@weft.operator(version="1")
def copies(n: int) -> Iterator[weft.fields(copy=int)]:  # type: ignore[valid-type]
    return ({"copy": 100 * n + i} for i in range(n % 3))


@weft.operator(version="1")
def counted(n: int, log: str = "") -> int:
    """Leaves a byte in a file for each row: what a shared step costs, counted from outside."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b".")
    os.close(fd)
    return n


@dataclass(frozen=True)
class Square(weft.Map):
    """A picture of n x n pixels: every row another shape."""

    version = "1"
    reads = weft.fields(n=weft.Int64)
    writes = weft.fields(image=weft.Image(channels=1))

    def map(self, batch: dict, loaded: None) -> dict:
        return {
            "image": [np.full((n % 5 + 1, n % 5 + 1, 1), n % 256, np.uint8) for n in batch["n"]]
        }


@dataclass(frozen=True)
class Mean(weft.Map):
    """In a pool of its own, and one vector for the whole batch."""

    version = "1"
    reads = weft.fields(image=weft.Image(channels=1))
    writes = weft.fields(mean=weft.Float32)
    resources = weft.Resources(cpus=0.5, workers=1)

    def setup(self, device: str) -> float:
        return 255.0

    def map(self, batch: dict, loaded: float) -> dict:
        return {"mean": np.array([i.mean() / loaded for i in batch["image"]], np.float32)}


@dataclass(frozen=True)
class Allergic(weft.Map):
    """Raises on the whole batch when one row of it is bad: the engine must find which."""

    version = "1"
    reads = weft.fields(n=weft.Int64)
    writes = weft.fields(sneeze=weft.Float64)

    def map(self, batch: dict, loaded: None) -> dict:
        if any(n in (17, 18, 60) for n in batch["n"]):
            raise RuntimeError("atchoo")
        return {"sneeze": np.asarray(batch["n"]) / 2}


def source() -> Arrow:
    return Arrow(NUMBERS, key="id")


@weft.pipeline
def chain(out: str = "chain"):
    rows = weft.read(source()).apply(doubled).where(pl.col("doubled") > 50)
    return rows.with_columns(quarter=pl.col("doubled") / 4).write(Memory(out))


@weft.pipeline
def failing(out: str = "failing"):
    rows = weft.read(source()).apply(picky).apply(even, n="picky").apply(Allergic())
    return rows.select("n", "sneeze").write(Memory(out))


@weft.pipeline
def nulled(out: str = "nulled"):
    rows = weft.read(source()).apply(picky, on_error="null").apply(doubled, n="picky")
    return rows.apply(shouted).select("n", "doubled", "shouted").write(Memory(out))


@weft.pipeline
def pooled(out: str = "pooled"):
    rows = weft.read(source()).apply(Square()).apply(Mean())
    return rows.where(pl.col("mean") < 0.3).select("n", "mean", "image").write(Memory(out))


@weft.pipeline
def expanded(out: str = "expanded"):
    rows = weft.read(source()).apply(copies).apply(doubled, n="copy")
    return rows.select("text", "copy", "doubled").write(Memory(out))


@weft.pipeline
def branched(out: str = "branched", log: str = ""):
    shared = weft.read(source()).apply(counted.replace(log=log))
    small = shared.where(pl.col("n") < 40).select("counted")
    pictures = shared.apply(Square(), n="counted").apply(Mean()).select("n", "mean")
    return {
        "small": small.write(Memory(out + "-small")),
        "pictures": pictures.write(Memory(out + "-pictures")),
        "all": shared.write(Memory(out + "-all")),
    }


@weft.pipeline
def met(out: str = "met", log: str = ""):
    """One decode for a join, a group, a union, a fan-out and children brought back."""
    shared = weft.read(source()).apply(counted.replace(log=log)).apply(Square(), n="counted")
    shared = shared.with_columns(digit=pl.col("n") % 7)
    digits = shared.group("digit", n_rows=pl.len(), most=pl.col("n").max())
    joined = shared.select("n", "digit", "image").join(
        digits.where(pl.col("digit") < 5), on="digit", how="left"
    )
    means = joined.where(pl.col("n") >= 90).apply(Mean()).select("n", "most", "mean", "image")
    both = digits.select("digit").union(shared.where(pl.col("n") < 3).select("digit"))
    back = shared.apply(copies).group("_parent", copies=pl.len(), last=pl.col("copy").last())
    return {
        "digits": digits.write(Memory(out + "-digits")),
        "means": means.write(Memory(out + "-means")),
        "both": both.write(Memory(out + "-both")),
        "back": back.write(Memory(out + "-back")),
    }


def mean(n: int) -> float:
    return float(np.float32((n % 256) / 255.0))


def expected() -> dict[str, dict[str, list[dict]]]:
    """What every pipeline must write, in plain Python: pipeline -> dataset -> rows by key."""
    rows = [(r["id"], r["n"], r["text"]) for r in NUMBERS]
    pick = {n: None if n % 10 == 3 else n for _, n, _ in rows}
    return {
        "chain": {
            "chain": [
                {"_key": k, "id": k, "n": n, "text": t, "doubled": 2 * n, "quarter": 2 * n / 4}
                for k, n, t in rows
                if 2 * n > 50
            ]
        },
        "failing": {
            "failing": [
                {"_key": k, "n": n, "sneeze": n / 2}
                for k, n, _ in rows
                if pick[n] is not None and n % 2 == 0 and n not in (17, 18, 60)
            ]
        },
        "nulled": {
            "nulled": [
                {
                    "_key": k,
                    "n": n,
                    "doubled": None if pick[n] is None else 2 * n,
                    "shouted": t and t.upper(),
                }
                for k, n, t in rows
            ]
        },
        "pooled": {
            "pooled": [
                {"_key": k, "n": n, "mean": mean(n), "image": [n % 256] * (n % 5 + 1) ** 2}
                for k, n, _ in rows
                if mean(n) < 0.3
            ]
        },
        "expanded": {
            "expanded": [
                {"_key": f"{k}#{i}", "text": t, "copy": 100 * n + i, "doubled": 200 * n + 2 * i,
                 "_parent": k, "_index": i, "_count": n % 3}
                for k, n, t in rows
                for i in range(n % 3)
            ]
        },
        "branched": {
            "branched-small": [{"_key": k, "counted": n} for k, n, _ in rows if n < 40],
            "branched-pictures": [{"_key": k, "n": n, "mean": mean(n)} for k, n, _ in rows],
            "branched-all": [
                {"_key": k, "id": k, "n": n, "text": t, "counted": n} for k, n, t in rows
            ],
        },
        "met": {
            "met-digits": [
                {"_key": str(d), "digit": d, "n_rows": len(range(d, 100, 7)),
                 "most": max(range(d, 100, 7))}
                for d in range(7)
            ],
            "met-means": [
                {"_key": k, "n": n, "most": max(range(n % 7, 100, 7)) if n % 7 < 5 else None,
                 "mean": mean(n), "image": [n % 256] * (n % 5 + 1) ** 2}
                for k, n, _ in rows
                if n >= 90
            ],
            "met-both": [{"_key": str(d), "digit": d} for d in range(7)]
            + [{"_key": k, "digit": n % 7} for k, n, _ in rows if n < 3],
            "met-back": [
                {"_key": k, "copies": n % 3, "last": 100 * n + n % 3 - 1}
                for k, n, _ in rows
                if n % 3
            ],
        },
    }  # fmt: skip


PIPELINES = {
    "chain": chain, "failing": failing, "nulled": nulled,
    "pooled": pooled, "expanded": expanded, "branched": branched,
    "met": met,
}  # fmt: skip


def build(name: str, folder: Path) -> Pipeline:
    """The pipeline of that name; what it counts goes to `folder`."""
    extra = {"log": str(folder / "calls")} if name in ("branched", "met") else {}
    return PIPELINES[name](out=name, **extra)
