"""Publishing a run: commit what was staged, then show it.

For each write the errors table and the ledger are committed first and the dataset last; then
the tags move, the dataset's last. Every step can be repeated: a run that is found committed is
not committed again, a tag that is there stays. So a driver that dies anywhere in between is
resumed by doing all of it once more, and readers at `latest` see whole runs only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weft.pipelines import tables
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
) -> dict[str, int]:
    """Commit and tag every write of a run; returns the versions by write.

    Raises:
        CommitConflict: somebody else committed to a dataset in between.
        Busy: a lease was lost.
    """
    versions: dict[str, int] = {}
    for step in plan.writes():
        target = targets[step.id]
        for lease in leases:
            lease.check()
        commit_errors(step, run, target, receipts, properties)
        if target.ledger is not None:
            tables.commit(target.ledger, _staged(receipts, step.id, "ledger"), run, properties)
        staged = _staged(receipts, step.id, "staged")
        versions[step.id] = sink_of(step).commit(target.token, staged, run, properties)
    for step in plan.writes():
        sink = sink_of(step)
        if sink.state is not None:
            for uri in (errors_uri(sink.state), ledger_uri(sink.state)):
                version = tables.version_of(uri, run)
                tables.tag(uri, version, run, {})
        sink.publish(versions[step.id], run, properties)
    return versions


def commit_errors(
    step: Step,
    run: str,
    target: Target,
    receipts: Sequence[Receipt],
    properties: Mapping[str, str],
) -> None:
    """Commit the errors of a run, published or not: it is where people look for what went wrong."""
    if target.errors is not None:
        tables.commit(target.errors, _staged(receipts, step.id, "errors"), run, properties)


def _staged(receipts: Sequence[Receipt], write: str, what: str) -> list[dict[str, Any]]:
    return [part for r in receipts for part in r["writes"][write].get(what, [])]
