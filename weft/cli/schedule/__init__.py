"""``weft schedule``: the jobs of a ``jobs.toml``, and running them when they are due."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.command import Group
from weft.cli.schedule import jobs, runs


@click.group("schedule", cls=Group)
@click.option(
    "-f", "--file", default="jobs.toml", metavar="FILE", help="The jobs.  [default: jobs.toml]"
)
@click.pass_context
def command(ctx: click.Context, file: str) -> None:
    """Run pipelines at their times, or when their input has changed; each time once.

    Any number of `serve` and `tick` may work on one file. See docs/schedules.md.
    """
    ctx.obj = Path(file).expanduser().absolute()


for _command in (
    jobs.add, jobs.ls, jobs.upcoming, jobs.pause, jobs.resume,
    runs.tick, runs.serve, runs.run_now, runs.history,
):  # fmt: skip
    command.add_command(_command)
