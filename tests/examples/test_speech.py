"""The speech example, on recordings made with espeak-ng; truth: transformers, FFmpeg, silences."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import lance
import numpy as np
import pytest
import soundfile

from weft.operators.torchaudio_import import torchaudio

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("ffmpeg")),
    reason="needs espeak-ng and ffmpeg (apt-get install espeak-ng ffmpeg)",
)

WORDS = "The quick brown fox jumps over the lazy dog. She sells sea shells by the sea shore."


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Speech in three formats, noise, one that is cut short and an empty one."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    spoken, rate = soundfile.read(io.BytesIO(run("espeak-ng", "--stdout", WORDS)))
    pause = np.zeros(2 * rate)
    soundfile.write(folder / "speech.wav", np.concatenate([pause, spoken, pause]), rate)
    for name, codec in (("stereo.flac", ["-ar", "48000", "-ac", "2"]), ("small.mp3", [])):
        run("ffmpeg", "-i", str(folder / "speech.wav"), *codec, str(folder / name))
    noise = np.random.default_rng(0).normal(0, 0.05, 3 * rate)
    soundfile.write(folder / "noise.wav", noise, rate)
    whole = (folder / "speech.wav").read_bytes()
    (folder / "broken.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.wav").touch()
    return folder


def chain(path: Path) -> str:
    """Filters of FFmpeg for the mean of the channels at 16 kHz; its own mix is 3 dB louder."""
    mix = "pan=mono|c0=.5*c0+.5*c1," if path.name == "stereo.flac" else ""
    return f"{mix}aresample=16000"


def loudness(path: Path) -> float:
    command = ["ffmpeg", "-nostats", "-i", str(path), "-af", f"{chain(path)},ebur128"]
    done = subprocess.run([*command, "-f", "null", "-"], capture_output=True, check=True)
    found = re.search(r"Summary:.*?I:\s+(-?[\d.]+)", done.stderr.decode(), re.DOTALL)
    assert found is not None
    return float(found[1])


def test_speech(recordings: Path, tmp_path: Path) -> None:
    torchaudio()  # which transformers imports
    from transformers import WhisperFeatureExtractor

    out = tmp_path / "speech.lance"
    made = load("speech").speech(source=f"{recordings}/*", out=str(out))
    assert "audio.Decode(sample_rate=16000, then=[audio.Channels])" in str(made.plan())
    result = made.run(engine="local")
    assert (result.rows, result.failed, result.kept) == (6, 1, {"write": 3})

    table = lance.dataset(str(out), version="latest").to_table()
    rows = {Path(row["uri"]).name: row for row in table.drop_columns("mel").to_pylist()}
    assert set(rows) == {"speech.wav", "stereo.flac", "small.mp3"}
    mels = dict(zip(rows, table["mel"].combine_chunks().to_numpy_ndarray(), strict=True))
    length = soundfile.info(recordings / "speech.wav").duration
    for name, row in rows.items():
        assert row["duration_seconds"] == pytest.approx(length, abs=0.1)
        assert row["original_channels"] == (2 if name == "stereo.flac" else 1)
        assert row["original_rate"] == (48_000 if name == "stereo.flac" else 22_050)
        assert row["speech"][0]["start_seconds"] == pytest.approx(2, abs=0.2)
        assert row["speech"][-1]["end_seconds"] < length - 1.9
        said = sum(s["end_seconds"] - s["start_seconds"] for s in row["speech"])
        assert row["speech_share"] == pytest.approx(said / length, abs=0.02)
        assert row["loudness_lufs"] == pytest.approx(loudness(recordings / name), abs=0.15)
        path = recordings / name
        raw = run("ffmpeg", "-i", str(path), "-af", chain(path), "-f", "f32le", "-")
        truth = WhisperFeatureExtractor()(
            np.frombuffer(raw, "<f4"), sampling_rate=16_000, return_tensors="np"
        )["input_features"][0]
        assert mels[name].shape == (80, 3000)
        assert np.abs(mels[name] - truth).mean() < 0.01

    errors = lance.dataset(f"{out}.weft/errors.lance", version="latest").to_table().to_pylist()
    assert [(e["_key"], e["step"]) for e in errors] == [("broken.wav", "decode")]
    ledger = lance.dataset(f"{out}.weft/ledger.lance", version="latest").to_table().to_pylist()
    assert {line["_key"]: line["outcome"] for line in ledger} == {
        "empty.wav": "dropped", "noise.wav": "dropped", "broken.wav": "failed",
        "speech.wav": "kept", "stereo.flac": "kept", "small.mp3": "kept",
    }  # fmt: skip
