"""Accepting a run that gates refused all the same, or giving it up.

Both are of all datasets of a run, may be done again after they were cut short, and hold the
leases of the datasets meanwhile.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from weft.errors import Refused
from weft.pipelines import tables
from weft.pipelines.fence import check_fence
from weft.pipelines.gates.judging import judged
from weft.pipelines.restoring import restore_run
from weft.pipelines.runs import sums
from weft.pipelines.runs.journal import Journal, journal_of
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.work import unfinished


def promote(journal: Journal, *, over_newer: bool = False) -> dict[str, int]:
    """Show the datasets of a run that gates refused; their versions. `journal` is that of any of
    them.

    Their newest versions get the rows of the run again, so that the next run goes on from these.

    Args:
        journal: the run's.
        over_newer: also if another run was accepted since, whose rows readers then lose.

    Raises:
        Refused: the run was not refused by gates, another one was accepted since, or one is not
            finished, whose units would be lost.
        Busy: a run is working on one of the datasets.
        DefinitionError: a version of the run is not there any more.
    """
    datasets = datasets_of(journal)
    with _held(datasets, "weft promote"):
        _check_gated(journal, datasets, "published")
        _check_no_other(datasets)
        newer = _accepted_since(journal, datasets)
        if newer and not over_newer:
            told = ", ".join(f"run {run} of {uri}" for uri, run in newer.items())
            raise Refused(
                f"Since run {journal.run} was refused, another was accepted: {told}. Readers would "
                "go back to rows that are older. Run the pipeline again, or promote it with --yes."
            )
        versions = {}
        for uri, state in datasets.items():
            beside = {"ledger": ledger_uri(state), "errors": errors_uri(state)}
            versions[uri] = restore_run(uri, journal.run, **beside)
            for table in beside.values():
                sums.note(table, f"run-{journal.run}")
        _note(journal, datasets, "published", promoted=True)
    return versions


def reject(journal: Journal) -> list[str]:
    """Give up a run that gates refused: its tags go, so that its versions can be collected; its
    datasets. `journal` is that of any of them.

    Raises:
        Refused: the run was not refused by gates.
        Busy: a run is working on one of the datasets.
    """
    datasets = datasets_of(journal)
    with _held(datasets, "weft reject"):
        _check_gated(journal, datasets, "rejected")
        if journal.run in _accepted(datasets).values():
            raise Refused(
                f"Run {journal.run} was promoted in part: readers of some of its datasets see it. "
                "Promote it again, or roll back to another run first."
            )
        for uri, state in datasets.items():
            for table in (errors_uri(state), ledger_uri(state), uri):
                tags = tables.open_table(table).tags
                if f"run-{journal.run}" in tags.list():
                    check_fence()
                    tags.delete(f"run-{journal.run}")
        _note(journal, datasets, "rejected")
    return list(datasets)


def datasets_of(journal: Journal) -> dict[str, str]:
    """The datasets of a run that keep its journal, and the state folder of each."""
    found = {uri: f"{uri}.weft" for uri in journal.about()["datasets"]}
    return {u: s for u, s in found.items() if journal_of(s, journal.run).path.is_dir()}


@contextmanager
def _held(datasets: Mapping[str, str], label: str) -> Iterator[None]:
    with ExitStack() as stack:
        for state in sorted(datasets.values()):
            stack.enter_context(hold(state, label))
        yield


def _check_gated(journal: Journal, datasets: Mapping[str, str], end: str) -> None:
    """Some datasets may say that they are at the `end` already, if it was cut short."""
    states = {journal_of(state, journal.run).state()["state"] for state in datasets.values()}
    if "gated" not in states or not states <= {"gated", end}:
        raise Refused(
            f"Run {journal.run} is {journal.state()['state']}. Only a run that is gated can be "
            "promoted or rejected; `weft runs` lists the runs of a dataset."
        )


def _check_no_other(datasets: Mapping[str, str]) -> None:
    for uri, state in datasets.items():
        if (other := unfinished(state)) is not None:
            raise Refused(
                f"Run {other.run} of {uri} is not finished, and could not go on with other rows "
                f"there. Go on with it first: weft resume {shlex.quote(uri)}. Or give it up: "
                f"weft gc --abandon {shlex.quote(uri)}"
            )


def _accepted_since(journal: Journal, datasets: Mapping[str, str]) -> dict[str, str | None]:
    """What readers see by now of datasets, other than when the run was refused; not the run's
    own, which a promotion that was cut short has shown."""
    then = judged(_primary(journal)).accepted
    now = _accepted(datasets)
    return {u: run for u, run in now.items() if run not in (then.get(u), journal.run)}


def _accepted(datasets: Mapping[str, str]) -> dict[str, str | None]:
    latest = {uri: tables.latest(uri) for uri in datasets}
    return {u: None if f is None else f[1].get(tables.RUN_PROPERTY) for u, f in latest.items()}


def _primary(journal: Journal) -> Path:
    """The folder with the run's notes: of a run of several datasets, the first one's."""
    return Path(journal.about().get("journal", journal.path))


def _note(journal: Journal, datasets: Mapping[str, str], state: str, **more: object) -> None:
    noted = {k: v for k, v in journal.state().items() if k not in ("state", "at")}
    noted |= {"result": {**noted["result"], "state": state}, **more}
    for folder in datasets.values():
        journal_of(folder, journal.run).set_state(state, **noted)
