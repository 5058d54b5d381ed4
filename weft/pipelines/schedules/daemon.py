"""Look what is due, and run it: once (`tick`) or for good (`serve`), beside any other daemon."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Self

from weft.errors import DefinitionError
from weft.pipelines.runs.lease import BEAT_SECONDS
from weft.pipelines.schedules.cron import Cron
from weft.pipelines.schedules.due import due
from weft.pipelines.schedules.jobs import Job, find, load
from weft.pipelines.schedules.process import Outcome, Runner, Stop, run_weft
from weft.pipelines.schedules.store import CRASHES, Run, State, Store

LOOK_SECONDS = 5.0
"""How often `serve` looks for changes, for runs that other daemons left, and at jobs.toml."""

_MOST_RUNS = 64
"""Runs at once, of all jobs; each is a thread that waits for a process."""

_HOPELESS = (2, 4)
"""Exit codes that another attempt would answer with again: a wrong pipeline, over budget."""

Say = Callable[[str], None]
Clock = Callable[[], datetime]


def now_utc() -> datetime:
    """The time."""
    return datetime.now(UTC)


def state_folder(file: Path) -> Path:
    """Where the database and the logs of a ``jobs.toml`` are."""
    return file.expanduser().absolute().parent / ".weft" / "schedule"


def open_store(file: Path) -> Store:
    """The store of a ``jobs.toml``."""
    return Store(state_folder(file) / f"{file.stem}.db")


def output_of(file: Path, run: Run) -> Path:
    """What the newest attempt at a run left: a ``.log``, and a ``.json`` that says how it ended."""
    name = f"{run.nominal.astimezone(UTC):%Y%m%d-%H%M%S-%f}-{run.attempt}"
    return state_folder(file) / run.job / name


class Daemon:
    """Runs what is due of a ``jobs.toml``. A context manager: leaving it stops its runs, in
    order, to be gone on with by whoever looks next.

    Args:
        file: the ``jobs.toml``.
        runner: makes one attempt at a run.
        clock: the time.
        say: is told in a line what happens.

    Raises:
        DefinitionError: something in the file is wrong.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        runner: Runner = run_weft,
        clock: Clock = now_utc,
        say: Say = lambda _: None,
    ) -> None:
        self.file = Path(file).expanduser().absolute()
        self.jobs = load(self.file)
        self.store = open_store(self.file)
        self.done: list[Run] = []
        self._runner = runner
        self._clock = clock
        self._say = say
        self._stop = Event()
        self._pool = ThreadPoolExecutor(_MOST_RUNS, "weft-schedule")
        self._running: set[Future[Run]] = set()
        self._look_again: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True)
        self._collect(futures.wait(self._running).done)

    def tick(self) -> list[Run]:
        """Run what is due now, and wait for it; how each run ended."""
        self.notice()
        self._start()
        while self._running:
            self._collect(futures.wait(self._running, return_when=futures.FIRST_COMPLETED).done)
            self._start()  # what waited for it
        last = {(run.job, run.nominal): run for run in self.done}  # gone on with, perhaps
        return list(last.values())

    def serve(self) -> None:
        """Run what is due, for good. Jobs are read again when the file changes."""
        seen = self._stamp()
        while not self._stop.is_set():
            if (stamp := self._stamp()) != seen:
                seen = stamp
                self._reload()
            self.notice()
            self._start()
            wait = self._seconds_to_next()
            if self._running:
                ended = futures.wait(self._running, wait, futures.FIRST_COMPLETED).done
                self._collect(ended)
            else:
                self._stop.wait(wait)
            self.done.clear()

    def run_now(self, name: str) -> Run:
        """Run a job now, whatever the time, and wait for it.

        Raises:
            DefinitionError: there is no such job.
            Busy: a run of the job is going on.
        """
        job, now = find(self.jobs, name), self._clock()
        self.store.recover(now)
        known = self.store.meet(job.name, str(job.trigger), now)
        cron = job.trigger if isinstance(job.trigger, Cron) else None
        start = known.cursor if cron is None else cron.latest(now)
        run = self.store.add_manual(name, start, job.policy, now)
        future = self._pool.submit(self._work, job, run)  # a thread, so that Ctrl-C is heard here
        self._running.add(future)
        return future.result()

    def notice(self) -> None:
        """Write down what is due, what has changed, and which runs died."""
        now = self._clock()
        for run in self.store.recover(now):
            self._tell(self.store.get(run))
        for job in self.jobs:
            known = self.store.meet(job.name, str(job.trigger), now)
            if isinstance(job.trigger, Cron):
                found = due(now, known.cursor, job.trigger, job.policy)
                if found:
                    self.store.add_due(job.name, found, job.policy, now)
            elif known.paused is None and time.monotonic() >= self._look_again.get(job.name, 0):
                began = time.monotonic()
                mark = job.trigger.look(now)
                if mark is not None and mark.key != known.mark:
                    self.store.add_change(job.name, known, mark, job.policy, now)
                # A listing of a million files takes seconds: look a tenth of the time at most.
                self._look_again[job.name] = began + 10 * (time.monotonic() - began)

    def _start(self) -> None:
        """Start what waits and may start."""
        for job in self.jobs:
            while (run := self.store.claim(job.name, job.policy, self._clock())) is not None:
                self._running.add(self._pool.submit(self._work, job, run))

    def _collect(self, ended: set[Future[Run]]) -> None:
        self._running -= ended
        self.done += [future.result() for future in ended]

    def _work(self, job: Job, run: Run) -> Run:
        """Make attempts at a run until it is decided."""
        while True:
            self._tell(run)
            watch = _Watch(self, run)
            outcome = self._runner(job, run, output_of(self.file, run), watch)
            now = self._clock()
            state, reason = verdict(outcome, run, job)
            if state is not None:
                self.store.end(
                    run,
                    state,
                    now,
                    reason,
                    exit_code=outcome.code,
                    failed=state == "failed",
                    crashed=outcome.crashed,
                    weft_run=outcome.run,
                    versions=outcome.versions,
                )
                break
            delay = job.policy.delay(run.failures + 1)
            self.store.attempt(run, f"{reason}; tried again at {_brief(now + delay)}", now)
            run = self.store.get(run)
            self._tell(run)
            if (stop := self._wait(delay, watch)) is not None:
                stopped, why = verdict(Outcome(outcome.code, stop=stop), run, job)
                assert stopped is not None
                self.store.end(run, stopped, self._clock(), why, exit_code=outcome.code)
                break
        ended = self.store.get(run)
        self._tell(ended)
        self._pause_if_needed(job, ended)
        return ended

    def _wait(self, delay: timedelta, watch: _Watch) -> Stop | None:
        """Wait for the next attempt; why it is not to be made here, if so."""
        until = self._clock() + delay
        while (left := (until - self._clock()).total_seconds()) > 0:
            if (stop := watch.stop()) is not None:
                return stop
            self._stop.wait(min(left, BEAT_SECONDS))
        return watch.stop()

    def _pause_if_needed(self, job: Job, run: Run) -> None:
        most = job.policy.pause_after
        if run.state == "failed" and most is not None and self.store.failures(job.name) >= most:
            self.store.pause(job.name, f"{most} runs failed one after another")
            self._say(f"{job.name}: paused, {most} runs failed one after another")

    def _seconds_to_next(self) -> float:
        now = self._clock()
        crons = [job.trigger for job in self.jobs if isinstance(job.trigger, Cron)]
        seconds = [(next(cron.after(now)) - now).total_seconds() for cron in crons]
        return max(0.0, min([*seconds, LOOK_SECONDS]))

    def _stamp(self) -> tuple[int, int] | None:
        with contextlib.suppress(OSError):
            found = self.file.stat()
            return found.st_mtime_ns, found.st_size
        return None

    def _reload(self) -> None:
        try:
            self.jobs = load(self.file)
            self._say(f"read {self.file} again: {len(self.jobs)} jobs")
        except DefinitionError as error:
            self._say(f"kept the jobs as they were: {error}")

    def _tell(self, run: Run) -> None:
        why = f": {run.reason}" if run.reason else ""
        self._say(f"{run.job} {_brief(run.nominal)}: {run.state}, attempt {run.attempt}{why}")


