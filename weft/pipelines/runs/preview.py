"""The first rows a pipeline would write, computed in this process and written nowhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from weft.pipelines.compile import compile_plan
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import (
    Cargo,
    Context,
    StageWorker,
    Unit,
    dataset_schema,
    units_of,
)
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster, Machine, this_machine
from weft.pipelines.runs.phases import in_order, kept_files, units_of_phase

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline

_ROOMY = Cluster((Machine(cpus=1e6, gpus=1e6),))
"""A preview runs in one thread wherever it is asked for, so no placement can fail."""


def preview(pipeline: Pipeline, rows: int = 10) -> dict[str, pl.DataFrame]:
    """The first `rows` rows of each write, by step name.

    Reads the source in small units and stops as soon as every write has enough. Rows that must
    be together, for a join, a group or an order, are all read, and kept in a temporary folder.
    A failing row is left out, as it would be by a run.
    """
    plan = compile_plan(pipeline.graph, _ROOMY)
    plan = (
        replace(
            plan, stages=tuple(replace(s, batch_rows=min(s.batch_rows, rows)) for s in plan.stages)
        )
        if plan.phases == 1
        else plan
    )
    found: dict[str, list[pa.Table]] = {s.id: [] for s in plan.writes()}
    kept: list[Receipt] = []
    with tempfile.TemporaryDirectory(prefix="weft-") as folder:
        for phase in range(plan.phases):
            context = Context("preview", folder=folder, kept=kept_files(plan, kept))
            part = plan.phase(phase)
            workers = [StageWorker(part, i, context) for i in range(len(part.stages))]
            for unit in _units(plan, phase, rows, context):
                cargo = workers[0].start(unit)
                for worker in workers[1:]:
                    cargo = worker.proceed(cargo)
                kept.append({"kept": workers[-1].keep(cargo)})
                _collect(plan, cargo, found, rows)
                if phase == plan.phases - 1 and all(_enough(t, rows) for t in found.values()):
                    break
    return {name: _frame(plan, name, tables, rows) for name, tables in found.items()}


def _units(plan: Plan, phase: int, rows: int, context: Context) -> Iterator[Unit]:
    """The units of a phase; of a plan with one phase, small ones."""
    size = rows if plan.phases == 1 else plan.unit_rows
    reads = (u for u in units_of(plan, size) if plan.phase_of(u.read) == phase)
    if not phase:
        yield from reads
    else:
        taken = units_of_phase(plan, phase, context.kept, this_machine())
        yield from in_order(plan, [*reads, *taken])


def _collect(plan: Plan, cargo: Cargo, found: Mapping[str, list[pa.Table]], rows: int) -> None:
    for name, tables in found.items():
        if not _enough(tables, rows):
            schema = dataset_schema(plan, plan.step(name))
            tables += [batch.to_arrow(schema) for batch in cargo.ports.get(name, [])]


def _enough(tables: list[pa.Table], rows: int) -> bool:
    return sum(int(t.num_rows) for t in tables) >= rows


def _frame(plan: Plan, name: str, tables: list[pa.Table], rows: int) -> pl.DataFrame:
    schema = dataset_schema(plan, plan.step(name))
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    frame = pl.from_arrow(table.slice(0, rows))
    assert isinstance(frame, pl.DataFrame)
    return frame
