"""``weft schedule``: the jobs of a ``jobs.toml``, and running them when they are due."""

from __future__ import annotations

from pathlib import Path

import click

from weft.cli.command import Command
from weft.cli.schedule import jobs, runs
from weft.errors import nearest


class Group(Command, click.Group):
    """A command that has commands; ``--json`` may stand before or after their names."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            message = f"No such command {name!r}. {nearest(name, self.commands)}".rstrip()
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)


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
