"""The fence: who lost a lease in its sleep finds out before it changes what others see.

Whoever holds a lease puts its check up (`weft.pipelines.runs.lease.hold`), and everything that
commits to a table, moves a tag or removes a version asks all of them right before. So no command
has to think of it, and none can forget to. What is left between the question and the deed is
closed where Lance compares and swaps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_checks: ContextVar[tuple[Callable[[], None], ...]] = ContextVar("weft_fence", default=())


@contextmanager
def fenced(check: Callable[[], None]) -> Iterator[None]:
    """Have `check` asked before everything that is done inside by this thread; it raises if that
    must not be done any more.

    >>> def lost() -> None:
    ...     raise RuntimeError("somebody else holds the lease")
    >>> with fenced(lost):
    ...     check_fence()
    Traceback (most recent call last):
    RuntimeError: somebody else holds the lease
    >>> check_fence()
    """
    token = _checks.set((*_checks.get(), check))
    try:
        yield
    finally:
        _checks.reset(token)


def check_fence() -> None:
    """Make sure that every lease is held that this thread took."""
    for check in _checks.get():
        check()
