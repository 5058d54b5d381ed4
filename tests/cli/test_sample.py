"""The sample data set is what its truth says, by the word of other readers."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import wave
from itertools import pairwise
from pathlib import Path
from shutil import which
from typing import Any

import av
import numpy as np
import pytest
from mcap.reader import make_reader
from PIL import Image

from weft.errors import DefinitionError
from weft.samples import KINDS, write_samples
from weft.samples import logs as logs_module


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_samples(folder)
    return folder


@pytest.fixture(scope="module")
def truth(sample: Path) -> dict[str, dict[str, Any]]:
    return json.loads((sample / "truth.json").read_text())


def of(truth: dict[str, dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    return {p: t for p, t in truth.items() if p.startswith(f"{kind}/") and "broken" not in t}


def test_every_file_is_known(sample: Path, truth: dict[str, Any]) -> None:
    files = {str(p.relative_to(sample)) for p in sample.glob("*/*")}
    assert files == set(truth)
    assert {p.partition("/")[0] for p in truth} == set(KINDS)
    assert sum(t.get("broken", False) for t in truth.values()) == 6


def test_photographs(sample: Path, truth: dict[str, Any]) -> None:
    for path, about in of(truth, "photos").items():
        with Image.open(sample / path) as image:
            size = image.size if image.getexif().get(0x0112, 1) == 1 else image.size[::-1]
        assert size == (about["width"], about["height"])
    with (sample / "captions.csv").open() as file:
        rows = {row["photo"]: row["caption"] for row in csv.DictReader(file)}
    assert rows == {p.removeprefix("photos/"): t["caption"] for p, t in of(truth, "photos").items()}


@pytest.mark.skipif(which("ffprobe") is None, reason="needs ffprobe (apt-get install ffmpeg)")
def test_clips(sample: Path, truth: dict[str, Any]) -> None:
    for path, about in of(truth, "clips").items():
        command = ["ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams"]
        found = subprocess.run([*command, sample / path], capture_output=True, check=True)
        streams = {s["codec_type"]: s for s in json.loads(found.stdout)["streams"]}
        assert int(streams["video"]["nb_read_frames"]) == about["frames"]
        assert float(streams["video"]["duration"]) == about["duration_seconds"]
        assert ("audio" in streams) == (about["tone_hertz"] is not None)


def test_cuts(sample: Path, truth: dict[str, Any]) -> None:
    for path, about in of(truth, "clips").items():
        with av.open(str(sample / path)) as container:
            frames = [f.to_ndarray(format="gray").astype(int) for f in container.decode(video=0)]
        jumps = [float(np.abs(a - b).mean()) for a, b in pairwise(frames)]
        cuts = [round(s * about["frame_rate"]) - 1 for s in about["cuts_seconds"]]
        calm = max(j for i, j in enumerate(jumps) if i not in cuts)
        assert all(jumps[cut] > 2 * calm for cut in cuts)


def test_tones_and_speech(sample: Path, truth: dict[str, Any]) -> None:
    for path, about in of(truth, "sounds").items():
        if path.endswith(".wav"):
            with wave.open(str(sample / path)) as file:
                rate, count = file.getframerate(), file.getnframes()
                samples = np.frombuffer(file.readframes(count), "<i2").astype(float)
            peak = np.abs(np.fft.rfft(samples)).argmax() * rate / count
            assert (rate, count / rate) == (about["sample_rate"], about["duration_seconds"])
            assert peak == pytest.approx(about["tone_hertz"], abs=rate / count)
            continue
        with av.open(str(sample / path)) as container:
            parts = [f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]
        samples = np.concatenate(parts) / 32768
        assert len(samples) == round(about["duration_seconds"] * about["sample_rate"])
        loud = np.zeros(len(samples), bool)
        for start, stop in about.get("speech_seconds", ()):
            loud[round(start * 16_000) : round(stop * 16_000)] = True
        if loud.any():
            assert np.abs(samples[~loud]).max() < 0.01
            assert np.sqrt((samples[loud] ** 2).mean()) > 0.03


@pytest.mark.skipif(which("pdftotext") is None, reason="needs pdftotext (poppler-utils)")
def test_papers(sample: Path, truth: dict[str, Any]) -> None:
    for path, about in of(truth, "papers").items():
        found = subprocess.run(["pdftotext", sample / path, "-"], capture_output=True, check=True)
        pages = found.stdout.decode().split("\f")[:-1]
        assert len(pages) == about["pages"]
        for text, page in zip(about["text"], pages, strict=True):
            assert text in " ".join(page.split())


def test_log(sample: Path, truth: dict[str, Any]) -> None:
    about = truth["logs/robot.mcap"]
    counts: dict[str, int] = {}
    silent = [about["start_ns"] + round(s * 1e9) for s in about["gap_seconds"]]
    with (sample / "logs/robot.mcap").open("rb") as file:
        for _, channel, message in make_reader(file).iter_messages():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
            if channel.topic == "/imu":
                assert not silent[0] <= message.log_time < silent[1]
    assert counts == about["messages"]


def test_a_second_sample_is_the_same_and_touches_nothing(sample: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sample.rglob("*") if p.is_file()}
    write_samples(sample)
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before}


def test_the_command_says_what_it_wrote(weft, answer, tmp_path: Path) -> None:
    text = weft("sample", tmp_path / "s").stdout
    assert text.startswith(f"50 files in {tmp_path}/s, 6 of them broken on purpose:\n")
    assert answer("sample", tmp_path / "s")["files"]["clips"] == 4


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mcap.writer", None)
    monkeypatch.delitem(sys.modules, logs_module.__name__)
    monkeypatch.setitem(sys.modules, "mcap", None)
    with pytest.raises(DefinitionError, match=r"weft sample makes logs with mcap.*weft\[sample\]"):
        write_samples(tmp_path)


def test_wav_is_read_by_others() -> None:
    from weft.samples.sounds import tone, wav

    with wave.open(io.BytesIO(wav(tone(100, 0.1, 8000), 8000))) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (1, 8000, 800)