class _Watch:
    """Shows that a run lives, and learns whether it is to stop."""

    def __init__(self, daemon: Daemon, run: Run) -> None:
        self._daemon = daemon
        self._run = run
        self._beaten = 0.0

    def started(self, pid: int) -> None:
        self._daemon.store.child(self._run, pid)

    def stop(self) -> Stop | None:
        if self._daemon._stop.is_set():
            return "stopped"
        if time.monotonic() - self._beaten < 1.0:
            return None
        self._beaten = time.monotonic()
        return self._daemon.store.beat(self._run, self._daemon._clock())


def verdict(outcome: Outcome, run: Run, job: Job) -> tuple[State | None, str | None]:
    """What a run has become after an attempt, and why; no state, and it is tried again."""
    if outcome.stop == "cancelled":
        return "cancelled", "a newer run took its place"
    if outcome.stop is not None:
        return "interrupted", "the daemon was stopped; the next one goes on with it"
    if outcome.code == 0:
        return "succeeded", None
    if outcome.crashed:
        died = f"killed by signal {-outcome.code}"
        if run.crashes < CRASHES:
            return "interrupted", died
        return "failed", f"{died}, {run.crashes + 1} times"
    if outcome.code not in _HOPELESS and run.failures < job.policy.retries:
        return None, outcome.reason
    return "failed", outcome.reason


def _brief(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
