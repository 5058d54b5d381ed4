"""``weft run TARGET``: run a pipeline and publish what it writes."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.command import Command
from weft.cli.options import parse_settings, run_options, target_argument


@click.command("run", cls=Command)
@target_argument
@run_options("ray")
@click.option("--fresh", is_flag=True, help="Start anew, whatever is there or unfinished.")
@click.option(
    "--retry-failed", is_flag=True, help="Process rows that failed again, though nothing changed."
)
def command(
    target: str,
    *,
    settings: tuple[str, ...],
    engine: str,
    address: str | None,
    max_failed: str | None,
    metrics_port: int | None,
    metrics_file: Path | None,
    fresh: bool,
    retry_failed: bool,
) -> None:
    """Run a pipeline and publish what it writes.

    TARGET is file.py, file.py:name or package.module:name. An unfinished run of the same
    recipe is gone on with; a dataset that is in sync is left as it is. If only the source has
    changed, new and changed rows are processed, and what was made of deleted ones goes.
    """
    from weft.cli.execute import execute
    from weft.cli.target import load

    pipeline, full = load(target, parse_settings(settings))
    execute(
        pipeline,
        full,
        engine=engine,
        address=address,
        max_failed=max_failed,
        metrics_port=metrics_port,
        metrics_file=metrics_file,
        fresh=fresh,
        retry_failed=retry_failed,
    )
