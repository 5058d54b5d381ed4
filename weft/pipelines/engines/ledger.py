"""The ledger and the errors table: what a unit writes down of the rows that ended in it."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from weft.pipelines.batch import JOINED, KEY, MET, PARENT, READ, SOURCE, Batch
from weft.pipelines.engines.books import Outcomes
from weft.pipelines.graph import Apply, Group, Read, Where
from weft.pipelines.plan import Plan

LEDGER_SCHEMA = pa.schema(
    [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(SOURCE, pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field(PARENT, pa.string()),
        pa.field("children", pa.int32()),
        pa.field("read", pa.string()),
        pa.field("into", pa.string()),
        pa.field("joined", MET),
    ]
)
"""One row for each row that ended, how, and at which step; of a child the key of its parent, of a
grouped row the key of its group's row, of a kept row what joins brought, of all the read that
they came by."""

ERRORS_SCHEMA = pa.schema(
    [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(SOURCE, pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("operator", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)
"""One row for each row that failed: where, and why."""

SAMPLES = 5
"""Failures that a receipt spells out, for progress and summaries; the errors table has all."""


def ledger_table(
    write: str, batches: Iterable[Batch], outcomes: Iterable[Outcomes], read: str | None
) -> pa.Table:
    """What became of the rows of a unit, as far as a write has to do with them.

    `read` is the read that all of them came by, if the rows themselves do not say.
    """
    parts = [
        {
            KEY: b.envelope[KEY].array,
            SOURCE: b.envelope[SOURCE].array,
            "outcome": pa.repeat("kept", b.rows),
            "step": pa.repeat(write, b.rows),
            PARENT: b.column(PARENT).array,
            "children": pa.nulls(b.rows, pa.int32()),
            "read": b.envelope[READ].array if READ in b.envelope else _repeat(read, b.rows),
            "into": pa.nulls(b.rows, pa.string()),
            "joined": b.column(JOINED).array,
        }
        for b in batches
    ]
    parts += [
        {
            KEY: pa.array(o.keys, pa.string()),
            SOURCE: pa.array(o.sources, pa.string()),
            "outcome": pa.repeat(o.kind, len(o.keys)),
            "step": pa.repeat(o.node, len(o.keys)),
            PARENT: pa.array(o.parents or [None] * len(o.keys), pa.string()),
            "children": _children(o),
            "read": pa.array(o.reads, pa.string()) if o.reads else _repeat(read, len(o.keys)),
            "into": pa.array(o.into, pa.string()) if o.into else _repeat(None, len(o.keys)),
            "joined": pa.nulls(len(o.keys), MET),
        }
        for o in outcomes
        if o.kind != "nulled"  # a nulled row went on: its end is told by a later step
    ]
    tables = [pa.table({n: p[n] for n in LEDGER_SCHEMA.names}).cast(LEDGER_SCHEMA) for p in parts]
    return pa.concat_tables(tables) if tables else LEDGER_SCHEMA.empty_table()


def _repeat(value: str | None, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def _children(outcomes: Outcomes) -> pa.Array:
    if outcomes.kind == "expanded":
        return pa.array(outcomes.children, pa.int32())
    return pa.nulls(len(outcomes.keys), pa.int32())


def errors_table(plan: Plan, outcomes: Iterable[Outcomes]) -> pa.Table:
    """The rows of a unit that failed, and why."""
    rows = [
        {
            KEY: key,
            SOURCE: source,
            "outcome": o.kind,
            "step": o.node,
            "operator": _operator(plan, o.node),
            "error": error,
            "message": message,
        }
        for o in outcomes
        if o.kind in ("failed", "nulled")
        for key, source, (error, message) in zip(o.keys, o.sources, o.errors, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA)


def _operator(plan: Plan, node: str) -> str:
    step = next((s for s in plan.steps if s.id == node), None)
    if step is None:  # a filter that was pushed into another step
        return Where.label
    action = step.action
    if isinstance(action, Apply | Group) and action.operator is not None:
        return action.operator.name
    return action.source.name if isinstance(action, Read) else str(action.label)


def samples(outcomes: Iterable[Outcomes]) -> list[dict[str, str]]:
    """Some failures of a unit, as its receipt spells them out."""
    found = [
        {"key": key, "step": o.node, "error": error, "message": message}
        for o in outcomes
        if o.errors
        for key, (error, message) in zip(o.keys, o.errors, strict=True)
    ]
    return found[:SAMPLES]
