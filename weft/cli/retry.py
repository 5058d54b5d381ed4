"""``weft retry DATASET``: process the rows that failed once more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument, parse_settings, run_options, set_option
from weft.errors import DefinitionError, Refused

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.runs.journal import Journal


@click.command("retry", cls=Command)
@dataset_argument
@set_option
@run_options(None)
def command(
    dataset: str,
    *,
    settings: tuple[str, ...],
    engine: str | None,
    **options: Any,
) -> None:
    """Process the rows that failed once more, and none of the others.

    The pipeline and its parameters are those of the run that readers see. Rows that became null
    by on_error="null" count as failed; rows of the source that have changed are processed too.
    """
    from weft.cli.datasets import find_dataset, find_run
    from weft.cli.execute import execute
    from weft.cli.resume import rebuild

    found = find_dataset(dataset)
    run = _seen(found)
    journal = find_run(found, run)
    failed = _failed(found, run)
    if not failed:
        text = f"Nothing failed in run {run}, which readers of {found.path} see."
        emit({"dataset": found.path, "run": run, "state": "nothing failed"}, text)
        return
    _refuse_unfinished(found)
    about = journal.about()
    pipeline, target = rebuild(found, about, parse_settings(settings))
    if pipeline.graph.recipe() != about["recipe"]:
        raise DefinitionError(
            f"Run {run} made {found.path} with recipe {about['recipe'][:8]}, and {target} now has "
            "another: its code or what it is called with has changed. A run processes what "
            f"depends on that, failed rows too: weft run {target}"
        )
    execute(
        pipeline,
        target,
        engine=engine or about["engine"],
        **options,
        retry_failed=True,
    )


def _seen(dataset: Dataset) -> str:
    """The run that readers see."""
    from weft.pipelines import tables

    seen = tables.latest(dataset.path)
    if seen is None or tables.RUN_PROPERTY not in seen[1]:
        raise DefinitionError(
            f"No run has published {dataset.path}, so there is nothing to try again. "
            "`weft runs` lists those that began."
        )
    return seen[1][tables.RUN_PROPERTY]


def _failed(dataset: Dataset, run: str) -> int:
    from weft.pipelines import tables
    from weft.pipelines.runs.places import errors_uri

    return int(tables.open_table(errors_uri(dataset.state), f"run-{run}").count_rows())


def _refuse_unfinished(dataset: Dataset) -> None:
    from weft.errors import Held
    from weft.pipelines.runs.lease import refuse_if_held
    from weft.pipelines.runs.work import unfinished

    try:
        refuse_if_held(dataset.state)
    except Held:  # it is being worked on: see --if-busy
        return
    open_run: Journal | None = unfinished(dataset.state)
    if open_run is not None:
        raise Refused(
            f"Run {open_run.run} of {dataset.path} is not finished, and a retry would go on with "
            f"it instead. Go on with it first: weft resume {dataset.path}"
        )
