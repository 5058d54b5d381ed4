"""What the engine costs by itself: operators that do nothing, on batches and rows that are tiny.

python -m benchmarks.overhead --json overhead.json
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

import weft
from benchmarks.common import (
    ContenderError,
    Measured,
    Target,
    interleave,
    machine,
    measure,
    paired_ratio,
    say,
    table,
    write_json,
)
from weft.connectors import Arrow
from weft.pipelines.connector import Sink
from weft.pipelines.operator import BatchView

OPERATORS = 3
_ROWS = 4
"""Rows of a batch: few, so that what is measured is the batch."""

_CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class NoOp(weft.Map):
    """Give back what came in. `number` tells one from the next."""

    number: int

    version = "1"
    reads = weft.fields(x=weft.Int64())
    writes = weft.fields(x=weft.Int64())

    def map(self, batch: BatchView, loaded: Any) -> dict[str, Any]:
        """Nothing."""
        return {"x": batch["x"]}


@dataclass(frozen=True)
class Discard(Sink):
    """Takes rows and keeps none."""

    @property
    def uri(self) -> str:
        return "discard://"

    def identity(self) -> dict[str, Any]:
        return {"sink": "Discard"}

    def check(self, schema: pa.Schema) -> None:
        """Nothing to refuse."""

    def prepare(self, schema: pa.Schema) -> dict[str, Any]:
        return {}

    def stage(self, token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
        return []

    def commit(
        self,
        token: Mapping[str, Any],
        staged: Sequence[Mapping[str, Any]],
        run: str,
        properties: Mapping[str, str],
    ) -> int:
        return 1

    def publish(self, version: int, run: str, properties: Mapping[str, str]) -> None:
        """Nobody reads it."""


def pipeline_of(rows: int, operators: int) -> Any:
    """`rows` integers through so many no-ops."""

    @weft.pipeline
    def idle() -> Any:
        column = pa.array(np.arange(rows))
        schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
        found = weft.read(Arrow(pa.table([column], schema=schema)))
        for number in range(operators):
            found = found.apply(NoOp(number))
        return found.write(Discard())

    return idle()


def local_seconds(batches: int, operators: int) -> float:
    """Processor time of the local engine for so many batches through so many no-ops."""
    from weft.pipelines.engines import local
    from weft.pipelines.engines.worker import Context, units_of
    from weft.pipelines.resources import Cluster, Machine
    from weft.pipelines.runs import publish

    cluster = Cluster((Machine(cpus=1.0, gpus=0.0, memory=2**30),))
    plan = pipeline_of(batches * _ROWS, operators).plan(cluster)
    plan = replace(plan, stages=tuple(replace(s, batch_rows=_ROWS) for s in plan.stages))
    units = list(units_of(plan, plan.unit_rows))
    context = Context("run", None, publish.prepare(plan))
    began = time.process_time()
    receipts = list(local.execute(plan, units, context, cluster))
    seconds = time.process_time() - began
    taken = [r["books"]["write"]["taken"] for r in receipts]
    assert sum(taken) == batches * _ROWS, taken
    return seconds


def local_overhead(batches: int, rounds: int) -> dict[str, float]:
    """Microseconds per batch: of one operator more, and of the engine with a single one."""
    counts = range(OPERATORS + 1)
    for k in counts:
        local_seconds(max(1, batches // 10), k)  # imports, first calls
    took = {k: [] for k in counts}
    for _ in range(rounds):
        for k in counts:
            took[k].append(local_seconds(batches, k) / batches * 1e6)
    least = {k: min(took[k]) for k in counts}  # what other processes do can only add
    slope = float(np.polyfit(list(counts), [least[k] for k in counts], 1)[0])
    return {
        "batches": batches,
        "rows_per_batch": _ROWS,
        "us_per_batch_per_operator": slope,
        "us_per_batch_without_operator": least[0],
        "us_per_batch_with_one_operator": least[1],
    }


def contend(name: str, rows: int) -> None:
    """In a process of its own: the median of five runs after three that warm it up.

    Ray's workers import, and its scheduler learns, for the first two or three runs; what they
    cost is reported as start-up.
    """
    run = {"ray": _weft_on_ray, "unfused": _unfused, "unfused_default": _unfused_default}[name]
    for _ in range(3):
        run(rows)
    say("ready")
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        seen = run(rows)
        seconds.append(time.perf_counter() - began)
    say("done", seconds=float(np.median(seconds)), rows=seen)


def _weft_on_ray(rows: int) -> int:
    result = pipeline_of(rows, OPERATORS).run(engine="ray")
    assert result.state == "published", result
    return int(result.kept["write"])


def _unfused_default(rows: int) -> int:
    """As it is written first: Ray's own source, blocks and batches."""
    return _chain(rows, {}, blocks=None)


