"""The nightly example: its README is played line by line, two nights and once more.

Truth: Pillow and OpenCV on the files of the inbox, Lance on the tables, and a training that
nobody killed.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import feast
import lance
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

import weft.samples
from weft.cli.main import cli

ROOT = Path(__file__).parents[2]
README = (ROOT / "examples" / "nightly" / "README.md").read_text()
SECTIONS = re.split(r"^## ", README, flags=re.MULTILINE)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:feast.*"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(weft.samples, "KINDS", ("photos",))  # the other kinds take 3 seconds
    monkeypatch.setenv("WEFT", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def play(section: str) -> str:
    """Run the commands of a section of the README; what it says they answer, they do."""
    text = next(s for s in SECTIONS if s.startswith(section))
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = [line for kind, body in blocks if kind == "sh" for line in body.splitlines()]
    answers = [line for kind, body in blocks if kind == "" for line in body.splitlines()]
    output = "".join(map(run, commands))
    assert commands
    assert set(answers) <= set(output.splitlines())
    return output


def run(line: str) -> str:
    """One line as a shell would; what is Python runs in this process, to import once."""
    words = shlex.split(line)
    if "|" in words or words[0] not in ("weft", "python"):
        ended = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, f"{line}\n{ended.stderr}"
        return ended.stdout
    if words[0] == "weft":
        result = CliRunner().invoke(cli, words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        return result.stdout
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
    return out.getvalue()


def rows(path: str) -> dict[str, dict[str, Any]]:
    """The rows that readers see, by photo."""
    table = lance.dataset(path, version="latest").to_table(blob_handling="all_binary")
    return {row.pop("photo"): row for row in table.to_pylist()}


def runs(path: str) -> list[tuple[int, int]]:
    """Rows that were processed and that failed, for each run, newest first."""
    answer = json.loads(run(f"weft runs {path} --json"))
    return [(r["rows"], r["failed"]) for r in answer["runs"]]


def inbox() -> dict[str, Path]:
    """The files that are not broken, by the name of the photo."""
    files = {str(p.relative_to("inbox")): p for p in Path("inbox").rglob("*.*")}
    return {name: path for name, path in files.items() if "broken" not in name}


def assert_in_step(version: int) -> None:
    """The dataset is what is in the inbox, and the features are those of the dataset."""
    photos, features = rows("photos.lance"), rows("features/photos.lance")
    files = inbox()
    assert photos.keys() == features.keys() == files.keys()
    for name, row in photos.items():
        feature = features[name]
        assert {k: row[k] for k in feature if k[0] != "_"} == {
            k: v for k, v in feature.items() if k[0] != "_"
        }
        assert row["label"] == name.split("/")[0]
        assert row["modified"].timestamp() == pytest.approx(files[name].stat().st_mtime, abs=1e-3)
        assert row["sharpness"] == pytest.approx(sharpness(files[name]), rel=0.03)
    for path in ("photos.lance", "features/photos.lance"):
        dataset = lance.dataset(path)
        tags = {name: tag["version"] for name, tag in dataset.tags.list().items()}
        assert tags.pop("latest") == dataset.version == version
        assert sorted(tags.values()) == list(range(2, version + 1))  # each run keeps its own
    view = feast.FeatureStore(repo_path="features").get_feature_view("photos")
    assert tags[view.batch_source.table_format.tag] == version


def sharpness(path: Path) -> float:
    with Image.open(path) as image:
        made = image.convert("RGB")
    made.thumbnail((512, 512), Image.Resampling.BILINEAR, reducing_gap=None)
    return float(cv2.Laplacian(np.asarray(made.convert("L")), cv2.CV_64F).std() / 50)


def trainer(checkpoint: str) -> ModuleType:
    """The example's training as a module, with a checkpoint of its own."""
    spec = importlib.util.spec_from_file_location("nightly_train", "train.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.CHECKPOINT = checkpoint
    return module


class Killed(BaseException):
    """The process is gone."""


def train_killed(checkpoint: str, after: int) -> None:
    """Train until a step is made whose checkpoint is not written any more."""
    module = trainer(checkpoint)
    save, saved = module.Training.save, []

    def save_or_die(*arguments: Any) -> None:
        if len(saved) == after:
            raise Killed
        save(*arguments)
        saved.append(1)

    module.Training.save = save_or_die
    with pytest.raises(Killed):
        module.main()


def test_two_nights_and_once_more(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    play("# Two nights")
    before = play("The first night")
    assert_in_step(version=2)
    assert runs("photos.lance") == [(8, 0)]
    train_killed("killed.pt", after=7)  # in epoch 3
    first = torch.load("model.pt", weights_only=True)
    assert [h["version"] for h in first["history"]] == [2]

    told = play("The second night")
    assert "3 new, 1 changed, 1 deleted, 6 unchanged" in told
    assert "thing/broken-cut-short.jpg  at decode" in told
    assert_in_step(version=3)
    assert runs("photos.lance") == [(4, 1), (8, 0)]
    assert runs("features/photos.lance") == [(3, 0), (8, 0)]
    second = torch.load("model.pt", weights_only=True)
    assert [(h["version"], h["rows"], h["steps"]) for h in second["history"]] == [
        (2, 8, 20),
        (3, 8, 20),
    ]
    assert second["history"][0] == first["history"][0]
    assert_goes_on(second["history"], before + told)

    capsys.readouterr()
    trainer("killed.pt").main()  # finishes version 2, though version 3 is the latest
    assert capsys.readouterr().out.startswith("Version 2: from epoch 3, step 1.\n")
    resumed = torch.load("killed.pt", weights_only=True)
    assert resumed["history"] == second["history"]
    for name, tensor in second["model"].items():
        assert torch.equal(resumed["model"][name], tensor)

    model = Path("model.pt").read_bytes()
    play("Once more")
    assert (
        "in sync" in json.loads(run("weft run pipeline.py:photos --engine local --json"))["state"]
    )
    assert_in_step(version=3)
    assert Path("model.pt").read_bytes() == model


def assert_goes_on(history: list[dict[str, Any]], output: str) -> None:
    """The second night starts where the first ended, and not as a new model would."""
    losses = [float(loss) for loss in re.findall(r"epoch (?:1|10): loss ([\d.]+)", output)]
    told = re.findall(r"\d\.\d\d", README[README.index("its loss went") :])
    assert losses == pytest.approx([float(loss) for loss in told[:4]], abs=0.05)
    trainer("new.pt").main()
    [new] = torch.load("new.pt", weights_only=True)["history"]
    assert history[-1]["version"] == new["version"]
    assert history[-1]["first_loss"] < new["first_loss"] - 0.3
    assert history[-1]["loss"] < new["loss"]
