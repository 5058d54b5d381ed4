"""Garbage of a dataset: files that nobody will ever read, and versions that are not kept.

What is a file's owner, which no version has?

- A receipt of a run that is finished names it: the run will never commit it again. It goes.
- A receipt of a run that is not finished names it: resume needs it. It stays.
- No receipt names it. A worker writes files before its receipt does, and what others write
  without a lease no receipt ever names. It goes when it is a day old, and older than any run
  that is not finished.

All of it happens under the lease, so that no run is at work; that is not enough by itself:
workers of a driver that was killed live on for seconds, and those of another host for as long as
it takes them to see it. Files that a version has are not looked at, so a reader of any version
that stays is not disturbed.

Which versions stay: what readers see, what is newer than it, the newest runs, whatever a tag of
somebody's own names, a run that waits for a decision. And what was replaced less than an hour
ago, because somebody may be reading it; who reads for longer, as a training does, names the
version with a tag of their own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from weft.errors import Refused
from weft.pipelines import cleaning, tables
from weft.pipelines.cleaning import Orphan
from weft.pipelines.runs.journal import FINISHED, Journal, journal_of, journals
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.places import errors_uri, ledger_uri

_RUN = "run-"

UNNAMED_SECONDS = 86_400.0
"""What a file that no receipt names is old before it goes. Lance itself gives it 7 days."""

REPLACED = timedelta(hours=1)
"""How long a version stays that readers saw until then."""

_WAITING = "gated"
"""The state of a run whose version waits for somebody's decision."""

_HIDDEN = (_WAITING, "rejected")
"""States of runs whose version readers have never seen."""


@dataclass(frozen=True)
class Retention:
    """Which runs' versions are kept: the newest `keep`, and those younger than `younger`.

    Neither: all. What readers see is kept in any case.
    """

    keep: int | None = None
    younger: timedelta | None = None

    @property
    def everything(self) -> bool:
        """Whether no version goes."""
        return self.keep is None and self.younger is None


@dataclass
class Collected:
    """What was removed, or would be. Bytes are of files; `replaced` runs stay for an hour."""

    dataset: str
    dry_run: bool
    orphans: int = 0
    orphan_bytes: int = 0
    runs: list[str] = field(default_factory=list)
    versions: int = 0
    version_bytes: int = 0
    journals: int = 0
    journal_bytes: int = 0
    unfinished: list[str] = field(default_factory=list)
    waiting: int = 0
    waiting_bytes: int = 0
    replaced: list[str] = field(default_factory=list)

    @property
    def total_bytes(self) -> int:
        """All that was freed."""
        return self.orphan_bytes + self.version_bytes + self.journal_bytes


def collect(
    dataset: str,
    state: str,
    retention: Retention | None = None,
    *,
    abandon: bool = False,
    dry_run: bool = False,
) -> Collected:
    """Remove the garbage of the dataset at `dataset`, whose state folder is `state`.

    A process that dies in between leaves the rest for the next time.

    Args:
        dataset: its path.
        state: the path of its state folder.
        retention: which versions stay; without it, all.
        abandon: give up a run that is not finished, so that its files are garbage too.
        dry_run: remove nothing, and take no lease.

    Raises:
        Busy: a run is at work.
        Refused: versions are to go while a run is not finished, which may need them.
        OSError: the storage failed.
    """
    retention = retention or Retention()
    with nullcontext() if dry_run else hold(state, "weft gc"):
        noted = journals(state)
        unfinished = [j for j in noted if not _is_finished(j)]
        if abandon:
            if not dry_run:
                for journal in unfinished:
                    _abandon(journal)
            unfinished = []
        found = Collected(dataset, dry_run, unfinished=[j.run for j in unfinished])
        if unfinished and not retention.everything:
            raise Refused(
                f"Run {unfinished[0].run} of {dataset} is not finished, and may need versions "
                "that would go. Go on with it: weft resume, or give it up: --abandon."
            )
        uris = [u for u in (errors_uri(state), ledger_uri(state), dataset) if tables.exists(u)]
        if not retention.everything and tables.latest(dataset) is not None:
            hidden = {j.run: j.state()["state"] for j in noted if j.state()["state"] in _HIDDEN}
            _drop_versions(uris, retention, hidden, found)
        _drop_orphans(uris, noted, unfinished, found)
        _drop_journals(dataset, [j for j in noted if j not in unfinished], found)
    return found


def _is_finished(journal: Journal) -> bool:
    """Whether all that keep the run say so: of several datasets, the first one says it last."""
    told = [j for j in (journal, _primary(journal)) if (j.path / "state.json").exists()]
    return all(j.state()["state"] in FINISHED for j in told)


def _abandon(journal: Journal) -> None:
    """Give a run up, in all of its datasets: with one of its leases held it is not alive."""
    for dataset in journal.about()["datasets"]:
        other = journal_of(f"{dataset}.weft", journal.run)
        if other.path.is_dir():
            other.set_state("abandoned", reason="weft gc --abandon")


