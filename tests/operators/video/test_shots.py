"""Truth: cuts that were made, ffmpeg's scdet, and the method written out with OpenCV."""

from __future__ import annotations

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

from weft.errors import DefinitionError, RowError
from weft.operators.video import Frames, Shots
from weft.operators.video.clip import read_clip
from weft.operators.video.shots import differences

from .clips import HEIGHT, WIDTH, clip
from .truth import needs_ffmpeg

SCENES = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
CUTS = (0, 25, 70)
"""The frame with which each scene begins."""


def film(number: int) -> np.ndarray:
    """A camera that pans over three photographs, one after the other."""
    scene = sum(number >= cut for cut in CUTS) - 1
    image, offset = SCENES[scene], number - CUTS[scene]
    return np.ascontiguousarray(image[offset // 2 :][:HEIGHT, offset : offset + WIDTH])


@pytest.fixture(scope="module")
def filmed() -> bytes:
    return clip(frames=100, rate=25, picture=film, options={"bf": "2"})


def test_cuts_that_were_made(filmed: bytes) -> None:
    shots = Shots()(filmed)
    assert shots == [
        {"start_seconds": 0.0, "end_seconds": 1.0},
        {"start_seconds": 1.0, "end_seconds": 2.8},
        {"start_seconds": 2.8, "end_seconds": 4.0},
    ]
    assert all(a["end_seconds"] == b["start_seconds"] for a, b in pairwise(shots))


@needs_ffmpeg
def test_cuts_that_scdet_finds(filmed: bytes, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(filmed)
    command = ["ffmpeg", "-i", str(path), "-vf", "scdet=threshold=10", "-f", "null", "-"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    truth = [float(t) for t in re.findall(r"lavfi\.scd\.time: ([\d.]+)", told)]
    assert [shot["start_seconds"] for shot in Shots()(filmed)][1:] == pytest.approx(truth)


def test_differences_are_those_of_opencv(filmed: bytes) -> None:
    """OpenCV's hue, saturation and value of frames reduced by its own averaging."""
    frames = [row["image"] for row in Frames(stop=1.5)(filmed)]
    small = [cv2.resize(f, (256, 192), interpolation=cv2.INTER_AREA) for f in frames]
    hsv = [cv2.cvtColor(s, cv2.COLOR_RGB2HSV).astype(int) for s in small]
    truth = [np.abs(b - a).mean() for a, b in pairwise(hsv)]
    ours = list(differences(read_clip(filmed, "test"), "test"))[: len(truth)]
    assert ours == pytest.approx(truth, abs=1)
    assert max(truth) > 27 > 2 * sorted(truth)[-2]


def test_a_shot_lasts_a_while() -> None:
    def flash(number: int) -> np.ndarray:
        return np.full((HEIGHT, WIDTH, 3), 240 if number in (20, 21) else 30, np.uint8)

    content = clip(frames=60, picture=flash)
    assert [s["start_seconds"] for s in Shots()(content)] == pytest.approx([0, 20 / 30])
    found = [s["start_seconds"] for s in Shots(min_seconds=0)(content)]
    assert found == pytest.approx([0, 20 / 30, 22 / 30])


def test_a_clip_without_a_cut() -> None:
    content = clip("mpegts", frames=25, rate=25, picture=film, start=2)
    [shot] = Shots()(content)
    assert 0 <= shot["start_seconds"] < 0.1  # from the start of the file
    assert shot["end_seconds"] - shot["start_seconds"] == pytest.approx(1)


def test_threshold(filmed: bytes) -> None:
    assert len(Shots(threshold=254)(filmed)) == 1
    assert len(Shots(threshold=0.1, min_seconds=0)(filmed)) > 50


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": 0}, r"threshold=0: expected more than 0"),
        ({"threshold": -1}, r"threshold=-1: expected more than 0"),
        ({"min_seconds": -1}, r"min_seconds=-1: expected at least 0"),
        ({"min_seconds": float("inf")}, r"min_seconds=inf"),
        ({"max_frames": 0}, r"max_frames=0"),
    ],
)
def test_wrong_parameters(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Shots(**parameters)


def test_cut_short(filmed: bytes) -> None:
    with pytest.raises(RowError, match=r"^video\.Shots: "):
        Shots()(filmed[: len(filmed) // 2])