def _unfused(rows: int) -> int:
    """At Ray's best: batches are whole blocks of Arrow, not copied."""
    whole = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    return _chain(rows, whole, blocks=2 * _CORES)


def _chain(rows: int, how: dict[str, Any], blocks: int | None) -> int:
    """Three `map_batches` by hand, on as many blocks as weft has units, or as Ray likes.

    Ray Data fuses stages that ask for the same; these ask for a little more each, as stages do
    whose operators need different things.
    """
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(
            num_cpus=_CORES, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
    if blocks is None:
        dataset = ray.data.range(rows)
    else:
        column, size = pa.array(np.arange(rows)), -(-rows // blocks)
        parts = [pa.table({"x": column.slice(at, size)}) for at in range(0, rows, size)]
        dataset = ray.data.from_arrow(parts)
    for number in range(OPERATORS):
        dataset = dataset.map_batches(_same, num_cpus=0.5 + number / 100, **how)
    return sum(b.num_rows for b in dataset.iter_batches(batch_size=None, batch_format="pyarrow"))


def _same(batch: Any) -> Any:
    return batch


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=5000, help="through the local engine")
    parser.add_argument("--rows", type=int, default=1_000_000, help="through Ray; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="file for figures and targets")
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {
        "benchmark": "overhead",
        "machine": machine(("weft", "numpy", "pyarrow", "ray")),
        "rounds": options.rounds,
        "local": local_overhead(options.batches, options.rounds),
        "ray": _ray_overhead(options.rows, options.rounds) if options.rows else None,
    }
    found = targets(report)
    report["targets_met"] = [t.to_json() for t in found]
    for name, value in report["local"].items():
        print(f"local: {name} {value:.4g}")
    if report["ray"]:
        print(table([{"contender": n, **f} for n, f in report["ray"]["contenders"].items()]))
    for target in found:
        print(target)
    write_json(options.json, report)
    return 0


def _ray_overhead(rows: int, rounds: int) -> dict[str, Any]:
    def once(name: str, number: int) -> Measured:
        found = measure("benchmarks.overhead:contend", {"name": name, "rows": rows})
        if found.said["rows"] != rows:
            raise ContenderError(f"{name}: {found.said['rows']} rows came out of {rows}")
        return found

    runs = interleave(rounds, ("ray", "unfused", "unfused_default"), once)
    rates = {n: [rows / r.said["seconds"] for r in found] for n, found in runs.items()}
    return {
        "rows": rows,
        "operators": OPERATORS,
        "contenders": {
            n: {
                "rows_per_second": statistics.median(rates[n]),
                "seconds": statistics.median(r.said["seconds"] for r in found),
                "cpu_seconds": statistics.median(r.cpu_seconds for r in found),
                "startup_seconds": statistics.median(r.startup_seconds for r in found),
            }
            for n, found in runs.items()
        },
        "ratio": paired_ratio(rates["ray"], rates["unfused"]),
        "ratio_default": paired_ratio(rates["ray"], rates["unfused_default"]),
    }


def targets(report: Mapping[str, Any]) -> list[Target]:
    """What weft promises."""
    local, ray = report["local"], report["ray"]
    slope = local["us_per_batch_per_operator"]
    name = "local: µs per batch"
    return [
        # A slope below zero is noise, not speed: too few batches for this machine.
        Target(f"{name} per operator", slope if slope > 0 else None, 30, at_least=False),
        Target(
            f"{name}, one operator", local["us_per_batch_with_one_operator"], 30, at_least=False
        ),
        Target("ray/unfused map_batches at its best", ray and ray["ratio"], 3.0),
        Target("ray/unfused map_batches by default", ray and ray["ratio_default"], 3.0),
    ]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ContenderError as error:
        sys.exit(str(error))
