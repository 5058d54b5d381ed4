"""Three datasets of one folder of videos; truth: how the clips were made, ffprobe and ffmpeg."""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import lance
import numpy as np
import pytest
from PIL import Image

import weft
from weft.connectors import Files, Lance
from weft.operators import video
from weft.samples.clips import CLIPS, RATE, make

EXAMPLES = Path(__file__).parents[2] / "examples"
WHOLE = sorted(CLIPS)

pytestmark = pytest.mark.skipif(
    not (shutil.which("ffmpeg") and shutil.which("ffprobe")),
    reason="needs ffmpeg and ffprobe (apt-get install ffmpeg)",
)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load("video_tables")


@functools.cache
def sample() -> tuple[dict[str, bytes], dict[str, dict[str, Any]]]:
    """The clips of `weft sample`, the last of them broken, and what is known of them."""
    return make()


def truth(name: str) -> dict[str, Any]:
    return sample()[1][name]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips of `weft sample`, one of them broken, and an empty file."""
    folder = tmp_path_factory.mktemp("videos")
    for name, content in sample()[0].items():
        (folder / name).write_bytes(content)
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture(scope="module")
def opened(videos: Path) -> Iterator[Callable[[], list[str]]]:
    """Names of the videos that this process opened since it was last asked."""
    seen: list[str] | None = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and seen is not None and isinstance(arguments[0], str | bytes):
            folder, name = os.path.split(os.fsdecode(arguments[0]))
            if folder == str(videos):
                seen.append(name)

    def ask() -> list[str]:
        assert seen is not None
        found = sorted(seen)
        seen.clear()
        return found

    sys.addaudithook(hook)  # for good, so that it only listens while `seen` is there
    yield ask
    seen = None


def run(*command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, check=True)


def probe(path: Path, stream: str, entries: str) -> dict[str, Any]:
    """What ffprobe says of a stream of a file."""
    command = ("ffprobe", "-v", "error", "-of", "json", "-select_streams", stream)
    found: dict[str, Any] = json.loads(run(*command, "-show_entries", entries, str(path)).stdout)
    return found


def rows(folder: Path, name: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of a dataset by video, in order, read with Lance alone."""
    dataset = lance.dataset(str(folder / f"{name}.lance"), version="latest")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in dataset.to_table(blob_handling="all_binary").sort_by("_index").to_pylist():
        assert row["_parent"] == Path(row["uri"]).name
        found.setdefault(row["_parent"], []).append(row)
    assert all(len(each) == each[0]["_count"] for each in found.values())
    return found


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_three_datasets_one_run(
    engine: str, videos: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_engine")
    made = example.video_tables(source=f"{videos}/*.mp4", folder=str(tmp_path))
    result = made.run(engine=engine)
    assert (result.rows, result.failed) == (5, 1)
    for step, taken, passed in (("read", 5, 5), ("where", 5, 4), ("probe", 4, 3)):
        assert (result.books[step].taken, result.books[step].passed) == (taken, passed)
    for step in ("each_shot", "frames"):  # children of the same three
        assert result.books[step].taken == 3

    clips, frames, sounds = (rows(tmp_path, name) for name in example.NAMES)
    assert sorted(clips) == sorted(frames) == WHOLE
    assert sorted(sounds) == [name for name in WHOLE if truth(name)["tone_hertz"]]
    for name in WHOLE:
        check_frames(videos / name, frames[name])
        check_clips(videos / name, clips[name])
        if name in sounds:
            check_sounds(videos / name, sounds[name])

    run_id, found = example.together(str(tmp_path))
    assert run_id == result.run
    assert [len(table) for table in found.values()] == list(result.kept.values())
    check_join(example.loudest(**found).to_dicts(), frames, sounds)


def check_frames(path: Path, found: list[dict[str, Any]]) -> None:
    """One each second, at the times that ffprobe tells, with the pixels that ffmpeg decodes."""
    told = probe(path, "v:0", "frame=pts_time:stream=duration")
    times = [float(frame["pts_time"]) for frame in told["frames"]]
    assert len(times) == truth(path.name)["frames"]
    assert len(found) == math.ceil(float(told["streams"][0]["duration"]))
    for second, row in enumerate(found):
        assert row["time_seconds"] == pytest.approx(times[row["index"]], abs=1e-6)
        assert row["index"] == max(i for i, time in enumerate(times) if time <= second)
    check_picture(path, found[-1]["index"], found[-1]["picture"])


def check_clips(path: Path, found: list[dict[str, Any]]) -> None:
    """Cuts where the clip was cut, and the picture of the frame in the middle of each shot."""
    length = float(probe(path, "v:0", "format=duration")["format"]["duration"])
    cuts = [0.0, *truth(path.name)["cuts_seconds"], truth(path.name)["duration_seconds"]]
    assert [row["start_seconds"] for row in found] == pytest.approx(cuts[:-1])
    assert [row["end_seconds"] for row in found] == pytest.approx(cuts[1:])
    for row in found:
        assert row["duration_seconds"] == pytest.approx(length, abs=1e-3)
        middle = (row["start_seconds"] + row["end_seconds"]) / 2
        check_picture(path, math.floor(RATE * middle + 1e-6), row["picture"])


def check_picture(path: Path, index: int, picture: bytes) -> None:
    chosen = f"select=eq(n\\,{index}),scale=224:126:flags=area"
    raw = run(
        "ffmpeg", "-v", "error", "-i", str(path), "-vf", chosen, "-frames:v", "1",
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-",
    ).stdout  # fmt: skip
    pixels = np.frombuffer(raw, np.uint8).reshape(126, 224, 3)
    with Image.open(io.BytesIO(picture)) as image:
        assert image.format == "JPEG"
        difference = np.asarray(image, np.int16) - pixels
    assert np.abs(difference).mean() < 6


def check_sounds(path: Path, found: list[dict[str, Any]]) -> None:
    """As many seconds as ffmpeg decodes, and as loud as its EBU R128 meter finds two of them."""
    rate = int(probe(path, "a:0", "stream=sample_rate")["streams"][0]["sample_rate"])
    raw = run("ffmpeg", "-v", "error", "-i", str(path), "-ac", "1", "-f", "f32le", "-").stdout
    samples = len(raw) // 4
    assert len(found) == math.ceil(samples / rate)
    assert [row["start_seconds"] for row in found] == list(range(len(found)))
    ends = [row["end_seconds"] for row in found]
    assert ends == pytest.approx([*range(1, len(found)), samples / rate])
    for row in found[1:3]:
        cut = f"atrim={row['start_seconds']}:{row['end_seconds']},ebur128=peak=true"
        told = run(
            "ffmpeg", "-nostats", "-i", str(path), "-af", cut, "-f", "null", "-"
        ).stderr.decode()
        loudness = re.search(r"Summary:.*?I:\s+(-?[\d.]+)", told, re.DOTALL)
        peak = re.search(r"True peak:\s+Peak:\s+(-?[\d.]+)", told)
        assert loudness is not None
        assert peak is not None
        assert row["loudness_lufs"] == pytest.approx(float(loudness[1]), abs=0.15)
        assert row["true_peak_dbtp"] == pytest.approx(float(peak[1]), abs=0.2)


def check_join(
    found: list[dict[str, Any]],
    frames: dict[str, list[dict[str, Any]]],
    sounds: dict[str, list[dict[str, Any]]],
) -> None:
    """The same with loops: of each video with sound one second, its frame and its clip."""
    assert len(found) == len(sounds)
    for row, name in zip(found, sorted(sounds), strict=True):
        best = max(sounds[name], key=lambda r: (r["loudness_lufs"] or -99, r["start_seconds"]))
        assert row["start_seconds"] == best["start_seconds"]
        (frame,) = [f for f in frames[name] if f["time_seconds"] == best["start_seconds"]]
        assert (row["frame"], row["sharpness"]) == (frame["_key"], frame["sharpness"])
        starts = [0.0, *truth(name)["cuts_seconds"]]
        number = sum(start <= best["start_seconds"] for start in starts) - 1
        assert row["clip"] == f"{name}#{number}"


def test_each_video_is_opened_once(
    videos: Path, tmp_path: Path, opened: Callable[[], list[str]]
) -> None:
    made = example.video_tables(source=f"{videos}/*.mp4", folder=str(tmp_path))
    opened()
    made.run(engine="local")
    assert opened() == sorted(sample()[0])  # the empty one is told by its size
    assert made.run(engine="local").in_sync
    assert opened() == []


def test_the_program_runs_and_shows(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("sys.argv", ["video_tables.py", f"{videos}/*.mp4", str(tmp_path)])
    example.main()
    said = capsys.readouterr().out
    assert said.startswith("published: 5 videos read, 1 failed\n")
    run_id, _ = example.together(str(tmp_path))
    for name, count in zip(example.NAMES, (6, 17, 14), strict=True):
        assert f"{tmp_path}/{name}.lance at run-{run_id}: {count} rows of uri, " in said
    assert re.search(r"kitchen\.mp4#\d .* kitchen\.mp4#\d", said)  # a frame and a clip


@weft.operator(version="1")
def counted(content: weft.Encoded("video"), log: str = "") -> weft.Encoded("video"):  # type: ignore[valid-type]
    """Leaves a byte in a file for each row: what a shared step costs, counted from outside."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, b".")
    os.close(fd)
    return bytes(content)


@weft.pipeline
def fanned(source: str, folder: str, log: str) -> Any:
    """The shape of the example: one costly step, three expansions of what it made."""
    shared = weft.read(Files(source, kind="video")).apply(counted.replace(log=log))
    shared = shared.select("uri", "counted")
    tables = (
        shared.apply(video.Frames(every=every), content="counted").select("uri", "index")
        for every in (1.0, 0.5, 2.0)
    )
    return tuple(t.write(Lance(f"{folder}/{n}.lance")) for n, t in enumerate(tables))


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_step_before_three_expansions_runs_once_a_row(
    engine: str, videos: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_engine")
    log = tmp_path / "log"
    made = fanned(source=f"{videos}/[gjk]*.mp4", folder=str(tmp_path), log=str(log))
    result = made.run(engine=engine)
    seconds = [truth(name)["duration_seconds"] for name in WHOLE]
    assert log.stat().st_size == len(WHOLE)
    assert list(result.kept.values()) == [
        sum(math.ceil(length / every) for length in seconds) for every in (1.0, 0.5, 2.0)
    ]
