"""``weft history DATASET``: the versions of a dataset, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument
from weft.errors import CorruptState

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.runs.journal import Journal
    from weft.pipelines.tables import Version

_SCREEN = 20

_COUNTS = ("new", "changed", "deleted", "retried")


@click.command("history", cls=Command)
@dataset_argument
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=_SCREEN,
    show_default=True,
    help="At most so many versions.",
)
def command(dataset: str, limit: int) -> None:
    """List the versions of a dataset, newest first: what made each, how many rows, which tags."""
    from weft.cli.datasets import find_dataset
    from weft.pipelines import tables

    found = find_dataset(dataset)
    if not tables.exists(found.path):
        emit({"dataset": found.path, "versions": []}, f"{found.path} has no versions yet.")
        return
    versions = tables.history(found.path, limit + 1)
    listed = _documents(found, versions[:limit])
    table = [["version", "rows", "time (UTC)", "run", "what", "tags"], *map(_row, listed)]
    text = aligned(table, right=frozenset({0, 1}))
    if len(versions) > limit:
        text += f"\nand older ones: --limit {5 * limit}"
    emit({"dataset": found.path, "versions": listed}, text)


def _documents(dataset: Dataset, versions: list[Version]) -> list[dict[str, Any]]:
    from weft.pipelines import tables

    table = tables.open_table(dataset.path)
    ends = {j.run: _ended(dataset, j) for j in dataset.runs()}
    return [
        {
            "version": version.number,
            "tags": list(version.tags),
            "rows": version.rows,
            "run": version.run,
            "what": _what(table, version, ends.get(version.run or "", "")),
            "recipe": version.properties.get("weft.recipe"),
            "time": version.time.isoformat(),
        }
        for version in versions
    ]


def _what(table: Any, version: Version, ended: str) -> str:
    """What a version is, in a few words."""
    if version.run is not None:
        return ended
    try:
        made = table.read_transaction(version.number).operation
    except TypeError:  # see `tables._properties`: a compaction that remapped an index
        return "compacted"
    match type(made).__name__:
        case "Restore":
            return f"version {made.version} again"
        case "Rewrite":
            return "compacted"
        case "BaseOperation":  # a compaction reserves numbers of fragments
            return "compaction, prepared"
        case "CreateIndex":
            return "indexed"
        case "Overwrite" if version.number == 1 and version.rows == 0:
            return "made, empty"
    return "changed outside of a run"


def _ended(dataset: Dataset, journal: Journal) -> str:
    """What a run did, in a few words; nothing if its journal does not say."""
    try:
        state = journal.state()
    except CorruptState:
        return ""
    result = state.get("result", {})
    counts = result.get("increment", {})
    told = [f"{counts[count]:,} {count}" for count in _COUNTS if counts.get(count)]
    steps = {w["step"] for w in result.get("writes", ()) if w["dataset"] == dataset.path}
    for step, done in result.get("recomputed", {}).items():
        if step in steps:
            told.append(f"{', '.join(done['fields'])} of {done['rows']:,} rows")
    put_off = result.get("put_off", 0)
    everything = "the first rows" if put_off else "all rows"
    what = ", ".join(told) or ("nothing changed" if counts else everything)
    what += f"; {put_off:,} were to come" if put_off else ""
    return what if state["state"] == "published" else f"{what}; {state['state']}"


def _row(version: Mapping[str, Any]) -> list[str]:
    return [
        str(version["version"]),
        f"{version['rows']:,}",
        version["time"][:19].replace("T", " "),
        version["run"] or "",
        version["what"],
        ", ".join(tag for tag in version["tags"] if not tag.startswith("run-")),
    ]
