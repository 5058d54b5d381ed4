"""Size batches and units by bytes, not by rows.

A batch is what passes through a stage at once: its widest moment decides, so that a worker
holds about `BATCH_BYTES` whether rows are numbers or photographs. A unit is what one receipt
stands for: small enough that little is lost with a worker and every core has work, large
enough that a fragment is worth its file.
"""

from __future__ import annotations

from dataclasses import replace

from weft.pipelines.estimates import Measured, measured, row_bytes, sizes
from weft.pipelines.graph import Exchange, Group, Join
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster

BATCH_BYTES = 32 * 2**20
"""Bytes of rows in one batch. A few of these per core stay far below a small machine's memory,
and a batch of this size takes long enough (tens of milliseconds) to hide the cost of a step."""

BATCH_ROWS = 8192
"""No batch is larger: beyond this, the cost per batch no longer shows in the cost per row."""

UNIT_BYTES = 128 * 2**20
"""Bytes that a unit keeps until it ends: the rows that cross stages, or that it writes."""

UNIT_ROWS = 262_144
"""No unit is larger, so that its receipt and its ledger stay small."""

EXPANDED_ROWS = 16_384
"""No unit of rows that become several is larger: nobody knows how many there will be to keep."""

UNIT_MEDIA_ROWS = 512
"""No unit that reads media is larger: some seconds of decoding, which is what a crash costs."""


PIECE_BYTES = 32 * 2**20
"""Bytes of a partition of a shuffle, as far as they are known. Small ones go together later; each
costs a few hundred bytes in each unit's file."""

LEAST_PIECES, MOST_PIECES = 16, 2048


def size_batches(plan: Plan, cluster: Cluster) -> Plan:
    """Rows per batch for each stage, rows per unit for the plan."""
    known = measured(plan)
    stages = []
    for index, stage in enumerate(plan.stages):
        widest = max((_width(s, plan, known) for s in plan.stage_steps(index)), default=1)
        rows = max(1, min(BATCH_ROWS, BATCH_BYTES // max(1, widest)))
        stages.append(replace(stage, batch_rows=stage.resources.batch_rows or rows))
    crossing = {name for index in range(len(stages) - 1) for name in plan.ports(index)}
    held = [*plan.writes(), *plan.exchanges(), *map(plan.step, crossing)]
    kept = max(row_bytes(s.columns.items(), known) for s in held)
    media = any(c.row_bytes >= 100_000 for s in plan.steps for c in s.columns.values())
    many = EXPANDED_ROWS if any(s.expands for s in plan.steps) else UNIT_ROWS
    most = UNIT_MEDIA_ROWS if media else many
    plan = _sized_shuffles(plan)
    return replace(
        plan, stages=tuple(stages), unit_rows=max(1, min(most, UNIT_BYTES // max(1, kept)))
    )


def _sized_shuffles(plan: Plan) -> Plan:
    """Shuffles cut by what is to be kept, both sides of a join alike; unknown sizes stay."""
    keyed = [s for s in plan.steps if plan.enters(s) and _shuffle(plan, s.inputs[0]).by]
    found = sizes(plan) if keyed else {}
    for step in keyed:
        known = [size for i in step.inputs if (size := found[i].bytes) is not None]
        if len(known) == len(step.inputs) and isinstance(step.action, Join | Group):
            pieces = max(LEAST_PIECES, min(MOST_PIECES, -(-sum(known) // PIECE_BYTES)))
            for name in step.inputs:
                cut = replace(_shuffle(plan, name), partitions=pieces)
                plan = plan.replace_step(replace(plan.step(name), action=cut))
    return plan


def _shuffle(plan: Plan, name: str) -> Exchange:
    action = plan.step(name).action
    assert isinstance(action, Exchange)
    return action


def _width(step: Step, plan: Plan, known: Measured) -> int:
    """Bytes of a row while `step` runs: what comes in and what it makes."""
    given = {c for i in step.inputs for c in plan.step(i).columns.items()}
    both = {*given, *step.columns.items()}  # a column replaced is there twice
    return row_bytes(both, known)
