"""What it costs to join, group and sort rows: weft beside Ray Data, and Polars in memory.

    python -m benchmarks.joins --json joins.json

From Lance to Lance: up to a million rows of about 140 bytes, and 100,000 to join them with
(`benchmarks.join_contenders` says which). What is measured, and how to read it, is in README.md.
"""

from __future__ import annotations

import argparse
import itertools
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
    paired_ratio,
    table,
    write_json,
)
from benchmarks.join_contenders import CONTENDERS, KEYS, WORKLOADS, difference, make_tables

WEFT = ("local", "ray")
ROWS = (100_000, 300_000, 1_000_000)
PEAK_BYTES = 4 * 2**30
FLAT = 1.2
"""At most so many times as long for each row, with ten times the rows."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; an error, if outputs differ."""
    options = _options(arguments)
    folder = Path(options.folder or Path(tempfile.gettempdir(), "weft-benchmark-joins"))
    folder.mkdir(parents=True, exist_ok=True)
    for rows in options.rows:
        make_tables(folder, rows)
    report: dict[str, Any] = {
        "benchmark": "joins",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(("weft", "numpy", "polars", "pyarrow", "pylance", "ray")),
        "rows": options.rows,
        "right_rows": KEYS,
        "rounds": options.rounds,
        "workloads": {},
        "targets_met": [],
    }
    for workload in options.workloads:
        figures = _measure(workload, folder, options)
        report["workloads"][workload] = figures
        met = targets(workload, figures)
        report["targets_met"] += [t.to_json() for t in met]
        _show(workload, figures, met)
    report["load_after"] = machine(())["load_before"]
    write_json(options.json, report)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )

    def names(text: str) -> tuple[str, ...]:
        return tuple(filter(None, text.split(",")))

    def numbers(text: str) -> tuple[int, ...]:
        return tuple(sorted(int(n) for n in names(text)))

    parser.add_argument("--folder", help="keeps the input between runs (default: temporary)")
    parser.add_argument(
        "--rows", type=numbers, default=ROWS, help="of the left (default: up to a million)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--contenders", type=names, default=tuple(CONTENDERS), help=",".join(CONTENDERS)
    )
    parser.add_argument("--workloads", type=names, default=WORKLOADS, help=",".join(WORKLOADS))
    parser.add_argument("--json", help="file for figures, ratios and targets")
    return parser.parse_args(arguments)


