"""One benchmark of contenders that do the same work: run in turns, outputs compared, figures told.

A `Contest` says who takes part, what each promises and how far outputs may be apart. The module
of its contenders holds ``CONTENDERS``, a class by name: its constructor starts the engine, its
``run(folder, out)`` does all of the work, from listing `folder` to rows on disk at `out`, with a
column ``key`` (weft's own ``_key`` will do).
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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
    say,
    table,
    write_json,
)

Rows = Mapping[str, Mapping[str, np.ndarray]]
"""What a contender stored: column -> key -> the values of the row, flat."""

CORES = len(os.sched_getaffinity(0))

ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""For all but weft, which must see to it by itself: with a thread on each core already, those of
OpenBLAS only spin, and took half of the limit's processor time in `images`' `describe`."""

_WARM_UPS = 3
"""Runs of the warm-up. After one, the first of Ray's workers can have done all of it while the
second was still importing, which it then went on with in the time of the steady state."""

_WEFT = ("local", "ray")


class OutputError(Exception):
    """A contender's output is not what the others made."""


@dataclass(frozen=True)
class Contest:
    """What is measured."""

    name: str
    counted: str
    """What is counted, in the plural; rows of the limit's output are so many."""

    make: Callable[[Path, int], tuple[Path, Path]]
    """Input for so many files, and input to warm up with: a folder each."""

    count: int
    """Files, unless somebody asks for another number."""

    names: tuple[str, ...]
    """The contenders; the first is the limit, which the others are compared with."""

    pairs: Mapping[str, tuple[str, tuple[str, ...]]]
    """Ratios to tell: who, and over the fastest of whom."""

    targets: Mapping[str, Mapping[str, float]]
    """By workload: ratios that are promised, and how large they are at least."""

    tolerances: Mapping[str, float]
    """Columns that are compared, and how far a row may be from the limit's, on average."""

    exact: tuple[str, ...] = ()
    """Contenders that run the limit's own code, so that no value may differ."""

    needs: Mapping[str, str] = field(default_factory=dict)
    """Contenders that run in the interpreter of ``--daft-python``, and the package they need."""

    packages: tuple[str, ...] = ("weft", "numpy", "pillow", "pyarrow", "pylance", "ray")

    @property
    def module(self) -> str:
        """Where the contenders are: ``benchmarks.image_contenders`` for ``images``."""
        return f"benchmarks.{self.name.removesuffix('s')}_contenders"


