"""What workers note before they begin, so that a death tells what it met.

A process that dies takes along what it knew. So a worker leaves a line in a file of its unit
before it takes the unit up, and another when it is through. Whoever takes up the unit next finds
a beginning without an end, and goes on with care: operators are given one row at a time, and each
row is noted before. A row that was at hand at two deaths fails, as one whose operator raises does,
and the rest of the unit goes on. So a row that kills its process costs three deaths, whatever
kills it: a crash in a library, an exit, the kernel that runs out of memory, or the alarm that ends
an operator which never comes back.

The files are of one execution. A driver that dies takes its workers along, which is nobody's
fault; what it noted counts no more.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weft.errors import RowCrashed
from weft.pipelines.batch import Batch, concat_batches
from weft.pipelines.engines.runners import ApplyRunner, Runner, Work
from weft.pipelines.engines.worker import StageWorker
from weft.pipelines.plan import Plan

TRIES = 4
"""How often a unit is taken up in all before a run gives up; each row that was found to kill
buys three more."""

_AT_HAND = 2
"""Deaths at which a row was at hand until it is what kills. At one it may be chance: a machine
that is taken away, or memory that another process took."""

SILENT_SECONDS = 1800.0
"""How long an operator may work on a row, or on a batch if it takes batches, before its process is
ended. Three times the time of the slowest honest batch that we know of, a large model on CPUs."""

_BEAT_SECONDS = 5.0
_ALARM_SECONDS = 1.0

_BY_ROW, _BY_BATCH = ("map_row", "keep_row", "expand_row"), ("map", "keep", "expand")

Place = tuple[str, str]
"""A step, and the key of a row."""


@dataclass
class History:
    """What the notes of a unit say.

    `deaths` are of workers that had taken it up, `open` whether one has it now or died with it.
    """

    deaths: int = 0
    open: bool = False
    stage: int = 0
    host: str = ""
    pid: int = 0
    last: Place | None = None
    at_hand: Counter[Place] = field(default_factory=Counter)

    @property
    def killers(self) -> list[Place]:
        """The rows that kill, and where."""
        return sorted(place for place, times in self.at_hand.items() if times >= _AT_HAND)


class Notes:
    """The notes of one unit in one stage, the file `name`."""

    def __init__(self, folder: str, name: str) -> None:
        here = Path(folder)
        self.path = here / name if here.is_dir() else Path(os.devnull)  # a cluster without disk
        self._beat = 0.0

    def history(self) -> History:
        """What became of those who took the unit up before."""
        found, place = History(), None
        for line in self._lines():
            if "began" in line:
                _died(found, place)
                found.stage, found.host, found.pid = line["began"], line["host"], line["pid"]
                found.open, place = True, None
            elif "row" in line:
                found.last = place = (line["step"], line["row"])
            elif "ended" in line:
                found.open, place = False, None
            else:  # the row came back
                place = None
        _died(found, place)
        return found

    def begin(self, stage: int) -> None:
        """This process takes the unit up."""
        self._write({"began": stage, "host": socket.gethostname(), "pid": os.getpid()})

    def end(self, why: str = "done") -> None:
        """It is through, or was told to stop."""
        self._write({"ended": why})

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """While a row is at hand."""
        self._write({"step": place[0], "row": place[1]})
        yield
        self._write({})

    def beat(self) -> None:
        """Show that somebody is at work."""
        if time.monotonic() - self._beat > _BEAT_SECONDS and self.path.is_file():
            self._beat = time.monotonic()
            os.utime(self.path)

    def _write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.is_file():
            return
        for text in self.path.read_text().split("\n")[:-1]:  # what has no end is not whole
            yield json.loads(text)


def _died(found: History, place: Place | None) -> None:
    """Whoever has the unit is dead, if it is `open`: another has taken it up, or asks."""
    if found.open:
        found.deaths += 1
        if place is not None:
            found.at_hand[place] += 1


@contextmanager
def noted(
    folder: str, unit: str, worker: StageWorker, seconds: float = SILENT_SECONDS
) -> Iterator[StageWorker]:
    """Note that `worker` takes up a unit; the worker that does it, with care if others died.

    Its process is ended if an operator takes more than `seconds` for what it is given.
    """
    notes = Notes(folder, f"{unit}.{worker.index}")
    before = notes.history()
    notes.begin(worker.index)
    wrap = _Careful if before.deaths else _Guarded
    taken = copy.copy(worker)
    taken.consumers = {
        name: tuple(
            wrap(r, notes, before, seconds) if isinstance(r, ApplyRunner) else r for r in some
        )
        for name, some in worker.consumers.items()
    }
    try:
        yield taken
    finally:
        notes.end()


class _Guarded(Runner):
    """A runner whose operator has so much time for what it is given: a row, or a batch."""

    def __init__(self, runner: ApplyRunner, notes: Notes, before: History, seconds: float) -> None:
        self.runner = runner
        self.step = runner.step
        self.notes = notes
        self.killers = set(before.killers)
        self.seconds = max(seconds, 3 * (runner.operator.row_seconds or 0.0))

    def __call__(self, batch: Batch, work: Work) -> Batch:
        self.notes.beat()
        if self.runner.isolated is not None:  # it has a process of its own, and a clock
            return self.runner(batch, work)
        alarm = _Alarm(self.seconds, self.notes)
        try:
            return self.call(_Timed(self.runner.operator, alarm), batch, work)
        finally:
            alarm.off()

    def call(self, operator: Any, batch: Batch, work: Work) -> Batch:
        """The runner, with another operator in the place of its own."""
        own, self.runner.operator = self.runner.operator, operator
        try:
            return self.runner(batch, work)
        finally:
            self.runner.operator = own


class _Careful(_Guarded):
    """A runner that is given one row at a time, and refuses those that kill."""

    def __call__(self, batch: Batch, work: Work) -> Batch:
        rows = (batch.slice(i, i + 1) for i in range(batch.rows))
        return concat_batches([self._one(row, work) for row in rows])

    def _one(self, row: Batch, work: Work) -> Batch:
        place = (self.step.id, str(row.keys[0]))
        if place in self.killers:  # fails: the policy of the step says what becomes of it
            return self.call(_Deadly(self.runner.operator), row, work)
        with self.notes.at(place):
            return super().__call__(row, work)


class _Alarm:
    """Ends this process when it is not set again in time.

    The default action of the signal does, even where a library holds the interpreter and would
    let no thread of ours look at a clock.
    """

    def __init__(self, seconds: float, notes: Notes) -> None:
        self.seconds = seconds
        self.notes = notes
        self.set = float("-inf")
        self.again()

    def again(self) -> None:
        """Begin anew; at most once a second, so that small rows do not pay for it."""
        now = time.monotonic()
        if now - self.set > _ALARM_SECONDS:
            self.set = now
            signal.setitimer(signal.ITIMER_REAL, self.seconds + _ALARM_SECONDS)
            self.notes.beat()

    def off(self) -> None:
        """It was in time."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Timed:
    """An operator that has its time for each row, where it takes rows."""

    def __init__(self, operator: Any, alarm: _Alarm) -> None:
        self._operator = operator
        self._alarm = alarm

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._operator, name)
        if name not in _BY_ROW:
            return found

        def timed(row: Any, loaded: Any) -> Any:
            self._alarm.again()
            return found(row, loaded)

        return timed


