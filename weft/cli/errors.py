"""``weft errors DATASET``: the rows that failed, grouped by reason and one by one."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument
from weft.errors import DefinitionError

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.runs.journal import Journal


@click.command("errors", cls=Command)
@dataset_argument
@click.option("--run", metavar="RUN", help="Of this run.  [default: the newest that has a table]")
@click.option(
    "--limit", type=click.IntRange(min=0), default=20, show_default=True, help="Rows to list."
)
def command(dataset: str, run: str | None, limit: int) -> None:
    """Show the rows that failed, and why: counts by step and error, then the rows.

    A run that is not finished has no table yet; of it the first failures of each unit are shown.
    """
    from weft.cli.datasets import find_dataset, find_run

    found = find_dataset(dataset)
    journal = _newest(found) if run is None else find_run(found, run)
    rows, whole = _rows(found, journal)
    groups = Counter((r["step"], r["operator"], r["error"], r["outcome"]) for r in rows)
    listed = sorted(rows, key=lambda r: (r["step"], r["error"], r["key"]))[:limit]
    document = {
        "dataset": found.path,
        "run": journal.run,
        "complete": whole,
        "failed": len(rows),
        "groups": [
            {"step": s, "operator": o, "error": e, "outcome": c, "rows": n}
            for (s, o, e, c), n in groups.most_common()
        ],
        "rows": listed,
    }
    emit(document, "\n".join(_lines(document)))


def _newest(dataset: Dataset) -> Journal:
    """The newest run with an errors table; of a dataset without one, the newest run."""
    from weft.cli.datasets import find_run

    newest = find_run(dataset, None)
    return next((j for j in dataset.runs() if _version(dataset, j) is not None), newest)


def _version(dataset: Dataset, journal: Journal) -> int | None:
    """The version of the errors table that a run committed; also one over budget, without tag."""
    from weft.pipelines import tables
    from weft.pipelines.runs.places import errors_uri

    try:
        return tables.version_of(errors_uri(dataset.state), journal.run)
    except DefinitionError:
        return None


def _rows(dataset: Dataset, journal: Journal) -> tuple[list[dict[str, Any]], bool]:
    """The failed rows of a run, and whether these are all of them."""
    from weft.cli.datasets import primary
    from weft.pipelines import tables
    from weft.pipelines.batch import KEY, SOURCE
    from weft.pipelines.engines.ledger import as_errors
    from weft.pipelines.runs.places import errors_uri

    version = _version(dataset, journal)
    if version is not None:
        rows = as_errors(tables.read(errors_uri(dataset.state), version)).drop_columns(SOURCE)
        return [{"key": r.pop(KEY), **r} for r in rows.to_pylist()], True
    samples = (s for receipt in primary(journal).receipts() for s in receipt["samples"])
    return [{"outcome": "failed", "operator": "", **s} for s in samples], False


def _lines(found: dict[str, Any]) -> list[str]:
    if not found["failed"]:
        end = "" if found["complete"] else " so far; it is not finished"
        return [f"No row failed in run {found['run']}{end}."]
    head = f"{found['failed']:,} row{'s' * (found['failed'] != 1)} failed in run {found['run']}"
    if not found["complete"]:
        head += ", by the first failures of each unit; it is not finished"
    table = [["rows", "step", "operator", "error", "outcome"]]
    table += [
        [f"{g['rows']:,}", g["step"], g["operator"], g["error"], g["outcome"]]
        for g in found["groups"]
    ]
    lines = [f"{head}:", aligned(table, right=frozenset({0}))]
    for row in found["rows"]:
        ended = f" ({row['signal']}, tried {row['attempts']}x)" if row.get("signal") else ""
        lines += ["", f"{row['key']}  at {row['step']}"]
        lines += [f"  {row['error']}{ended}: {row['message']}"]
    left = found["failed"] - len(found["rows"])
    return lines + (["", f"and {left:,} more: --limit {found['failed']}"] if left else [])
