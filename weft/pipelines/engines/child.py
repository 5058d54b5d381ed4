"""The process that isolated operators run in: a supervisor, and a worker that it forks.

The supervisor imports what operators need, once. The worker, a fork of it, takes requests and
answers row by row; before each row it notes in shared memory which one it has at hand. When it
dies the supervisor says how, waits for a go, and forks the next: that takes milliseconds, where a
new interpreter takes tenths of a second. Both are confined before anything else happens.

What is noted is on the *board*, integers that both sides map. It says where the answer to each
row is, so that answers outlive the process that gave them.
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
import struct
import sys
import time
import traceback
from typing import Any

import numpy as np

from weft.errors import words
from weft.pipelines.engines.allocator import tune_allocator
from weft.pipelines.engines.confine import die_with, limit_memory
from weft.pipelines.engines.segments import Mapped, Writer
from weft.pipelines.engines.wire import Place, Records
from weft.pipelines.memory import make_with
from weft.pipelines.operator import Later

STATE, SINCE, DONE, SETTING_UP, HEAD = range(5)
"""Fields of the board: the row at hand, or one of the states below; since when, in nanoseconds of
the monotonic clock; rows that are answered; the operator that is set up; then three for each row,
where its answer is."""

IDLE, SETUP, SENT = -1, -2, -3

MOST_ROWS = 4096
"""Of one request."""

BOARD_BYTES = 8 * (HEAD + 3 * MOST_ROWS)

GO, DO, RETIRE, DIED, FINISHED = b"g", b"d", b"r", b"X", b"D"
PLACE, STATUS = struct.Struct("<c3q"), struct.Struct("<ci")

GOOD, WRONG, UNUSABLE = range(3)
"""What an answer is: a value; the row's failure, or that of the operator's setup, in words."""

MAKE = "make"
"""Instead of a method: make what was left for later."""


class Shared:
    """What supervisor, worker and parent have in common."""

    def __init__(self, channel: socket.socket, board: int, given: int, answers: int) -> None:
        self.channel = channel
        self.board = np.asarray(Mapped(board, BOARD_BYTES)).view(np.int64)
        self.given = Records(given)
        self.answers = Records(answers)


def main(channel: int, board: int, given: int, answers: int, memory: int) -> None:
    """Supervise, until the parent is gone. The arguments are file descriptors, and bytes."""
    shared = Shared(socket.socket(fileno=channel), board, given, answers)
    operators: dict[int, Any] = {}
    while message := shared.channel.recv(64):
        if message[:1] != GO:
            continue  # it was for a worker that had died
        _, *place = PLACE.unpack(message)
        for number, pickled in shared.given.read(place):
            if number not in operators:
                operators[number] = _loaded(pickled)
        supervisor = os.getpid()
        if not (worker := os.fork()):
            _work(shared, operators, memory, supervisor)
        _, status = os.waitpid(worker, 0)
        try:
            shared.channel.send(STATUS.pack(DIED, os.waitstatus_to_exitcode(status)))
        except OSError:  # the parent is gone
            return


def _loaded(pickled: bytes) -> Any:
    """The operator, or why it cannot be had."""
    try:
        return pickle.loads(pickled)  # noqa: S301  it comes from our own parent
    except BaseException as error:  # noqa: BLE001  told to the parent, which raises it
        return _Unusable(error)


class _Unusable:
    """In the place of an operator, or of what its setup loads."""

    def __init__(self, error: BaseException) -> None:
        self.words = f"{type(error).__name__}: {words(error)}"


def _work(shared: Shared, operators: dict[int, Any], memory: int, supervisor: int) -> None:
    """Be a worker, and never return."""
    code = 1
    try:
        die_with(supervisor)
        _Worker(shared, operators, memory).run()
        code = 0
    except BaseException:  # noqa: BLE001  a bug of ours; the parent sees how it ended
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)  # what is registered to happen at exit is the supervisor's


class _Worker:
    def __init__(self, shared: Shared, operators: dict[int, Any], memory: int) -> None:
        self.shared = shared
        self.board = shared.board
        self.segments = Writer(shared.channel)
        self.operators = operators
        self.loaded: dict[int, Any] = {}
        self.laters: dict[tuple[int, int], Later] = {}
        tune_allocator()
        make_with(self.segments.empty)
        self.board[STATE] = SETUP
        for number, operator in operators.items():
            self.board[SETTING_UP] = number
            self.loaded[number] = _set_up(operator)
        limit_memory(memory)

    def run(self) -> None:
        """Answer requests until the parent wants no more, or is gone."""
        while message := self.shared.channel.recv(64):
            if message[:1] == RETIRE:
                return
            _, *place = PLACE.unpack(message)
            self.board[STATE] = IDLE
            self._answer_all(self.shared.given.read(place))
            self.board[STATE] = IDLE
            sys.stdout.flush()
            self.shared.channel.send(FINISHED)

    def _answer_all(self, request: dict[str, Any]) -> None:
        self.shared.answers.start()
        self.segments.recycle(request["free"], request["gone"])
        if request["forget"]:
            self.laters.clear()
        for row, (task, place) in enumerate(request["tasks"]):
            self.board[SINCE] = time.monotonic_ns()
            self.board[STATE] = row
            start = HEAD + 3 * row
            where = self._answer(request["operator"], request["method"], task, place)
            self.board[start : start + 3] = where
            self.board[DONE] = row + 1  # after the place: it says that the place is there

    def _answer(self, number: int, method: str, task: int, place: Place) -> Place:
        """Where the answer to a row is, be it a value or what went wrong."""
        operator, loaded = self.operators[number], self.loaded[number]
        for thing in (operator, loaded):
            if isinstance(thing, _Unusable):
                return self.shared.answers.write([UNUSABLE, thing.words])
        try:
            given = self.shared.given.read(place)
            if method == MAKE:
                value: Any = [self.laters.pop((t, n)).make() for t, n in given]
            else:
                value = getattr(operator, method)(given, loaded)
                if method == "expand_row":
                    value = list(value)
            del given
            return self._write(task, value)
        except MemoryError:
            gc.collect()
            return self._wrong("RowOutOfMemory", "")
        except BaseException as error:  # noqa: BLE001  whatever an operator raises is the row's fault
            return self._wrong(type(error).__name__, words(error))

    def _write(self, task: int, value: Any) -> Place:
        count = 0

        def keep(later: Later) -> int:
            nonlocal count
            self.laters[task, count] = later
            count += 1
            return count - 1

        self.segments.begin()
        try:
            return self.shared.answers.write([GOOD, value], self.segments.put, keep)
        except TypeError as error:
            self.segments.take_back()
            return self._wrong("ContractError", words(error))

    def _wrong(self, kind: str, text: str) -> Place:
        return self.shared.answers.write([WRONG, [kind, text]])


def _set_up(operator: Any) -> Any:
    try:
        return operator if isinstance(operator, _Unusable) else operator.setup("cpu")
    except BaseException as error:  # noqa: BLE001  told to the parent, which raises it
        return _Unusable(error)
