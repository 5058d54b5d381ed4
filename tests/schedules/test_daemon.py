"""Daemons: each time once, whoever looks; overlap, retries, crashes, pauses, changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weft.errors import Busy
from weft.pipelines.runs.journal import whoami
from weft.pipelines.schedules.daemon import Daemon, open_store, verdict
from weft.pipelines.schedules.jobs import Job, load
from weft.pipelines.schedules.process import Outcome, Watch
from weft.pipelines.schedules.store import CRASHES, Run, Store

START = datetime(2026, 10, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class World:
    """A jobs.toml, a clock that is set by hand, and a runner that notes what it is asked to do."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "jobs.toml"
        self.now = START
        self.said: list[str] = []
        self.ran: list[datetime] = []
        self.outcomes: list[Outcome] = []

    def job(self, more: str = "", when: str = 'cron = "0 2 * * *"\ntimezone = "UTC"') -> None:
        self.file.write_text(f'[photos]\ntarget = "photos.py"\n{when}\n{more}\n')
        self.tick()  # the job is known from now on

    def tick(self, after: timedelta = timedelta(0)) -> list[Run]:
        self.now += after
        with self.daemon() as daemon:
            return daemon.tick()

    def daemon(self, runner: Callable[..., Outcome] | None = None) -> Daemon:
        runner = runner or self.runner
        return Daemon(self.file, runner=runner, clock=lambda: self.now, say=self.said.append)

    def runner(self, job: Job, run: Run, output: Path, watch: Watch) -> Outcome:
        self.ran.append(run.nominal)
        return self.outcomes.pop(0) if self.outcomes else Outcome(0)

    @property
    def store(self) -> Store:
        return open_store(self.file)

    @property
    def history(self) -> list[tuple[int, str]]:
        """Day and state of every time, the oldest first."""
        return [(run.nominal.day, run.state) for run in reversed(self.store.runs())]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_time_runs_once_and_nothing_before_the_job_was_known(world: World) -> None:
    world.job()
    assert world.tick(HOUR) == []
    [run] = world.tick(DAY)
    assert (run.state, run.attempt, run.nominal.day) == ("succeeded", 1, 21)
    assert run.start == run.nominal - DAY
    assert world.tick() == world.tick(-HOUR) == world.tick(-3 * DAY) == []
    assert world.history == [(21, "succeeded")]


@pytest.mark.parametrize(
    ("policy", "ran"),
    [
        ('catchup = "all"', [21, 22, 23]),
        ('catchup = "all"\ncatchup_max = 2', [22, 23]),
        ("", [23]),
        ('catchup = "none"', []),
    ],
)
def test_three_missed_days(world: World, policy: str, ran: list[int]) -> None:
    world.job(policy)
    world.tick(3 * DAY)
    assert [time.day for time in world.ran] == ran
    assert world.history == [
        (day, "succeeded" if day in ran else "skipped") for day in (21, 22, 23)
    ]
    assert all((r.reason or "").startswith("missed") for r in world.store.runs(state="skipped"))


def test_another_trigger_begins_anew(world: World) -> None:
    world.job()
    world.now += 3 * DAY
    world.job(when='cron = "0 3 * * *"\ntimezone = "UTC"')
    assert world.history == []
    world.tick(DAY)
    assert [time.hour for time in world.ran] == [3]


