"""Sees to it that nothing is left of a private Ray when the process that started it is gone.

Ray's own processes end with the one that started them, but for two agents that stay for minutes,
and for the folder, which nobody removes after a SIGKILL. This is a program, started with the
folder; its standard input ends when the process that started it does, however that was. It uses
nothing but Python, so it starts in hundredths of a second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

GRACE_SECONDS = 3.0
"""How long Ray has to end by itself, which it does in less."""


def start(folder: str) -> subprocess.Popen[bytes]:
    """Start the program. To end its standard input ends it."""
    command = [sys.executable, "-I", "-S", __file__, folder]
    pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=quiet, stderr=quiet)  # noqa: S603  this file


def reap(folder: str) -> None:
    """Wait for the end of standard input, then end who uses `folder`, and remove it."""
    starter = os.getppid()
    sys.stdin.buffer.read()
    end = time.monotonic() + GRACE_SECONDS
    while (left := [p for p in users(folder) if p != starter]) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def users(folder: str) -> Iterator[int]:
    """Processes that have a file of `folder` open: every process of Ray has its log."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            here = f"/proc/{pid}/fd"
            files = (os.readlink(f"{here}/{fd}") for fd in os.listdir(here))
            if any(file.startswith(f"{folder}/") for file in files):
                yield int(pid)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started us
    reap(sys.argv[1])
