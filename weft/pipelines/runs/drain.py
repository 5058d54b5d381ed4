"""Stopping in order: what SIGTERM asks of a run.

A machine that is taken away says so with SIGTERM and leaves some 30 s. The run begins no more
units, lets those under way end for 20 s, and is noted as interrupted: its receipts are kept, its
lease is given back, and any machine can go on at once. While it publishes, which takes less than
that, it goes on to the end. A second SIGTERM, or Ctrl-C, stops it where it is.

The command line hears SIGTERM; a program that calls `pipeline.run` may do the same:
``signal.signal(signal.SIGTERM, on_sigterm)``, in its main thread.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

GRACE_SECONDS = 20.0
"""How long units that were begun may take to end."""

LAST_SECONDS = 28.0
"""When the process ends, whatever it does: before the 30 s are over after which Kubernetes and
others kill it. Code that lets no Python run and began before SIGTERM does not hear it, though."""

_ACTIVE: list[Drain] = []


class Drain:
    """A run that can be stopped in order, while this is entered.

    `stop` is the file that keeps its workers from beginning units. `tell` is given a sentence.
    """

    def __init__(self, stop: Path | None, tell: Callable[[str], None]) -> None:
        self.asked = False
        self._stop = stop
        self._tell = tell
        self._publishing = False
        self._timed = False

    def __enter__(self) -> Self:
        _ACTIVE.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ACTIVE.remove(self)
        if self._timed:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._stop is not None:
            self._stop.unlink(missing_ok=True)

    def ask(self) -> None:
        """Ask the run to stop. Called in the main thread, between any two of its instructions."""
        self.asked = True
        if self._publishing:
            return
        if self._stop is not None:
            with suppress(FileNotFoundError):  # no unit is left
                self._stop.touch()
        self._timed = True
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)
        faulthandler.dump_traceback_later(LAST_SECONDS, exit=True, file=_nowhere())
        said = "SIGTERM: no more units are begun; those under way may end, for 20 s."
        threading.Thread(target=self._tell, args=(said,), daemon=True).start()

    def check(self) -> None:
        """Stop here if that was asked for.

        Raises:
            KeyboardInterrupt: it was.
        """
        if self.asked:
            raise KeyboardInterrupt

    def told(self) -> dict[str, str]:
        """Why it stopped, for the journal."""
        return {"reason": "SIGTERM"} if self.asked else {}

    def publishing(self) -> None:
        """From here on the run goes on to its end."""
        self._publishing = True  # first: a signal may come between any two instructions
        self.check()


def on_sigterm(*_: Any) -> None:
    """Have the runs that are going on stop in order; stop at once if they do already."""
    waiting = [drain for drain in _ACTIVE if not drain.asked]
    if not waiting:
        raise KeyboardInterrupt
    for drain in waiting:
        drain.ask()


def leave(code: Any) -> NoReturn:
    """End the process, with units that were stopped in the middle still under way in threads."""
    if any(t.name.startswith(("weft-task", "weft-stage")) for t in threading.enumerate()):
        atexit._run_exitfuncs()  # what the engine has left to do; the threads are not waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
    raise SystemExit(code)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _nowhere() -> Any:
    """Where tracebacks go that help nobody. It stays open, as `faulthandler` wants."""
    return os.open(os.devnull, os.O_WRONLY)
