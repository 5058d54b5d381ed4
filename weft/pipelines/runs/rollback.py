"""Going back to what a run published: its dataset, its ledger and its errors together.

Nothing is deleted and nothing is written but three manifests for each dataset: what came since
stays readable by its tags, and going forward again is going back to a newer run. As the ledger
goes back with the rows, the next run finds what differs between that state and the source, as if
the runs in between had not been.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from weft.errors import DefinitionError, Refused
from weft.pipelines import tables
from weft.pipelines.restoring import restore_run
from weft.pipelines.runs import sums
from weft.pipelines.runs.journal import journal_of
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.work import unfinished


@dataclass(frozen=True)
class RolledBack:
    """A dataset that went back, or would: what readers saw, and what they see."""

    dataset: str
    before: int
    run_before: str
    after: int
    run: str
    rows_before: int
    rows: int


def rollback(dataset: str, run: str, *, dry_run: bool = False) -> list[RolledBack]:
    """Show readers what `run` left of a dataset, and of those that it wrote together with it.

    After a process that died on the way, doing it again completes it.

    Args:
        dataset: its path.
        run: the run's id.
        dry_run: change nothing, and take no lease.

    Raises:
        Busy: a run is at work on one of the datasets.
        DefinitionError: the run has no version there any more; nothing is changed.
        Refused: a run of one of the datasets is not finished, or gates refused `run`.
    """
    paths = _together(dataset, run)
    with ExitStack() as stack:
        for path in sorted(paths):
            if not dry_run:
                stack.enter_context(hold(f"{path}.weft", "weft rollback"))
            _check(path, run)
        found = [_expected(path, run) for path in paths]
        if dry_run:
            return found
        for path in paths:
            ledger, errors = ledger_uri(f"{path}.weft"), errors_uri(f"{path}.weft")
            restore_run(path, run, ledger=ledger, errors=errors)
            for uri in (ledger, errors):
                sums.note(uri, f"run-{run}")
        return [_done(before) for before in found]


def run_at(dataset: str, version: int) -> str:
    """The run that left the rows of a version.

    Raises:
        DefinitionError: there is no such version, or no run of weft made its rows.
    """
    there = tables.open_table(dataset, version)
    for name, found in sorted(there.tags.list().items()):
        if found["version"] == version and name.startswith("run-"):
            return str(name.removeprefix("run-"))
        if found["version"] == version and tables.RUN_PROPERTY in found["metadata"]:
            return str(found["metadata"][tables.RUN_PROPERTY])
    for made in tables.history(dataset):
        if made.number == version and made.run is not None:
            return made.run
    raise DefinitionError(
        f"Version {version} of {dataset} is not what a run left, so there is no ledger to go with "
        f"it. Go back to one that is: `weft history {dataset}` lists them."
    )


def _together(dataset: str, run: str) -> list[str]:
    """The datasets that a run wrote, `dataset` among them; if its journal is gone, that alone."""
    journal = journal_of(f"{dataset}.weft", run)
    if not (journal.path / "run.json").exists():
        return [dataset]
    others = [str(d) for d in journal.about()["datasets"]]
    return [d for d in others if d == dataset or Path(f"{d}.weft").is_dir()]


def _check(dataset: str, run: str) -> None:
    open_run = unfinished(f"{dataset}.weft")
    if open_run is not None:
        raise Refused(
            f"Run {open_run.run} of {dataset} is not finished. Go on with it, `weft resume`, or "
            "give it up, `weft gc --abandon`; then go back."
        )
    journal = journal_of(f"{dataset}.weft", run)
    state = journal.state()["state"] if (journal.path / "state.json").exists() else None
    if state in ("gated", "rejected"):
        raise Refused(
            f"Run {run} of {dataset} did not pass its gates, so readers have never seen it. To "
            f"show it all the same: weft promote {dataset} {run}"
        )


def _expected(dataset: str, run: str) -> RolledBack:
    version = tables.version_of(dataset, run)
    rows = tables.open_table(dataset, version).count_rows()
    for uri in (ledger_uri(f"{dataset}.weft"), errors_uri(f"{dataset}.weft")):
        tables.open_table(uri, tables.version_of(uri, run))
    seen = tables.latest(dataset)
    if seen is None:
        raise DefinitionError(f"{dataset} was never published, so there is nothing to go back to.")
    run_before = seen[1].get(tables.RUN_PROPERTY, "")
    rows_before = tables.open_table(dataset, seen[0]).count_rows()
    return RolledBack(dataset, seen[0], run_before, version, run, rows_before, rows)


def _done(expected: RolledBack) -> RolledBack:
    seen = tables.latest(expected.dataset)
    assert seen is not None
    return RolledBack(**{**vars(expected), "after": seen[0]})