def _measure(workload: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All contenders with the most rows, weft with fewer rows too, in turns."""
    most = options.rows[-1]
    cases = {
        f"{name}-{rows}": (name, rows)
        for name in options.contenders
        for rows in options.rows
        if rows == most or name in WEFT
    }
    compared: dict[int, tuple[str, Path]] = {}

    with tempfile.TemporaryDirectory(dir=folder) as scratch:

        def once(case: str, number: int) -> Measured:
            name, rows = cases[case]
            out = Path(scratch, f"{case}-{number}")
            arguments = {
                "name": name, "workload": workload, "rows": rows,
                "folder": str(folder), "out": str(out),
            }  # fmt: skip
            found = measure("benchmarks.join_contenders:contend", arguments)
            print(
                f"  {workload} round {number + 1} {name} {rows:,}: {rows / found.seconds:,.0f} "
                f"rows/s, by CPU {rows / found.cpu_seconds:,.0f}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            other, expected = compared.setdefault(rows, (case, out))
            if wrong := difference(workload, expected, out):
                sys.exit(f"{workload}: {case} is not what {other} made: {wrong}")
            return found

        runs = interleave(options.rounds, list(cases), once)
    by_name: dict[str, dict[int, list[Measured]]] = {}
    for case, (name, rows) in cases.items():
        by_name.setdefault(name, {})[rows] = runs[case]
    return {
        "contenders": {
            name: {str(rows): _figures(rows, found) for rows, found in sizes.items()}
            for name, sizes in by_name.items()
        },
        "flatness": {n: flatness(by_name[n]) for n in WEFT if len(by_name.get(n, ())) > 1},
        "added": added(by_name["local"]) if len(by_name.get("local", ())) > 2 else None,
        "ratios": _ratios({n: sizes[most] for n, sizes in by_name.items()}),
    }


def _figures(rows: int, runs: Sequence[Measured]) -> dict[str, float]:
    middle = statistics.median
    return {
        "rows_per_second": middle(rows / r.seconds for r in runs),
        "lowest": min(rows / r.seconds for r in runs),
        "highest": max(rows / r.seconds for r in runs),
        "rows_per_cpu_second": middle(rows / r.cpu_seconds for r in runs),
        "us_per_row": middle(r.seconds / rows * 1e6 for r in runs),
        "cpu_us_per_row": middle(r.cpu_seconds / rows * 1e6 for r in runs),
        "startup_seconds": middle(r.startup_seconds for r in runs),
        "peak_bytes": max(r.peak_bytes for r in runs),
    }


def flatness(sizes: Mapping[int, Sequence[Measured]]) -> dict[str, float]:
    """Time per row with the most rows over that with the fewest."""
    least, *_, most = sorted(sizes)
    found = {}
    for what in ("seconds", "cpu_seconds"):
        few, many = (statistics.median(getattr(r, what) for r in sizes[n]) for n in (least, most))
        found[what] = many / most / (few / least)
    return found


def added(sizes: Mapping[int, Sequence[Measured]]) -> float:
    """CPU time per row of those that the largest size has more than the one before, over that of
    those which that one has more: what a run costs once cancels out."""
    took = {n: statistics.median(r.cpu_seconds for r in sizes[n]) for n in sorted(sizes)}
    *_, before, last = ((took[b] - took[a]) / (b - a) for a, b in itertools.pairwise(took))
    return last / before


def _ratios(runs: Mapping[str, Sequence[Measured]]) -> dict[str, dict[str, float]]:
    """Rates of weft to those of the others, with the most rows."""
    return {
        f"{ours}/{theirs}": {
            "wall": paired_ratio(
                [r.seconds for r in runs[theirs]], [r.seconds for r in runs[ours]]
            ),
            "cpu": paired_ratio(
                [r.cpu_seconds for r in runs[theirs]], [r.cpu_seconds for r in runs[ours]]
            ),
        }
        for ours in WEFT
        for theirs in ("ray_data", "polars")
        if ours in runs and theirs in runs
    }


def targets(workload: str, figures: Mapping[str, Any]) -> list[Target]:
    """What weft promises of a workload."""
    found = []
    for name in WEFT:
        sizes = figures["contenders"].get(name, {})
        peak = max((f["peak_bytes"] for f in sizes.values()), default=None)
        flat = figures["flatness"].get(name, {}).get("seconds")
        found += [
            Target(f"{workload}: {name}, peak bytes", peak, PEAK_BYTES, at_least=False),
            Target(f"{workload}: {name}, time per row", flat, FLAT, at_least=False),
        ]
    faster = figures["ratios"].get("ray/ray_data", {}).get("wall")
    return [
        *found,
        Target(f"{workload}: CPU time per added row", figures["added"], FLAT, at_least=False),
        Target(f"{workload}: ray/ray_data", faster, 1.0),
    ]


def _show(workload: str, figures: Mapping[str, Any], met: Sequence[Target]) -> None:
    print(f"\n{workload}")
    print(table([
        {
            "contender": name,
            "rows": rows,
            "rows/s": f["rows_per_second"],
            "rows/CPU s": f["rows_per_cpu_second"],
            "us/row": f["us_per_row"],
            "CPU us/row": f["cpu_us_per_row"],
            "start-up s": f["startup_seconds"],
            "peak MiB": f["peak_bytes"] / 2**20,
        }
        for name, sizes in figures["contenders"].items()
        for rows, f in sizes.items()
    ]))  # fmt: skip
    for what in ("flatness", "ratios"):
        for name, found in figures[what].items():
            print(f"{what} {name}: " + ", ".join(f"{n} {v:.2f}" for n, v in found.items()))
    for target in met:
        print(target)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ContenderError as error:
        sys.exit(str(error))