def _drop_versions(
    uris: list[str], retention: Retention, hidden: Mapping[str, str], found: Collected
) -> None:
    """Remove versions of the dataset, the last of `uris`, and of what goes with it."""
    now = datetime.now(UTC)
    found.runs, found.replaced = _runs_to_drop(uris[-1], retention, hidden, now)
    tags = {f"run-{run}" for run in found.runs}
    for uri in uris:
        numbers = _versions_to_drop(uri, retention, tags, now)
        if found.dry_run:
            found.version_bytes += cleaning.bytes_of(uri, numbers)
        else:
            cleaning.untag(uri, tags)
            found.version_bytes += cleaning.drop_versions(uri, numbers)
        if uri == uris[-1]:
            found.versions = len(numbers)


def _runs_to_drop(
    dataset: str, retention: Retention, hidden: Mapping[str, str], now: datetime
) -> tuple[list[str], list[str]]:
    """Runs that are not kept, and runs that are not kept but for having been replaced just now."""
    lives = {v.number: v for v in cleaning.lives(dataset)}
    tags = tables.open_table(dataset).tags.list()
    numbered = [(t["version"], n.removeprefix(_RUN)) for n, t in tags.items() if n.startswith(_RUN)]
    newest = [run for _, run in sorted(numbered, reverse=True) if run not in hidden]
    stay = {tags[tables.LATEST]["metadata"].get(tables.RUN_PROPERTY)}
    stay |= {*newest[: retention.keep or 1], *(r for r, s in hidden.items() if s == _WAITING)}
    gone: list[str] = []
    replaced: list[str] = []
    for number, run in sorted(numbered, reverse=True):
        life = lives[number]
        young = retention.younger is not None and now - life.born < retention.younger
        if run not in stay and not young and life.ended is not None:
            (replaced if now - life.ended < REPLACED else gone).append(run)
    return gone, replaced


def _versions_to_drop(uri: str, retention: Retention, tags: set[str], now: datetime) -> list[int]:
    """The versions of a table that nothing keeps when `tags` are gone."""
    table = tables.open_table(uri)
    named = {t["version"] for name, t in table.tags.list().items() if name not in tags}
    seen = tables.latest(uri)
    return [
        life.number
        for life in cleaning.lives(uri)
        if seen is not None
        and life.number < seen[0]
        and life.number not in named
        and life.ended is not None
        and now - life.ended >= REPLACED
        and (retention.younger is None or now - life.born >= retention.younger)
    ]


def _drop_orphans(
    uris: list[str], noted: list[Journal], unfinished: list[Journal], found: Collected
) -> None:
    needed = {name for journal in unfinished for name in _named(journal)}
    done = {name for j in noted if j not in unfinished for name in _named(j)} - needed
    oldest = min((_began(j) for j in unfinished), default=time.time())
    for uri in uris:
        gone: list[Orphan] = []
        for orphan in cleaning.orphans(uri):
            aged = orphan.changed < min(oldest, time.time() - UNNAMED_SECONDS)
            if orphan.name in done or (aged and orphan.name not in needed):
                gone.append(orphan)
                found.orphan_bytes += orphan.size
            else:
                found.waiting += 1
                found.waiting_bytes += orphan.size
        found.orphans += len(gone)
        if not found.dry_run:
            cleaning.remove(gone)


def _drop_journals(dataset: str, finished: list[Journal], found: Collected) -> None:
    """Remove the receipts of runs that have no version, and what they kept between phases. What
    they were and how they ended stays; of the newest run all stays, for people to look at."""
    there = set(tables.open_table(dataset).tags.list()) if tables.exists(dataset) else set()
    there -= {f"run-{run}" for run in found.runs}
    for journal in sorted(finished, key=lambda j: j.run, reverse=True)[1:]:
        folders = [journal.kept_path, journal.path / "claims"]
        if f"run-{journal.run}" not in there:
            folders.append(journal.receipts_path)
        size = sum(_size(folder) for folder in folders)
        if size:
            found.journals += 1
            found.journal_bytes += size
            if not found.dry_run:
                for folder in folders:
                    shutil.rmtree(folder, ignore_errors=True)


def _named(journal: Journal) -> Iterator[str]:
    """The files that the receipts of a run name."""
    for receipt in _primary(journal).receipts():
        for written in receipt["writes"].values():
            for parts in written.values():
                for part in parts if isinstance(parts, list) else ():
                    yield from part.get("files", ())


def _primary(journal: Journal) -> Journal:
    """The journal that has a run's receipts: of a run with several datasets, the first one's."""
    where = journal.about().get("journal")
    return journal if where is None else Journal(Path(where))


def _began(journal: Journal) -> float:
    return (journal.path / "run.json").stat().st_mtime


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
