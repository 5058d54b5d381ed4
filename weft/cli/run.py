"""``weft run TARGET``: run a pipeline and publish what it writes."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.command import Command
from weft.cli.options import parse_settings, run_options, target_argument
from weft.errors import DefinitionError


@click.command("run", cls=Command)
@target_argument
@run_options("ray")
@click.option("--fresh", is_flag=True, help="Start anew, whatever is there or unfinished.")
@click.option(
    "--retry-failed", is_flag=True, help="Process rows that failed again, though nothing changed."
)
@click.option(
    "--max-recompute",
    type=click.IntRange(0),
    default=100_000,
    show_default=True,
    metavar="ROWS",
    help="Refuse when the pipeline changed and more rows than this would be computed again.",
)
@click.option(
    "--publish-every",
    metavar="10m",
    help="Show readers what is done about so often, and not only all of it at the end.",
)
@click.option("--yes", is_flag=True, help="Compute again whatever has to be.")
def command(
    target: str,
    *,
    settings: tuple[str, ...],
    engine: str,
    address: str | None,
    if_busy: str,
    max_failed: str | None,
    metrics_port: int | None,
    metrics_file: Path | None,
    fresh: bool,
    retry_failed: bool,
    max_recompute: int,
    publish_every: str | None,
    yes: bool,
) -> None:
    """Run a pipeline and publish what it writes.

    TARGET is file.py, file.py:name or package.module:name. An unfinished run of the same
    recipe is gone on with; a dataset that is in sync is left as it is. Otherwise what differs is
    processed: rows of the source that are new, changed or gone, and, if the pipeline changed,
    the fields that depend on it. `weft plan` says what that is.
    """
    from weft.cli.execute import execute
    from weft.cli.target import load

    pipeline, full = load(target, parse_settings(settings))
    execute(
        pipeline,
        full,
        engine=engine,
        address=address,
        if_busy=if_busy,
        max_failed=max_failed,
        metrics_port=metrics_port,
        metrics_file=metrics_file,
        fresh=fresh,
        retry_failed=retry_failed,
        max_recompute=None if yes else max_recompute,
        publish_every=None if publish_every is None else _seconds(publish_every),
    )


def _seconds(text: str) -> float:
    from weft.pipelines.schedules.policy import duration

    try:
        return duration(text).total_seconds()
    except ValueError:
        raise DefinitionError(
            f"--publish-every {text!r}; expected a time such as 90s, 10m or 2h."
        ) from None
