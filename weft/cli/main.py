"""The entry point: ``weft COMMAND``. A command's module is imported when it is asked for.

Exit codes: 0 done or in sync, 1 the run failed, 2 the pipeline or its arguments are wrong and
nothing started, 3 refused, 4 more rows failed than the error budget allows; ``weft plan``
answers 10 when there is work to do.
"""

from __future__ import annotations

import errno
import importlib
import signal
from typing import Any

import click

from weft import __version__
from weft.cli.command import debug_option, tell
from weft.pipelines.runs import drain

COMMANDS = {
    "run": "Run a pipeline and publish what it writes.",
    "check": "Check a pipeline for this machine; run nothing.",
    "plan": "Print what a run would do; exit 10 if there is work, 0 if in sync.",
    "accept": "Take a change of an operator's code for one that changes no value.",
    "preview": "Print the first rows a pipeline would write.",
    "resume": "Go on with the unfinished run of a dataset.",
    "retry": "Process the rows that failed once more.",
    "runs": "List the runs of a dataset.",
    "show": "Show one run in full.",
    "report": "Write a run's report: one HTML file.",
    "errors": "Show the rows that failed, and why.",
    "history": "List the versions of a dataset.",
    "diff": "Say what changed between two versions.",
    "rollback": "Go back to what a run published.",
    "compact": "Merge small files of a dataset.",
    "gc": "Remove files and versions that nobody needs.",
    "forget": "Erase rows and all that was made of them; prove it; keep them out.",
    "promote": "Show a version that gates refused.",
    "reject": "Give up a version that gates refused.",
    "why": "Say where a row came from, across datasets.",
    "search": "Find the rows nearest to words, a picture or another row.",
    "schedule": "Run pipelines at their times, or when their input has changed.",
    "submit": "Run a pipeline on a Ray cluster from afar, and follow it.",
    "manifest": "Print a pipeline as a RayJob or a RayCronJob for Kubernetes.",
    "sample": "Write a small multimodal data set to try things on.",
    "operators": "List the built-in operators, or explain one.",
    "doctor": "Check this machine; say what to fix.",
}
"""Every command and what it does; the command's module is ``weft.cli.NAME``."""


class Weft(click.Group):
    """The group of commands: loaded lazily, their errors told in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(f"weft.cli.{cmd_name}").command
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from weft.errors import nearest

            message = f"No such command {name!r}. {nearest(name, COMMANDS)}".rstrip()
            raise click.UsageError(message, ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader has seen enough: weft runs … | head
                raise
            ctx.exit(tell(error, ctx))
        except Exception as error:  # noqa: BLE001  the one place where errors become exit codes
            ctx.exit(tell(error, ctx))


cli = Weft(
    "weft",
    help="Typed multimodal data pipelines: run them, look at their runs and datasets.",
    params=[debug_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
click.version_option(__version__, prog_name="weft")(cli)


def main() -> None:
    """Run the command line. SIGTERM stops a run in order, to be resumed; Ctrl-C at once."""
    signal.signal(signal.SIGTERM, drain.on_sigterm)
    try:
        cli(prog_name="weft")
    except SystemExit as end:
        drain.leave(end.code)
