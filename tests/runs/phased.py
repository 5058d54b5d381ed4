"""A pipeline of several phases, and a process that dies in one of them, where it is told to.

`main` takes lines of JSON, ``{"source", "out", "dies"}``, and answers each with how the process
that ran `met` ended; see `sinks`, which does so for a pipeline of one phase.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

import polars as pl

import weft
from weft.connectors import Lance, Parquet
from weft.operators import tabular
from weft.pipelines.engines import worker
from weft.pipelines.passes import broadcast_joins
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs import phases

sys.path.insert(0, str(Path(__file__).parent))

import sinks

ONE = Cluster((Machine(cpus=1),))
"""One unit at a time, so that what is done when a process dies is known."""


@weft.operator(version="1")
def noted(name: str, log: str = "") -> str:
    """Leaves a line in a file for each row."""
    with open(log, "a") as file:
        file.write(f"{name}\n")
    return name.upper()


@weft.pipeline
def met(source: str, out: str) -> Any:
    """Orders with their customers, sorted; and a count for each town."""
    orders = weft.read(Parquet(f"{source}/orders.parquet", key="id"))
    orders = orders.apply(noted.replace(log=f"{out}/read"), name="id")
    customers = weft.read(Parquet(f"{source}/customers.parquet", key="id"))
    both = orders.join(customers, on="customer", how="left", suffix="_right")
    both = both.apply(noted.replace(log=f"{out}/met"), name="id", noted="again")
    towns = both.group("town", orders=pl.len(), spent=pl.col("price").sum())
    return (
        both.apply(tabular.Sort("price", "id")).write(Lance(f"{out}/sorted.lance")),
        towns.write(Lance(f"{out}/towns.lance")),
    )


def cut_small() -> None:
    """Cut rows so that every phase has several units, and shuffle both sides of the join."""
    broadcast_joins.BROADCAST_BYTES = -1
    phases.UNIT_BYTES = 8000


def points() -> list[str]:
    """Durable steps of a run of `met`, in order."""
    return [
        "receipt 3",
        "note units-2.arrow sorted",
        "receipt 0 of phase 1",
        "receipt 2 of phase 1",
        "note units-3.arrow sorted",
        "receipt 2 of phase 2",
        "note publishing sorted",
        "commit dataset towns",
        "tag dataset sorted",
        "note published sorted",
    ]


def die_at(point: str) -> None:
    """Kill this process right after a receipt, or right before what else `point` names."""
    put, seen = worker.put_receipt, dict[int, int]()

    def put_receipt(folder: str, unit: str, receipt: Any) -> Any:
        phase = receipt["phase"]
        if point == f"receipt 0 of phase {phase}":
            os.kill(os.getpid(), signal.SIGKILL)
        found = put(folder, unit, receipt)
        seen[phase] = seen.get(phase, 0) + 1
        if point in (f"receipt {seen[phase]} of phase {phase}", f"receipt {sum(seen.values())}"):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    worker.put_receipt = put_receipt
    sinks.die_before(point)


def main() -> None:
    """Answer lines of JSON until there are no more."""
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # nothing of it has run here
    cut_small()
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            die_at(asked.pop("dies"))
            met(**asked).run(engine="local", cluster=ONE, target="phased:met")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
