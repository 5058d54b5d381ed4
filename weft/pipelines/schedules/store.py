"""What was decided and what became of it: one row for each (job, nominal time), in SQLite.

That a time is run once, however many daemons look, is the primary key of this table and nothing
else: whoever comes second inserts nothing. Every change is one ``BEGIN IMMEDIATE`` transaction.
Whoever takes a run signs it with a token, and only that token may say how it ended.

SQLite keeps this promise on a local disk and not on NFS.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from weft.errors import Busy, DefinitionError
from weft.pipelines.runs.journal import process_birth, whoami
from weft.pipelines.schedules.due import Nominal
from weft.pipelines.schedules.policy import Policy, in_words
from weft.pipelines.schedules.triggers import Mark

State = Literal["queued", "running", "interrupted", "succeeded", "failed", "cancelled", "skipped"]

CRASHES = 3
"""How often a run that died without a word is gone on with before it has failed."""

STALE = timedelta(seconds=60)
"""A run of another host that has not been heard of for so long is dead. Here, the process is
asked."""

_BUSY_SECONDS = 60.0
"""How long to wait for other writers; a transaction takes less than a millisecond."""

_VERSION = 1

_SCHEMA = f"""
CREATE TABLE jobs (
    name TEXT PRIMARY KEY,
    trigger TEXT NOT NULL,      -- what starts it; when that changes, the schedule begins anew
    cursor TEXT NOT NULL,       -- the newest nominal time that was decided on
    mark TEXT,                  -- what a change trigger saw last
    paused TEXT                 -- why it is paused
) WITHOUT ROWID;
CREATE TABLE runs (
    job TEXT NOT NULL,
    nominal TEXT NOT NULL,      -- all times: ISO 8601, UTC
    start TEXT NOT NULL,        -- of the interval that ends with nominal
    state TEXT NOT NULL,
    reason TEXT,
    attempt INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    crashes INTEGER NOT NULL DEFAULT 0,
    noticed TEXT NOT NULL,
    started TEXT,
    ended TEXT,
    token TEXT,
    host TEXT,
    pid INTEGER,
    born TEXT,                  -- boot id and start time of the process
    child INTEGER,
    child_born TEXT,
    heartbeat TEXT,
    cancel INTEGER NOT NULL DEFAULT 0,
    exit_code INTEGER,
    run TEXT,
    versions TEXT,              -- JSON: dataset -> version
    PRIMARY KEY (job, nominal)
) WITHOUT ROWID;
CREATE INDEX unfinished ON runs (job, state) WHERE state IN ('queued', 'running', 'interrupted');
PRAGMA user_version = {_VERSION};
"""

_TIMES = ("nominal", "start", "noticed", "started", "ended", "heartbeat")


@dataclass(frozen=True)
class Known:
    """What is known of a job: see the table `jobs`."""

    cursor: datetime
    mark: str | None
    paused: str | None


@dataclass(frozen=True)
class Run:
    """One run of a job, or a time that was left out: see the table `runs`."""

    job: str
    nominal: datetime
    start: datetime
    state: State
    reason: str | None
    attempt: int
    failures: int
    crashes: int
    noticed: datetime
    started: datetime | None
    ended: datetime | None
    token: str | None
    host: str | None
    pid: int | None
    born: str | None
    child: int | None
    child_born: str | None
    heartbeat: datetime | None
    cancel: int
    exit_code: int | None
    run: str | None
    versions: Mapping[str, int]

    def alive(self, now: datetime) -> bool:
        """Whether the daemon that runs it, or the process that it started, still lives."""
        if self.host != whoami()["host"]:
            return self.heartbeat is not None and now - self.heartbeat < STALE
        processes = ((self.pid, self.born), (self.child, self.child_born))
        return any(pid and process_birth(pid) == born for pid, born in processes)


class Store:
    """The database of a ``jobs.toml``. A connection is opened for each transaction, so threads,
    processes and forks may share one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            _create(path)
        with self._open() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if version != _VERSION:
            raise DefinitionError(
                f"{path} is of version {version}; this weft reads version {_VERSION}. Use the "
                "weft that made it, or move it away to begin anew."
            )

    def meet(self, job: str, trigger: str, now: datetime) -> Known:
        """What is known of a job. A job that is new, or started by something else than before,
        begins now: what would have been is not caught up with."""
        with self._open() as db:
            row = db.execute("SELECT * FROM jobs WHERE name = ?", (job,)).fetchone()
        if row is None or row["trigger"] != trigger:
            with self._write() as db:
                db.execute(
                    "INSERT INTO jobs (name, trigger, cursor) VALUES (?1, ?2, ?3) ON CONFLICT "
                    "(name) DO UPDATE SET trigger = ?2, cursor = ?3, mark = NULL "
                    "WHERE trigger <> ?2",
                    (job, trigger, _text(now)),
                )
                row = db.execute("SELECT * FROM jobs WHERE name = ?", (job,)).fetchone()
        return Known(_time(row["cursor"]), row["mark"], row["paused"])

    def add_due(self, job: str, found: Iterable[Nominal], policy: Policy, now: datetime) -> None:
        """Write down what is due, and what becomes of it by the policy; each time once."""
        with self._write() as db:
            paused = _paused(db, job)
            going_on = _count(db, job, "running", "queued")
            for nominal in found:
                missed = nominal.missed
                state: State = "queued"
                if missed is None and paused is not None:
                    missed = f"paused: {paused}"
                if missed is None and going_on and policy.overlap == "skip":
                    missed = "a run was still going on"
                if missed is not None:
                    state = "skipped"
                elif policy.overlap == "cancel":
                    _cancel(db, job, now, f"replaced by the run of {_text(nominal.time)}")
                _insert(db, job, (nominal.start, nominal.time), now, state, missed)
                db.execute(
                    "UPDATE jobs SET cursor = max(cursor, ?) WHERE name = ?",
                    (_text(nominal.time), job),
                )

    def add_change(
        self, job: str, before: Known, mark: Mark, policy: Policy, now: datetime
    ) -> None:
        """Write down a change, if nobody noticed one since `before` was read."""
        with self._write() as db:
            moved = db.execute(
                "UPDATE jobs SET mark = ?, cursor = max(cursor, ?) WHERE name = ? AND mark IS ?",
                (mark.key, _text(now), job, before.mark),
            )
            if not moved.rowcount:
                return
            state: State = "queued"
            why = mark.text
            if policy.overlap == "cancel":
                _cancel(db, job, now, f"replaced by the run of {_text(now)}")
            elif policy.overlap == "skip" and _count(db, job, "queued"):
                state, why = "skipped", f"{mark.text}; the run that waits will see it"
            _insert(db, job, (before.cursor, now), now, state, why)

    def add_manual(self, job: str, start: datetime, policy: Policy, now: datetime) -> Run:
        """A run that somebody asked for, taken at once.

        Raises:
            Busy: another run of the job is going on, and the policy does not allow two.
        """
        with self._write() as db:
            row = db.execute(
                "SELECT * FROM runs WHERE job = ? AND state = 'running'", (job,)
            ).fetchone()
            if row is not None and policy.overlap != "allow":
                raise Busy(
                    f"The run of {job} for {row['nominal']} is going on (process {row['pid']} on "
                    f"{row['host']}). Wait for it, or stop it."
                )
            _insert(db, job, (start, now), now, "queued", "asked for")
            return _take(db, job, _text(now), now)

    def claim(self, job: str, policy: Policy, now: datetime) -> Run | None:
        """Take the oldest run that waits, if the policy lets it start now. `meet` comes first."""
        with self._open() as db:
            if not _count(db, job, "queued", "interrupted"):
                return None
        with self._write() as db:
            if _paused(db, job) is not None:
                return None
            if policy.overlap != "allow" and _count(db, job, "running"):
                return None
            if policy.deadline is not None:
                db.execute(
                    "UPDATE runs SET state = 'skipped', ended = ?, reason = ? WHERE job = ? AND "
                    "state = 'queued' AND nominal < ?",
                    (
                        _text(now),
                        f"waited for more than the deadline of {in_words(policy.deadline)}",
                        job,
                        _text(now - policy.deadline),
                    ),
                )
            row = db.execute(
                "SELECT nominal FROM runs WHERE job = ? AND state IN ('queued', 'interrupted') "
                "ORDER BY nominal LIMIT 1",
                (job,),
            ).fetchone()
            return None if row is None else _take(db, job, row["nominal"], now)

    def attempt(self, run: Run, reason: str | None, now: datetime) -> None:
        """Note that the attempt failed and another one follows."""
        self._of(run, "attempt = attempt + 1, failures = failures + 1, reason = ?", reason)
        self.beat(run, now)

    def child(self, run: Run, pid: int) -> None:
        """Note the process that does the work."""
        self._of(run, "child = ?, child_born = ?", pid, process_birth(pid))

    def beat(self, run: Run, now: datetime) -> Literal["lost", "cancelled"] | None:
        """Show that the run lives; whether somebody took it away or wants it to stop."""
        if not self._of(run, "heartbeat = ?", _text(now)):
            return "lost"
        with self._open() as db:
            row = db.execute("SELECT cancel FROM runs WHERE token = ?", (run.token,)).fetchone()
        return "cancelled" if row is not None and row["cancel"] else None

    def end(
        self,
        run: Run,
        state: State,
        now: datetime,
        reason: str | None = None,
        *,
        exit_code: int | None = None,
        failed: bool = False,
        crashed: bool = False,
        weft_run: str | None = None,
        versions: Mapping[str, int] | None = None,
    ) -> None:
        """Note how a run ended, unless somebody took it away meanwhile."""
        self._of(
            run,
            "state = ?, ended = ?, reason = ifnull(?, reason), exit_code = ?, run = ?, "
            "versions = ?, failures = failures + ?, crashes = crashes + ?",
            state, _text(now), reason, exit_code, weft_run, json.dumps(versions or {}),
            int(failed), int(crashed),
        )  # fmt: skip

    def recover(self, now: datetime) -> list[Run]:
        """Runs whose daemon died: to be gone on with, unless they crashed too often."""
        found = [run for run in self.runs(state="running") if not run.alive(now)]
        for run in found:
            why = f"process {run.pid} on {run.host} died"
            if run.cancel:
                self.end(run, "cancelled", now, why)
            elif run.crashes >= CRASHES:
                self.end(run, "failed", now, f"{why}, {run.crashes + 1} times", crashed=True)
            else:
                self.end(run, "interrupted", now, why, crashed=True)
        return found

    def pause(self, job: str, reason: str | None) -> None:
        """Pause a job; ``None`` lets it go on."""
        with self._write() as db:
            db.execute("UPDATE jobs SET paused = ? WHERE name = ?", (reason, job))

    def failures(self, job: str) -> int:
        """How many runs have failed since the last that succeeded."""
        with self._open() as db:
            rows = db.execute(
                "SELECT state FROM runs WHERE job = ? AND state IN ('failed', 'succeeded') "
                "ORDER BY ended DESC",
                (job,),
            )
            count = 0
            for row in rows:
                if row["state"] == "succeeded":
                    break
                count += 1
        return count

    def runs(
        self, job: str | None = None, state: State | None = None, limit: int = -1
    ) -> list[Run]:
        """Runs and times left out, the newest first."""
        with self._open() as db:
            rows = db.execute(
                "SELECT * FROM runs WHERE job = ifnull(?1, job) AND state = ifnull(?2, state) "
                "ORDER BY nominal DESC, job LIMIT ?3",
                (job, state, limit),
            ).fetchall()
        return [_run(row) for row in rows]

    def get(self, run: Run) -> Run:
        """The run as it is now."""
        with self._open() as db:
            return _get(db, run.job, _text(run.nominal))

    def _of(self, run: Run, assign: str, *values: Any) -> bool:
        """Change a run that is still this owner's."""
        with self._write() as db:
            done = db.execute(
                f"UPDATE runs SET {assign} WHERE job = ? AND nominal = ? AND token = ? "  # noqa: S608  no values in it
                "AND state = 'running'",
                (*values, run.job, _text(run.nominal), run.token),
            )
            return done.rowcount == 1

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
        db.row_factory = sqlite3.Row
        try:
            yield db
        finally:
            db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


