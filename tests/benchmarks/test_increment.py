"""The benchmark of increments runs, and counts what it says it counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import increment  # noqa: E402


def test_report(tmp_path: Path) -> None:
    out = tmp_path / "increment.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks.increment", "--folder", str(tmp_path), "--rounds",
            "1", "--worked-rows", "200", "--blob-rows", "100", "--workloads", "changed,field",
            "--json", str(out),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    changed, field = (report["workloads"][name] for name in ("changed", "field"))
    assert {name: found["asked"] for name, found in changed.items()} == {
        "full": 200,
        "1% changed": 2,
    }
    assert field["full"]["dataset bytes"] > 100 * 100_000 > field["new field"]["dataset bytes"]
    assert field["new field"]["asked"] == 100
    met = {t["name"]: t["met"] for t in report["targets_met"]}
    assert met["changed: asked of a full run's"] is True
    assert met["field: dataset bytes of the dataset"] is True
    assert len(met) == 4


def test_targets_of_runs_without_work() -> None:
    fast, slow = {"seconds": 1.0}, {"seconds": 9.0}
    found = increment._nothing_targets({"lance: full": slow, "lance: again": slow, "x": fast})
    assert [(t.name, t.met) for t in found] == [
        ("nothing: lance: again, seconds", False),
        ("nothing: x, seconds", True),
    ]
