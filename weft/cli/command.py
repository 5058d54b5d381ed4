"""What all commands share: ``--json`` and ``--debug``, output, and how an error is told.

With ``--json`` a command leaves one JSON document on stdout and nothing else: what a user's
pipeline prints meanwhile goes to stderr. An error leaves a document too.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import traceback
from typing import Any, TextIO

import click

from weft.errors import WeftError, nearest

_STDOUT = "weft.stdout"  # with --json: where the document goes
_DEBUG = "weft.debug"


class Command(click.Command):
    """A command of weft."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.params += [
            click.Option(
                ["--json"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_note_json,
                help="One JSON document on stdout, everything else on stderr.",
            ),
            debug_option(),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        if _STDOUT not in ctx.meta:
            return super().invoke(ctx)
        with contextlib.redirect_stdout(sys.stderr):
            return super().invoke(ctx)


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


def debug_option() -> click.Option:
    """``--debug``, which ``weft`` and each of its commands take."""
    return click.Option(
        ["--debug"],
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_note_debug,
        help="Show the traceback of an error. WEFT_DEBUG=1 does the same.",
    )


def _note_json(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        ctx.meta[_STDOUT] = sys.stdout


def _note_debug(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        ctx.meta[_DEBUG] = True


def emit(document: Any, text: str) -> None:
    """The answer of a command: the document with ``--json``, otherwise the text."""
    stdout: TextIO | None = click.get_current_context().meta.get(_STDOUT)
    if stdout is None:
        click.echo(text)
    else:
        click.echo(json.dumps(_plain(document), indent=1, ensure_ascii=False), file=stdout)


def tell(error: Exception, ctx: click.Context) -> int:
    """Print an error for people, and for programs with ``--json``; the exit code."""
    code = error.exit_code if isinstance(error, WeftError) else 1
    if not isinstance(error, WeftError) or _debug(ctx):
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    else:
        click.echo("\n".join([f"error: {error}", *getattr(error, "__notes__", ())]), err=True)
    stdout: TextIO | None = ctx.meta.get(_STDOUT)
    if stdout is not None:
        told = {"type": type(error).__name__, "message": str(error)}
        click.echo(json.dumps({"error": told, "exit_code": code}, indent=1), file=stdout)
    return code


def aligned(rows: list[list[str]], right: frozenset[int] = frozenset()) -> str:
    """Rows as a table; the columns numbered in `right` are numbers.

    >>> print(aligned([["step", "rows"], ["read", "12"]], right=frozenset({1})))
    step  rows
    read    12
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _debug(ctx: click.Context) -> bool:
    return _DEBUG in ctx.meta or os.environ.get("WEFT_DEBUG", "0") not in ("", "0")


def _plain(value: Any) -> Any:
    """`value` as JSON can say it: NaN and infinities, which it cannot, are text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
