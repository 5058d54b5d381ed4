"""What is the local engine's own: which worker gets which GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.resources import Cluster, Machine

DEVICES: list[tuple[str, str]] = []
"""Which model was loaded on which device."""


@dataclass(frozen=True)
class Model(weft.Map):
    label: str
    version = "1"
    reads = weft.fields(n=int)
    writes = weft.fields(out=int)
    resources = weft.Resources(gpus=1, or_cpu=True)

    def setup(self, device: str) -> None:
        DEVICES.append((self.label, device))

    def map_row(self, row: Any, loaded: Any) -> int:
        return row["n"]


@weft.operator(version="1")
def between(n: int) -> int:
    return n


@weft.pipeline
def two_models() -> Any:
    rows = weft.read(Arrow({"n": [1, 2]})).apply(Model("a"), out="a")
    rows = rows.apply(between).apply(Model("b"), n="between", out="b")
    return rows.write(Memory("devices"))


@pytest.mark.parametrize(("gpus", "devices"), [(2, ["cuda:0", "cuda:1"]), (0, ["cpu", "cpu"])])
def test_two_models_are_on_two_gpus(gpus: int, devices: list[str]) -> None:
    DEVICES.clear()
    two_models().run(engine="local", cluster=Cluster((Machine(cpus=8, gpus=gpus),)))
    assert sorted(set(DEVICES)) == list(zip("ab", devices, strict=True))
    Memory("devices").clear()
