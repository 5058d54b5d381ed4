"""How a vector came to be: the operators that made a column, kept with each version of a dataset.

To search a column by words or by a picture, these must become a vector in the same way as the
column's own. So a run notes for each `Embedding` that it writes the chain of operators that
made it, as the version's property `PROPERTY`: names, versions, parameters and digests of
weights, no code. A dataset that is made of another goes on with that one's notes.
"""

from __future__ import annotations

import json
from typing import Any

from weft.errors import DefinitionError
from weft.pipelines import tables
from weft.pipelines.connector import Source
from weft.pipelines.graph import Apply, Read, WithColumns
from weft.pipelines.operator import Map, canonical_bytes
from weft.pipelines.plan import Plan, Step
from weft.pipelines.types import Embedding

PROPERTY = "weft.columns"

Origin = list[dict[str, Any]]
"""The identities of the operators in the order they ran, each with ``of``, the type of the column
that it read as JSON, or ``None`` if it read several, and ``out``, the port that was taken of it."""


def properties(plan: Plan, write: Step) -> dict[str, str]:
    """The property of a version that `write` makes; nothing, if it writes no vectors."""
    vectors = [name for name, kind in write.columns.items() if isinstance(kind, Embedding)]
    found = {name: o for name in vectors if (o := _origin(plan, write, name))}
    return {PROPERTY: canonical_bytes(found).decode()} if found else {}


def recorded(uri: str, version: int | str | None) -> dict[str, Origin]:
    """The origin of each vector column of a dataset, as far as the run that wrote it noted it.

    It is on the version's tags, and on the commit that wrote the rows; a commit that followed,
    such as an index, has the rows and not the note.

    Raises:
        DefinitionError: there is no such table, version or tag.
    """
    dataset = tables.open_table(uri, version)
    for tag in dataset.tags.list().values():
        if tag["version"] == dataset.version and PROPERTY in tag["metadata"]:
            return _parsed(tag["metadata"][PROPERTY])
    for found in tables.history(uri):
        if found.number <= dataset.version and found.run is not None:
            return _parsed(found.properties.get(PROPERTY, "{}"))
    return {}


def _parsed(text: str) -> dict[str, Origin]:
    found: dict[str, Origin] = json.loads(text)
    return found


def _origin(plan: Plan, step: Step, column: str) -> Origin:
    """Back from `step` through operators of one row and one port, to where there is no other."""
    found: Origin = []
    while len(step.inputs) == 1:
        before = plan.step(step.inputs[0])
        match step.action if column in step.makes() else None:
            case WithColumns(expressions=expressions):
                (copied,) = (e.column for e in expressions if e.name == column)
                if copied is None:
                    break  # computed
                column = copied
            case Apply(operator=Map() as operator, inputs=inputs, outputs=outputs):
                (out,) = (port for port, made in outputs if made == column)
                of = before.columns[inputs[0][1]].to_json() if len(inputs) == 1 else None
                found.insert(0, {**operator.identity(), "of": of, "out": out})
                if of is None:
                    break
                column = inputs[0][1]
            case Apply():
                break
        step = before
    if isinstance(step.action, Read):
        return _of_source(step.action.source).get(column, []) + found
    return found


def _of_source(source: Source) -> dict[str, Origin]:
    """What a dataset that is read says of its own columns; others say nothing."""
    given = source.identity()
    if given.get("type") != "Lance":
        return {}
    try:
        return recorded(given["path"], given["version"])
    except DefinitionError:
        return {}  # it was not published by weft
