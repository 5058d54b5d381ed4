"""How a run is cut into units: by rows where they are small, by bytes where they are not."""

from __future__ import annotations

from pathlib import Path

import pytest

import weft
from weft.connectors import Files, Memory
from weft.pipelines.compile import compile_plan
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.work import cut

CLUSTER = Cluster((Machine(cpus=2),))


@pytest.mark.parametrize(
    ("size", "units"),
    [
        (1_000, [5, 5]),  # half for each CPU: a receipt costs more than these rows
        (1_100_000, [4, 4, 2]),  # four make 4 MiB
        (7_000_000, [1] * 10),  # a clip is a unit: no CPU waits for the longest half
    ],
)
def test_few_files_are_cut_by_their_bytes(tmp_path: Path, size: int, units: list[int]) -> None:
    for number in range(10):
        with (tmp_path / f"{number}.mp4").open("wb") as file:
            file.truncate(size)  # holes, which take no room

    @weft.pipeline
    def copy():
        return weft.read(Files(f"{tmp_path}/*.mp4")).select("content").write(Memory("cut"))

    plan = compile_plan(copy().graph, CLUSTER)
    assert [unit.split.rows for unit in cut(plan, CLUSTER)] == units
