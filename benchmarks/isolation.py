"""What it costs to decode photographs in a process of its own, which a hostile file may take along.

python -m benchmarks.isolation --json isolation.json

The same step on the same rows, isolated and not, one after the other in each round; processor
time of this process and of the child together. Start-up is measured apart: it comes once for
each worker, a crash once for each poisoned row.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

import weft
from benchmarks.common import Target, _stat, machine, paired_ratio, table, write_json
from benchmarks.photos import make_photos
from weft.connectors import Arrow, Memory
from weft.operators import image
from weft.pipelines.batch import Batch
from weft.pipelines.engines.allocator import tune_allocator
from weft.pipelines.engines.books import new_books
from weft.pipelines.engines.runners import Runner, Work
from weft.pipelines.engines.worker import runner
from weft.pipelines.fields import arrow_field
from weft.pipelines.lowering import lower
from weft.pipelines.plan import Plan
from weft.pipelines.types import Encoded

WORKLOADS = {
    # rows of a batch as a plan would cut them: 32 MiB of what comes in and goes out
    "decode": (image.Decode(), 4),
    "decode and resize to 512": (image.Decode(size=512), 16),
    "decode and resize to 224": (image.Decode(size=224), 64),
    "header only": (image.Probe(), 64),
}


class Step:
    """One step of a plan of photographs, ready to be given batches."""

    def __init__(self, content: Sequence[bytes], operator: Any, isolated: bool) -> None:
        column = arrow_field("content", Encoded("image"))
        photos = pa.table([pa.array(content, column.type)], schema=pa.schema([column]))

        @weft.pipeline
        def made() -> Any:
            return weft.read(Arrow(photos)).apply(operator, isolated=isolated).write(Memory("out"))

        self.plan: Plan = lower(made().graph)
        source: Any = self.plan.steps[0].action.source  # type: ignore[union-attr]
        [split] = source.splits(len(content))
        [chunk] = source.read(split, ["content"], [], len(content))
        self.batch: Batch = chunk.batch
        self.runner: Runner = runner(self.plan, self.plan.steps[1], "cpu", {})

    def run(self, rows: int) -> None:
        """All photographs, in batches of `rows`."""
        work = Work(new_books(self.plan))
        for start in range(0, self.batch.rows, rows):
            assert self.runner(self.batch.slice(start, start + rows), work).rows


def cpu_seconds() -> float:
    """Processor time of this process and of the children that it has now."""
    parents = {pid: s[1] for pid in filter(str.isdecimal, os.listdir("/proc")) if (s := _stat(pid))}
    mine = {str(os.getpid())}
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    # In nanoseconds, of the first thread, and children have no other.
    others = (Path(f"/proc/{p}/schedstat").read_text() for p in mine - {str(os.getpid())})
    return time.process_time() + sum(int(text.split()[0]) for text in others) / 1e9


def rounds_of(steps: Mapping[str, Step], rows: int, count: int) -> Iterator[dict[str, Any]]:
    """Seconds and processor seconds for a photograph, by step, round by round."""
    for step in steps.values():
        step.run(rows)
    for number in range(count):
        found: dict[str, Any] = {}
        for name in sorted(steps, reverse=bool(number % 2)):
            cpu, wall = cpu_seconds(), time.perf_counter()
            steps[name].run(rows)
            seconds = time.perf_counter() - wall
            found[name] = (seconds, cpu_seconds() - cpu)
        yield found


def compare(content: Sequence[bytes], operator: Any, rows: int, count: int) -> dict[str, Any]:
    """One workload."""
    steps = {n: Step(content, operator, n == "isolated") for n in ("isolated", "here")}
    found = list(rounds_of(steps, rows, count))
    wall = {n: [r[n][0] for r in found] for n in steps}
    cpu = {n: [r[n][1] for r in found] for n in steps}
    return {
        **{f"{n}_ms": statistics.median(cpu[n]) / len(content) * 1e3 for n in steps},
        "cpu_ratio": paired_ratio(cpu["isolated"], cpu["here"]),
        "wall_ratio": paired_ratio(wall["isolated"], wall["here"]),
    }


@weft.operator(version="1")
def crashes(content: weft.Encoded("image")) -> int:  # type: ignore[valid-type]
    """What a hostile file does."""
    os.abort()


def once(content: Sequence[bytes], count: int) -> dict[str, float]:
    """Seconds until a child has answered its first row, and what one crash adds."""
    starts, ends = [], []
    for _ in range(count):
        began = time.perf_counter()
        step = Step(content[:1], image.Probe(), True)
        step.run(1)
        starts.append(time.perf_counter() - began)
        poison = Step([b""], crashes, True)
        work = Work(new_books(poison.plan))
        poison.runner(poison.batch, work)  # imports what the operator needs
        began = time.perf_counter()
        poison.runner(poison.batch, work)
        ends.append(time.perf_counter() - began)
    return {"start_seconds": statistics.median(starts), "crash_seconds": statistics.median(ends)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/weft-benchmarks/photos"))
    parser.add_argument("--count", type=int, default=128, help="photographs")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="file for figures and targets")
    options = parser.parse_args(arguments)
    tune_allocator()
    folder, _ = make_photos(options.folder, options.count)
    content = [path.read_bytes() for path in sorted(folder.iterdir())]
    report: dict[str, Any] = {
        "benchmark": "isolation",
        "machine": machine(("weft", "numpy", "pyarrow", "pillow")),
        "photographs": len(content),
        "rounds": options.rounds,
        "workloads": {
            name: compare(content, operator, rows, options.rounds)
            for name, (operator, rows) in WORKLOADS.items()
        },
        **once(content, min(5, options.rounds)),
    }
    found = targets(report)
    report["targets_met"] = [t.to_json() for t in found]
    print(table([{"workload": n, **f} for n, f in report["workloads"].items()]))
    print(f"first answer of a child after {report['start_seconds']:.3g} s")
    print(f"a crash, tried twice, costs {report['crash_seconds']:.3g} s")
    for target in found:
        print(target)
    write_json(options.json, report)
    return 0


def targets(report: Mapping[str, Any]) -> list[Target]:
    """What weft promises: decoding costs a tenth more at most. Reading headers is so cheap that
    handing over the file costs more than reading it, in fractions of a millisecond."""
    found = report["workloads"]
    return [
        *(
            Target(f"{n}: isolated/here", found[n]["cpu_ratio"], 1.10, at_least=False)
            for n in WORKLOADS
            if n.startswith("decode")
        ),
        Target("a crash, seconds", report["crash_seconds"], 5.0, at_least=False),
    ]


if __name__ == "__main__":
    sys.exit(main())