def _create(path: Path) -> None:
    """Put a whole database in place; of several daemons that begin at once, one does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    db = sqlite3.connect(made, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode = WAL")  # stays with the file; switching later may fail
        db.executescript(_SCHEMA)
    finally:
        db.close()
    try:
        path.hardlink_to(made)
    except FileExistsError:
        pass
    finally:
        made.unlink()


def _insert(  # noqa: PLR0917  private, and called alike each time
    db: sqlite3.Connection,
    job: str,
    interval: tuple[datetime, datetime],
    now: datetime,
    state: State = "queued",
    reason: str | None = None,
) -> None:
    start, nominal = interval
    db.execute(
        "INSERT OR IGNORE INTO runs (job, nominal, start, state, reason, noticed) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (job, _text(nominal), _text(start), state, reason, _text(now)),
    )


def _take(db: sqlite3.Connection, job: str, nominal: str, now: datetime) -> Run:
    me = whoami()
    db.execute(
        "UPDATE runs SET state = 'running', attempt = attempt + 1, started = ?1, heartbeat = ?1, "
        "ended = NULL, token = ?2, host = ?3, pid = ?4, born = ?5, child = NULL, "
        "child_born = NULL WHERE job = ?6 AND nominal = ?7",
        (_text(now), secrets.token_hex(8), me["host"], me["pid"], me["born"], job, nominal),
    )
    return _get(db, job, nominal)


def _cancel(db: sqlite3.Connection, job: str, now: datetime, why: str) -> None:
    db.execute("UPDATE runs SET cancel = 1 WHERE job = ? AND state = 'running'", (job,))
    db.execute(
        "UPDATE runs SET state = 'cancelled', ended = ?, reason = ? WHERE job = ? AND "
        "state IN ('queued', 'interrupted')",
        (_text(now), why, job),
    )


def _count(db: sqlite3.Connection, job: str, *states: State) -> int:
    marks = ", ".join("?" * len(states))
    (count,) = db.execute(
        f"SELECT count(*) FROM runs WHERE job = ? AND state IN ({marks})",  # noqa: S608  marks only
        (job, *states),
    ).fetchone()
    return int(count)


def _paused(db: sqlite3.Connection, job: str) -> str | None:
    row = db.execute("SELECT paused FROM jobs WHERE name = ?", (job,)).fetchone()
    found: str | None = row["paused"]
    return found


def _get(db: sqlite3.Connection, job: str, nominal: str) -> Run:
    query = "SELECT * FROM runs WHERE job = ? AND nominal = ?"
    return _run(db.execute(query, (job, nominal)).fetchone())


def _run(row: sqlite3.Row) -> Run:
    values = {key: row[key] for key in row.keys()}  # noqa: SIM118  iterating a Row gives values
    times = {key: None if values[key] is None else _time(values[key]) for key in _TIMES}
    return Run(**{**values, **times, "versions": json.loads(values["versions"] or "{}")})


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
