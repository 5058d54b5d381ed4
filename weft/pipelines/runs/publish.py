"""Publishing a run: commit what was staged, then show it.

A run that processed everything replaces what was there; an incremental one takes the place of
the rows that changed. Either is one commit.

For each write the errors table and the ledger are committed first and the dataset last. When all
is committed gates judge it, see `weft.pipelines.gates.judging`. If all pass the tags move: those
of ledgers and errors, then the datasets', one right after the other. Every step can be repeated:
a run that is found committed is not committed again, a tag that is there stays. So a driver that
dies anywhere in between is resumed by doing all of it once more, and readers at `latest` of a
dataset see whole runs only.

No transaction spans tables, so between the first dataset's move and the last one's a reader of
several sees two runs, and goes on to see them if the driver dies there, until it is resumed. The
moves go in the order of the writes, so the oldest run at `latest` of any is one that all have:
at that ``run-<id>`` a reader has them as one run left them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from weft.errors import DefinitionError
from weft.pipelines import origins, tables
from weft.pipelines.engines.ledger import ERRORS_SCHEMA, LEDGER_SCHEMA
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Target, dataset_schema
from weft.pipelines.fragments import content
from weft.pipelines.gates.judging import Candidate, judge, withhold
from weft.pipelines.graph import Write
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs import sums
from weft.pipelines.runs.places import errors_uri, ledger_uri, sink_of
from weft.pipelines.runs.sifting import Backfilled, Sifted, sift
from weft.pipelines.tags import whole_tags


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


def drifted(plan: Plan, targets: Mapping[str, Target]) -> str | None:
    """A dataset whose columns would be of other types now than `targets` were made ready for: the
    source has changed since."""
    for step in plan.writes():
        token = targets[step.id].token
        schema = dataset_schema(plan, step)
        if "schema" in token and token["schema"] != schema.serialize().to_pybytes().hex():
            return sink_of(step).uri
    return None


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
    properties: Mapping[str, Mapping[str, str]],
    *,
    base: str | None = None,
    removed: Mapping[str, Sequence[str]] | None = None,
    backfilled: Mapping[str, Backfilled] | None = None,
    folder: Path | None = None,
) -> dict[str, int]:
    """Commit, judge and tag every write of a run; returns the versions by write.

    `properties` are what each write's version says of itself. What gates find is noted in
    `folder`, the run's own.

    With a `base`, the rows of that run stay, except for those `removed`, which are the keys of
    rows of each read: they go with everything that was made of them. The rows that stay change
    as the backfills say that are `backfilled`, by write.

    Raises:
        CommitConflict: somebody else committed to a dataset in between.
        GateFailed: a dataset is not as expected, so that none is shown.
        Busy: a lease was lost.
    """
    versions: dict[str, int] = {}
    noted: dict[str, Mapping[str, str]] = {}
    for step in plan.writes():
        target = targets[step.id]
        sifted = None
        if base is not None:
            sifted = sift(plan, step, base, removed or {}, (backfilled or {})[step.id])
        commit_errors(step, run, target, receipts, sifted)
        if target.ledger is not None:
            _commit_ledger(run, target.ledger, _staged(receipts, step.id, "ledger"), sifted)
        staged = _staged(receipts, step.id, "staged")
        noted[step.id] = {**properties[step.id], **origins.properties(plan, step)}
        sink = sink_of(step)
        gone = None if sifted is None else sifted.gone
        new = None if sifted is None else sifted.replacement
        versions[step.id] = sink.commit(
            target.token, staged, run, noted[step.id], removed=gone, replacement=new
        )
    candidates = [c for s in plan.writes() for c in _candidates(s, versions[s.id], noted[s.id])]
    judgement = judge(candidates, run, folder)
    if judgement.failed:
        raise withhold(candidates, run, judgement)
    for step in plan.writes():
        if (state := sink_of(step).state) is not None:
            for uri in (errors_uri(state), ledger_uri(state)):
                version = tables.version_of(uri, run)
                sums.note(uri, version)
                with whole_tags(uri, ("latest", f"run-{run}")):
                    tables.tag(uri, version, run, {})
    for step in plan.writes():
        said = {**noted[step.id], **judgement.properties(step.id)}
        sink = sink_of(step)
        with whole_tags(sink.uri, ("latest", f"run-{run}")) if sink.state else nullcontext():
            sink.publish(versions[step.id], run, said)
    return versions


def commit_errors(
    step: Step,
    run: str,
    target: Target,
    receipts: Sequence[Receipt],
    sifted: Sifted | None = None,
) -> None:
    """Commit the errors of a run, published or not: it is where people look for what went wrong.

    They are few, so they are always written whole: those that stay, and the new ones.
    """
    if target.errors is None:
        return
    staged = _staged(receipts, step.id, "errors")
    if sifted is not None:
        staged = [*tables.stage(target.errors, sifted.errors), *staged]
    tables.commit(target.errors, staged, run, {})


def _commit_ledger(
    run: str,
    token: Mapping[str, Any],
    staged: Sequence[Mapping[str, Any]],
    sifted: Sifted | None,
) -> None:
    if sifted is None:
        tables.commit(token, staged, run, {})
    else:
        staged = [*staged, *tables.stage(token, sifted.ledger)]
        tables.commit(token, staged, run, {}, removed=sifted.lost)


def _candidates(write: Step, version: int, properties: Mapping[str, str]) -> Iterator[Candidate]:
    """What gates judge of a write; nothing of one to a sink that keeps no versions."""
    assert isinstance(write.action, Write)
    sink = write.action.sink
    if sink.state is not None:
        beside = ledger_uri(sink.state), errors_uri(sink.state)
        yield Candidate(write.id, write.action.gates, sink.uri, version, *beside, properties)


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


def _staged(receipts: Sequence[Receipt], write: str, what: str) -> list[dict[str, Any]]:
    return [part for r in receipts for part in r["writes"][write].get(what, [])]
