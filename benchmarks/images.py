"""How fast photographs become rows: weft beside plain threads, Ray Data by hand, and Daft.

    python -m benchmarks.images --folder /tmp/photos --json images.json

What is measured, and how to read it, is in README.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    ContenderError,
    Measured,
    Target,
    interleave,
    machine,
    measure,
    paired_ratio,
    table,
    write_json,
)
from benchmarks.photos import make_photos

NAMES = (
    "limit", "local", "ray", "ray_data_scaled", "ray_data_tuned", "ray_data_read_images", "daft",
)  # fmt: skip
BY_HAND = ("ray_data_scaled", "ray_data_read_images")
WORKLOADS = ("store", "describe")

TOLERANCES = {
    "vector": 2.0,  # levels of 255, on average over the row
    "sharpness": 0.02,
    "brightness": 0.01,
    "contrast": 0.01,
    "clipped": 0.01,
    "entropy": 0.2,
    "descriptor": 0.01,  # on average over the row; its values are 0 to 1
}
"""How far a row may be from the limit's, where another decoder or resize made it. weft runs the
limit's own operators: it must give the same values."""

SAME = ("local", "ray")

ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""For all but weft, which must see to it by itself: with a thread on each core already, those of
OpenBLAS only spin, and took half of the limit's processor time in `describe`."""


class OutputError(Exception):
    """A contender's output is not what the others made."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if a contender failed or gave another answer."""
    options = _options(arguments)
    _refuse_unknown(options.contenders, NAMES)
    if options.contenders[0] != "limit":
        sys.exit("the first contender must be limit: the others are compared with it")
    folder = Path(options.folder or Path(tempfile.gettempdir(), "weft-benchmark-photos"))
    every, warm = make_photos(folder, options.count)
    report: dict[str, Any] = {
        "benchmark": "images",
        "machine": machine(("weft", "numpy", "pillow", "pyarrow", "pylance", "ray")),
        "count": options.count,
        "rounds": options.rounds,
        "content_bytes": sum(p.stat().st_size for p in every.iterdir()),
        "start_up": "from the start of the process until three warm-up runs over "
        f"{len(list(warm.iterdir()))} images is done; steady state is the run that follows",
        "workloads": {},
        "skipped": {},
        "targets_met": [],
    }
    if "daft" in options.contenders:
        report["machine"]["versions"]["daft"] = _daft_version(options.daft_python)
        if report["machine"]["versions"]["daft"] is None:
            report["skipped"]["daft"] = f"{options.daft_python} cannot import it"
    for workload in options.workloads:
        names = [n for n in options.contenders if n not in report["skipped"]]
        figures = _measure(workload, names, every, warm, options)
        report["workloads"][workload] = figures
        report["targets_met"] += [t.to_json() for t in targets(workload, figures["ratios"])]
        _show(workload, figures, options.count)
    for name, why in report["skipped"].items():
        print(f"{name} was left out: {why}")
    write_json(options.json, report)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", help="keeps the photographs between runs (default: temporary)")
    parser.add_argument("--count", type=int, default=2400, help="photographs (default: 2400)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--contenders", type=_names, default=NAMES, help=",".join(NAMES))
    parser.add_argument("--workloads", type=_names, default=WORKLOADS, help=",".join(WORKLOADS))
    parser.add_argument("--json", help="file for figures, ratios and targets")
    parser.add_argument(
        "--daft-python", default=sys.executable,
        help="interpreter that has Daft, where it does not go together with what weft has",
    )  # fmt: skip
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _refuse_unknown(given: Sequence[str], known: Sequence[str]) -> None:
    if unknown := set(given) - set(known):
        sys.exit(f"unknown: {', '.join(unknown)}. There are: {', '.join(known)}.")


def _daft_version(python: str) -> str | None:
    code = "import daft; print(daft.__version__)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return found.stdout.strip() if found.returncode == 0 else None


def _measure(
    workload: str, names: Sequence[str], every: Path, warm: Path, options: argparse.Namespace
) -> dict[str, Any]:
    differences: dict[str, dict[str, float]] = {}
    reference: dict[str, Any] = {}

    def once(name: str, number: int) -> Measured:
        with tempfile.TemporaryDirectory(dir=every.parent) as scratch:
            out = str(Path(scratch, name))
            arguments = {
                "name": name, "workload": workload, "warm": str(warm), "folder": str(every),
                "out": out,
            }  # fmt: skip
            found = measure(
                "benchmarks.image_contenders:contend",
                arguments,
                python=options.daft_python if name == "daft" else sys.executable,
                environment={} if name in SAME else ONE_BLAS_THREAD,
            )
            rows = read_rows(out)
            expected = reference.setdefault("rows", rows)  # of the limit, which is first
            differences[name] = compare(name, expected, rows)
            print(
                f"  {workload} round {number + 1} {name}: "
                f"{options.count / found.seconds:.1f} images/s", file=sys.stderr, flush=True,
            )  # fmt: skip
            return found

    runs = interleave(options.rounds, names, once)
    return {
        "contenders": {n: _figures(r, options.count) for n, r in runs.items()},
        "ratios": ratios(runs, options.count),
        "largest_differences": differences,
    }


