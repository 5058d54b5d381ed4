"""The lease of a dataset: one run at a time.

A file beside the dataset names the holder. It is taken by putting it where there is none, which
one contender wins. The holder touches it every few seconds. A lease whose process is gone, or
that nobody has touched for a minute, is broken by renaming it away, which again only one can;
its epoch counts up, so that a holder that slept through it can see that it lost.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from weft.errors import Busy
from weft.pipelines.runs.journal import process_birth, whoami

BEAT_SECONDS = 5.0
"""How often the holder shows that it lives."""

STALE_SECONDS = 60.0
"""A lease on another host that is older is broken. On the same host the process is asked."""


class Lease:
    """A lease that is held."""

    def __init__(self, path: Path, epoch: int, run: str) -> None:
        self.path = path
        self.epoch = epoch
        self.run = run

    def check(self) -> None:
        """Make sure it is still held, right before something that must not be done twice.

        Raises:
            Busy: another run broke it.
        """
        found = _read(self.path)
        if found is None or found["epoch"] != self.epoch or found["run"] != self.run:
            raise Busy(
                f"Run {self.run} lost the lease {self.path} to {found and found['run']}; it "
                "publishes nothing. Its finished units are kept: `weft resume` goes on."
            )


@contextmanager
def hold(state: str | Path, run: str) -> Iterator[Lease]:
    """Hold the lease of the dataset whose state folder is `state`.

    Raises:
        Busy: a living run holds it; the message says which, where and since when.
    """
    path = Path(state) / "lease.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lease = _take(path, run)
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True, name="weft-lease")
    beat.start()
    try:
        yield lease
    finally:
        stop.set()
        beat.join()
        found = _read(path)
        if found is not None and (found["epoch"], found["run"]) == (lease.epoch, run):
            path.unlink()


def refuse_if_held(state: str | Path) -> None:
    """Look whether a living run holds the lease, without taking it.

    Raises:
        Busy: one does.
    """
    path = Path(state) / "lease.json"
    found = _read(path)
    if found is not None:
        _refuse_if_alive(path, found)


def _take(path: Path, run: str) -> Lease:
    epoch = 1
    for _ in range(10):
        found = _read(path)
        if found is not None:
            _refuse_if_alive(path, found)
            epoch = found["epoch"] + 1
            if not _break(path, found):
                continue
        if _put(path, {"run": run, "epoch": epoch, "taken": time.time(), **whoami()}):
            return Lease(path, epoch, run)
    raise Busy(f"Others keep taking the lease {path}. Try again.")


def _refuse_if_alive(path: Path, found: dict[str, Any]) -> None:
    me = whoami()
    if found["host"] == me["host"]:
        alive = process_birth(found["pid"]) == found["born"]
    else:
        alive = time.time() - path.stat().st_mtime < STALE_SECONDS
    if alive:
        raise Busy(
            f"Run {found['run']} is working on this dataset (process {found['pid']} on "
            f"{found['host']}). Wait for it, or stop it and run again."
        )


def _break(path: Path, found: dict[str, Any]) -> bool:
    """Take a dead lease away. Of several contenders one succeeds."""
    away = path.with_name(f".broken-{secrets.token_hex(4)}")
    try:
        path.rename(away)
    except FileNotFoundError:
        return False
    mine = _read(away) == found
    if not mine:  # somebody was faster, and this is the lease they just took: put it back
        with suppress(FileExistsError):
            path.hardlink_to(away)
    away.unlink()
    return mine


def _put(path: Path, lease: dict[str, Any]) -> bool:
    temporary = path.with_name(f".lease-{secrets.token_hex(4)}")
    temporary.write_text(json.dumps(lease))
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        try:
            os.utime(path)
        except FileNotFoundError:
            return
