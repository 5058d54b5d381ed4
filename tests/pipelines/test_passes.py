"""Every pass as pairs of texts: ``passes/<pass>.txt``, each case a pipeline, before and after.

A case is a title line ``=== …``, the body of a pipeline, then sections: ``--- cluster`` (its
machines, if it matters), ``--- first`` (passes that run before), ``--- before``, and
``--- after`` or ``--- refused``. After a change that is meant, write the texts anew and read
them: ``WEFT_WRITE_PASSES=1 pytest tests/pipelines/test_passes.py``.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import PlanError
from weft.operators import image, tabular
from weft.pipelines.compile import PASSES
from weft.pipelines.fields import arrow_schema
from weft.pipelines.lowering import lower
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.verify import verify

FOLDER = Path(__file__).parent / "passes"
BY_NAME = {p.__name__: p for p in PASSES}
SECTIONS = ("cluster", "first", "before", "after", "refused")


@weft.operator(version="1")
def sharpness(image: weft.Image) -> weft.Float32:
    return float(image.std())


@weft.operator(version="1")
def words(text: str) -> int:
    return len(text.split())


@weft.operator(version="1")
def short(text: str) -> weft.Keep:
    return len(text) < 100


@weft.operator(version="1")
def sentences(text: str) -> Iterator[weft.fields(sentence=str)]:  # type: ignore[valid-type]
    return ({"sentence": s} for s in text.split("."))


@dataclass(frozen=True)
class Pages(weft.Expand):
    version = "1"
    reads = weft.fields(text=weft.Text())
    writes = weft.fields(page=int, picture=weft.Image())
    early = ("page",)

    def absorb(self, following: Any, port: str) -> Any:
        if port == "picture" and isinstance(following, image.Resize):
            return Small()
        return None

    def expand_row(self, row: Any, loaded: Any) -> Any:
        return []


@dataclass(frozen=True)
class Small(Pages):
    """Pages that are rendered small."""


@dataclass(frozen=True)
class Embed(weft.Map):
    dim: int = 4
    version = "1"
    reads = weft.fields(text=weft.Text())
    writes = weft.fields(vector=weft.Embedding())
    resources = weft.Resources(gpus=1, batch_rows=32)

    def infer(self, inputs: Any) -> Any:
        return weft.fields(vector=weft.Embedding(self.dim))

    def map(self, batch: Any, loaded: Any) -> Any:
        return {"vector": [[0.0] * self.dim for _ in batch["text"]]}


@dataclass(frozen=True)
class Anywhere(Embed):
    gpus: float = 1.0
    workers: int | None = None

    @property
    def resources(self) -> weft.Resources:  # type: ignore[override]
        return weft.Resources(gpus=self.gpus, or_cpu=True, workers=self.workers, batch_rows=32)


@dataclass(frozen=True)
class Large(weft.Map):
    version = "1"
    reads = weft.fields(text=weft.Text())
    writes = weft.fields(big=weft.Text())
    resources = weft.Resources(memory="64 GiB")

    def map_row(self, row: Any, loaded: Any) -> str:
        return row["text"]


@dataclass(frozen=True)
class Pooled(weft.Map):
    workers: int = 2
    version = "1"
    reads = weft.fields(text=weft.Text())
    writes = weft.fields(pooled=weft.Text())

    @property
    def resources(self) -> weft.Resources:  # type: ignore[override]
        return weft.Resources(workers=self.workers)

    def map_row(self, row: Any, loaded: Any) -> str:
        return row["text"]


def photos() -> Arrow:
    kinds = weft.fields(uri=str, size=int, content=weft.pipelines.types.Encoded("image"))
    table = pa.table([["a.jpg"], [10], [b"x" * 100_000]], schema=arrow_schema(kinds))
    return Arrow(table)


def pictures() -> Arrow:
    kinds = weft.fields(id=int, pixels=weft.Tensor("uint8", (2, 2)).or_null())
    array = kinds["pixels"].to_arrow([np.zeros((2, 2), np.uint8), None])
    return Arrow(pa.table([[1, 2], array], schema=arrow_schema(kinds)))


def texts() -> Arrow:
    return Arrow({"id": [1, 2], "text": ["a b", "c"], "source": ["x", "y"]})


NAMES = {
    "Anywhere": Anywhere, "Embed": Embed, "Large": Large, "Memory": Memory, "Pages": Pages,
    "Pooled": Pooled, "image": image,
    "photos": photos, "pictures": pictures, "pl": pl, "sentences": sentences,
    "sharpness": sharpness, "short": short, "tabular": tabular,
    "texts": texts, "weft": weft, "words": words,
}  # fmt: skip


@dataclass
class Case:
    """One pair of texts."""

    file: str
    title: str
    code: str
    sections: dict[str, str]

    @property
    def cluster(self) -> Cluster:
        machines = self.sections.get("cluster", "cpus=4").splitlines()
        return Cluster(tuple(eval(f"Machine({m})", {"Machine": Machine}) for m in machines))

    def run(self) -> dict[str, str]:
        """The sections as they come out now."""
        namespace = dict(NAMES)
        exec(f"def case():\n{textwrap.indent(self.code, '    ')}", namespace)
        plan = verify(lower(weft.pipeline(namespace["case"])().graph))
        for name in self.sections.get("first", "").split():
            plan = verify(BY_NAME[name](plan, self.cluster))
        made = {k: v for k, v in self.sections.items() if k in ("cluster", "first")}
        made["before"] = str(plan)
        try:
            made["after"] = str(verify(BY_NAME[self.file](plan, self.cluster)))
        except PlanError as error:
            made["refused"] = str(error)
        if made.get("after") == made["before"]:
            made["after"] = "the same"
        return made

    def __str__(self) -> str:
        parts = [f"=== {self.title}\n{self.code}"]
        parts += [
            f"--- {name}\n{self.sections[name]}" for name in SECTIONS if name in self.sections
        ]
        return "\n".join(parts) + "\n"


def read(path: Path) -> list[Case]:
    cases = []
    for text in path.read_text().split("=== ")[1:]:
        head, *parts = text.split("\n--- ")
        title, _, code = head.partition("\n")
        sections = {}
        for part in parts:
            name, _, body = part.partition("\n")
            sections[name] = body.strip("\n")
        cases.append(Case(path.stem, title, code.strip("\n"), sections))
    return cases


CASES = [case for path in sorted(FOLDER.glob("*.txt")) for case in read(path)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.title}")
def test_pass(case: Case) -> None:
    assert case.run() == case.sections


def test_every_pass_has_cases() -> None:
    assert {case.file for case in CASES} == set(BY_NAME)


if os.environ.get("WEFT_WRITE_PASSES"):
    for path in FOLDER.glob("*.txt"):
        found = [Case(c.file, c.title, c.code, c.run()) for c in read(path)]
        path.write_text("\n".join(map(str, found)))
    CASES[:] = [case for path in sorted(FOLDER.glob("*.txt")) for case in read(path)]
