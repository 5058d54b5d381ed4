"""Operators that may take their process with them run in one of their own.

A worker that has isolated operators has one child process for all of them (`child`), made when
the first row comes. Rows go there and answers come back through shared memory (`wire`). While
the child works, the worker waits, so the two hold one CPU. The child notes the row that it has
at hand, so that an end names its row:

* it crashes, by a signal or by leaving: the rest of the rows go to the next child, beginning with
  that row once more, since what one row breaks may come out at the next, and a crash cannot be
  told from an end by somebody else's hand, such as the kernel's when memory is short. A row at
  which two children in a row end is a `RowCrashed`;
* it has no answer within `row_seconds`: it is killed, and the row is a `RowTimeout`, at once;
* it asks for more memory than it may have: the row is a `RowOutOfMemory`, and the child lives.

Answers that were given before an end are kept: no row is answered twice but the one at fault.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from weft.errors import ContractError, Retryable, RowCrashed, RowError, RowTimeout
from weft.pipelines.engines import child
from weft.pipelines.engines.process import Answer, End, Process, Ticket
from weft.pipelines.graph import Apply
from weft.pipelines.operator import Expand, Filter, Map, Operator

ROW_SECONDS = 60.0
"""How long an operator that is isolated may take for a row, unless it says otherwise. A hang
costs this much once; the slowest honest files, an hour of video, take a fraction of it."""

MEMORY_BYTES = 4 << 30
"""The least that a child may take, over what it has when its operators are set up. It gets as much
as the operator declares, or twice its CPU's share of the machine, if that is more. The largest
image that is decoded by default needs less than 1 GiB, a video twice its file."""

TRIES = 2
"""How many children may end at one row."""

FAMILY_DEATHS = 3
"""How many children of one row may end their process; the rest are not tried. A broken video
would else cost a process for each of its frames."""

LOST = 3
"""How many times in a row a child may end with no row at hand."""

_PROCESSES: weakref.WeakValueDictionary[tuple[Any, ...], Process] = weakref.WeakValueDictionary()
"""The children of each thread; its runners hold them."""


class Isolated:
    """An operator in a child process.

    `seconds` is how long it may take for one row; ``None``: as long as it likes.
    """

    def __init__(self, operator: Operator, seconds: float | None, *, network: bool) -> None:
        self.name = operator.name
        self.seconds = seconds
        memory = memory_limit(operator)
        key = (os.getpid(), threading.get_ident(), network, memory)
        process = _PROCESSES.get(key) or Process(network=network, memory=memory)
        self.process = _PROCESSES[key] = process
        self.number = process.add(operator)
        self._listed: dict[int, tuple[str, Any, int]] = {}  # task -> method, row, generation
        self._unlisted: dict[int, Answer] = {}  # what failed when it was listed once more
        self._forget = True

    def each(self, method: str, rows: Iterable[Any], weight: int = 1) -> list[Answer]:
        """What `method` answers to each row. `weight` is how many rows each of them stands for."""
        tasks = [(self.process.task(), row) for row in rows]
        seconds = None if self.seconds is None else self.seconds * weight

        def ask(some: Sequence[int]) -> tuple[list[Answer], End | None]:
            found, end = self._ask(method, [tasks[i] for i in some], seconds)
            for i in some[: len(found)]:
                if method.startswith("expand"):
                    self._listed[tasks[i][0]] = (method, tasks[i][1], self.process.generation)
            return found, end

        with self.process.lock:
            return self._all(len(tasks), ask, seconds)

    def make(self, wanted: Sequence[Sequence[Ticket]]) -> list[Answer]:
        """The values of each child that were left for later. A clock runs for each child.

        What a child process that ended had kept for later is listed once more, not made.
        """
        task, ended = self.process.task(), Counter[int]()

        def ask(some: Sequence[int]) -> tuple[list[Answer], End | None]:
            for place, i in enumerate(some):
                if (answer := self._refused(wanted[i], ended)) is not None:
                    if not place:
                        return [answer], None
                    some = some[:place]
                    break
            if any(self._stale(t) for i in some for t, _ in wanted[i]):
                return [], None  # a listing ended the child: all is listed once more
            found, end = self._ask(child.MAKE, [(task, wanted[i]) for i in some], self.seconds)
            if end is not None and len(found) < len(some):
                weight = TRIES if end.how == "timeout" else 1
                ended.update(dict.fromkeys({t for t, _ in wanted[some[len(found)]]}, weight))
            return found, end

        with self.process.lock:
            return self._all(len(wanted), ask, self.seconds)

    def forget(self) -> None:
        """Nobody will ask for what was left for later."""
        self._forget = True
        self._listed.clear()
        self._unlisted.clear()

    def _stale(self, task: int) -> bool:
        return self._listed[task][2] != self.process.generation

    def _ask(
        self, method: str, tasks: Sequence[tuple[int, Any]], seconds: float | None
    ) -> tuple[list[Answer], End | None]:
        forget, self._forget = self._forget, False
        return self.process.ask(self.number, method, tasks, seconds, forget=forget)

    def _refused(self, tickets: Sequence[Ticket], ended: Counter[int]) -> Answer | None:
        """Why a child is not tried. What the worker does not have is listed for it on the way."""
        for task in {t for t, _ in tickets}:
            if ended[task] >= FAMILY_DEATHS * TRIES:
                return None, RowCrashed(
                    f"{self.name}: {FAMILY_DEATHS} children of its row ended their process; this "
                    "one was not tried. Fetch the file again, or drop the row.",
                    attempts=0,
                )
            if task not in self._unlisted and self._stale(task):
                self._list_again(task)
            if task in self._unlisted:
                return self._unlisted[task]
        return None

    def _list_again(self, task: int) -> None:
        """Have the worker list a row's children as another one did before it ended."""
        method, row, _ = self._listed[task]
        [(_, error)] = self._all(
            1, lambda _: self._ask(method, [(task, row)], self.seconds), self.seconds
        )
        self._listed[task] = (method, row, self.process.generation)
        if error is not None:
            self._unlisted[task] = (None, error)

    def _all(
        self,
        count: int,
        ask: Callable[[Sequence[int]], tuple[list[Answer], End | None]],
        seconds: float | None,
    ) -> list[Answer]:
        """The answers to all tasks, whatever becomes of those who answer."""
        answers: list[Answer] = []
        tries, lost = 0, 0
        while len(answers) < count:
            rest = range(len(answers), min(count, len(answers) + child.MOST_ROWS))
            found, end = ask(rest)
            if found:
                if tries and found[0][1] is not None:
                    found[0][1].attempts = tries + 1  # type: ignore[attr-defined]
                answers += found
                tries = lost = 0
            if end is None or len(answers) == count:
                continue
            if end.state < 0:
                lost = self._lost(end, lost)
                continue
            tries += 1
            if end.how == "timeout" or tries == TRIES:
                answers.append((None, self._died(end, tries, seconds)))
                tries = lost = 0
        return answers

    def _lost(self, end: End, lost: int) -> int:
        """Count a child that ended with no row at hand.

        Raises:
            ContractError: for the third time, and while operators were set up.
            Retryable: for the third time; the machine may be short of memory.
        """
        if lost + 1 == LOST and end.state == child.SETUP:
            raise ContractError(
                f"{self.name}: its process ended by {end.how} while operators were set up, each of "
                f"{LOST} times."
            )
        if lost + 1 == LOST:
            raise Retryable(
                f"{self.name}: its process ended {LOST} times before it took a row, at last by "
                f"{end.how}. What it wrote to the standard error may say why; by SIGKILL the "
                "machine may be short of memory. Finished units are kept."
            )
        return lost + 1

    def _died(self, end: End, tries: int, seconds: float | None) -> RowError:
        if end.how == "timeout":
            return RowTimeout(
                f"{self.name}: no answer within {seconds:g} s, the limit for a row. If the file is "
                "fine, give it more: apply(…, row_seconds=…).",
                signal=end.how,
                attempts=tries,
            )
        times = "" if tries == 1 else f", {tries} times"
        return RowCrashed(
            f"{self.name}: the process that had the row at hand ended by {end.how}{times}. The "
            "file is damaged or hostile, or a library has a bug. Fetch it again, or drop the row.",
            signal=end.how,
            attempts=tries,
        )


def memory_limit(operator: Operator) -> int:
    """Bytes that a child of an operator may take."""
    pages, cpus = os.sysconf("SC_PHYS_PAGES"), len(os.sched_getaffinity(0))
    share = os.sysconf("SC_PAGE_SIZE") * pages // cpus
    return max(MEMORY_BYTES, 2 * share, int(operator.resources.memory))


def isolated(action: Apply, device: str) -> Isolated | None:
    """The operator of an apply in a child process, if it is one that is isolated."""
    operator = action.operator
    if not isinstance(operator, Map | Filter | Expand):
        return None
    untrusted = operator.isolated if action.isolated is None else action.isolated
    seconds = operator.row_seconds if action.row_seconds is None else action.row_seconds
    if action.isolated is False or device != "cpu" or sys.platform != "linux":
        return None
    if untrusted:
        return Isolated(operator, seconds or ROW_SECONDS, network=False)
    return None if seconds is None else Isolated(operator, seconds, network=True)
