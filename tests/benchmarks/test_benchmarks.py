"""The benchmarks run, say what they promise to say, and notice an output that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import clips, common, contest, images  # noqa: E402


def run(module: str, *arguments: str) -> dict[str, object]:
    out = Path(arguments[-1])
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def test_images_report(tmp_path: Path) -> None:
    report = run(
        "images", "--folder", str(tmp_path / "photos"), "--count", "24", "--rounds", "1",
        "--contenders", "limit,local", "--json", str(tmp_path / "images.json"),
    )  # fmt: skip
    assert set(report["workloads"]) == {"store", "describe"}
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["versions"]["weft"]
    for figures in report["workloads"].values():
        assert set(figures["contenders"]) == {"limit", "local"}
        for found in figures["contenders"].values():
            assert found["images_per_second"] < found["steady_images_per_second"]
            assert min(found[n] for n in ("startup_seconds", "cpu_seconds", "peak_bytes")) > 0
        assert set(figures["ratios"]) == {"local/limit"}
        assert set(figures["largest_differences"]["local"].values()) == {0.0}
    met = {t["name"]: t["met"] for t in report["targets_met"]}
    assert len(met) == 8
    assert met["store: local/limit"] in (True, False)
    assert met["store: ray/limit"] is None


def test_video_report(tmp_path: Path) -> None:
    for name, seconds in (("1/000", 2), ("warm/000", 1), ("warm/001", 1)):  # shorter than it makes
        path = tmp_path / "clips" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        clips.make_clip(path, 0, seconds)
    report = run(
        "video", "--folder", str(tmp_path / "clips"), "--count", "1", "--rounds", "1",
        "--contenders", "limit,local", "--json", str(tmp_path / "video.json"),
    )  # fmt: skip
    assert report["workloads"]["sample"]["count"] == 2
    assert report["workloads"]["sample"]["largest_differences"]["local"] == {"image": 0.0}
    assert report["machine"]["versions"]["av"]
    assert [t["name"] for t in report["targets_met"]] == [
        "sample: local/limit", "sample: ray/ray_data_read_videos", "sample: local/daft",
    ]  # fmt: skip


def test_audio_report(tmp_path: Path) -> None:
    report = run(
        "audio", "--folder", str(tmp_path / "recordings"), "--count", "6", "--rounds", "1",
        "--contenders", "limit,local", "--json", str(tmp_path / "audio.json"),
    )  # fmt: skip
    figures = report["workloads"]["mel"]
    assert figures["count"] == 6
    assert 0 < figures["largest_differences"]["local"]["mel"] < 0.005  # another resampler
    assert figures["contenders"]["local"]["first_run_seconds"] > 0
    low, high = figures["ratios"]["local/limit"]["steady_range"]
    assert low <= figures["ratios"]["local/limit"]["steady"] <= high


def test_overhead_report(tmp_path: Path) -> None:
    report = run(
        "overhead", "--batches", "200", "--rows", "0", "--rounds", "1",
        "--json", str(tmp_path / "overhead.json"),
    )  # fmt: skip
    assert report["ray"] is None
    assert report["local"]["us_per_batch_with_one_operator"] > 0
    assert {t["name"] for t in report["targets_met"]} == {
        "local: µs per batch per operator",
        "local: µs per batch, one operator",
        "ray/unfused map_batches at its best",
        "ray/unfused map_batches by default",
    }


def rows(**changed: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    return {"vector": {"a": np.zeros(4, np.float32), "b": np.ones(4, np.float32), **changed}}


@pytest.mark.parametrize(
    ("contender", "given", "message"),
    [
        ("local", rows(b=np.full(4, 1.001, np.float32)), "vector of b differs by"),
        ("daft", rows(b=np.full(4, 9, np.float32)), "vector of b differs by 8"),
        ("daft", rows(b=np.full(4, np.nan, np.float32)), "vector of b differs by nan"),
        ("ray", rows(c=np.ones(4, np.float32)), "1 keys are on one side only, first c"),
        ("ray", {"vector": {"a": np.zeros(4, np.float32)}}, "1 keys are on one side only, first b"),
        ("ray", {}, "columns"),
    ],
)
def test_a_wrong_output_is_caught(contender: str, given: object, message: str) -> None:
    with pytest.raises(contest.OutputError, match=message):
        contest.compare(images.CONTEST, contender, rows(), given)


def test_another_decoder_may_differ_a_little() -> None:
    given = rows(b=np.full(4, 1.5, np.float32))
    assert contest.compare(images.CONTEST, "daft", rows(), given) == {"vector": 0.5}


def test_keys_stored_twice_are_caught(tmp_path: Path) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8, np.float32)), 4)
    pq.write_table(
        pa.table({"key": ["a.jpg", "x/a.jpg"], "vector": vectors}), tmp_path / "1.parquet"
    )
    with pytest.raises(contest.OutputError, match="1 keys are there twice"):
        contest.read_rows(str(tmp_path), ["vector"])


def test_a_contender_that_dies_is_told() -> None:
    with pytest.raises(common.ContenderError, match="no attribute 'nobody'"):
        common.measure("benchmarks.photos:nobody", {})


def test_targets_that_were_not_measured_are_not_met() -> None:
    assert common.Target("x", None, 1.0).met is None
    assert common.Target("x", 2.0, 1.0).met is True
    assert common.Target("x", 2.0, 1.0, at_least=False).met is False
