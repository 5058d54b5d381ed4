"""The ledger and the errors table: what a unit writes down of the rows that ended in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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
        pa.field("signal", pa.string()),
        pa.field("attempts", pa.int32()),
    ]
)
"""One row for each row that failed: where, and why; what ended the process that had it at hand,
if one ended, and how often the row was tried."""

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
            "joined": b.column(JOINED).array,
            **({"read": b.envelope[READ].array} if READ in b.envelope else {}),
        }
        for b in batches
    ]
    parts += [
        {
            **dict(zip(o.rows.column_names, o.rows.columns, strict=True)),
            "outcome": pa.repeat(o.kind, o.rows.num_rows),
            "step": pa.repeat(o.node, o.rows.num_rows),
        }
        for o in outcomes
        if o.kind != "nulled"  # a nulled row went on: its end is told by a later step
    ]
    return pa.concat_tables([LEDGER_SCHEMA.empty_table(), *(_whole(p, read) for p in parts)])


def _whole(part: Mapping[str, Any], read: str | None) -> pa.Table:
    """A part of the ledger with all its columns: null where nothing was said."""
    rows = len(part[KEY])
    said = {"read": pa.repeat(pa.scalar(read, pa.string()), rows), **part}
    columns = [said.get(f.name, pa.nulls(rows, f.type)) for f in LEDGER_SCHEMA]
    return pa.table(columns, names=LEDGER_SCHEMA.names).cast(LEDGER_SCHEMA)


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
            "signal": signal,
            "attempts": attempts,
        }
        for o in outcomes
        if o.kind in ("failed", "nulled")
        for key, source, (error, message), signal, attempts in zip(
            o.keys,
            o.rows[SOURCE].to_pylist(),
            o.errors,
            _noted(o, "signal", None),
            _noted(o, "attempts", 1),
            strict=True,
        )
    ]
    return pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA)


def _noted(outcomes: Outcomes, name: str, usual: Any) -> list[Any]:
    """A column of rows that ended, which is there only if one of them is unusual in it."""
    rows = outcomes.rows
    return rows[name].to_pylist() if name in rows.column_names else [usual] * rows.num_rows


def as_errors(table: pa.Table) -> pa.Table:
    """An errors table, be it of an older version of weft that knew fewer columns."""
    columns = [
        table[f.name] if f.name in table.column_names else pa.nulls(table.num_rows, f.type)
        for f in ERRORS_SCHEMA
    ]
    return pa.table(columns, names=ERRORS_SCHEMA.names).cast(ERRORS_SCHEMA)


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
