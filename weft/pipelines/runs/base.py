"""The run that another goes on from: what is published, if its rows can stay.

That is right only if the dataset, its ledger and its errors are as that run left them, and what
decides which rows there can be is as it was. Otherwise everything is computed anew, and
`Everything` says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from weft.pipelines import recipes, tables
from weft.pipelines.blobs import stored_schema
from weft.pipelines.compaction import arranged
from weft.pipelines.engines.ledger import LEDGER_SCHEMA
from weft.pipelines.engines.worker import dataset_schema
from weft.pipelines.plan import Plan, Step
from weft.pipelines.recipes import Recipes
from weft.pipelines.runs import sums
from weft.pipelines.runs.accepted import Change, accepted
from weft.pipelines.runs.changes import Changes, compare
from weft.pipelines.runs.places import errors_uri, ledger_uri, sink_of


@dataclass(frozen=True)
class Everything:
    """All rows are to be processed, and `why`, in words."""

    why: str


@dataclass(frozen=True)
class Base:
    """What a write can go on from: the version and the run whose rows stay, the recipes that it
    has, and what of the pipeline changed since, but for changes that were `accepted`."""

    version: int
    run: str
    recipes: Recipes
    accepted: frozenset[Change]
    changes: Changes


def find_base(plan: Plan, write: Step) -> Base | Everything:
    """What a run of `plan`, which is as `plain_plan` made it, can go on from."""
    sink = sink_of(write)
    if sink.state is None or not sink.incremental:
        return Everything(f"{sink.name} keeps no ledger")
    latest = tables.latest(sink.uri)
    if latest is None:
        return Everything(f"{sink.uri} is not published yet")
    version, properties = latest
    if recipes.PROPERTY not in properties:
        return Everything(f"{sink.uri} does not say how it was made")
    before = Recipes.from_json(properties[recipes.PROPERTY])
    neutral = accepted(sink.state)
    changes = compare(plan, write, before, neutral)
    if isinstance(changes, str):
        return Everything(changes)
    run = properties[tables.RUN_PROPERTY]
    why = _touched(sink.uri, sink.state, version, run) or _reshaped(plan, write, changes)
    return Everything(why) if why else Base(version, run, before, neutral, changes)


def reshapes(plan: Plan, write: Step, changes: Changes) -> bool:
    """Whether the dataset gets other columns, or values for those of rows that stay."""
    schema = stored_schema(dataset_schema(plan, write))
    return bool(changes.fields) or not schema.equals(tables.open_table(sink_of(write).uri).schema)


def _touched(uri: str, state: str, version: int, run: str) -> str | None:
    """Why the rows are not as `run` left them; ``None``: they are."""
    if not arranged(uri, version):
        return f"the rows of {uri} were changed by something else than a run"
    beside = (ledger_uri(state), errors_uri(state))
    for table in beside:
        if not tables.exists(table):
            return f"{table} is gone"
    if not stored_schema(LEDGER_SCHEMA).equals(tables.open_table(ledger_uri(state)).schema):
        return f"the ledger of {uri} is of another weft"
    if not arranged(ledger_uri(state), f"run-{run}"):
        return f"the ledger of {uri} is not that of run {run}"
    for table in beside:
        if (file := sums.altered(table, f"run-{run}")) is not None:
            return f"{table} is damaged: {file} is not as run {run} left it"
    return None


def _reshaped(plan: Plan, write: Step, changes: Changes) -> str | None:
    """Why rows cannot be added to the table that is there; ``None``: they can."""
    sink = sink_of(write)
    there: Any = tables.open_table(sink.uri).schema
    schema: pa.Schema = stored_schema(dataset_schema(plan, write))
    for field in schema:
        if field.name in changes.fields:
            continue
        if field.name not in there.names or not there.field(field.name).equals(field):
            return f"the columns of {sink.uri} are of other types now"
    if reshapes(plan, write, changes) and not sink.columnar:
        return f"{sink.name} cannot change columns of rows that stay"
    return None
