"""Run files in child processes, and find those at which a child dies or does not come back."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from . import references

SECONDS = 20.0
"""CPU time of a child, which has two threads, while an operator is at one file."""

IDLE = 6.0
"""Seconds on the clock for each of CPU time: other processes want the machine as well."""

START_SECONDS = 120.0
"""How long a child may be at no file: importing, writing."""


@dataclass
class Outcome:
    """What became of the files of a family."""

    found: dict[str, Any] = field(default_factory=dict)
    culprits: dict[str, str] = field(default_factory=dict)
    broken: str = ""


@dataclass(frozen=True)
class Family:
    """Files that one kind of child runs."""

    name: str
    files: tuple[Path, ...]
    canaries: Path
    out: Path
    row_seconds: float = 0.0
    """What an operator may take for a row, in a process of its own; 0: it has none."""


def run(family: Family, seconds: float = SECONDS, *, alone: bool = False) -> Outcome:
    """Run a family; a file at which a child ends is tried alone, and left out if it is at fault."""
    outcome = Outcome()
    if alone:
        outcome.found, why, suspects = _once(family, family.out, seconds)
        outcome.culprits = {str(suspect): why for suspect in suspects}
        return outcome
    for attempt in range(10):
        outcome.found, why, suspects = _once(family, family.out / f"attempt-{attempt}", seconds)
        if not why:
            return outcome
        guilty = {}
        for suspect in suspects:
            apart = dataclasses.replace(family, files=(suspect,))
            _, fault, _ = _once(apart, family.out / f"alone-{attempt}-{suspect.name}", seconds)
            if fault:
                guilty[suspect] = fault
        if not guilty and not suspects:
            outcome.broken = why
            return outcome
        for suspect in guilty or suspects:
            outcome.culprits[str(suspect)] = guilty.get(suspect, f"{why}, beside others")
        left = tuple(f for f in family.files if str(f) not in outcome.culprits)
        family = dataclasses.replace(family, files=left)
    outcome.broken = "ten children ended"
    return outcome


def _once(family: Family, out: Path, seconds: float) -> tuple[dict[str, Any], str, list[Path]]:
    """One child: what it found, why it ended if not well, and at which files it was then."""
    out.mkdir(parents=True)
    job = {
        "files": [str(file) for file in family.files],
        "family": family.name,
        "out": str(out),
        "notes": str(out / "notes"),
        "result": str(out / "result.json"),
        "text": references.TEXT,
        "colour": references.COLOUR,
        "hertz": references.HERTZ,
        "row_seconds": family.row_seconds,
    }
    (out / "job.json").write_text(json.dumps(job))
    script = str(Path(__file__).with_name("child.py"))
    with (out / "job.json").open() as given, (out / "log").open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, script], stdin=given, stdout=log, stderr=log, cwd=family.canaries
        )
        stuck = _wait(child, out / "notes", seconds)
    if stuck:
        return {}, f"no end after {seconds:g} s of CPU time", stuck
    if child.returncode == 0:
        return json.loads((out / "result.json").read_text()), "", []
    at = [place.path for place in _at(out / "notes")]
    if child.returncode < 0:
        return {}, f"killed by {signal.Signals(-child.returncode).name}", at
    return {}, "raised: " + (out / "log").read_text(errors="replace")[-1000:], at


def _wait(child: subprocess.Popen[bytes], notes: Path, seconds: float) -> list[Path]:
    """Wait for the end; the files at which it is stuck, having killed it, or none."""
    last = time.monotonic()
    while True:
        try:
            child.wait(0.1)
        except subprocess.TimeoutExpired:
            at, now, used = _at(notes), time.monotonic(), _cpu_seconds(child.pid)
            last = now if at else last
            stuck = [
                place.path
                for place in at
                if used - place.used > seconds or now - place.began > IDLE * seconds
            ]
            if stuck or now - last > START_SECONDS:
                child.kill()
                child.wait()
                return stuck or [Path("no file")]
        else:
            return []


class _Place(NamedTuple):
    """Where a thread is: since when, how much CPU time its process had used then, at which file."""

    began: float
    used: float
    path: Path


def _at(notes: Path) -> list[_Place]:
    """Where each thread is that is at a file."""
    threads: dict[int, _Place] = {}
    if not notes.exists():
        return []
    for line in notes.read_text().splitlines(keepends=True):
        if line.endswith("\n"):
            began, used, thread, operator, name = json.loads(line)
            threads.pop(thread, None)
            if operator:
                threads[thread] = _Place(began, used, Path(name))
    return list(threads.values())


def _cpu_seconds(pid: int) -> float:
    """What a process has used so far (proc(5): utime and stime)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0.0
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


class Host:
    """A port of this machine where connections are counted, and nothing is ever answered."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        """Count no more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


_OPENED = 0x20
"""IN_OPEN of <sys/inotify.h>."""


@contextmanager
def opened(folder: Path) -> Iterator[set[str]]:
    """The names of files in `folder` that any process opens meanwhile; complete at the end."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    watch = libc.inotify_add_watch(handle, os.fsencode(folder), _OPENED)
    assert min(handle, watch) >= 0, os.strerror(ctypes.get_errno())
    names: set[str] = set()
    try:
        yield names
    finally:
        try:
            events = os.read(handle, 2**20)
        except BlockingIOError:
            events = b""
        os.close(handle)
        at = 0
        while at < len(events):
            length = struct.unpack_from("iIII", events, at)[3]
            names.add(events[at + 16 : at + 16 + length].rstrip(b"\0").decode())
            at += 16 + length
        names.discard("")  # the folder itself, which a child starts in
