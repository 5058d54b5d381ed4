"""Every exception weft raises, and whether trying again can help.

::

    WeftError
    ├── Permanent                 the same call will fail again
    │   ├── DefinitionError       an operator, pipeline or argument is wrong; nothing started
    │   ├── PlanError             the plan cannot run on this cluster or into this table
    │   ├── ContractError         an operator broke its own declaration while running
    │   ├── DataError             the data breaks what a step was promised; nothing is published
    │   ├── TooLarge              rows that must be together do not fit into memory together
    │   ├── BooksError            rows read != kept + dropped + failed; nothing is published
    │   ├── OverBudget            more rows failed than the error budget allows
    │   ├── Refused               weft will not do this without being told to
    │   └── RowError              one row's fault; it ends in the errors table
    └── Retryable                 the same call may succeed later
        ├── Busy                  another run holds the dataset's lease
        ├── CommitConflict        another commit came between
        └── Interrupted           the run was stopped; resume goes on with it

Each class carries the exit code that the command line answers with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class WeftError(Exception):
    """Base of all errors raised by weft."""

    exit_code = 1


class Permanent(WeftError):  # noqa: N818  a half of the tree, never raised itself
    """The same call will fail again."""


class Retryable(WeftError):  # noqa: N818  a half of the tree, never raised itself
    """The same call may succeed later."""


class DefinitionError(Permanent):
    """An operator, a pipeline or an argument is wrong. Nothing was started."""

    exit_code = 2
    placed = False
    """Whether the message begins with a line of the user's program."""


class PlanError(Permanent):
    """The plan cannot run on the cluster it was made for, or into the table that is there."""

    exit_code = 2


class ContractError(Permanent):
    """An operator returned something else than it declares."""


class DataError(Permanent):
    """The data breaks what a step was promised, such as keys that are there once."""


class TooLarge(Permanent):
    """Rows that must be in memory together do not fit into it."""


class BooksError(Permanent):
    """The books of a run do not balance, so it is not published."""


class OverBudget(Permanent):
    """More rows failed than the error budget allows."""

    exit_code = 4


class Refused(Permanent):
    """weft will not do this unless told to."""

    exit_code = 3


class RowError(Permanent):
    """One row cannot be processed. The row goes to the errors table; the run goes on."""


class Busy(Retryable):
    """Another run holds the lease of the dataset."""

    exit_code = 3


class CommitConflict(Retryable):
    """Somebody else committed to the dataset while this run was working on it."""


class Interrupted(Retryable):
    """The run was stopped before it was published. `weft resume` goes on with it."""


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The sentence that helps someone who mistyped a name; empty when nothing is near.

    >>> nearest("sharpnes", ["sharpness", "uri"])
    "Did you mean 'sharpness'?"
    >>> nearest("sharpnes", ["uri"])
    ''
    """
    close = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return f"Did you mean {close[0]!r}?" if close else ""


_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_QUERY = re.compile(r"(\w+://[^\s?'\"]+)\?[^\s'\"]+")
_NAMES = r"(?:token|secret|password|passwd|api[_-]?key|authorization|credentials?)"
_SECRET = re.compile(rf"(?i)([\w-]*{_NAMES})(\s*[=:]\s*)(bearer\s+)?\S+")
_SECRET_NAME = re.compile(rf"(?i)[\w-]*{_NAMES}")


def redact(text: str, limit: int = 500) -> str:
    """`text` without credentials, cut to `limit` characters: fit for a log, a table or a manifest.

    >>> redact("GET https://me:pw@host/a.jpg?sig=abc failed, token=xyz")
    'GET https://***@host/a.jpg?*** failed, token=***'
    >>> redact("--set hf_token=xyz")
    '--set hf_token=***'
    """
    text = _CREDENTIALS.sub("***@", text)
    text = _QUERY.sub(r"\1?***", text)
    text = _SECRET.sub(r"\1\2***", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def names_a_secret(name: str) -> bool:
    """Whether what is called `name` must not be shown: ``api_key``, ``hf_token``, ….

    >>> names_a_secret("hf_token"), names_a_secret("tokenizer"), names_a_secret("tokens")
    (True, False, False)
    """
    return _SECRET_NAME.fullmatch(name) is not None
