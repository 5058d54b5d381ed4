"""Sizes in words, and what a worker holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.pipelines.resources import (
    Cluster,
    Machine,
    Resources,
    format_bytes,
    parse_bytes,
    this_machine,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8 GiB", 8 * 2**30),
        ("500 MB", 500_000_000),
        ("1.5kib", 1536),
        ("7", 7),
        (7, 7),
        (" 2 B ", 2),
    ],
)
def test_parse_bytes(text: str | int, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "8 giga", "-1", "8 GiB 2"])
def test_not_a_size(text: str) -> None:
    with pytest.raises(DefinitionError) as error:
        parse_bytes(text)
    assert str(error.value) == (f"{text!r} is not a size. Expected a number of bytes or '8 GiB'.")


@given(st.integers(0, 2**50))
def test_format_is_parsed_back_to_a_tenth(count: int) -> None:
    assert abs(parse_bytes(format_bytes(count)) - count) <= max(1, count * 0.051)


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (
            {"cpus": -1},
            "Resources(cpus=-1, gpus=0): expected a positive share of a CPU or of a GPU.",
        ),
        ({"cpus": 0}, "Resources(cpus=0, gpus=0): expected a positive share of a CPU or of a GPU."),
        (
            {"or_cpu": True},
            "Resources(cpus=1, gpus=0, or_cpu=True): expected a share of a GPU, and of a CPU to "
            "fall back to.",
        ),
        ({"batch_rows": 0}, "Resources(batch_rows=0): expected at least 1."),
        ({"workers": -2}, "Resources(workers=-2): expected at least 1."),
        ({"memory": "lots"}, "'lots' is not a size. Expected a number of bytes or '8 GiB'."),
    ],
)
def test_refused(given_: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError) as error:
        Resources(**given_)
    assert str(error.value) == message


def test_resources() -> None:
    assert Resources(memory="1 GiB") == Resources(memory=2**30)
    assert not Resources().pooled
    assert Resources(gpus=0.5).pooled
    assert Resources(workers=2).pooled
    shown = str(Resources(cpus=2, gpus=1, memory="1 GiB", gpu_memory="8 GiB", workers=3))
    assert shown == "cpus=2 gpus=1 memory=1.0 GiB gpu_memory=8.0 GiB workers=3"


def test_cluster() -> None:
    cluster = Cluster((Machine(4), Machine(8, gpus=2)))
    assert (cluster.cpus, cluster.gpus) == (12, 2)
    assert str(cluster) == "2 nodes: 4 CPUs; 8 CPUs, 2 GPUs"
    [here] = this_machine().machines
    assert here.cpus >= 1
    assert here.memory > 2**20


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, 2), ("0", 1), ("1,0", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), ("0,1,2,3", 2)],
)
def test_gpus_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpus: int
) -> None:
    monkeypatch.setattr("os.listdir", lambda path: ["nvidia0", "nvidia1", "nvidiactl", "null"])
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert this_machine().gpus == gpus
