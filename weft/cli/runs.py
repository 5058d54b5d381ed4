"""``weft runs DATASET``: the runs of a dataset, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument
from weft.errors import CorruptState

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.runs.journal import Journal


@click.command("runs", cls=Command)
@dataset_argument
def command(dataset: str) -> None:
    """List the runs of a dataset, newest first."""
    from weft.cli.datasets import find_dataset

    found = find_dataset(dataset)
    runs = [_run(found, journal) for journal in found.runs()]
    emit({"dataset": found.path, "runs": runs}, _table(runs) or f"{found.path} has no runs.")


def _run(dataset: Dataset, journal: Journal) -> dict[str, Any]:
    from weft.cli.datasets import began, failed_in, state_of, steps_of, version_in

    started = began(journal.run)
    run = {"run": journal.run, "started": None if started is None else started.isoformat()}
    try:
        state, rows = state_of(dataset, journal), journal.about()["rows"]
        failed = failed_in(steps_of(journal, state))
    except CorruptState as error:
        unknown = dict.fromkeys(("rows", "failed", "version", "seconds"))
        return {**run, "state": "damaged", "error": str(error), **unknown}
    result = state.get("result", {})
    return {
        **run,
        "state": state["state"],
        "rows": rows,
        "failed": failed,
        "version": version_in(dataset, state),
        "seconds": result.get("seconds"),
    }


def _table(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return ""
    head = ["run", "state", "started (UTC)", "rows", "failed", "version", "seconds"]
    rows = [
        [
            r["run"],
            r["state"],
            (r["started"] or "")[:19].replace("T", " "),
            "" if r["rows"] is None else f"{r['rows']:,}",
            "" if r["failed"] is None else f"{r['failed']:,}",
            "" if r["version"] is None else str(r["version"]),
            "" if r["seconds"] is None else f"{r['seconds']:,.1f}",
        ]
        for r in runs
    ]
    return aligned([head, *rows], right=frozenset({3, 4, 5, 6}))
