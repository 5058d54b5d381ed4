"""Models inside pipelines: pools, one load for each worker, bad rows, both engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.operators import image, text
from weft.operators.model import Torch
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.types import Embedding, Tensor

from .modules import counted, strict

FOUR = Tensor("float32", (4,))


@weft.operator(version="1")
def vector(n: int) -> FOUR:  # type: ignore[valid-type]
    return np.full(4, n, np.float32)


def modelled(operator: Any, rows: int = 40) -> Any:
    """`rows` vectors of equal numbers, -1 and on, through a model."""

    @weft.pipeline
    def made() -> Any:
        numbers = weft.read(Arrow({"n": list(range(-1, rows - 1))}))
        given = numbers.apply(vector, n="n", vector="given")
        return given.apply(operator, input="given", output="answer").write(Memory("models"))

    return made()


class TestLocal:
    def test_a_bad_row_fails_alone(self) -> None:
        result = modelled(Torch(strict, input=FOUR, output=FOUR)).run(engine="local")
        rows = Memory("models").table().sort_by("n")
        assert rows["n"].to_pylist() == list(range(39))
        assert [a[0] for a in rows["answer"].to_pylist()] == [2.0 * n for n in range(39)]
        assert result.failed == 1
        assert "negative" in result.samples[0]["message"]

    @pytest.mark.parametrize(("cpus", "workers"), [(1, None), (2, 1), (8, 4)])
    def test_a_pool_takes_half_of_the_cpus(self, cpus: int, workers: int | None) -> None:
        pipeline = modelled(Torch(strict, input=FOUR, output=FOUR))
        plan = pipeline.plan(cluster=Cluster((Machine(cpus=cpus),)))
        assert [s.workers for s in plan.stages if "Torch" in str(plan.step(s.steps[0]))] == [
            workers
        ]

    def test_a_worker_loads_once(self, tmp_path: Path) -> None:
        log = tmp_path / "loads"
        operator = Torch(counted, input=FOUR, output=Embedding(2), arguments={"log": str(log)})
        result = modelled(operator, rows=2000).run(
            engine="local", cluster=Cluster((Machine(cpus=4),))
        )
        assert result.failed == 0
        assert 1 <= len(log.read_text().splitlines()) <= 2

    def test_images_and_texts(
        self, clip_folder: Path, pictures: Callable[..., list[np.ndarray]]
    ) -> None:
        words = ["a cat", "one dog", "three houses"]

        @weft.pipeline
        def made() -> Any:
            rows = weft.read(Arrow({"words": words})).apply(drawn, words="words", drawn="image")
            rows = rows.apply(image.Embed(clip_folder), embedding="seen")
            rows = rows.apply(text.Embed("all-MiniLM-L6-v2"), text="words", embedding="read")
            return rows.select("words", "seen", "read").write(Memory("both"))

        made().run(engine="local")
        rows = Memory("both").table().to_pylist()
        assert {row["words"] for row in rows} == set(words)
        for row in rows:
            wanted = image.Embed(clip_folder)(drawn(row["words"]))
            assert np.abs(np.asarray(row["seen"]) - wanted).max() <= 1e-5
            assert len(row["read"]) == 384


@weft.operator(version="1")
def drawn(words: str) -> weft.Image:
    return np.full((40, 10 * len(words), 3), 20 * len(words) % 256, np.uint8)


def test_ray_has_a_pool_that_loads_once(ray_engine: Cluster, tmp_path: Path) -> None:
    """On two CPUs: one worker of the pool, and one CPU left for the tasks that feed it."""
    log = tmp_path / "loads"
    operator = Torch(counted, input=FOUR, output=Embedding(2), arguments={"log": str(log)})
    result = modelled(operator, rows=500).run(engine="ray", cluster=ray_engine)
    assert result.failed == 0
    assert [s.workers for s in result.plan.stages] == [None, 1, None]
    assert Memory("models").table().num_rows == 500
    assert len(log.read_text().splitlines()) == 1
