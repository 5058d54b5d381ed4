"""The lease of a dataset: one run, or one command that changes versions, at a time.

``lease-<epoch>.json`` in the state folder names a holder; the highest epoch counts. It is taken
by putting the file of the next epoch where there is none, which one contender wins. It is given
back by noting that in the file, which stays: epochs never go back, so a holder that slept
through the loss of its lease sees a higher one and stops before its next commit.

The holder touches its file every few seconds. Whether it lives is asked of its process where
that can be seen: on the same host, since the same boot, in the same space of process ids.
Anywhere else the file is watched: a holder whose file is not touched for a minute, by the
watcher's own monotonic clock, is gone. The time that a file carries is compared with nothing but
itself, so it does not matter how wrong the clocks of hosts and storage are, or whether they jump.
A process that is there and is stopped, or busy in code that lets no other thread run, keeps the
lease on its own host; elsewhere it loses it, and finds out.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from weft.errors import Busy, CorruptState, Held
from weft.pipelines.engines.sealed import read_json, sealed_json, write_synced
from weft.pipelines.fence import fenced
from weft.pipelines.runs.journal import process_birth, whoami

BEAT_SECONDS = 5.0
"""How often the holder shows that it lives."""

STALE_SECONDS = 60.0
"""A holder that cannot be asked is gone when its file was not touched for so long."""

_LOOK_SECONDS = 0.2
"""How often a file is looked at while it is watched."""

_SEEN: dict[Path, tuple[int, float, bool]] = {}
"""Files that are watched: the time they carried, since when (monotonic), and whether they were
ever seen to change. It stays, so that a second look goes on where the first one was."""


class Lease:
    """A lease that is held."""

    def __init__(self, state: Path, epoch: int, run: str) -> None:
        self.state = state
        self.epoch = epoch
        self.run = run
        self.told = {"run": run, "epoch": epoch, "taken": time(), **identity()}

    @property
    def path(self) -> Path:
        """The file that names the holder."""
        return lease_path(self.state, self.epoch)

    def held(self) -> bool:
        """Whether nobody else has taken it."""
        return _newest(self.state) == self.told

    def check(self) -> None:
        """Make sure it is still held, right before something that must not be done twice.

        Raises:
            Busy: another run broke it.
        """
        if not self.held():
            found = holder(self.state)
            raise Busy(
                f"Run {self.run} lost the lease {self.path} to {found['run'] if found else None}; "
                "it publishes nothing. Its finished units are kept: `weft resume` goes on."
            )


def lease_path(state: str | Path, epoch: int) -> Path:
    """The file of an epoch."""
    return Path(state) / f"lease-{epoch}.json"


def past_epoch(state: str | Path) -> int:
    """The highest epoch whose holder does nothing any more; 0: there is none. Who is silent for
    long may be asleep, and go on before somebody takes the next one."""
    found = _newest(Path(state))
    if found is None:
        return 0
    over = "released" in found or _ask(found) is False
    return int(found["epoch"]) - (0 if over else 1)


@contextmanager
def hold(state: str | Path, run: str) -> Iterator[Lease]:
    """Hold the lease of the dataset whose state folder is `state`, as `run`.

    A holder that cannot be asked is watched first: 5 s if it lives, 60 s if it is gone.

    Raises:
        Held: somebody who lives holds it; the message says which run, and where.
        CorruptState: the file of the lease is damaged.
    """
    folder = Path(state)
    folder.mkdir(parents=True, exist_ok=True)
    lease = _take(folder, run)
    try:
        with beating(lease.path), fenced(lease.check):
            yield lease
    finally:
        if lease.held():
            _note_release(lease)


@contextmanager
def beating(path: Path) -> Iterator[None]:
    """Touch a file every few seconds, as long as it is there: its process lives."""
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True, name="weft-lease")
    beat.start()
    try:
        yield
    finally:
        stop.set()
        beat.join()


def holder(state: str | Path) -> dict[str, Any] | None:
    """Who has the lease as far as is written, dead or alive; ``None``: nobody.

    Raises:
        CorruptState: the file of the lease is damaged.
    """
    found = _newest(Path(state))
    return None if found is None or "released" in found else found


def refuse_if_held(state: str | Path) -> None:
    """Look whether somebody who lives holds the lease, without taking it.

    Raises:
        Held: somebody does.
        CorruptState: the file of the lease is damaged.
    """
    _look_and_refuse(Path(state))


def is_held(state: str | Path, run: str) -> bool:
    """Whether somebody holds the lease as `run` and lives. Takes two beats to say no of one that
    cannot be asked: long enough for those who want to know, not to break it."""
    found = holder(state)
    if found is None or found["run"] != run:
        return False
    path = lease_path(state, found["epoch"])
    asked = _ask(found)
    return bool(_watch(path, 2 * BEAT_SECONDS)) if asked is None else asked


def lives(path: Path, found: Mapping[str, Any]) -> bool:
    """Whether the process that touches `path` lives; watches the file if it cannot be asked."""
    asked = _ask(found)
    return _watch(path, STALE_SECONDS) is not False if asked is None else asked


def gone(path: Path, found: Mapping[str, Any]) -> bool:
    """Whether the process that touches `path` is known to be gone by now; does not wait."""
    asked = _ask(found)
    return _look(path) is False if asked is None else not asked


def identity() -> dict[str, Any]:
    """This process, and the space in which its id names it."""
    return {**whoami(), "space": _space()}


def read_holder(path: Path) -> dict[str, Any] | None:
    """What a file says of its process; ``None``: it is gone.

    Raises:
        CorruptState: it is damaged.
    """
    try:
        return read_json(path)
    except CorruptState as error:
        if not path.exists():
            return None
        raise CorruptState(
            f"{error} It does not say any more who is working. If nobody is, delete it."
        ) from error


def put(path: Path, content: Mapping[str, Any]) -> bool:
    """Put a file where there is none, whole; whether there was none."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_synced(temporary, sealed_json(json.dumps(content).encode()))
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def _take(state: Path, run: str) -> Lease:
    while True:
        lease = Lease(state, _look_and_refuse(state) + 1, run)
        if not put(lease.path, lease.told):
            continue  # somebody was faster
        if lease.held():
            for epoch in _epochs(state):
                if epoch < lease.epoch:
                    lease_path(state, epoch).unlink(missing_ok=True)
            return lease
        lease.path.unlink(missing_ok=True)  # slept since it looked, and came where others had been


