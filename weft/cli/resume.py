"""``weft resume DATASET``: go on with the unfinished run of a dataset."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument, parse_settings, run_options, set_option
from weft.errors import DefinitionError

if TYPE_CHECKING:
    from weft.cli.datasets import Dataset
    from weft.pipelines.dsl import Pipeline


@click.command("resume", cls=Command)
@dataset_argument
@set_option
@run_options(None)
def command(
    dataset: str,
    *,
    settings: tuple[str, ...],
    engine: str | None,
    address: str | None,
    if_busy: str,
    max_failed: str | None,
    metrics_port: int | None,
    metrics_file: Path | None,
) -> None:
    """Go on with the unfinished run of a dataset.

    The pipeline and its parameters are those that the run began with; --set gives again those
    that were not written down, such as passwords. A pipeline that has changed is refused.
    """
    from weft.cli.datasets import find_dataset
    from weft.cli.execute import execute
    from weft.pipelines.runs.work import unfinished

    found = find_dataset(dataset)
    journal = unfinished(found.state)
    if journal is None:
        emit({"dataset": found.path, "state": "nothing to resume"}, _nothing(found))
        return
    about = journal.about()
    pipeline, target = rebuild(found, about, parse_settings(settings))
    if pipeline.graph.recipe() != about["recipe"]:
        raise DefinitionError(_changed(about))
    engine = engine or about["engine"]
    execute(
        pipeline,
        target,
        engine=engine,
        address=address,
        if_busy=if_busy,
        max_failed=max_failed,
        metrics_port=metrics_port,
        metrics_file=metrics_file,
        publish_every=about.get("publish_every"),
    )


def _nothing(dataset: Dataset) -> str:
    runs = dataset.runs()
    if not runs:
        return f"Nothing to resume: {dataset.path} has no runs."
    state = runs[0].state()["state"]
    if state == "published" and (left := runs[0].about().get("put_off")):
        return (
            f"Run {runs[0].run} of {dataset.path} published a part and is over. {left:,} rows of "
            "the source were put off: `weft run` goes on with them."
        )
    start = " Start again with `weft run`." if state in ("over budget", "refused") else ""
    return f"Nothing to resume: run {runs[0].run}, the newest of {dataset.path}, is {state}.{start}"


def rebuild(
    dataset: Dataset, about: dict[str, Any], settings: dict[str, str]
) -> tuple[Pipeline, str]:
    """The pipeline as the run was started, from the folder it was started in."""
    from weft.cli.target import find, load

    if about["target"] is None:
        raise DefinitionError(
            f"Run {about['run']} of {dataset.path} was started from Python. Run the same pipeline "
            "there again, on the same dataset: it goes on with this run."
        )
    folder = about.get("folder")
    if folder and Path(folder).is_dir():
        os.chdir(folder)  # where relative paths in parameters and modules on the path start
    function, _ = find(about["target"])
    recorded = {
        name: value
        for name, value in about["parameters"].items()
        if any(p.name == name for p in function.parameters)
    }
    return load(about["target"], recorded | settings)


def _changed(about: dict[str, Any]) -> str:
    given = "  ".join(f"{k}={v}" for k, v in about["parameters"].items()) or "none"
    return (
        f"Run {about['run']} began with recipe {about['recipe'][:8]}, and {about['target']} now "
        f"has another: its code or what it is called with has changed.\nParameters: {given}\n"
        "To go on, restore the pipeline, or give again with --set what is not written down "
        "here.\nTo start anew and give up what is done: weft run --fresh"
    )
