"""``weft report DATASET [RUN]``: a run as one HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument
from weft.errors import DefinitionError

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.observe.report import Report
    from weft.pipelines.runs.journal import Journal

_COLUMNS = ("_key", "outcome", "step", "operator", "error", "message")

_ROWS = 10_000
"""Rows of an errors table made into Python values at a time."""

Row = dict[str, str]


@click.command("report", cls=Command)
@dataset_argument
@click.argument("run", metavar="[RUN]", required=False)
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it.  [default: report.html in the run's folder]",
)
def command(dataset: str, run: str | None, output: Path | None) -> None:
    """Write a report of a run: one HTML file, to read, to print or to send.

    RUN is a run's id or how it begins; without it, the newest run. The file has everything in
    it, and no secrets: plan, rows, time, failures, parameters and versions.
    """
    from weft.cli.datasets import find_dataset, find_run
    from weft.pipelines.observe.report_page import page
    from weft.pipelines.runs.journal import write_whole

    found = find_dataset(dataset)
    journal = find_run(found, run)
    path = (output or journal.path / "report.html").absolute()
    if not path.parent.is_dir():
        raise DefinitionError(f"{path}: there is no folder {path.parent}. Make it first.")
    write_whole(path, page(report_of(found, journal)).encode("utf-8", "replace"))
    emit({"dataset": found.path, "run": journal.run, "report": str(path)}, str(path))


def report_of(dataset: Dataset, journal: Journal) -> Report:
    """All that a report tells, from the journal, its receipts and the errors tables."""
    from weft.cli.datasets import began, primary, state_of, steps_of
    from weft.pipelines.observe.report import make_report

    state, units = state_of(dataset, journal), primary(journal).known()
    about = {**journal.about(), "units": units}
    receipts = [(r["rows"], r["samples"]) for r in primary(journal).receipts()]
    started = began(journal.run)
    committed = list(_committed(about["datasets"], journal.run))
    return make_report(
        about=about,
        state=state,
        books=steps_of(journal, state),
        failed=_failed(committed) if committed else _samples(s for _, s in receipts),
        whole=bool(committed),
        units_done=len(receipts),
        rows_done=sum(rows for rows, _ in receipts),
        began="" if started is None else f"{started:%Y-%m-%d %H:%M:%S}",
    )


def _committed(datasets: list[str], run: str) -> Iterator[tuple[str, int]]:
    """The errors tables that a run committed, each with its version."""
    from weft.cli.datasets import Dataset
    from weft.pipelines import tables
    from weft.pipelines.runs.places import errors_uri

    for uri in datasets:
        table = errors_uri(Dataset(uri).state)
        try:
            yield table, tables.version_of(table, run)
        except DefinitionError:  # no such table, or nothing of this run in it
            continue


def _failed(committed: list[tuple[str, int]]) -> Iterator[Row]:
    """The failed rows of all sinks. What failed before a branch stands in the table of each."""
    from weft.pipelines import tables

    told: set[str] = set()
    for table, version in committed:
        rows = tables.read(table, version, columns=_COLUMNS)
        here = set(rows["step"].unique().to_pylist())
        for batch in rows.to_batches(max_chunksize=_ROWS):
            found = (r for r in batch.to_pylist() if r["step"] not in told)
            yield from ({"key": r.pop("_key"), **r} for r in found)
        told |= here


def _samples(receipts: Iterable[list[Row]]) -> Iterator[Row]:
    """The first failures of each unit, of a run that has no errors table yet."""
    samples = (sample for receipt in receipts for sample in receipt)
    return ({"outcome": "failed", "operator": "", **sample} for sample in samples)
