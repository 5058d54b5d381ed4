"""Compacting a dataset with its ledger and its errors, so that runs go on from it as before.

A run goes on from the last one only if the rows of the dataset are those of `latest`, and those
of the ledger and the errors what the tag of that run names. Compaction changes the files, so
both tags of each table move along; what older tags name keeps its files until `weft gc` drops
those versions.
"""

from __future__ import annotations

from contextlib import nullcontext

from weft.errors import DefinitionError, Refused
from weft.pipelines import compaction, tables
from weft.pipelines.compaction import Compaction
from weft.pipelines.runs import sums
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.work import unfinished


def compact(dataset: str, state: str, *, dry_run: bool = False) -> list[Compaction]:
    """Merge small files of a dataset, of its ledger and of its errors; each of them, in this order.

    An errors table whose newest version is of a run that published nothing is left out.

    Args:
        dataset: its path.
        state: the path of its state folder.
        dry_run: change nothing, and take no lease.

    Raises:
        Busy: a run is at work.
        DefinitionError: no run has published the dataset.
        Refused: a run is not finished, or something else than a run changed the rows.
    """
    if _seen(dataset) is None:
        raise DefinitionError(f"{dataset} was not published by a run of weft.")
    with nullcontext() if dry_run else hold(state, "weft compact"):
        run = unfinished(state)
        if run is not None:
            raise Refused(
                f"Run {run.run} of {dataset} is not finished, and began with the files that are "
                "there. Go on with it, `weft resume`, or give it up, `weft gc --abandon`."
            )
        name = f"run-{_seen(dataset)}"
        found = [compaction.compact(dataset, (tables.LATEST, name), dry_run=dry_run)]
        for uri in (ledger_uri(state), errors_uri(state)):
            if uri == ledger_uri(state) or compaction.arranged(uri, name):
                found.append(compaction.compact(uri, (name, tables.LATEST), dry_run=dry_run))
                if not dry_run:
                    sums.note(uri, name)
        return found


def _seen(dataset: str) -> str | None:
    """The run that readers see."""
    seen = tables.latest(dataset)
    return None if seen is None else seen[1].get(tables.RUN_PROPERTY)
