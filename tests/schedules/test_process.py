"""A run as a process group: its environment, its timeout, how it is stopped, what it answers."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from weft.pipelines.schedules import process
from weft.pipelines.schedules.daemon import Daemon
from weft.pipelines.schedules.process import Outcome, Stop, run_weft
from weft.pipelines.schedules.store import Run

CHILDREN = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open("child", "w").write(str(child.pid))
time.sleep(60)
"""
"""A program with a process of its own, both of which would take a minute."""


TARGET = """
target = "p.py"
set.day = "{nominal:%Y-%m-%d %Hh}"
"""


class Watched:
    """Tells a runner to stop when a file is there."""

    def __init__(self, how: Stop | None = None, file: Path | None = None) -> None:
        self.how, self.file = how, file
        self.pid: int | None = None

    def started(self, pid: int) -> None:
        self.pid = pid

    def stop(self) -> Stop | None:
        return self.how if self.file is not None and self.file.exists() else None


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a program in place of weft, once."""

    def call(
        program: str, more: str = "", watch: Watched | None = None, command: str = ""
    ) -> Outcome:
        monkeypatch.setattr(process, "WEFT", (sys.executable, "-c", program))
        monkeypatch.setattr(process, "_POLL_SECONDS", 0.05)
        (tmp_path / "jobs.toml").write_text(
            '[photos]\ncron = "0 2 * * *"\ntimezone = "Europe/Berlin"\n'
            + (f"command = {command}" if command else f"{TARGET}{more}")
        )
        with Daemon(tmp_path / "jobs.toml") as daemon:
            [job] = daemon.jobs
            nominal = datetime(2026, 11, 21, 1, tzinfo=UTC)
            daemon.store.meet("photos", "", nominal)
            run: Run = daemon.store.add_manual(
                "photos", nominal - timedelta(days=1), job.policy, nominal
            )
            daemon.store.end(run, "succeeded", nominal)
        return run_weft(job, run, tmp_path / "logs" / "a", watch or Watched())

    return call


def test_what_a_run_is_given(attempt, tmp_path: Path) -> None:
    outcome = attempt(
        "import json, os, sys\n"
        "names = ('WEFT_NOMINAL_TIME', 'WEFT_INTERVAL_START', 'WEFT_INTERVAL_END', 'WEFT_JOB')\n"
        "values = [os.environ[n] for n in names]\n"
        "print('to the log', file=sys.stderr)\n"
        "print(json.dumps({'run': 'r1', 'writes': [{'dataset': 'd', 'version': 7}]}))\n"
        "json.dump([values, sys.argv[1:], os.getcwd(), os.getsid(0)], open('seen.json', 'w'))"
    )
    assert outcome == Outcome(0, run="r1", versions={"d": 7})
    values, arguments, folder, session = json.loads((tmp_path / "seen.json").read_text())
    assert values == [
        "2026-11-21T01:00:00+00:00", "2026-11-20T01:00:00+00:00", "2026-11-21T01:00:00+00:00",
        "photos",
    ]  # fmt: skip
    assert arguments == ["run", "--json", "--engine=ray", "--set=day=2026-11-21 02h", "--", "p.py"]
    assert folder == str(tmp_path)
    assert session != os.getsid(0)
    assert (tmp_path / "logs" / "a.log").read_text() == "to the log\n"


def test_an_error_is_the_reason(attempt) -> None:
    document = {"error": {"type": "Busy", "message": "held\nby another"}, "exit_code": 3}
    assert attempt(f"print({json.dumps(document)!r}); exit(3)") == Outcome(3, "held")
    assert attempt("exit(1)") == Outcome(1, "exit 1")


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody waited for has, too."""
    from weft.pipelines.runs.journal import process_birth

    until = time.monotonic() + 5
    while process_birth(pid) is not None and time.monotonic() < until:
        time.sleep(0.02)
    return process_birth(pid) is None


def test_a_timeout_ends_the_whole_group(attempt, tmp_path: Path) -> None:
    watch = Watched()
    began = time.monotonic()
    outcome = attempt(CHILDREN, 'timeout = "1s"', watch)
    assert time.monotonic() - began < 20
    assert (outcome.code, outcome.reason) == (-signal.SIGTERM, "took longer than 1s")
    assert not outcome.crashed
    assert watch.pid is not None
    assert gone(watch.pid)
    assert gone(int((tmp_path / "child").read_text()))


def test_what_does_not_hear_sigterm_is_killed(
    attempt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE_SECONDS", 0.2)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + CHILDREN
    outcome = attempt(deaf, watch=Watched("cancelled", tmp_path / "child"))
    assert (outcome.code, outcome.stop) == (-signal.SIGKILL, "cancelled")


def test_a_run_that_is_killed_from_outside_crashed(attempt) -> None:
    outcome = attempt("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert (outcome.code, outcome.reason, outcome.crashed) == (-signal.SIGKILL, None, True)


def test_a_command_in_place_of_a_pipeline(attempt, tmp_path: Path) -> None:
    program = "import sys; print(sys.argv[1:], sys.executable); exit(3)"
    words = json.dumps(["python", "-c", program, "{nominal:%Y-%m-%d}"])
    assert attempt("", command=words) == Outcome(3, "exit 3")
    log = (tmp_path / "logs" / "a.log").read_text()
    assert log == f"['2026-11-21'] {sys.executable}\n"  # the venv's, as weft is


def test_a_command_that_is_none_is_not_tried_again(attempt) -> None:
    outcome = attempt("", command='["no-such-program", "x"]')
    assert outcome == Outcome(2, "no-such-program cannot be started: No such file or directory")
