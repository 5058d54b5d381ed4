"""Which steps made a column of a row, from the write back to what was read, across datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.errors import DefinitionError, nearest
from weft.pipelines import tables
from weft.pipelines.observe.lineage import Origin, Row
from weft.pipelines.observe.record import Record, record_of


@dataclass(frozen=True)
class Made:
    """A column, the step that made or read it, and the columns `of` which it was made.

    Of a step that read it from a dataset of weft, `of` is that column there.
    """

    column: str
    dataset: str
    version: int
    step: str
    kind: str
    says: str
    source: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[Made, ...] = ()


def made(row: Row, column: str) -> tuple[Made, ...]:
    """How `column` of a row that `weft.pipelines.observe.lineage.why` found was made.

    It is empty for a row that was not kept, which has no columns.

    Raises:
        DefinitionError: the row's dataset has no such column; names the nearest.
    """
    if row.outcome != "kept":
        return ()
    names = [n for n in tables.open_table(row.dataset, row.version).schema.names if n[0] != "_"]
    if column not in names:
        hint = nearest(column, names)
        raise DefinitionError(
            f"{row.dataset} has no column {column!r}. It has: {', '.join(names)}. {hint}".rstrip()
        )
    return _back(row, column)


def _back(row: Row, column: str) -> tuple[Made, ...]:
    record = record_of(row.dataset, f"run-{row.run}")
    return tuple(_walk(row, record, dict(_reads(row.origins)), row.step, column))


def _walk(
    row: Row, record: Record, reads: Mapping[str, Origin], name: str, column: str
) -> Iterator[Made]:
    """What made `column` of the rows that step `name` passes on; nothing of the engine's own."""
    step = record.steps[name]
    of = step.get("made", {}).get(column)
    inputs = step["inputs"]
    if step["kind"] == "join":
        inputs = inputs[:1] if of is None else inputs[1:]
    if name in reads and not column.startswith("_"):
        there = tuple(m for r in reads[name].rows[:1] for m in _back(r, column))
        yield _made(row, name, step, column, there)
    elif of is None:
        for i in inputs:
            yield from _walk(row, record, reads, i, column)
    else:
        below = tuple(m for c in of for i in inputs for m in _walk(row, record, reads, i, c))
        yield _made(row, name, step, column, below)


def _made(row: Row, name: str, step: Mapping[str, Any], column: str, of: tuple[Made, ...]) -> Made:
    return Made(
        column=column,
        dataset=row.dataset,
        version=row.version,
        step=name,
        kind=step["kind"],
        says=step["says"],
        source=step.get("source", {}),
        of=of,
    )


def _reads(origins: Sequence[Origin]) -> Iterator[tuple[str, Origin]]:
    """The reads by which a row and those that it was made of came; of a group, of the first."""
    for origin in origins:
        if origin.how == "read":
            yield origin.step, origin
        for row in origin.rows if origin.how != "read" else ():
            yield from _reads(row.origins)