def _figures(runs: Sequence[Measured], count: int) -> dict[str, Any]:
    middle = statistics.median
    steady = [count / r.seconds for r in runs]
    return {
        "images_per_second": middle(count / (r.startup_seconds + r.seconds) for r in runs),
        "steady_images_per_second": middle(steady),
        "steady_lowest": min(steady),
        "steady_highest": max(steady),
        "startup_seconds": middle(r.startup_seconds for r in runs),
        "cpu_seconds": middle(r.cpu_seconds for r in runs),
        "images_per_cpu_second": middle(count / r.cpu_seconds for r in runs),
        "peak_bytes": max(r.peak_bytes for r in runs),
    }


def ratios(runs: Mapping[str, Sequence[Measured]], count: int) -> dict[str, dict[str, float]]:
    """Rates to rates, steady and by processor time, each the median over rounds."""
    steady = {n: [count / r.seconds for r in runs[n]] for n in runs}
    by_cpu = {n: [count / r.cpu_seconds for r in runs[n]] for n in runs}
    pairs = {"local/limit": ("local", "limit"), "ray/limit": ("ray", "limit")}
    pairs["local/daft"] = ("local", "daft")
    hand = [n for n in BY_HAND if n in runs]
    if hand:
        best = max(hand, key=lambda n: statistics.median(steady[n]))
        pairs["ray/best hand-written Ray Data"] = ("ray", best)
    pairs["ray/ray_data_tuned"] = ("ray", "ray_data_tuned")
    return {
        name: {
            "steady": paired_ratio(steady[a], steady[b]),
            "cpu": paired_ratio(by_cpu[a], by_cpu[b]),
        }
        for name, (a, b) in pairs.items()
        if a in runs and b in runs
    }


def targets(workload: str, found: Mapping[str, Mapping[str, float]]) -> list[Target]:
    """What weft promises of a workload."""
    limits = {
        "local/limit": 0.85,
        "ray/limit": 0.75,
        "local/daft": {"store": 3.0, "describe": 2.0}[workload],
        "ray/best hand-written Ray Data": {"store": 1.3, "describe": 1.15}[workload],
    }
    return [
        Target(f"{workload}: {name}", found.get(name, {}).get("steady"), limit)
        for name, limit in limits.items()
    ]


def read_rows(out: str) -> dict[str, dict[str, np.ndarray]]:
    """What a contender stored, by column and key."""
    import pyarrow.parquet as pq

    if Path(out, "_versions").exists():
        import lance

        stored = lance.dataset(out).to_table()
    else:
        stored = pq.read_table(out)
    key = "_key" if "_key" in stored.column_names else "key"
    keys = [Path(k).name for k in stored[key].to_pylist()]
    if len(set(keys)) != len(keys):
        raise OutputError(f"{out}: {len(keys) - len(set(keys))} keys are there twice.")
    names = [n for n in stored.column_names if n in TOLERANCES]
    found = {}
    for name in names:
        values = stored[name].combine_chunks()
        values = getattr(values, "storage", values)
        flat = values.flatten() if hasattr(values, "flatten") and values.type.num_fields else values
        array = flat.to_numpy(zero_copy_only=False).reshape(len(keys), -1)
        found[name] = dict(zip(keys, array, strict=True))
    return found


def compare(
    contender: str,
    expected: Mapping[str, Mapping[str, np.ndarray]],
    given: Mapping[str, Mapping[str, np.ndarray]],
) -> dict[str, float]:
    """The largest difference of a row, by column.

    Raises:
        OutputError: other columns, other keys, or a row that differs by more than it may.
    """
    if set(expected) != set(given):
        raise OutputError(f"{contender}: columns {sorted(given)}; expected {sorted(expected)}.")
    largest = {}
    for name, rows in expected.items():
        if set(rows) != set(given[name]):
            odd = sorted(set(rows) ^ set(given[name]))
            raise OutputError(f"{contender}: {len(odd)} keys are on one side only, first {odd[0]}.")
        limit = 0.0 if contender in (*SAME, "limit") else TOLERANCES[name]
        apart = {k: float(np.abs(row - given[name][k]).mean()) for k, row in rows.items()}
        worst = max(apart, key=lambda k: (not apart[k] <= limit, apart[k]))  # NaN is worst
        if not apart[worst] <= limit:
            raise OutputError(
                f"{contender}: {name} of {worst} differs by {apart[worst]}, more than {limit}."
            )
        largest[name] = apart[worst]
    return largest


def _show(workload: str, figures: Mapping[str, Any], count: int) -> None:
    print(f"\n{workload}: {count} images")
    rows = [
        {
            "contender": name,
            "images/s": f["images_per_second"],
            "steady": f["steady_images_per_second"],
            "from": f["steady_lowest"],
            "to": f["steady_highest"],
            "start-up s": f["startup_seconds"],
            "CPU s": f["cpu_seconds"],
            "images/CPU s": f["images_per_cpu_second"],
            "peak MB": round(f["peak_bytes"] / 1e6),
        }
        for name, f in figures["contenders"].items()
    ]
    print(table(rows))
    for name, ratio in figures["ratios"].items():
        print(f"{name}: {ratio['steady']:.2f} (by CPU time {ratio['cpu']:.2f})")
    for target in targets(workload, figures["ratios"]):
        print(target)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ContenderError, OutputError) as error:
        sys.exit(str(error))