def _look_and_refuse(state: Path) -> int:
    """The highest epoch, of which nobody who lives holds the lease any more; 0: there is none."""
    found = _newest(state)
    if found is None:
        return 0
    epoch = int(found["epoch"])
    if "released" not in found and lives(lease_path(state, epoch), found):
        raise Held(
            f"Run {found['run']} is working on this dataset (process {found['pid']} on "
            f"{found['host']}). Wait for it, or stop it and run again.",
            state,
            found,
        )
    return epoch


def _newest(state: Path) -> dict[str, Any] | None:
    """The file of the highest epoch."""
    while epoch := _highest(state):
        found = read_holder(lease_path(state, epoch))
        if found is not None:  # else it was cleared away by who took the next one
            return found
    return None


def _note_release(lease: Lease) -> None:
    told = {"run": lease.run, "epoch": lease.epoch, "released": True}
    data = sealed_json(json.dumps(told).encode())
    temporary = lease.path.with_name(f".{lease.path.name}.{secrets.token_hex(4)}")
    try:
        write_synced(temporary, data)
        temporary.replace(lease.path)
    except OSError:  # the storage is full: what is there is longer, so this fits in its place
        with suppress(OSError), lease.path.open("r+b") as file:
            file.write(data)
            file.truncate()


def _highest(state: Path) -> int:
    return max(_epochs(state), default=0)


def _epochs(state: Path) -> list[int]:
    names = [path.stem.removeprefix("lease-") for path in state.glob("lease-*.json")]
    return [int(name) for name in names if name.isdecimal()]


def _ask(found: Mapping[str, Any]) -> bool | None:
    """Whether a process lives; ``None``: it cannot be seen from here."""
    me = identity()
    boot = str(me["born"]).partition(":")[0]
    same = (found["host"], found.get("space")) == (me["host"], me["space"])
    if not same or me["born"] is None or str(found["born"]).partition(":")[0] != boot:
        return None
    return bool(process_birth(found["pid"]) == found["born"])


def _space() -> str | None:
    """The space of process ids: a container has its own, maybe under its host's name."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return None


def _watch(path: Path, patience: float) -> bool | None:
    """Look at a file until it is known whether somebody touches it, or patience is at an end."""
    until = monotonic() + patience + _LOOK_SECONDS
    while (known := _look(path)) is None and monotonic() < until:
        sleep(_LOOK_SECONDS)
    return known


def _look(path: Path) -> bool | None:
    """Whether somebody touches a file; ``None``: not known yet."""
    try:
        with path.open("rb") as file:  # opening makes NFS ask the server; `stat` may not
            touched = os.fstat(file.fileno()).st_mtime_ns
    except FileNotFoundError:
        return False
    before = _SEEN.get(path)
    if before is None or before[0] != touched:
        _SEEN[path] = (touched, monotonic(), before is not None)
        return None if before is None else True
    _, since, changed = before
    if monotonic() - since >= STALE_SECONDS:
        return False
    return True if changed else None


def _beat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(BEAT_SECONDS):
        try:
            os.utime(path)
        except FileNotFoundError:
            return  # it was broken, and the next holder has cleared it away
        except OSError:
            continue  # the storage stumbles; if for long, the lease is lost and `check` says so
