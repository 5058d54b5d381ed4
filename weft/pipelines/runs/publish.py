"""Publishing a run: commit what was staged, then show it.

A run that processed everything replaces what was there; an incremental one takes the place of
the rows that changed. Either is one commit.

For each write the errors table and the ledger are committed first and the dataset last. When all
is committed the tags move: those of ledgers and errors, then the datasets', one right after the
other. Every step can be repeated: a run that is found committed is not committed again, a tag
that is there stays. So a driver that dies anywhere in between is resumed by doing all of it once
more, and readers at `latest` of a dataset see whole runs only.

No transaction spans tables, so between the first dataset's move and the last one's a reader of
several sees two runs, and goes on to see them if the driver dies there, until it is resumed. The
moves go in the order of the writes, so the oldest run at `latest` of any is one that all have:
at that ``run-<id>`` a reader has them as one run left them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from weft.errors import DefinitionError
from weft.pipelines import origins, tables
from weft.pipelines.batch import KEY, PARENT, SOURCE
from weft.pipelines.connector import Sink
from weft.pipelines.engines.ledger import ERRORS_SCHEMA, LEDGER_SCHEMA
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Target, dataset_schema
from weft.pipelines.fragments import content
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


def overtaken(targets: Mapping[str, Target], run: str) -> str | None:
    """A table that `run` can never commit to, as something else changed its rows after `targets`
    were made ready, or took it away. Looks at targets with a ledger, which are all tables."""
    for target in targets.values():
        for token in (target.errors, target.ledger, target.token):
            if target.ledger is not None and token is not None and not _open_to(run, token):
                return str(token["uri"])
    return None


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
    noted: dict[str, Mapping[str, str]] = {}
    for step in plan.writes():
        target = targets[step.id]
        _check(leases)
        gone = None if base is None else keys_to_remove(plan, step, base, removed or {})
        commit_errors(step, run, target, receipts, properties, base=base, removed=gone)
        if target.ledger is not None:
            ledger = _staged(receipts, step.id, "ledger")
            tables.commit(target.ledger, ledger, run, properties, removed=gone)
        staged = _staged(receipts, step.id, "staged")
        noted[step.id] = {**properties, **origins.properties(plan, step)}
        sink = sink_of(step)
        versions[step.id] = sink.commit(target.token, staged, run, noted[step.id], removed=gone)
    _check(leases)
    for step in plan.writes():
        if (state := sink_of(step).state) is not None:
            for uri in (errors_uri(state), ledger_uri(state)):
                tables.tag(uri, tables.version_of(uri, run), run, {})
    for step in plan.writes():
        sink_of(step).publish(versions[step.id], run, noted[step.id])
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
    columns = [KEY, SOURCE, PARENT, "outcome", "read"]
    return pl.DataFrame(tables.read(ledger_uri(state), f"run-{run}", columns))


def _open_to(run: str, token: Mapping[str, Any]) -> bool:
    """Whether a table is as its token says, or `run` has committed to it."""
    uri = token["uri"]
    if not tables.exists(uri):
        return False
    if content(tables.open_table(uri)) == token["content"]:
        return True
    try:
        tables.version_of(uri, run)
    except DefinitionError:
        return False
    return True


def _check(leases: Sequence[Lease]) -> None:
    for lease in leases:
        lease.check()


def _staged(receipts: Sequence[Receipt], write: str, what: str) -> list[dict[str, Any]]:
    return [part for r in receipts for part in r["writes"][write].get(what, [])]
