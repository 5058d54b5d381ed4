"""The training example: killed and started again, it learns what it would have learned."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
import torch

from weft.errors import DefinitionError
from weft.pipelines import tables
from weft.pipelines.fields import arrow_schema
from weft.pipelines.types import Embedding, Float64

EXAMPLE = Path(__file__).parents[2] / "examples" / "train.py"

KILLED = f"""
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("train", {str(EXAMPLE)!r})
train = importlib.util.module_from_spec(spec)
spec.loader.exec_module(train)
log = train.log
def log_and_die(steps, loss):
    log(steps, loss)
    if steps == 17:
        os.kill(os.getpid(), signal.SIGKILL)
train.log = log_and_die
train.main()
"""


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def losses(text: str) -> dict[int, str]:
    return {int(step): loss for step, loss in re.findall(r"step (\d+): loss ([\d.]+)", text)}


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """100 vectors and a label that a line through them explains."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(100, 4)).astype(np.float32)
    labels = vectors @ np.array([1.0, -2.0, 0.5, 3.0])
    schema = arrow_schema({"vector": Embedding(4), "label": Float64()})
    table = pa.table([Embedding(4).to_arrow(vectors), pa.array(labels)], schema=schema)
    path = str(tmp_path / "t.lance")
    token = tables.ensure(path, schema)
    tables.tag(path, tables.commit(token, tables.stage(token, table), "r1", {}), "r1", {})
    return path


def test_killed_and_resumed_it_has_the_same_losses(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = {"dataset": dataset, "features": "vector", "label": "label", "version": "run-r1"}
    whole = example().train(**run, checkpoint=str(tmp_path / "whole.safetensors"))
    expected = losses(capsys.readouterr().out)
    assert sorted(expected) == list(range(1, 66))  # 5 epochs of 13 steps
    assert float(expected[65]) < float(expected[1]) / 4

    checkpoint = str(tmp_path / "killed.safetensors")
    options = ["--features", "vector", "--label", "label", "--version", "run-r1"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, dataset, *options, "--checkpoint", checkpoint],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -9, killed.stderr
    before = losses(killed.stdout)
    assert sorted(before) == list(range(1, 18))

    resumed = example().train(**run, checkpoint=checkpoint)
    output = capsys.readouterr().out
    assert "Going on from" in output
    after = losses(output)
    assert sorted(after) == list(range(11, 66))  # from the checkpoint of step 10
    assert before | after == expected
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])

    example().train(**run, checkpoint=checkpoint)
    assert losses(capsys.readouterr().out) == {}  # it is done
    with pytest.raises(DefinitionError, match="global_batch is 8 in the state and 4 here"):
        example().train(**run, checkpoint=checkpoint, global_batch=4)