def main(contest: Contest, about: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    options = _options(contest, about, arguments)
    _refuse_unknown(options.contenders, contest.names)
    _refuse_unknown(options.workloads, tuple(contest.targets))
    if options.contenders[0] != contest.names[0]:
        sys.exit("the first contender must be limit: the others are compared with it")
    folder = Path(options.folder or Path(tempfile.gettempdir(), f"weft-benchmark-{contest.name}"))
    every, warm = contest.make(folder, options.count)
    report: dict[str, Any] = {
        "benchmark": contest.name,
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(contest.packages),
        "count": options.count,
        "rounds": options.rounds,
        "content_bytes": sum(p.stat().st_size for p in every.iterdir()),
        "start_up": f"from the start of the process until {_WARM_UPS} warm-up runs over "
        f"{len(list(warm.iterdir()))} files are done; steady state is the run that follows",
        "workloads": {},
        "skipped": {},
        "targets_met": [],
    }
    for name in set(options.contenders) & set(contest.needs):
        package = contest.needs[name]
        found, why = _version(options.daft_python, package)
        report["machine"]["versions"][package] = found
        if found is None:
            report["skipped"][name] = f"{options.daft_python} cannot import {package}: {why}"
    for workload in options.workloads:
        names = [n for n in options.contenders if n not in report["skipped"]]
        try:
            figures = _measure(contest, workload, names, (every, warm), options)
        except (ContenderError, OutputError) as error:
            sys.exit(str(error))
        report["workloads"][workload] = figures
        met = targets(contest, workload, figures["ratios"])
        report["targets_met"] += [t.to_json() for t in met]
        _show(contest, workload, figures, met)
    for name, why in report["skipped"].items():
        print(f"{name} was left out: {why}")
    write_json(options.json, report)
    return 0


def contend(module: str, *, name: str, workload: str, warm: str, folder: str, out: str) -> None:
    """In a process of its own: start, warm up on a few files, say so, do the work, say so."""
    began = time.perf_counter()
    contender = importlib.import_module(module).CONTENDERS[name](workload)
    started = time.perf_counter()
    contender.run(warm, f"{out}-warm-0")
    warmed = time.perf_counter()
    for number in range(1, _WARM_UPS):
        contender.run(warm, f"{out}-warm-{number}")
    say("ready")
    contender.run(folder, out)
    say("done", engine_seconds=started - began, first_run_seconds=warmed - started)


def start_ray_data() -> None:
    """A Ray of all cores for a contender that is Ray Data by hand, quiet."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    import ray.data

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _options(
    contest: Contest, about: str | None, arguments: Sequence[str] | None
) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    workloads = tuple(contest.targets)
    parser.add_argument("--folder", help="keeps the input between runs (default: temporary)")
    parser.add_argument(
        "--count", type=int, default=contest.count, help=f"files (default: {contest.count})"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--contenders", type=_names, default=contest.names, help=",".join(contest.names)
    )
    parser.add_argument("--workloads", type=_names, default=workloads, help=",".join(workloads))
    parser.add_argument("--json", help="file for figures, ratios and targets")
    parser.add_argument(
        "--daft-python", default=sys.executable,
        help="interpreter that has Daft, where it does not go together with what weft has; also "
        "of " + (", ".join(n for n in contest.needs if n != "daft") or "nothing else"),
    )  # fmt: skip
    return parser.parse_args(arguments)


def _names(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))


def _refuse_unknown(given: Sequence[str], known: Sequence[str]) -> None:
    if unknown := set(given) - set(known):
        sys.exit(f"unknown: {', '.join(unknown)}. There are: {', '.join(known)}.")


def _version(python: str, package: str) -> tuple[str | None, str]:
    code = f"import {package}; print({package}.__version__)"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if found.returncode == 0:
        return found.stdout.strip(), ""
    return None, (found.stderr.strip().splitlines() or ["no word"])[-1]


def _measure(
    contest: Contest,
    workload: str,
    names: Sequence[str],
    folders: tuple[Path, Path],
    options: argparse.Namespace,
) -> dict[str, Any]:
    every, warm = folders
    differences: dict[str, dict[str, float]] = {}
    reference: dict[str, Any] = {}

    def once(name: str, number: int) -> Measured:
        with tempfile.TemporaryDirectory(dir=every.parent) as scratch:
            out = str(Path(scratch, name))
            arguments = {
                "module": contest.module, "name": name, "workload": workload,
                "warm": str(warm), "folder": str(every), "out": out,
            }  # fmt: skip
            found = measure(
                "benchmarks.contest:contend",
                arguments,
                python=options.daft_python if name in contest.needs else sys.executable,
                environment={} if name in _WEFT else ONE_BLAS_THREAD,
            )
            rows = read_rows(out, contest.tolerances)
            expected = reference.setdefault("rows", rows)  # of the limit, which is first
            differences[name] = compare(contest, name, expected, rows)
            print(
                f"  {workload} round {number + 1} {name}: {_count(rows) / found.seconds:.1f} "
                f"{contest.counted}/s, by CPU {_count(rows) / found.cpu_seconds:.1f}",
                file=sys.stderr, flush=True,
            )  # fmt: skip
            return found

    runs = interleave(options.rounds, names, once)
    count = _count(reference["rows"])
    return {
        "count": count,
        "contenders": {n: _figures(r, contest.counted, count) for n, r in runs.items()},
        "ratios": ratios(contest, runs),
        "largest_differences": differences,
    }


def _count(rows: Rows) -> int:
    return max(len(column) for column in rows.values())


def _figures(runs: Sequence[Measured], counted: str, count: int) -> dict[str, Any]:
    middle = statistics.median
    steady = [count / r.seconds for r in runs]
    figures = {
        f"{counted}_per_second": middle(count / (r.startup_seconds + r.seconds) for r in runs),
        f"steady_{counted}_per_second": middle(steady),
        "steady_lowest": min(steady),
        "steady_highest": max(steady),
        "startup_seconds": middle(r.startup_seconds for r in runs),
        "cpu_seconds": middle(r.cpu_seconds for r in runs),
        f"{counted}_per_cpu_second": middle(count / r.cpu_seconds for r in runs),
        "peak_bytes": max(r.peak_bytes for r in runs),
    }
    for name in ("engine_seconds", "first_run_seconds"):
        figures[name] = middle(r.said[name] for r in runs)
    return figures


def ratios(contest: Contest, runs: Mapping[str, Sequence[Measured]]) -> dict[str, dict[str, Any]]:
    """Rates to rates, steady and by processor time: the median over rounds, lowest and highest."""
    found: dict[str, dict[str, Any]] = {}
    for name, (ours, theirs) in contest.pairs.items():
        there = [n for n in theirs if n in runs]
        if ours not in runs or not there:
            continue
        best = min(there, key=lambda n: statistics.median(r.seconds for r in runs[n]))
        pairs = list(zip(runs[ours], runs[best], strict=True))
        steady = [b.seconds / a.seconds for a, b in pairs]
        cpu = [b.cpu_seconds / a.cpu_seconds for a, b in pairs]
        found[name] = {
            "steady": statistics.median(steady),
            "steady_range": [min(steady), max(steady)],
            "cpu": statistics.median(cpu),
            "cpu_range": [min(cpu), max(cpu)],
        }
    return found


def targets(
    contest: Contest, workload: str, found: Mapping[str, Mapping[str, Any]]
) -> list[Target]:
    """What weft promises of a workload."""
    return [
        Target(f"{workload}: {name}", found.get(name, {}).get("steady"), limit)
        for name, limit in contest.targets[workload].items()
    ]


def read_rows(out: str, columns: Iterable[str]) -> dict[str, dict[str, np.ndarray]]:
    """What a contender stored, by column and key; of `columns` those that are there."""
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
    return {
        name: dict(zip(keys, _flat_rows(stored[name].combine_chunks()), strict=True))
        for name in columns
        if name in stored.column_names
    }


def _flat_rows(values: Any) -> list[np.ndarray]:
    """The values of each row, however they are nested."""
    import pyarrow as pa

    values = getattr(values, "storage", values)
    if pa.types.is_struct(values.type):  # a tensor whose shape is the row's own
        values = values.field("data")
    if not pa.types.is_nested(values.type):
        return list(values.to_numpy(zero_copy_only=False).reshape(len(values), 1))
    lengths = values.value_lengths().to_numpy(zero_copy_only=False)
    flat = values.flatten().to_numpy(zero_copy_only=False)
    return np.split(flat, np.cumsum(lengths)[:-1])


def compare(contest: Contest, contender: str, expected: Rows, given: Rows) -> dict[str, float]:
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
        same = contender in (*contest.exact, contest.names[0])
        limit = 0.0 if same else contest.tolerances[name]
        apart = {k: _apart(contender, f"{name} of {k}", v, given[name][k]) for k, v in rows.items()}
        worst = max(apart, key=lambda k: (np.isnan(apart[k]), apart[k]))
        if not apart[worst] <= limit:
            raise OutputError(
                f"{contender}: {name} of {worst} differs by {apart[worst]}, more than {limit}."
            )
        largest[name] = apart[worst]
    return largest


def _apart(contender: str, what: str, expected: np.ndarray, given: np.ndarray) -> float:
    if expected.shape != given.shape:
        raise OutputError(f"{contender}: {what} has {given.size} values, not {expected.size}.")
    return float(np.abs(expected.astype(np.float32) - given).mean())


def _show(
    contest: Contest, workload: str, figures: Mapping[str, Any], met: Sequence[Target]
) -> None:
    what = contest.counted
    print(f"\n{workload}: {figures['count']} {what}")
    rows = [
        {
            "contender": name,
            f"{what}/s": f[f"{what}_per_second"],
            "steady": f[f"steady_{what}_per_second"],
            "from": f["steady_lowest"],
            "to": f["steady_highest"],
            "start-up s": f["startup_seconds"],
            "CPU s": f["cpu_seconds"],
            f"{what}/CPU s": f[f"{what}_per_cpu_second"],
            "peak MB": round(f["peak_bytes"] / 1e6),
        }
        for name, f in figures["contenders"].items()
    ]
    print(table(rows))
    for name, ratio in figures["ratios"].items():
        low, high = ratio["steady_range"]
        print(
            f"{name}: {ratio['steady']:.2f} ({low:.2f} to {high:.2f}; "
            f"by CPU time {ratio['cpu']:.2f})"
        )
    for target in met:
        print(target)
