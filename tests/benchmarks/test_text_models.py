"""`benchmarks.text` and `benchmarks.models` run on very little, and their outputs are compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import common, contest, models, text, texts  # noqa: E402


def test_texts_are_as_long_as_they_say(tmp_path: Path) -> None:
    from weft.operators.model import transformers
    from weft.operators.weights import find_weights

    folder = find_weights("all-MiniLM-L6-v2", None, "test").folder
    tokenizer = transformers().AutoTokenizer.from_pretrained(folder, local_files_only=True)
    made = texts.texts(texts.vocabulary(), seed=3, rows=40)
    expected = texts.lengths(np.random.default_rng(3), 40).tolist()
    assert [len(tokenizer(text)["input_ids"]) for text in made] == expected
    many = texts.lengths(np.random.default_rng(0), 10_000)
    assert (many.min(), many.max()) == (texts.SHORTEST, texts.LONGEST)
    assert np.median(many) == pytest.approx(40, abs=2)
    assert many.mean() == pytest.approx(59, abs=3)


def test_weft_gives_the_vectors_of_sentence_transformers(tmp_path: Path) -> None:
    texts.write(tmp_path / "in" / "0.parquet", texts.vocabulary(), seed=0, rows=12)
    stored: dict[str, Any] = {}
    for name in ("arrival", "local"):
        out = str(tmp_path / name)
        found = common.measure(
            "benchmarks.contest:contend",
            {
                "module": text.CONTEST.module, "name": name, "workload": "embed",
                "warm": str(tmp_path / "in"), "folder": str(tmp_path / "in"), "out": out,
            },
            timeout=100,
        )  # fmt: skip
        assert found.cpu_seconds > 0
        stored[name] = contest.read_rows(out, text.CONTEST.tolerances)
    assert len(stored["arrival"]["embedding"]) == 12
    far = contest.compare(text.CONTEST, "local", stored["arrival"], stored["local"])
    assert far["embedding"] <= 1e-6
    other = {key: vector[::-1] for key, vector in stored["local"]["embedding"].items()}
    with pytest.raises(contest.OutputError, match=r"local: embedding of .* differs by"):
        contest.compare(text.CONTEST, "local", stored["arrival"], {"embedding": other})


def test_a_fake_device_is_fed_and_starved(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    for number in range(40):
        Image.fromarray(noise + np.uint8(number)).save(folder / f"{number}.jpg")
    arguments = {"engine": "local", "warm": str(folder), "folder": str(folder)}
    said = common.measure(
        "benchmarks.model_contenders:device", {**arguments, "out": str(tmp_path / "out")},
        timeout=100,
    ).said  # fmt: skip
    for rate in ("kept_up", "outrun"):
        assert 0 < said[rate]["busy_by_itself"] <= said[rate]["busy_by_weft"] * 1.01 <= 1.01
        assert said[rate]["weft_show"].startswith("fake_device: busy ")
    assert said["kept_up"]["declared_rows_per_second"] * 10 == pytest.approx(
        said["outrun"]["declared_rows_per_second"]
    )


def test_the_model_alone_and_as_a_stage(tmp_path: Path) -> None:
    arguments = {"engine": "local", "device": "cpu", "rows": 16, "rounds": 1}
    said = common.measure(
        "benchmarks.model_contenders:stage", {**arguments, "out": str(tmp_path)}, timeout=100
    ).said
    assert said["largest_difference"] <= models.LARGEST_DIFFERENCE["cpu"]
    assert said["ratio"] == pytest.approx(
        said["stage_images_per_second"] / said["model_only_images_per_second"]
    )


def test_what_models_promises() -> None:
    fed = {"busy_by_itself": 0.96, "busy_by_weft": 0.97}
    named = "fake_device: busy 40%; the slow side is read, decode, which feeds it (99% of 1 worker)"
    outrun = {
        "weft_show": [named, "fake_device: busy 99%, so it is the slow side, as it should be"]
    }
    report = {
        "fed": {"ray": {"kept_up": fed, "outrun": outrun}},
        "stage": {"local": {"ratio": 0.89}},
    }
    assert [(t.name, t.value, t.met) for t in models.targets(report)] == [
        ("ray: kept up, busy_by_itself", 0.96, True),
        ("ray: kept up, busy_by_weft", 0.97, True),
        ("ray: outrun, weft show names the feeders", 0.5, False),
        ("local: model stage/model alone", 0.89, False),
    ]
