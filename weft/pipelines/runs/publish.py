"""Publishing a run: commit what was staged, then show it.

A run that processed everything replaces what was there; an incremental one takes the place of
the rows that changed. Either is one commit.

For each write the errors table and the ledger are committed first and the dataset last; then
the tags move, the dataset's last. Every step can be repeated: a run that is found committed is
not committed again, a tag that is there stays. So a driver that dies anywhere in between is
resumed by doing all of it once more, and readers at `latest` see whole runs only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weft.pipelines import origins, tables
from weft.pipelines.batch import KEY, PARENT, SOURCE
from weft.pipelines.connector import Sink
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import (
    ERRORS_SCHEMA,
    LEDGER_SCHEMA,
    Target,
    dataset_schema,
)
from weft.pipelines.graph import Write
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs.lease import Lease


def sink_of(step: Step) -> Sink:
    """The sink of a write."""
    assert isinstance(step.action, Write)
    return step.action.sink


def ledger_uri(state: str) -> str:
    """The ledger in a dataset's state folder."""
    return str(Path(state) / "ledger.lance")


def errors_uri(state: str) -> str:
    """The errors table in a dataset's state folder."""
    return str(Path(state) / "errors.lance")


def prepare(plan: Plan) -> dict[str, Target]:
    """Make every target ready; what workers stage with, by write."""
    targets = {}
    for step in plan.writes():
        sink = sink_of(step)
        token = sink.prepare(dataset_schema(plan, step))
        if sink.state is None:
            targets[step.id] = Target(token)
        else:
            ledger = tables.ensure(ledger_uri(sink.state), LEDGER_SCHEMA)
            errors = tables.ensure(errors_uri(sink.state), ERRORS_SCHEMA)
            targets[step.id] = Target(token, ledger, errors)
    return targets


def publish(
    plan: Plan,
    run: str,
    targets: Mapping[str, Target],
    receipts: Sequence[Receipt],
    properties: Mapping[str, str],
    *,
    leases: Sequence[Lease],
    base: str | None = None,
    removed: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, int]:
    """Commit and tag every write of a run; returns the versions by write.

    With a `base`, the rows of that run stay, except for those `removed`, which are the keys of
    rows of each read: they go with everything that was made of them.

    Raises:
        CommitConflict: somebody else committed to a dataset in between.
        Busy: a lease was lost.
    """
    versions: dict[str, int] = {}
    for step in plan.writes():
        target = targets[step.id]
        for lease in leases:
            lease.check()
        gone = None if base is None else keys_to_remove(plan, step, base, removed or {})
        commit_errors(step, run, target, receipts, properties, base=base, removed=gone)
        if target.ledger is not None:
            ledger = _staged(receipts, step.id, "ledger")
            tables.commit(target.ledger, ledger, run, properties, removed=gone)
        staged = _staged(receipts, step.id, "staged")
        own = {**properties, **origins.properties(plan, step)}
        sink = sink_of(step)
        versions[step.id] = sink.commit(target.token, staged, run, own, removed=gone)
    for step in plan.writes():
        sink = sink_of(step)
        if sink.state is not None:
            for uri in (errors_uri(sink.state), ledger_uri(sink.state)):
                version = tables.version_of(uri, run)
                tables.tag(uri, version, run, {})
        sink.publish(versions[step.id], run, {**properties, **origins.properties(plan, step)})
    return versions


def commit_errors(
    step: Step,
    run: str,
    target: Target,
    receipts: Sequence[Receipt],
    properties: Mapping[str, str],
    *,
    base: str | None = None,
    removed: Sequence[str] | None = None,
) -> None:
    """Commit the errors of a run, published or not: it is where people look for what went wrong.

    They are few, so they are always written whole: those of `base` that stay, and the new ones.
    """
    if target.errors is None:
        return
    staged = _staged(receipts, step.id, "errors")
    if base is not None:
        before = pl.DataFrame(tables.read(target.errors["uri"], f"run-{base}"))
        stay = before.filter(~pl.col(KEY).is_in(pl.Series(removed, dtype=pl.String).implode()))
        kept = stay.to_arrow().cast(ERRORS_SCHEMA)
        staged = [*tables.stage(target.errors, kept), *staged]
    tables.commit(target.errors, staged, run, properties)


def keys_to_remove(
    plan: Plan, write: Step, base: str, removed: Mapping[str, Sequence[str]]
) -> list[str]:
    """The keys in the ledger of `write`, at run `base`, of rows and all that was made of them."""
    above = plan.upstream(write.id)
    roots = [key for read, keys in removed.items() if read in above for key in keys]
    family = pl.Series(KEY, roots, dtype=pl.String)
    found = [family]
    children = ledger_at(write, base).filter(pl.col(PARENT).is_not_null())
    while len(family):
        family = children.filter(pl.col(PARENT).is_in(family.implode()))[KEY].unique()
        found.append(family)
    return pl.concat(found).unique().to_list()


def ledger_at(write: Step, run: str) -> pl.DataFrame:
    """The ledger of a write as `run` left it: what became of every row, and of which it came."""
    state = sink_of(write).state
    assert state is not None
    columns = [KEY, SOURCE, PARENT, "outcome"]
    return pl.DataFrame(tables.read(ledger_uri(state), f"run-{run}", columns))


def _staged(receipts: Sequence[Receipt], write: str, what: str) -> list[dict[str, Any]]:
    return [part for r in receipts for part in r["writes"][write].get(what, [])]
