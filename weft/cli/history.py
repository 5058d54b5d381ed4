"""``weft history DATASET``: the versions of a dataset, newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument

if TYPE_CHECKING:
    from weft.pipelines.tables import Version


@click.command("history", cls=Command)
@dataset_argument
@click.option("--limit", type=click.IntRange(min=1), help="At most so many versions.")
def command(dataset: str, limit: int | None) -> None:
    """List the versions of a dataset, newest first: tags, rows, run, recipe, time."""
    from weft.cli.datasets import find_dataset
    from weft.pipelines import tables

    found = find_dataset(dataset)
    if not tables.exists(found.path):
        emit({"dataset": found.path, "versions": []}, f"{found.path} has no versions yet.")
        return
    versions = tables.history(found.path, limit)
    table = [["version", "rows", "time (UTC)", "run", "recipe", "tags"]]
    table += [_row(v) for v in versions]
    text = aligned(table, right=frozenset({0, 1}))
    emit({"dataset": found.path, "versions": [_document(v) for v in versions]}, text)


def _document(version: Version) -> dict[str, Any]:
    return {
        "version": version.number,
        "tags": list(version.tags),
        "rows": version.rows,
        "run": version.run,
        "recipe": version.properties.get("weft.recipe"),
        "time": version.time.isoformat(),
    }


def _row(version: Version) -> list[str]:
    return [
        str(version.number),
        f"{version.rows:,}",
        f"{version.time:%Y-%m-%d %H:%M:%S}",
        version.run or "",
        version.properties.get("weft.recipe", "")[:8],
        ", ".join(tag for tag in version.tags if tag != f"run-{version.run}"),
    ]
