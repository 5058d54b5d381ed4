"""A child process as its parent sees it: started, asked, and replaced when it ends.

Rows go to the child and answers come back through shared memory (`wire`); over a socket go the
signs that there is something to read. While the child works the parent waits, so the two hold one
CPU.

Children are started by one thread that lives as long as the process, because Linux kills a child
that wants to die with its parent when the *thread* ends that started it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weft import errors
from weft.errors import ContractError, RowCrashed, RowError, RowOutOfMemory, WeftError
from weft.pipelines.engines import child, wire
from weft.pipelines.engines.confine import environment
from weft.pipelines.engines.segments import SEGMENT, Reader
from weft.pipelines.operator import Later, Operator
from weft.pipelines.resources import format_bytes

_CODE = """\
import json, sys
path, parent, network, *rest = json.loads(sys.argv[1])
sys.path[:] = path
from weft.pipelines.engines import confine
confine.confine(parent, network=network)
from weft.pipelines.engines import child
child.main(*rest)
"""

_HUGE_PAGES = "glibc.malloc.hugetlb=1"
"""Have malloc ask for them, as NumPy does for its arrays. With pages of 4 KiB alone the decoding
of a photograph of 3 megapixels takes a tenth longer."""

Answer = tuple[Any, Exception | None]
"""What an operator says to a row, or why it says nothing."""

Ticket = tuple[int, int]
"""A value that is left for later in a child: the task that made it, and which of its values."""


@dataclass(frozen=True)
class End:
    """How a child ended while it was asked, and in which state."""

    how: str
    state: int


class Process:
    """A child, and those that take its place. Only its memory limit is shared by all operators."""

    def __init__(self, *, network: bool, memory: int) -> None:
        self.network = network
        self.memory = memory
        self.lock = threading.RLock()
        self.generation = 0
        """Which worker this is: what was left for later in another is gone."""
        self._pickled: list[bytes] = []
        self._known: dict[int, Operator] = {}
        self._wanted: set[int] = set()
        self._shipped: set[int] = set()
        self._child: _Running | None = None
        self._working = False
        self._segments = Reader()
        self._tasks = 0

    def add(self, operator: Operator) -> int:
        """The number that an operator is asked by."""
        self._pickled.append(_pickled(operator))
        self._known[len(self._pickled) - 1] = operator
        return len(self._pickled) - 1

    def task(self) -> int:
        """A number for a row that is asked for."""
        self._tasks += 1
        return self._tasks

    def ask(
        self,
        number: int,
        method: str,
        tasks: Sequence[tuple[int, Any]],
        seconds: float | None,
        *,
        forget: bool,
    ) -> tuple[list[Answer], End | None]:
        """The answers to the first tasks, and how the child ended if it did before the last.

        Args:
            number: of the operator.
            method: of the operator, or `child.MAKE`.
            tasks: at most `child.MOST_ROWS`: a number for each, and what the method is given.
            seconds: how long it may take for one.
            forget: whether nobody needs what was left for later.

        Raises:
            ContractError: the operator's setup failed.
        """
        try:
            running = self._ready(number)
            self._send(running, number, method, tasks, forget)
            end = self._wait(running, seconds)
        except BaseException:  # also an interrupt: nobody knows what the child is doing now
            self.close()
            raise
        done = len(tasks) if end is None else min(int(running.shared.board[child.DONE]), len(tasks))
        return [self._answer(running, number, i, tasks[i][0]) for i in range(done)], end

    def close(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.end()
        self._child = None
        self._ended()

    def _ended(self) -> None:
        """The worker is gone, and what it had left for later."""
        self._working = False
        self.generation += 1

    def _ready(self, number: int) -> _Running:
        """A child with a worker that has this operator."""
        if self._child is not None and self._working and number not in self._shipped:
            self._tell(self._child, child.RETIRE, [0, 0, 0])
            self._wait(self._child, None)
        if self._child is None or self._child.dead:
            self.close()
            self._child = _Running(self.network, self.memory)
        self._child.shared.given.start()
        if not self._working:
            self._wanted.add(number)
            self._go(self._child)
        return self._child

    def _go(self, running: _Running) -> None:
        """Have a worker forked that has all operators that were asked so far."""
        self._shipped = set(self._wanted)
        made = [[n, self._pickled[n]] for n in sorted(self._shipped)]
        running.shared.board[child.STATE] = child.SENT
        self._tell(running, child.GO, running.shared.given.write(made))
        self._working, self._segments = True, Reader()

    def _send(
        self,
        running: _Running,
        number: int,
        method: str,
        tasks: Sequence[tuple[int, Any]],
        forget: bool,
    ) -> None:
        given = running.shared.given
        free, gone = self._segments.released()
        request = {
            "operator": number,
            "method": method,
            "tasks": [[task, given.write(value)] for task, value in tasks],
            "forget": forget,
            "free": free,
            "gone": gone,
        }
        running.shared.board[child.DONE] = 0
        self._tell(running, child.DO, given.write(request))

    def _tell(self, running: _Running, what: bytes, place: wire.Place) -> None:
        # One that is dead is seen by whoever waits for it.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            running.shared.channel.send(child.PLACE.pack(what, *place))

    def _wait(self, running: _Running, seconds: float | None) -> End | None:
        """Until the child has answered: ``None``; or how it ended instead."""
        channel, board = running.shared.channel, running.shared.board
        overdue = False
        while True:
            waits = None if seconds is None or overdue else max(0, _left(board, seconds)) + 1e-3
            channel.settimeout(waits)
            try:
                message, handles, _, _ = socket.recv_fds(channel, 64, 1)
            except TimeoutError:
                overdue = _left(board, seconds or 0) <= 0
                if overdue:
                    running.kill()
                continue  # what it has said until now is still there to be read
            except ConnectionResetError:
                message, handles = b"", []
            if handles:
                self._take(message, handles)
                continue
            if message == child.FINISHED and not overdue:
                return None
            self._ended()
            if message == child.FINISHED:  # just before it was killed
                return None
            if message:
                how = _how(child.STATUS.unpack(message)[1])
            else:  # the supervisor is gone, and the worker with it
                running.kill()
                how = _how(running.process.returncode)
            return End("timeout" if overdue else how, int(board[child.STATE]))

    def _take(self, message: bytes, handles: Sequence[int]) -> None:
        try:
            for handle in handles:
                _, number, size, kept = SEGMENT.unpack(message)
                self._segments.take(number, size, kept, handle)
        finally:
            for handle in handles:
                os.close(handle)

    def _answer(self, running: _Running, number: int, row: int, task: int) -> Answer:
        name = self._known[number].name
        start = child.HEAD + 3 * row
        where = running.shared.board[start : start + 3].tolist()

        def later(value: int) -> Later:
            return Later(Remote(task, value))

        try:
            kind, said = running.shared.answers.read(where, self._segments.get, later)
        except (ValueError, TypeError, LookupError, OSError, MemoryError, RecursionError) as error:
            return None, RowCrashed(f"{name}: the process answered with what is no value: {error}")
        if kind == child.GOOD:
            return said, None
        if kind == child.WRONG:
            return None, self._raised(name, *said)
        raise ContractError(f"{name}.setup('cpu'): {said}")

    def _raised(self, name: str, kind: str, text: str) -> Exception:
        """What the operator raised, as the type it was or one of that name."""
        if kind == RowOutOfMemory.__name__:
            return RowOutOfMemory(
                f"{name}: the row needs more memory than {format_bytes(self.memory)}. If it is no "
                "bomb, declare more for the operator, Resources(memory=…), or give isolated=False."
            )
        if kind == ContractError.__name__ and not text.startswith(name):
            text = f"{name}: {text}"
        found = getattr(errors, kind, None)
        if isinstance(found, type) and issubclass(found, WeftError):
            return found(text)
        return named(kind, text)


def named(kind: str, text: str) -> RowError:
    """An error of a row, of a type that is not there: one of that name takes its place."""
    made: RowError = type(kind, (RowError,), {})(text)
    return made


class Remote:
    """What makes a value that was left for later in a child."""

    def __init__(self, task: int, value: int) -> None:
        self.ticket: Ticket = (task, value)

    def __call__(self) -> Any:
        raise AssertionError("a value in another process is made by Isolated.make")


def remote(later: Later) -> Ticket:
    """What a value in a child is asked for by."""
    assert isinstance(later.make, Remote)
    return later.make.ticket


class _Running:
    """A supervisor that runs, and what is shared with it. It ends with this value."""

    def __init__(self, network: bool, memory: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        handles = [os.memfd_create(f"weft-{n}", os.MFD_CLOEXEC) for n in ("board", "given", "said")]
        os.ftruncate(handles[0], child.BOARD_BYTES)
        ends = [theirs.fileno(), *handles]
        about = json.dumps([sys.path, os.getpid(), network, *ends, memory])
        start: Any = functools.partial(
            subprocess.Popen,
            [sys.executable, "-c", _CODE, about],
            stdin=subprocess.DEVNULL,
            env=_environment(network=network),
            pass_fds=ends,
            start_new_session=True,
        )
        self.process: subprocess.Popen[bytes] = _starter(os.getpid()).submit(start).result()
        theirs.close()
        self.shared = child.Shared(ours, *handles)
        os.close(handles[0])  # it is mapped
        self._end = weakref.finalize(self, _end, os.getpid(), self.process, ours, handles[1:])

    @property
    def dead(self) -> bool:
        """Whether the supervisor has ended."""
        return self.process.returncode is not None

    def kill(self) -> None:
        """End the supervisor, the worker and what they have started; what they said stays."""
        _kill(self.process)

    def end(self) -> None:
        """End it, and let go of everything."""
        self._end()


def _end(owner: int, process: subprocess.Popen[bytes], ours: Any, handles: list[int]) -> None:
    if os.getpid() == owner:  # and not in a process that was forked from it
        ours.close()
        for handle in handles:
            os.close(handle)
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it is only just being started
            process.kill()
        process.wait()


@functools.cache
def _starter(owner: int) -> ThreadPoolExecutor:
    """The thread that starts children, one for each process that has any."""
    return ThreadPoolExecutor(1, "weft-starter")


def _environment(*, network: bool) -> dict[str, str]:
    """What a child knows of this one's environment. One that keeps the network keeps it all."""
    given = dict(os.environ) if network else environment(os.environ)
    # A child stands for one CPU; without these, libraries start a thread for each.
    alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return {**alone, "GLIBC_TUNABLES": _HUGE_PAGES, **given}


def _left(board: Any, seconds: float) -> float:
    """Seconds until the row at hand is overdue; while there is none, a moment to look again."""
    if board[child.STATE] < 0:
        return min(0.5, seconds)
    return seconds - (time.monotonic_ns() - int(board[child.SINCE])) / 1e9


def _how(code: int) -> str:
    """How a process ended, in a word or two.

    >>> _how(-11), _how(0)
    ('SIGSEGV', 'exit 0')
    """
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def _pickled(operator: Operator) -> bytes:
    """The operator for another process: by value, if its class is of the user's own program."""
    module = sys.modules.get(getattr(operator, "function", type(operator)).__module__)
    if module is None or module.__name__ == "__main__" or _is_users(module):
        import cloudpickle

        if module is not None and module.__name__ != "__main__":
            cloudpickle.register_pickle_by_value(module)
        return bytes(cloudpickle.dumps(operator))
    return pickle.dumps(operator)


def _is_users(module: Any) -> bool:
    """Whether a module is neither installed, nor of weft or Python."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] == "weft":
        return False
    installed = [sysconfig.get_path(n) for n in ("purelib", "platlib", "stdlib")]
    return not any(Path(file).is_relative_to(p) for p in installed)
