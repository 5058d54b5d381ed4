"""``weft gc DATASET``: remove files that nobody needs, and versions that are not kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from weft.cli.ages import Age
from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument
from weft.pipelines.resources import format_bytes

if TYPE_CHECKING:
    from weft.pipelines.runs.garbage import Collected


@click.command("gc", cls=Command)
@dataset_argument
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    metavar="N",
    help="Keep the versions of the newest N runs.",
)
@click.option(
    "--older-than", type=Age(), metavar="30d", help="Remove versions that are older than this."
)
@click.option("--abandon", is_flag=True, help="Give up a run that is not finished, too.")
@click.option("--dry-run", is_flag=True, help="Say what would go; remove nothing.")
def command(
    dataset: str,
    *,
    keep: int | None,
    older_than: timedelta | None,
    abandon: bool,
    dry_run: bool,
) -> None:
    """Remove files of a dataset that no version has and nobody will read.

    They are what runs left that ended without being published, and units that were done twice.
    Files of a run that may be gone on with stay, and files of unknown origin for a day.

    With --keep or --older-than, old versions go too; with both, those that neither keeps. What
    readers see, versions with a tag of your own, and what was replaced less than an hour ago stay.
    """
    from weft.cli.datasets import find_dataset
    from weft.errors import DefinitionError
    from weft.pipelines.runs.garbage import Retention, collect

    found = find_dataset(dataset)
    if not found.runs():
        raise DefinitionError(
            f"{found.path} has no runs: no run of weft wrote it, or {found.state} is gone, so "
            "nobody can tell whose its files are."
        )
    retention = Retention(keep, older_than)
    done = collect(found.path, found.state, retention, abandon=abandon, dry_run=dry_run)
    emit({**asdict(done), "total_bytes": done.total_bytes}, "\n".join(_lines(done)))


def _lines(done: Collected) -> Iterator[str]:
    if done.orphans or done.versions or done.runs or done.journals:
        does = "Would remove" if done.dry_run else "Removed"
        yield f"{does} {format_bytes(done.total_bytes)} of {done.dataset}:"
    else:
        yield f"Nothing to remove of {done.dataset}."
    if done.orphans:
        yield f"  {format_bytes(done.orphan_bytes)} in {_many(done.orphans, 'file')} of no version"
    if done.versions or done.runs:
        yield (
            f"  {format_bytes(done.version_bytes)} with {_many(done.versions, 'version')}, of "
            f"{_many(len(done.runs), 'run')}"
        )
    if done.journals:
        yield f"  {format_bytes(done.journal_bytes)} in journals of {_many(done.journals, 'run')}"
    for run in done.unfinished:
        yield f"Run {run} is not finished; its files stay: weft resume, or weft gc --abandon"
    if done.waiting:
        yield (
            f"{_many(done.waiting, 'file')} of no version, {format_bytes(done.waiting_bytes)}, "
            "may still be needed and stay for now"
        )
    if done.replaced:
        yield f"{_many(len(done.replaced), 'run')} replaced within the last hour stay for now"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