class Going:
    """A run that goes on until it is let go or told to stop."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.begun, self.go = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._tick)
        self.thread.start()
        assert self.begun.wait(10)

    def _tick(self) -> None:
        with self.world.daemon(self.wait) as daemon:
            daemon.tick()

    def wait(self, job: Job, run: Run, output: Path, watch: Watch) -> Outcome:
        self.world.ran.append(run.nominal)
        self.begun.set()
        while not self.go.wait(0.02):
            if (stop := watch.stop()) is not None:
                return Outcome(-signal.SIGTERM, stop, stop)
        return Outcome(0)

    def end(self) -> None:
        self.go.set()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.mark.parametrize(
    ("overlap", "states"),
    [
        ("skip", ["succeeded", "skipped"]),
        ("queue", ["succeeded", "succeeded"]),
        ("allow", ["succeeded", "succeeded"]),
        ("cancel", ["cancelled", "succeeded"]),
    ],
)
def test_a_time_that_comes_while_a_run_is_going_on(
    world: World, overlap: str, states: list[str]
) -> None:
    world.job(f'overlap = "{overlap}"')
    world.now += DAY
    going = Going(world)
    ran_beside = [run.nominal.day for run in world.tick(DAY)]
    if overlap != "cancel":  # whichever daemon is faster takes the place of a cancelled run
        assert ran_beside == ([22] if overlap == "allow" else [])
    elif not ran_beside:
        deadline = time.monotonic() + 10
        while len(world.ran) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    going.end()
    assert [state for _, state in world.history] == states
    assert len(world.ran) == states.count("succeeded") + states.count("cancelled")
    if overlap == "skip":
        assert world.store.runs()[0].reason == "a run was still going on"


def test_what_waited_longer_than_its_deadline_is_left_out(world: World) -> None:
    world.job('overlap = "queue"\ndeadline = "3h"')
    world.now += DAY - 9 * HOUR
    going = Going(world)
    assert world.tick(DAY) == []
    world.now += 12 * HOUR
    going.end()
    assert world.history == [(21, "succeeded"), (22, "skipped")]
    assert world.store.runs()[0].reason == "waited for more than the deadline of 3h"


def test_retries_then_success(world: World) -> None:
    world.job('retries = 2\nretry_delay = "1h"')
    world.outcomes = [Outcome(1, "no network"), Outcome(3, "busy")]
    waits: list[float] = []
    with world.daemon() as daemon:

        def wait(seconds: float) -> bool:
            waits.append(seconds)
            world.now += timedelta(seconds=seconds)
            return False

        daemon._stop.wait = wait  # type: ignore[method-assign,assignment]
        world.now += DAY
        [run] = daemon.tick()
    assert (run.state, run.attempt, run.failures) == ("succeeded", 3, 2)
    assert sum(waits) == pytest.approx(3600 + 7200)  # the delay doubles
    assert any("no network; tried again at 2026-10-21 13:00:00 UTC" in line for line in world.said)


@pytest.mark.parametrize("code", [2, 4])
def test_what_another_attempt_cannot_help_is_not_tried_again(world: World, code: int) -> None:
    world.job("retries = 5")
    world.outcomes = [Outcome(code, "no such pipeline")]
    [run] = world.tick(DAY)
    assert (run.state, run.attempt, run.exit_code) == ("failed", 1, code)
    assert run.reason == "no such pipeline"


def test_a_job_that_keeps_failing_is_paused_and_resumed(world: World) -> None:
    world.job("pause_after = 2")
    world.outcomes = [Outcome(1, "a"), Outcome(0), Outcome(1, "b"), Outcome(1, "c")]
    for _ in range(6):
        world.tick(DAY)
    states = ["failed", "succeeded", "failed", "failed", "skipped", "skipped"]
    assert [state for _, state in world.history] == states
    assert world.store.runs()[0].reason == "paused: 2 runs failed one after another"
    world.store.pause("photos", None)
    world.tick(DAY)
    assert world.history[-1] == (27, "succeeded")


def test_a_run_that_is_killed_is_gone_on_with_three_times(world: World) -> None:
    world.job()
    world.outcomes = [Outcome(-9)] * 9
    [run] = world.tick(DAY)
    assert run.state == "failed"
    assert len(world.ran) == 1 + CRASHES
    assert set(world.ran) == {START.replace(day=21, hour=2)}
    assert run.reason == "killed by signal 9, 4 times"
    world.outcomes = [Outcome(-9)]
    assert [(run.state, run.attempt) for run in world.tick(DAY)] == [("succeeded", 2)]


def dead() -> tuple[int, str]:
    """A process that was, and its birth."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    from weft.pipelines.runs.journal import process_birth

    born = process_birth(process.pid)
    assert born is not None
    process.kill()
    process.communicate()
    return process.pid, born


def abandoned(world: World, **owner: object) -> None:
    """A run whose daemon is another one than this."""
    import sqlite3

    world.now += DAY
    with world.daemon() as daemon:
        daemon.notice()
        run = daemon.store.claim("photos", daemon.jobs[0].policy, world.now)
        assert run is not None
    pid, born = dead()
    values = {"pid": pid, "born": born, **owner}
    with sqlite3.connect(world.store.path) as db:
        sets = ", ".join(f"{name} = ?" for name in values)
        db.execute(f"UPDATE runs SET {sets}", tuple(values.values()))
    db.close()


def test_a_run_whose_daemon_died_is_resumed(world: World) -> None:
    world.job()
    abandoned(world)
    [run] = world.tick()
    assert (run.state, run.attempt, run.crashes) == ("succeeded", 2, 1)
    assert world.ran == [run.nominal]
    assert any("interrupted" in line and " died" in line for line in world.said)


