"""The benchmark of joins runs, compares outputs and says how time grows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import lance
import polars as pl
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import join_contenders, joins  # noqa: E402
from benchmarks.common import Measured  # noqa: E402


def test_report(tmp_path: Path) -> None:
    out = tmp_path / "joins.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.joins", "--folder", str(tmp_path), "--rounds", "1",
            "--rows", "2000,1000", "--contenders", "local,polars", "--workloads", "left",
            "--json", str(out),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    figures = report["workloads"]["left"]
    assert {n: set(f) for n, f in figures["contenders"].items()} == {
        "local": {"1000", "2000"},
        "polars": {"2000"},
    }
    assert all(f["peak_bytes"] > 0 for f in figures["contenders"]["local"].values())
    assert set(figures["ratios"]) == {"local/polars"}
    met = {t["name"]: t["met"] for t in report["targets_met"]}
    assert met["left: local, peak bytes"] is True
    assert met["left: ray/ray_data"] is None


def test_flatness_is_of_time_per_row() -> None:
    runs = {n: [Measured(9, 5 + n / 100, n / 100, 1, {})] for n in (100, 300, 1000)}
    found = joins.flatness(runs)
    assert found["cpu_seconds"] == pytest.approx(1)
    assert found["seconds"] == pytest.approx((15 / 1000) / (6 / 100))
    assert joins.added(runs) == pytest.approx(1)
    runs[1000] = [Measured(9, 15, 17, 1, {})]
    assert joins.added(runs) == pytest.approx(2)


ROWS = {"key": ["a", "b"], "x": [1, 2], "y": [0.5, 1 / 3]}


@pytest.mark.parametrize(
    ("workload", "given", "message"),
    [
        ("inner", {"x": [2, 1], "key": ["b", "a"], "y": [1 / 3, 0.5]}, None),
        ("sort", {n: v[::-1] for n, v in ROWS.items()}, "values of key, x, y"),
        ("group", ROWS | {"y": [0.5, 1 / 3 + 1e-15]}, None),
        ("group", ROWS | {"y": [0.5, 1 / 3 + 1e-9]}, "values of y"),
        ("inner", ROWS | {"y": [0.5, None]}, "values of y"),
        ("inner", {n: v[:1] for n, v in ROWS.items()}, "1 rows; expected 2"),
        ("inner", {n: ROWS[n] for n in ("key", "x")}, "columns"),
    ],
)
def test_a_wrong_output_is_caught(
    tmp_path: Path, workload: str, given: dict[str, list[object]], message: str | None
) -> None:
    expected, other = tmp_path / "expected", tmp_path / "given"
    lance.write_dataset(pl.DataFrame(ROWS | {"_key": ["0", "1"]}).to_arrow(), expected)
    other.mkdir()
    pl.DataFrame(given).write_parquet(other / "1.parquet")
    found = join_contenders.difference(workload, expected, other)
    assert found is None if message is None else message in str(found)
