"""``weft compact DATASET``: fewer, larger files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument
from weft.pipelines.resources import format_bytes

if TYPE_CHECKING:
    from weft.pipelines.compaction import Compaction


@click.command("compact", cls=Command)
@dataset_argument
@click.option("--dry-run", is_flag=True, help="Say what would be merged; write nothing.")
def command(dataset: str, *, dry_run: bool) -> None:
    """Merge small files of a dataset, and take deleted rows out of its files.

    Files grow to about 512 MB, media included. Rows, their keys and indices stay, and the next
    run goes on as before. The files that were there stay for the versions that have them, until
    `weft gc --keep` drops those.
    """
    from weft.cli.datasets import find_dataset
    from weft.pipelines.runs.compact import compact

    found = find_dataset(dataset)
    done = compact(found.path, found.state, dry_run=dry_run)
    document = {"dataset": found.path, "dry_run": dry_run, "tables": [asdict(t) for t in done]}
    emit(document, "\n".join(_lines(done, dry_run=dry_run)))


def _lines(done: list[Compaction], *, dry_run: bool) -> Iterator[str]:
    for one in done:
        if not one.rewritten:
            yield f"{one.uri}: nothing to do; {one.before:,} fragment{'s' * (one.before != 1)}"
            continue
        does = "would become" if dry_run else "became"
        about = "about " if dry_run else ""
        yield (
            f"{one.uri}: {one.before:,} fragment{'s' * (one.before != 1)} {does} {about}"
            f"{one.after:,}; {format_bytes(one.bytes)} written anew"
        )
        if not one.order_kept:
            yield "  The order of rows changes: what was merged comes last."
