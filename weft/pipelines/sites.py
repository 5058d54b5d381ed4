"""Lines of the user's program: every refusal names one."""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft.errors import DefinitionError

_PACKAGE = str(Path(__file__).parent.parent) + os.sep


@dataclass(frozen=True)
class Site:
    """A line of the user's program."""

    file: str
    line: int

    @property
    def text(self) -> str:
        """The line itself."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def call_site() -> Site:
    """The innermost line on the stack that is not weft's own."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return Site(frame.f_code.co_filename, frame.f_lineno)


def definition_site(function: Callable[..., Any]) -> Site:
    """The line that starts with ``def``; the code object itself begins at the decorators."""
    code = function.__code__
    line = code.co_firstlineno
    while text := linecache.getline(code.co_filename, line):
        if text.lstrip().startswith(("def ", "async def ")):
            return Site(code.co_filename, line)
        line += 1
    return Site(code.co_filename, code.co_firstlineno)


def at(site: Site, error: DefinitionError | str) -> DefinitionError:
    """`error` with the user's line in front of it."""
    if isinstance(error, DefinitionError) and error.placed:
        return error  # of a verb that an operator made of verbs said: it has the user's line
    text = f"\n    {site.text}" if site.text else ""
    made = DefinitionError(f"{site}{text}\n{error}")
    made.placed = True
    return made
