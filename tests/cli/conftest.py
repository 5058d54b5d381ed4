"""Tiny real JPEGs, pipelines over them, and `weft` called in this process or in its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

PIPELINES = """\
import os
import time

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.operators import image


@weft.operator(version="1")
def slow(width: weft.Int32) -> weft.Int32:
    time.sleep(float(os.environ.get("SLOW", "0")))
    return width


@weft.operator(version="1")
def picky(width: weft.Int32) -> weft.Int32:
    print("a print of the user's")
    if width > 40:
        raise ValueError(f"{width} is too wide")
    return width


@weft.pipeline
def small(source: str = "photos/*.jpg", out: str = "small.lance", least: int = 25):
    rows = weft.read(Files(source)).apply(image.Probe()).where(pl.col("width") >= least)
    rows = rows.apply(image.Decode()).apply(image.Encode("jpeg"), encoded="copy")
    return rows.select("uri", "width", "copy").write(Lance(out))


@weft.pipeline
def waits(source: str = "photos/*.jpg", out: str = "waits.lance", tags: list[str] = ("a", "b")):
    rows = weft.read(Files(source)).apply(image.Probe()).apply(slow)
    return rows.select("uri", "slow").write(Lance(out))


@weft.pipeline
def twice(source: str = "photos/*.jpg", out: str = "twice"):
    rows = weft.read(Files(source)).apply(image.Probe()).apply(slow)
    return (
        rows.select("uri", "slow").write(Lance(f"{out}/a.lance")),
        rows.select("uri", "height").write(Lance(f"{out}/b.lance")),
    )


@weft.pipeline
def chosen(source: str = "photos/*.jpg", out: str = "chosen.lance", on_error: str = "quarantine"):
    rows = weft.read(Files(source)).apply(image.Probe()).apply(picky, on_error=on_error)
    return rows.select("uri", "picky").write(Lance(out))
"""

Weft = Callable[..., Result]


def jpegs(folder: Path, count: int, *, broken: int = 0) -> None:
    """`count` pictures 20, 21, … pixels wide, and files that are none."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    for i in range(count):
        pixels = noise.integers(0, 255, (16, 20 + i, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i:03}.jpg")
    for i in range(broken):
        (folder / f"x{i}.jpg").write_bytes(b"not a jpeg")


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with pipelines in it; the path of modules as it was after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("WEFT_DEBUG", raising=False)
    (tmp_path / "tiny.py").write_text(PIPELINES)
    return tmp_path


@pytest.fixture
def photos(work: Path) -> Path:
    """Ten pictures 20 to 29 pixels wide, and one file that is none."""
    jpegs(work / "photos", 10, broken=1)
    return work / "photos"


@pytest.fixture
def weft() -> Weft:
    """Call the command line in this process: ``weft("runs", "a.lance", code=2)``."""
    from weft.cli.main import cli

    def call(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments])
        assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
        return result

    return call


@pytest.fixture
def answer(weft: Weft) -> Callable[..., Any]:
    """The document that a command leaves with ``--json``."""

    def call(*arguments: object, code: int = 0) -> Any:
        return json.loads(weft(*arguments, "--json", code=code).stdout)

    return call


@pytest.fixture
def start(work: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start the command line as a process of its own, its slow operator slowed."""

    def call(*arguments: str, slow: float = 0.0) -> subprocess.Popen[str]:
        import os

        program = "from weft.cli.main import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=work,
            env={**os.environ, "SLOW": str(slow)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return call


@pytest.fixture
def many(work: Path) -> Path:
    """Eighty pictures: five units of sixteen."""
    jpegs(work / "photos", 80)
    return work / "photos"
