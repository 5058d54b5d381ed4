"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from weft.errors import DefinitionError

F = TypeVar("F", bound=Callable[..., Any])


def target_argument(function: F) -> F:
    """TARGET and the values of its parameters."""
    return click.argument("target", metavar="TARGET")(set_option(function))


def set_option(function: F) -> F:
    """``--set name=value``, again for each parameter."""
    return click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Set a parameter of the pipeline; repeat for more.",
    )(function)


def dataset_argument(function: F) -> F:
    """DATASET: a path."""
    return click.argument("dataset", metavar="DATASET")(function)


def run_options(default_engine: str | None) -> Callable[[F], F]:
    """Where to run, how many rows may fail, and where metrics go."""

    def decorate(function: F) -> F:
        shown = "ray" if default_engine else "the one the run began on"
        for option in (
            click.option(
                "--metrics-file",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE.prom",
                help="Leave Prometheus metrics here when the run ends, however it ends.",
            ),
            click.option(
                "--metrics-port",
                type=click.IntRange(0, 65535),
                metavar="PORT",
                help="Serve Prometheus metrics on 127.0.0.1 while the run lasts; 0: a free port.",
            ),
            click.option(
                "--max-failed",
                metavar="5%|100",
                help="Stop when more rows fail. Default: more than 10 rows and 10% of all.",
            ),
            click.option(
                "--if-busy",
                type=click.Choice(["refuse", "wait", "share"]),
                default="refuse",
                show_default=True,
                help="When somebody else works on the dataset: exit 3, wait, or share its units.",
            ),
            click.option("--address", metavar="ADDRESS", help="A Ray cluster to run on."),
            click.option(
                "--engine",
                type=click.Choice(["ray", "local"]),
                default=default_engine,
                help=f"Where to run; local is this process.  [default: {shown}]",
            ),
        ):
            function = option(function)
        return function

    return decorate


def parse_settings(settings: tuple[str, ...]) -> dict[str, str]:
    """``name=value`` pairs as a dict.

    >>> parse_settings(("source=*.jpg", "note=a=b"))
    {'source': '*.jpg', 'note': 'a=b'}

    Raises:
        DefinitionError: one is not a pair, or a name is given twice.
    """
    values: dict[str, str] = {}
    for setting in settings:
        name, separator, value = setting.partition("=")
        if not separator or not name:
            raise DefinitionError(
                f"--set {setting}: expected NAME=VALUE, such as --set out=a.lance"
            )
        if name in values:
            raise DefinitionError(f"--set gives {name!r} twice: {values[name]!r} and {value!r}.")
        values[name] = value
    return values
