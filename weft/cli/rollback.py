"""``weft rollback DATASET VERSION``: readers see again what a run published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument

if TYPE_CHECKING:
    from weft.pipelines.runs.rollback import RolledBack


@click.command("rollback", cls=Command)
@dataset_argument
@click.argument("version", metavar="VERSION")
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
def command(dataset: str, version: str, *, dry_run: bool) -> None:
    """Go back to what a run published: dataset, ledger and errors together.

    VERSION is a version, a tag or a run, or how a run's id begins. What a run wrote together
    goes back together. Nothing is deleted: rolling back to the run that was there before undoes
    it. The next run processes what differs between that state and the source.
    """
    from weft.cli.datasets import find_dataset
    from weft.cli.versions import find_version
    from weft.pipelines.runs.rollback import rollback, run_at

    path = find_dataset(dataset).path
    run = run_at(path, find_version(path, version))
    found = rollback(path, run, dry_run=dry_run)
    document = {"run": run, "dry_run": dry_run, "datasets": [asdict(f) for f in found]}
    emit(document, "\n".join(_lines(found, dry_run=dry_run)))


def _lines(found: list[RolledBack], *, dry_run: bool) -> Iterator[str]:
    for one in found:
        if one.run == one.run_before:
            yield f"{one.dataset} is at run {one.run} already: version {one.before}."
            continue
        does = "would go back" if dry_run else "went back"
        number = "" if dry_run else f", now version {one.after}"
        yield (
            f"{one.dataset} {does} from run {one.run_before} (version {one.before}, "
            f"{one.rows_before:,} rows) to run {one.run} ({one.rows:,} rows){number}."
        )
    first = found[0]
    if not dry_run and first.run != first.run_before:
        yield f"Undo: weft rollback {first.dataset} {first.run_before}"