def test_a_run_whose_process_lives_on_is_left_alone(world: World) -> None:
    world.job()
    me = whoami()
    abandoned(world, child=me["pid"], child_born=me["born"])
    assert world.tick() == []
    assert world.history == [(21, "running")]


def test_a_run_of_another_host_is_asked_for_its_heartbeat(world: World) -> None:
    world.job()
    abandoned(world, host="elsewhere")
    assert world.tick(timedelta(seconds=50)) == []
    [run] = world.tick(timedelta(seconds=11))
    assert (run.state, run.attempt) == ("succeeded", 2)


def test_an_owner_that_slept_has_no_say(world: World) -> None:
    world.job()
    world.now += DAY
    with world.daemon() as daemon:
        daemon.notice()
        slept = daemon.store.claim("photos", daemon.jobs[0].policy, world.now)
        assert slept is not None
        daemon.store.end(slept, "interrupted", world.now)
        [run] = daemon.tick()
        assert daemon.store.beat(slept, world.now) == "lost"
        daemon.store.end(slept, "failed", world.now, "too late")
        assert daemon.store.get(slept) == run
    assert run.state == "succeeded"


def test_a_stopped_daemon_leaves_its_run_to_the_next(world: World) -> None:
    world.job()
    world.now += DAY
    going = threading.Event()

    def until_told(job: Job, run: Run, output: Path, watch: Watch) -> Outcome:
        going.set()
        while watch.stop() is None:
            time.sleep(0.01)
        return Outcome(1, "stopped", watch.stop())

    with world.daemon(until_told) as daemon:
        daemon.notice()
        daemon._start()
        assert going.wait(10)
    assert world.history == [(21, "interrupted")]
    [run] = world.tick()
    assert (run.state, run.attempt, run.crashes) == ("succeeded", 2, 0)


def test_serve_looks_again_and_reads_the_file_again(world: World) -> None:
    world.job()
    naps: list[float] = []
    with world.daemon() as daemon:

        def nap(seconds: float) -> bool:
            naps.append(seconds)
            if len(naps) == 1:  # five seconds later it is two o'clock
                world.now = START.replace(day=21, hour=1, minute=59, second=58)
            elif len(naps) == 2:
                world.now += timedelta(seconds=seconds)
                world.file.write_text("[photos")
            elif len(naps) == 3:
                world.file.write_text(world.file.with_name("good.toml").read_text())
            else:
                daemon._stop.set()
            return False

        world.file.with_name("good.toml").write_text(world.file.read_text())
        daemon._stop.wait = nap  # type: ignore[method-assign,assignment]
        daemon.serve()
    assert world.ran == [START.replace(day=21, hour=2)]
    assert naps[:2] == [5.0, 2.0]
    assert any(line.startswith("kept the jobs as they were: ") for line in world.said)
    assert any("1 jobs" in line for line in world.said)


def test_run_now(world: World) -> None:
    world.job('overlap = "queue"')
    with world.daemon() as daemon:
        run = daemon.run_now("photos")
    assert (run.state, run.nominal, run.start) == ("succeeded", START, START.replace(hour=2))
    world.now += DAY
    going = Going(world)
    with world.daemon() as daemon, pytest.raises(Busy, match=r"run of photos for .* is going on"):
        daemon.run_now("photos")
    going.end()


def old(path: Path, seconds: float = 60.0) -> None:
    stamp = START.timestamp() - seconds
    os.utime(path, (stamp, stamp))


def test_new_files_start_a_run_and_nothing_does_not(world: World) -> None:
    inbox = world.file.parent / "inbox"
    (inbox / "deep").mkdir(parents=True)
    world.job(when='on.files = "inbox/**/*.jpg"')
    assert world.history == []
    for name in ("a.jpg", "deep/b.jpg", "notes.txt", ".hidden.jpg"):
        (inbox / name).write_text(name)
        old(inbox / name)
    [run] = world.tick(HOUR)
    assert (run.nominal, run.start) == (START + HOUR, START)
    assert any("2 files, newest 2026-10-20 11:59:00 UTC" in line for line in world.said)
    assert world.tick(HOUR) == []
    (inbox / "c.jpg").write_text("c")
    old(inbox / "c.jpg", -2 * HOUR.total_seconds() - 58)
    assert world.tick(timedelta(minutes=1)) == []  # it may still be written to
    [run] = world.tick(timedelta(seconds=5))
    assert run.start == START + HOUR
    (inbox / "a.jpg").unlink()
    assert len(world.tick(HOUR)) == 1
    for name in ("deep/b.jpg", "c.jpg"):
        (inbox / name).unlink()
    assert world.tick(HOUR) == []


