"""ffprobe and ffmpeg, the truth of these tests."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

needs_ffmpeg = pytest.mark.skipif(
    shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None,
    reason="needs ffmpeg and ffprobe (apt-get install ffmpeg)",
)


def ffprobe(content: bytes, folder: Path, *options: str) -> dict[str, Any]:
    path = folder / "probed"
    path.write_bytes(content)
    command = ["ffprobe", "-v", "error", *options, "-of", "json", str(path)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def shown_at(content: bytes, folder: Path) -> list[float]:
    """When each frame is shown, counted from the start of the file."""
    told = ffprobe(
        content, folder, "-select_streams", "v:0",
        "-show_entries", "frame=best_effort_timestamp_time:format=start_time",
    )  # fmt: skip
    start = float(told["format"].get("start_time", 0))
    times = [float(f["best_effort_timestamp_time"]) for f in told["frames"]]
    return [time - start for time in times]


def ffmpeg(content: bytes, folder: Path, *options: str) -> bytes:
    """The standard output of ffmpeg with the content as input."""
    path = folder / "converted"
    path.write_bytes(content)
    command = ["ffmpeg", "-v", "error", "-i", str(path), *options, "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


def rgb_frames(content: bytes, folder: Path, shape: tuple[int, ...], *options: str) -> np.ndarray:
    """Frames as ffmpeg converts them, upright; `shape` is that of one."""
    raw = ffmpeg(content, folder, *options, "-vsync", "0", "-f", "rawvideo", "-pix_fmt", "rgb24")
    return np.frombuffer(raw, np.uint8).reshape(-1, *shape)
