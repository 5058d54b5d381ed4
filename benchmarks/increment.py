"""What a run costs when little or nothing has changed.

    python -m benchmarks.increment --json increment.json

``nothing`` runs a pipeline over a million rows again, and once more after one of them has changed;
``changed`` is rows that cost half a millisecond each, of which one in a hundred has changed;
``field`` adds a column to a dataset whose rows hold 100 KB each. Every run is ``weft run`` on the
local engine in a process of its own. Seconds are those of the whole process, its start and its
imports too; processor time and bytes are those of the command alone.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance

from benchmarks.common import (
    ContenderError,
    Measured,
    Target,
    machine,
    measure,
    table,
    write_json,
)
from benchmarks.increment_pipelines import make_blobs, make_numbers

WORKLOADS = ("nothing", "changed", "field")
SECONDS = 5.0
"""A run of a million rows of which none, or one, has changed takes at most so long."""
SHARE = 0.03
"""Of the work of a full run, when one row in a hundred has changed."""
BYTES = 0.01
"""Of a dataset, that a new column of numbers may write."""

_PIPELINES = "benchmarks.increment_pipelines"


@dataclass(frozen=True)
class Sizes:
    """How large the workloads are."""

    rows: int
    worked_rows: int
    blob_rows: int
    blob_bytes: int = 100_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    folder = Path(options.folder or Path(tempfile.gettempdir(), "weft-benchmark-increment"))
    folder.mkdir(parents=True, exist_ok=True)
    sizes = Sizes(options.rows, options.worked_rows, options.blob_rows)
    report: dict[str, Any] = {
        "benchmark": "increment",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(("weft", "numpy", "polars", "pyarrow", "pylance")),
        "sizes": vars(sizes),
        "rounds": options.rounds,
        "workloads": {},
        "targets_met": [],
    }
    for name in options.workloads:
        runs: list[dict[str, dict[str, float]]] = []
        for number in range(options.rounds):
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                runs.append(_WORK[name](folder, Path(scratch), sizes))
            print(f"  {name} round {number + 1} done", file=sys.stderr, flush=True)
        figures = _middle(runs)
        met = _TARGETS[name](figures)
        report["workloads"][name] = figures
        report["targets_met"] += [t.to_json() for t in met]
        print(f"\n{name}\n{table([{'run': run, **f} for run, f in figures.items()])}")
        print("\n".join(map(str, met)))
    report["load_after"] = machine(())["load_before"]
    write_json(options.json, report)
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", help="keeps the input between runs (default: temporary)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of nothing")
    parser.add_argument("--worked-rows", type=int, default=100_000, help="of changed")
    parser.add_argument("--blob-rows", type=int, default=10_000, help="of field")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--workloads",
        type=lambda text: tuple(filter(None, text.split(","))),
        default=WORKLOADS,
        help=",".join(WORKLOADS),
    )
    parser.add_argument("--json", help="file for figures and targets")
    return parser.parse_args(arguments)


def _nothing(folder: Path, scratch: Path, sizes: Sizes) -> dict[str, dict[str, float]]:
    """A full run and two more, by each kind of source."""
    found = {}
    for kind in ("lance", "parquet"):
        source = make_numbers(folder / f"numbers-{sizes.rows}.{kind}", sizes.rows)
        out = scratch / f"{kind}.lance"
        for run in ("full", "again"):
            found[f"{kind}: {run}"] = _run("numbers", source, out)
        found[f"{kind}: plan"] = _run("numbers", source, out, command="plan")
    source = Path(shutil.copytree(source.with_suffix(".lance"), scratch / "edited.lance"))
    out = scratch / "edited-out.lance"
    found["edited: full"] = _run("numbers", source, out)
    lance.dataset(source).update({"n": "n + 1"}, where="n = 3")
    found["edited: one row"] = _run("numbers", source, out)
    return found


def _changed(folder: Path, scratch: Path, sizes: Sizes) -> dict[str, dict[str, float]]:
    """A full run, and one after an edit of one row in a hundred."""
    rows = sizes.worked_rows
    source, out = make_numbers(scratch / "source.lance", rows), scratch / "out.lance"
    found = {"full": _run("works", source, out)}
    lance.dataset(source).update({"n": "n + 1000000"}, where=f"n % 100 = 7 AND n < {rows}")
    found["1% changed"] = _run("works", source, out)
    return found


def _field(folder: Path, scratch: Path, sizes: Sizes) -> dict[str, dict[str, float]]:
    """A full run without the field, and one with it."""
    name = f"blobs-{sizes.blob_rows}.lance"
    source, out = (
        make_blobs(folder / name, sizes.blob_rows, sizes.blob_bytes),
        scratch / "out.lance",
    )
    found = {"full": _run("blobs", source, out) | {"dataset bytes": float(_bytes(out))}}
    before = _bytes(scratch)
    found["new field"] = _run("blobs", source, out, "--set", "field=true", "--yes")
    found["new field"] |= {"dataset bytes": float(_bytes(scratch) - before)}
    return found


def _run(
    pipeline: str, source: Path, out: Path, *more: str, command: str = "run"
) -> dict[str, float]:
    arguments = [
        command, f"{_PIPELINES}:{pipeline}", "--set", f"source={source}", "--set", f"out={out}",
        *(["--engine", "local"] if command == "run" else []), *more,
    ]  # fmt: skip
    found = measure("benchmarks.increment_pipelines:command", {"arguments": arguments})
    if found.said["code"] != 0:
        raise ContenderError(f"weft {' '.join(arguments)} ended with {found.said['code']}")
    return _figures(found)


def _figures(found: Measured) -> dict[str, float]:
    return {
        "seconds": found.startup_seconds + found.seconds,
        "CPU s": found.cpu_seconds,
        "peak MiB": found.peak_bytes / 2**20,
        "asked": float(found.said["asked"]),
        "written bytes": float(found.said["written"]),
    }


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def _middle(runs: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """The medians over rounds."""
    return {
        name: {f: statistics.median(run[name][f] for run in runs) for f in figures}
        for name, figures in runs[0].items()
    }


def _nothing_targets(figures: dict[str, dict[str, float]]) -> list[Target]:
    return [
        Target(f"nothing: {name}, seconds", found["seconds"], SECONDS, at_least=False)
        for name, found in figures.items()
        if not name.endswith("full")
    ]


def _changed_targets(figures: dict[str, dict[str, float]]) -> list[Target]:
    full, part = figures["full"], figures["1% changed"]
    return [
        Target(f"changed: {what} of a full run's", part[what] / full[what], SHARE, at_least=False)
        for what in ("CPU s", "asked")
    ]


def _field_targets(figures: dict[str, dict[str, float]]) -> list[Target]:
    whole = figures["full"]["dataset bytes"]
    return [
        Target(f"field: {what} of the dataset", figures["new field"][what] / whole, BYTES,
               at_least=False)
        for what in ("dataset bytes", "written bytes")
    ]  # fmt: skip


_WORK = {"nothing": _nothing, "changed": _changed, "field": _field}
_TARGETS = {"nothing": _nothing_targets, "changed": _changed_targets, "field": _field_targets}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ContenderError as error:
        sys.exit(str(error))
