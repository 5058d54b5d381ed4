"""What the benchmarks share: contenders in processes of their own, watched; tables, targets, JSON.

A contender is a fresh process that says ``ready`` when it is warm and ``done`` when its work is.
From outside, its whole tree of processes is watched, Ray's workers included: memory by samples
of resident set sizes, processor time by the kernel's own accounts.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_MARK = "@bench "
"""Begins each line a contender says to us; whatever else it or its engine prints is not ours."""

_SAMPLE_SECONDS = 0.25
"""Between two looks at a tree: one costs some milliseconds, so about 1% of a core."""

_TICKS = os.sysconf("SC_CLK_TCK")
_CALL = "import sys; from benchmarks import common; common.serve(sys.argv[1], sys.argv[2])"


@dataclass(frozen=True)
class Measured:
    """One run of one contender."""

    startup_seconds: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    said: Mapping[str, Any]


class ContenderError(Exception):
    """A contender ended without saying that it is done."""


def say(event: str, **more: Any) -> None:
    """Tell the benchmark, from inside a contender."""
    print(_MARK + json.dumps({"event": event, **more}), flush=True)


def serve(function: str, arguments: str) -> None:
    """In a contender's process: call ``module:function`` with arguments given as JSON."""
    import importlib

    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)(**json.loads(arguments))


def measure(
    function: str,
    arguments: Mapping[str, Any],
    *,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
    timeout: float = 1800,
) -> Measured:
    """Run ``module:function`` in a fresh process; it must `say` ready, then done.

    Raises:
        ContenderError: it ended, or took longer than `timeout`, without being done.
    """
    own = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "RUST_LOG": "error"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [python, "-c", _CALL, function, json.dumps(arguments)],
        cwd=ROOT,
        env={**os.environ, **own, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.extend(process.stderr or ()), daemon=True)
    reader.start()
    watch = _Watch(process.pid)
    timer = threading.Timer(timeout, process.kill)
    timer.start()
    marks: dict[str, tuple[float, float, dict[str, Any]]] = {}
    try:
        for line in process.stdout or ():
            if line.startswith(_MARK):
                at = time.perf_counter()
                told = json.loads(line[len(_MARK) :])
                marks[told.pop("event")] = (at, watch.cpu_seconds(), told)
    finally:
        timer.cancel()
        code = process.wait()
        watch.stop()
    if "done" not in marks:
        reader.join(5)
        raise ContenderError(
            f"{function} {dict(arguments)} ended with {code}:\n{''.join(errors)[-3000:]}"
        )
    ready, done = marks["ready"], marks["done"]
    return Measured(
        ready[0] - began, done[0] - ready[0], done[1] - ready[1], watch.peak_bytes, done[2]
    )


class _Watch:
    """Looks at a process and all that descend from it, now and then, until stopped."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._members = {pid}
        self._cpu: dict[tuple[int, str], float] = {}  # (pid, start time); of those that ended too
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cpu_seconds(self) -> float:
        """User and system time of the tree so far."""
        self._look()
        with self._lock:
            return sum(self._cpu.values())

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            stats = {int(p): s for p in os.listdir("/proc") if p.isdigit() and (s := _stat(p))}
            while more := {
                pid for pid, s in stats.items()
                if pid not in self._members and int(s[1]) in self._members
            }:  # fmt: skip
                self._members |= more
            private = shared = 0
            for pid in self._members & set(stats):
                s = stats[pid]
                self._cpu[pid, s[19]] = (int(s[11]) + int(s[12])) / _TICKS
                memory = _memory(pid)
                private += memory.get("RssAnon", 0) + memory.get("RssFile", 0)
                shared = max(shared, memory.get("RssShmem", 0))
            self.peak_bytes = max(self.peak_bytes, private + shared)


def _stat(pid: str) -> list[str] | None:
    """The fields of ``/proc/PID/stat`` after the name, which may hold anything."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return None


def _memory(pid: int) -> dict[str, int]:
    """Resident bytes by kind. Ray's object store is one piece of memory that all workers map:
    its pages count once, by the process that has most of them."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    rows = (line.split() for line in lines if line.startswith("Rss"))
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


@dataclass(frozen=True)
class Target:
    """A promise about a figure, and whether it is kept. Without a value it was not measured."""

    name: str
    value: float | None
    limit: float
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        """Whether the value is on the right side; ``None``: not measured."""
        if self.value is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def to_json(self) -> dict[str, Any]:
        """All of it, for ``--json``."""
        return {**asdict(self), "met": self.met}

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        verdict = {True: "met", False: "NOT MET", None: "not measured"}[self.met]
        value = "-" if self.value is None else f"{self.value:.3g}"
        return f"{self.name}: {value} ({sign} {self.limit:g}) {verdict}"


def interleave(
    rounds: int, names: Sequence[str], once: Callable[[str, int], Measured]
) -> dict[str, list[Measured]]:
    """Each contender once a round, the order turned by one each time."""
    found: dict[str, list[Measured]] = {name: [] for name in names}
    for number in range(rounds):
        at = number % len(names)
        for name in [*names[at:], *names[:at]]:
            found[name].append(once(name, number))
    return found


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over rounds of ours to theirs: what slows a whole round down cancels out."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def machine(packages: Sequence[str]) -> dict[str, Any]:
    """What the figures were measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), "")
    return {
        "cpu": model or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "load_before": [round(x, 2) for x in os.getloadavg()],
        "versions": {"python": platform.python_version(), **{p: _version(p) for p in packages}},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text, a column for each key, numbers to the right."""
    names = list(rows[0]) if rows else []
    cells = [[_cell(row.get(n)) for n in names] for row in rows]
    widths = [max(len(n), *(len(c[i]) for c in cells)) for i, n in enumerate(names)]
    lines = [names, *cells]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return (
            f"{value:.0f}"
            if abs(value) >= 1000
            else f"{value:.3g}"
            if abs(value) < 100
            else f"{value:.1f}"
        )
    return "" if value is None else str(value)


def write_json(path: str | None, report: Mapping[str, Any]) -> None:
    """The report to a file, if one is asked for."""
    if path:
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
