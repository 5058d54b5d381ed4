"""How well a device is fed, and what a model loses by being a stage of a pipeline.

    python -m benchmarks.models --json models.json
    python -m benchmarks.models --device cuda --json models-cuda.json

What is measured, and how to read it, is in README.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import (
    ContenderError,
    Measured,
    Target,
    interleave,
    machine,
    measure,
    table,
    write_json,
)
from benchmarks.model_contenders import checked
from benchmarks.photos import make_photos

ENGINES = ("local", "ray")
LARGEST_DIFFERENCE = {"cpu": 1e-5, "cuda": 2e-2}
"""Of a vector's value: float32 on CPUs, bfloat16 on GPUs."""

_ROWS = {"cpu": 512, "cuda": 32_768}
_ONE_THREAD = {"OMP_NUM_THREADS": "1"}
"""So that the model has the same core, alone and in a pipeline whose other stages have another."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    folder = Path(options.folder or Path(tempfile.gettempdir(), "weft-benchmark-images"))
    every, warm = make_photos(folder, options.count)
    report: dict[str, Any] = {
        "benchmark": "models",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(("weft", "numpy", "pyarrow", "pylance", "ray", "torch", "transformers")),
        "device": options.device,
        "count": options.count,
        "rows": options.rows or _ROWS[options.device],
        "rounds": options.rounds,
        "fed": _fed(every, warm, options),
        "stage": _stages(options),
    }
    found = targets(report)
    report["targets_met"] = [t.to_json() for t in found]
    _show(report)
    for target in found:
        print(target)
    write_json(options.json, report)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", help="keeps the photographs between runs (default: temporary)")
    parser.add_argument("--count", type=int, default=640, help="photographs (default: 640)")
    parser.add_argument(
        "--rows", type=int, help="images for the model (default: 512; on a GPU 32768)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the model")
    parser.add_argument("--engines", type=lambda t: tuple(t.split(",")), default=ENGINES)
    parser.add_argument("--json", help="file for figures and targets")
    return parser.parse_args(arguments)


def _fed(every: Path, warm: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The device of declared rate, in rounds, by engine."""

    def once(engine: str, number: int) -> Measured:
        with tempfile.TemporaryDirectory(dir=every.parent) as out:
            arguments = {"engine": engine, "warm": str(warm), "folder": str(every), "out": out}
            found = measure("benchmarks.model_contenders:device", arguments)
        for rate in ("kept_up", "outrun"):
            _tell(f"round {number + 1} {engine} {rate}: {found.said[rate]}")
        return found

    runs = interleave(options.rounds, options.engines, once)
    return {engine: _fed_figures([r.said for r in found]) for engine, found in runs.items()}


def _fed_figures(said: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians over rounds, with the lowest and the highest of how busy the device was."""
    figures: dict[str, Any] = {
        "feeders_rows_per_second": statistics.median(s["feeders_rows_per_second"] for s in said)
    }
    for rate in ("kept_up", "outrun"):
        rounds = [s[rate] for s in said]
        names = [n for n, value in rounds[0].items() if isinstance(value, float)]
        figures[rate] = {n: statistics.median(r[n] for r in rounds) for n in names}
        for name in ("busy_by_itself", "busy_by_weft"):
            values = [r[name] for r in rounds]
            figures[rate][f"{name}_range"] = [min(values), max(values)]
        figures[rate]["weft_show"] = [r["weft_show"] for r in rounds]
    return figures


def _stages(options: argparse.Namespace) -> dict[str, Any]:
    """The model's stage beside the model alone, by engine."""
    figures = {}
    for engine in options.engines:
        with tempfile.TemporaryDirectory() as out:
            arguments = {
                "engine": engine, "device": options.device, "rounds": options.rounds, "out": out,
                "rows": options.rows or _ROWS[options.device],
            }  # fmt: skip
            found = measure("benchmarks.model_contenders:stage", arguments, environment=_ONE_THREAD)
        checked(found.said, LARGEST_DIFFERENCE[options.device])
        figures[engine] = {**found.said, "startup_seconds": found.startup_seconds}
        _tell(f"{engine} {figures[engine]}")
    return figures


def _tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


def targets(report: Mapping[str, Any]) -> list[Target]:
    """What weft promises."""
    found = []
    for engine, fed in report["fed"].items():
        for name in ("busy_by_itself", "busy_by_weft"):
            found.append(Target(f"{engine}: kept up, {name}", fed["kept_up"][name], 0.95))
        named = [_names_feeders(text) for text in fed["outrun"]["weft_show"]]
        share = sum(named) / len(named)
        found.append(Target(f"{engine}: outrun, weft show names the feeders", share, 1.0))
    for engine, stage in report["stage"].items():
        found.append(Target(f"{engine}: model stage/model alone", stage["ratio"], 0.9))
    return found


def _names_feeders(text: str) -> bool:
    return "the slow side is read, decode, which feeds it" in text


def _show(report: Mapping[str, Any]) -> None:
    print("\na device of declared rate, fed by decoded photographs")
    rows = [
        {
            "engine": engine,
            "device": rate,
            "declared/s": fed[rate]["declared_rows_per_second"],
            "rows/s": fed[rate]["rows_per_second"],
            "busy": fed[rate]["busy_by_itself"],
            "from": fed[rate]["busy_by_itself_range"][0],
            "to": fed[rate]["busy_by_itself_range"][1],
            "by weft": fed[rate]["busy_by_weft"],
            "longest gap s": fed[rate]["longest_gap_seconds"],
        }
        for engine, fed in report["fed"].items()
        for rate in ("kept_up", "outrun")
    ]
    print(table(rows))
    for engine, fed in report["fed"].items():
        print(f"{engine}, outrun: {fed['outrun']['weft_show'][-1]}")
    print(f"\na model on {report['device']}, alone and as a stage")
    rows = [
        {
            "engine": engine,
            "alone images/s": stage["model_only_images_per_second"],
            "stage": stage["stage_images_per_second"],
            "run": stage["run_images_per_second"],
            "ratio": stage["ratio"],
            "from": stage["ratio_range"][0],
            "to": stage["ratio_range"][1],
            "run, by CPU": stage["run_ratio_by_cpu"],
        }
        for engine, stage in report["stage"].items()
    ]
    print(table(rows))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ContenderError as error:
        sys.exit(str(error))
