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
    │   │   └── GateFailed        a new version is not as expected; readers do not see it
    │   ├── CorruptState          a file of a run's state is not as it was written
    │   ├── StorageDenied         the storage does not let us write: permissions, read-only
    │   └── RowError              one row's fault; it ends in the errors table
    │       ├── RowCrashed        at this row the process of its operator ended, twice
    │       ├── RowTimeout        the operator took longer than it may for a row
    │       └── RowOutOfMemory    the operator asked for more memory than it may have
    └── Retryable                 the same call may succeed later
        ├── Busy                  another run holds the dataset's lease
        │   └── Held              it did before anything was begun here
        ├── CommitConflict        another commit came between
        ├── StorageFull           no space is left, or a limit on space is reached
        └── Interrupted           the run was stopped; resume goes on with it

Each class carries the exit code that the command line answers with.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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


class GateFailed(Refused):
    """A new version is not as its gates expect. It is committed, and readers do not see it."""


class CorruptState(Permanent):
    """A file that runs keep beside a dataset is not as it was written: cut short or altered."""


class StorageDenied(Permanent):
    """The storage does not let this process write: permissions, or a read-only mount."""


class RowError(Permanent):
    """One row cannot be processed. The row goes to the errors table; the run goes on.

    `signal` is what ended the process that had the row at hand: a signal's name, ``exit 1``,
    ``timeout``; ``None`` if none ended. `attempts` is how often the row was tried.
    """

    def __init__(self, *words: object, signal: str | None = None, attempts: int = 1) -> None:
        super().__init__(*words)
        self.signal = signal
        self.attempts = attempts


class RowCrashed(RowError):  # noqa: N818  named like the other ends of a row
    """At this row the process of its operator ended, each time that it was tried."""


class RowTimeout(RowError):  # noqa: N818  named like the other ends of a row
    """The operator had no answer to this row within the time it may take."""


class RowOutOfMemory(RowError):  # noqa: N818  named like the other ends of a row
    """The operator asked for more memory at this row than it may have."""


class Busy(Retryable):
    """Another run holds the lease of the dataset."""

    exit_code = 3


class Held(Busy):
    """Somebody who lives holds the lease of the dataset, and nothing was begun.

    `state` is the folder that the lease is in, `holder` what it says: run, host, pid, epoch.
    """

    def __init__(self, message: str, state: Path, holder: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.state = state
        self.holder = holder


class CommitConflict(Retryable):
    """Somebody else committed to the dataset while this run was working on it."""


class StorageFull(Retryable):
    """No space is left where a run writes, or a quota or the limit of a file is reached."""


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
    text = text[: 4 * limit]  # looking for names takes the square of a word's length
    text = _CREDENTIALS.sub("***@", text)
    text = _QUERY.sub(r"\1?***", text)
    text = _SECRET.sub(r"\1\2***", text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def words(error: BaseException) -> str:
    """What an exception says, fit for a log; one that cannot say it is told by its type alone.

    >>> words(ValueError("token=xyz")), words(ValueError())
    ('token=***', 'ValueError()')
    """
    try:
        return redact(str(error) or repr(error))
    except Exception:  # noqa: BLE001  its __str__ is code of whoever wrote the exception
        return f"a {type(error).__name__} that cannot be put into words"


def names_a_secret(name: str) -> bool:
    """Whether what is called `name` must not be shown: ``api_key``, ``hf_token``, ….

    >>> names_a_secret("hf_token"), names_a_secret("tokenizer"), names_a_secret("tokens")
    (True, False, False)
    """
    return _SECRET_NAME.fullmatch(name) is not None