class _Deadly:
    """An operator in whose place nothing is called."""

    def __init__(self, operator: Any) -> None:
        self._operator = operator

    def __getattr__(self, name: str) -> Any:
        return self._refuse if name in _BY_ROW + _BY_BATCH else getattr(self._operator, name)

    def _refuse(self, *_: object) -> Any:
        raise RowCrashed(
            f"{self._operator.name} ended its process each of the {_AT_HAND} times that it was "
            "given this row alone: it crashes, needs more memory than there is, or never comes "
            "back.",
            attempts=_AT_HAND + 1,
        )


def histories(folder: str) -> Mapping[str, History]:
    """What became of all units that were taken up, by unit and stage."""
    return {name: Notes(folder, name).history() for name in sorted(_touched(folder))}


def silence_seconds(folder: str) -> float | None:
    """How long ago anybody left a note or a sign of life; ``None``: nobody ever has."""
    times = _touched(folder).values()
    return time.time() - max(times) if times else None


def _touched(folder: str) -> dict[str, float]:
    """The notes, and when they were touched; none if the run, whose work this process shared, has
    been published meanwhile, and its folder is gone."""
    try:
        return {p.name: p.stat().st_mtime for p in Path(folder).iterdir()}
    except FileNotFoundError:
        return {}


def guilty(found: Mapping[str, History]) -> dict[str, History]:
    """The units at which workers died too often to try again."""
    return {n: h for n, h in found.items() if h.deaths >= TRIES + 3 * len(h.killers)}


def pardon(folder: str) -> None:
    """End the attempts that are open: their workers were stopped and died of nothing of theirs."""
    for name, history in histories(folder).items():
        if history.open:
            Notes(folder, name).end("stopped")


def tell(plan: Plan, found: Mapping[str, History]) -> list[str]:
    """What died, in sentences: which unit, in which steps, at which rows."""
    return [_sentence(plan, n.partition(".")[0], h) for n, h in found.items() if h.deaths]


def _sentence(plan: Plan, unit: str, history: History) -> str:
    steps = ", ".join(plan.stages[history.stage].steps)
    many = f"{history.deaths} worker{'s' * (history.deaths > 1)}"
    text = (
        f"{many} died with unit {unit} in stage {history.stage + 1} ({steps}), the last one "
        f"process {history.pid} on {history.host}"
    )
    if history.killers:
        named = ", ".join(f"{key!r} at {step}" for step, key in history.killers)
        return f"{text}; rows that killed them: {named}."
    if history.last:
        step, key = history.last
        return f"{text}; the last row that an operator was given alone is {key!r}, at {step}."
    return f"{text}."