def test_a_change_while_a_run_is_going_on_is_not_lost(world: World) -> None:
    inbox = world.file.parent / "inbox"
    inbox.mkdir()
    world.job(when='on.files = "inbox"')
    for name, after in (("a", 0), ("b", 1), ("c", 2)):
        (inbox / name).write_text(name)
        old(inbox / name)
        if after == 0:
            going = Going(world)
        else:
            assert world.tick(HOUR) == []
    going.end()
    states = [run.state for run in reversed(world.store.runs())]
    assert states == ["succeeded", "succeeded", "skipped"]  # one that waits sees all changes


def test_a_paused_job_sees_its_changes_later(world: World) -> None:
    inbox = world.file.parent / "inbox"
    inbox.mkdir()
    world.job(when='on.files = "inbox"')
    world.store.pause("photos", "by hand")
    (inbox / "a").write_text("a")
    old(inbox / "a")
    assert world.tick(HOUR) == []
    world.store.pause("photos", None)
    assert len(world.tick(HOUR)) == 1


def test_a_new_version_at_a_tag_starts_a_run(world: World) -> None:
    import pyarrow as pa

    from weft.pipelines import tables

    def publish(run: str) -> None:
        schema = pa.schema([pa.field("_key", pa.string())])
        token = tables.ensure(f"{world.file.parent}/raw.lance", schema)
        staged = tables.stage(token, pa.table({"_key": [run]}))
        tables.tag(token["uri"], tables.commit(token, staged, run, {}), run, {})

    world.job(when='on.dataset = "raw.lance"')
    assert world.tick(HOUR) == []
    publish("r1")
    assert len(world.tick(HOUR)) == 1
    assert world.tick(HOUR) == []
    publish("r2")
    assert len(world.tick(HOUR)) == 1
    world.job(when='on = { dataset = "raw.lance", tag = "checked" }')
    assert len(world.ran) == 2


DAEMON = """
import sys, time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from weft.pipelines.schedules.daemon import Daemon
from weft.pipelines.schedules.process import Outcome

def note(job, run, output, watch):
    with open(f"ran-{job.name}.txt", "a") as file:
        file.write(f"{run.nominal.isoformat()}\\n")
    return Outcome(0)

now = [datetime(2026, 10, 20, 12, tzinfo=UTC)]
sys.stdin.readline()
with Daemon("jobs.toml", runner=note, clock=lambda: now[0]) as daemon:
    for _ in range(int(sys.argv[1])):
        daemon.tick()
        now[0] += timedelta(minutes=1)
"""


@pytest.mark.parametrize("times", [25])
def test_eight_daemons_at_once_run_every_time_once(tmp_path: Path, times: int) -> None:
    """They also begin at once: one of them makes the database."""
    cron = 'target = "p.py"\ncron = "* * * * *"\ntimezone = "Europe/Berlin"\n'
    (tmp_path / "jobs.toml").write_text(
        f'[queue]\n{cron}catchup = "all"\n\n[allow]\n{cron}catchup = "all"\noverlap = "allow"\n'
    )
    daemons = [
        subprocess.Popen(
            [sys.executable, "-c", DAEMON, str(times + 1)],
            cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    for daemon in daemons:
        assert daemon.stdin is not None
        daemon.stdin.write("\n")
        daemon.stdin.flush()
    for daemon in daemons:
        assert daemon.communicate(timeout=120)[1] == ""
        assert daemon.returncode == 0
    store = open_store(tmp_path / "jobs.toml")
    for name in ("queue", "allow"):
        ran = (tmp_path / f"ran-{name}.txt").read_text().split()
        begin = min(datetime.fromisoformat(t) for t in ran)
        assert sorted(ran) == [(begin + timedelta(minutes=m)).isoformat() for m in range(times)]
        assert [(r.state, r.attempt) for r in store.runs(name)] == [("succeeded", 1)] * times


def test_a_database_of_another_version_is_refused(world: World) -> None:
    import sqlite3

    from weft.errors import DefinitionError

    world.job()
    with sqlite3.connect(world.store.path) as db:
        db.execute("PRAGMA user_version = 9")
    db.close()
    with pytest.raises(DefinitionError, match=r"is of version 9; this weft reads version 1"):
        world.tick()


def test_verdicts_of_one_attempt(world: World) -> None:
    world.job("retries = 1")
    [job] = load(world.file)
    [run] = world.tick(DAY)
    assert verdict(Outcome(1, "lost", "lost"), run, job)[0] == "interrupted"
    assert verdict(Outcome(-15, "took longer than 1h"), run, job) == (None, "took longer than 1h")
