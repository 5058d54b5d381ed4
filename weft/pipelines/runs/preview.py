"""The first rows a pipeline would write, computed in this process and written nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from weft.pipelines.compile import compile_plan
from weft.pipelines.engines.worker import Cargo, Context, StageWorker, dataset_schema, units_of
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster, Machine

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline

_ROOMY = Cluster((Machine(cpus=1e6, gpus=1e6),))
"""A preview runs in one thread wherever it is asked for, so no placement can fail."""


def preview(pipeline: Pipeline, rows: int = 10) -> dict[str, pl.DataFrame]:
    """The first `rows` rows of each write, by step name.

    Reads the source in small units and stops as soon as every write has enough. A failing row
    is left out, as it would be by a run.
    """
    plan = compile_plan(pipeline.graph, _ROOMY)
    plan = replace(
        plan, stages=tuple(replace(s, batch_rows=min(s.batch_rows, rows)) for s in plan.stages)
    )
    found: dict[str, list[pa.Table]] = {s.id: [] for s in plan.writes()}
    workers = [StageWorker(plan, i, Context("preview")) for i in range(len(plan.stages))]
    for unit in units_of(plan, rows):
        cargo = workers[0].start(unit)
        for worker in workers[1:]:
            cargo = worker.proceed(cargo)
        _collect(plan, cargo, found)
        if all(sum(t.num_rows for t in tables) >= rows for tables in found.values()):
            break
    return {name: _frame(plan, name, tables, rows) for name, tables in found.items()}


def _collect(plan: Plan, cargo: Cargo, found: Mapping[str, list[pa.Table]]) -> None:
    for name, tables in found.items():
        schema = dataset_schema(plan, plan.step(name))
        tables += [batch.to_arrow(schema) for batch in cargo.ports.get(name, [])]


def _frame(plan: Plan, name: str, tables: list[pa.Table], rows: int) -> pl.DataFrame:
    schema = dataset_schema(plan, plan.step(name))
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    frame = pl.from_arrow(table.slice(0, rows))
    assert isinstance(frame, pl.DataFrame)
    return frame
