"""One attempt at a run: ``weft run``, or the job's command, as a process group of its own,
watched until it ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from weft.errors import redact
from weft.pipelines.schedules.jobs import Job
from weft.pipelines.schedules.logical import LogicalTime
from weft.pipelines.schedules.policy import in_words
from weft.pipelines.schedules.store import Run

WEFT = (sys.executable, "-c", "from weft.cli.main import main; main()")
"""The command line, by this Python, whatever is on the path."""

GRACE_SECONDS = 30.0
"""From SIGTERM, at which a run notes where it is, to SIGKILL."""

_POLL_SECONDS = 0.5

_CANNOT_START = 2
"""The exit code of a wrong pipeline, for a command that is none: trying again does not help."""

Stop = Literal["stopped", "cancelled", "lost"]
"""Why a run is to stop: the daemon is, a newer run takes its place, or another daemon took it."""


class Watch(Protocol):
    """What a runner tells of its work, and asks."""

    def started(self, pid: int) -> None:
        """The process that does the work."""

    def stop(self) -> Stop | None:
        """Whether to stop; also shows that the run lives, so ask every second or so."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `code` is as of the process: negative for a signal."""

    code: int
    reason: str | None = None
    stop: Stop | None = None
    run: str | None = None
    versions: Mapping[str, int] = field(default_factory=dict)

    @property
    def crashed(self) -> bool:
        """Whether it was killed, by somebody who did not say why: the kernel, for memory."""
        return self.code < 0 and self.reason is None


Runner = Callable[[Job, Run, Path, Watch], Outcome]
"""Makes one attempt at a run; output goes to files named like the path, `.log` and `.json`."""


def run_weft(job: Job, run: Run, output: Path, watch: Watch) -> Outcome:
    """Run ``weft run``, or the job's command, for the run's nominal time, until it ends, its
    timeout, or a stop. What a command prints is its log.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    time_of = LogicalTime(run.nominal, run.start, job.zone)
    answer = output.with_suffix(".json")
    with answer.open("wb") as stdout, output.with_suffix(".log").open("wb") as stderr:
        words = job.arguments(run.nominal, run.start)
        try:
            process = subprocess.Popen(  # noqa: S603  the user's own job
                words if job.command else [*WEFT, *words],
                cwd=job.folder,
                env={**_environment(), **time_of.environment(), "WEFT_JOB": job.name},
                stdin=subprocess.DEVNULL,
                stdout=stderr if job.command else stdout,
                stderr=stderr,
                start_new_session=True,
            )
        except OSError as error:
            return Outcome(_CANNOT_START, f"{words[0]} cannot be started: {error.strerror}")
        with process:
            watch.started(process.pid)
            try:
                reason, stop = _watch(process, job, watch)
            except BaseException:
                _kill(process)
                raise
    return _outcome(process.returncode, answer, reason, stop)


def _environment() -> dict[str, str]:
    """This one, with the programs of this Python first: cron knows of no virtual environment."""
    here = os.path.dirname(sys.executable)
    return {**os.environ, "PATH": os.pathsep.join([here, os.environ.get("PATH", os.defpath)])}


def _watch(process: subprocess.Popen[bytes], job: Job, watch: Watch) -> tuple[str | None, Any]:
    """Wait until it ends or has to be ended; why it was ended."""
    timeout = job.policy.timeout
    until = None if timeout is None else time.monotonic() + timeout.total_seconds()
    while True:
        try:
            process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        else:
            return None, None
        stop = watch.stop()
        if stop is not None:
            _kill(process)
            return stop, stop
        if timeout is not None and until is not None and time.monotonic() > until:
            _kill(process)
            return f"took longer than {in_words(timeout)}", None


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process group: in order, and if that takes too long, at once."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        os.killpg(process.pid, signal.SIGKILL)  # also what the leader left behind
    process.wait()


def _outcome(code: int, answer: Path, reason: str | None, stop: Stop | None) -> Outcome:
    try:
        document = json.loads(answer.read_bytes())
    except ValueError:  # killed before it answered
        document = {}
    if "error" in document and reason is None:
        reason = redact(document["error"]["message"].split("\n")[0], limit=300)
    elif code > 0 and reason is None:
        reason = f"exit {code}"
    return Outcome(
        code=code,
        reason=reason,
        stop=stop,
        run=document.get("run") or None,
        versions={w["dataset"]: w["version"] for w in document.get("writes", [])},
    )
