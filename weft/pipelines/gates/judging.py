"""Judging what a run committed, before readers see it, and holding back what is refused.

A run has committed its datasets; nobody sees them yet. All gates of all of them are measured and
what they found is written down once, in ``gates.json`` of the run's journal: from there on the
end is settled, and a driver that dies and is resumed comes to the same one.

Where all pass, the run is shown. Where one fails, none of the run's datasets is: each gets the
tag ``run-<id>``, so that it can be read, and its newest version gets the rows that were accepted
last again, so that the next run goes on from those. Of a dataset of which nothing was accepted
yet it gets what was there before the run, most often nothing: where there is no `latest`, readers
take the newest version, and are not to see what was refused.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from weft.errors import CorruptState, DataError, GateFailed
from weft.pipelines import tables
from weft.pipelines.engines.sealed import read_json, sealed_json
from weft.pipelines.fence import check_fence
from weft.pipelines.gates.gate import Gate, Verdict
from weft.pipelines.gates.snapshot import Snapshot
from weft.pipelines.restoring import restore
from weft.pipelines.runs.journal import write_whole

_NOTES = "gates.json"

GATES_PROPERTY = "weft.gates"
"""What gates found, as JSON, in what the tag of a run says."""

_UNCOMPUTABLE = (DataError, ValueError, ArithmeticError, pl.exceptions.PolarsError)
"""What says that a version cannot be measured; a storage that fails is another matter."""


@dataclass(frozen=True)
class Candidate:
    """A dataset that a run has committed, with its ledger and errors; nobody sees it yet."""

    write: str
    gates: tuple[Gate, ...]
    dataset: str
    version: int
    ledger: str
    errors: str
    properties: Mapping[str, str]

    def versions(self, run: str) -> list[tuple[str, int]]:
        """The three tables and the versions that `run` committed, the dataset last."""
        beside = [(uri, tables.version_of(uri, run)) for uri in (self.errors, self.ledger)]
        return [*beside, (self.dataset, self.version)]


@dataclass(frozen=True)
class Judgement:
    """What gates found, by write; of which versions, by write; and the run that was accepted last
    by then, by dataset. Without a gate there is nothing in it."""

    verdicts: Mapping[str, tuple[Verdict, ...]] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    accepted: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether the run must not be shown."""
        return any(not v.passed for found in self.verdicts.values() for v in found)

    def properties(self, write: str) -> dict[str, str]:
        """What the tag of the run says of the gates of one write; nothing if it has none. Without
        the words, which may name rows: `weft forget` does not look for these in tags."""
        found = [v.to_json() for v in self.verdicts.get(write, ())]
        short = [{name: v[name] for name in ("gate", "passed", "measured")} for v in found]
        return {GATES_PROPERTY: json.dumps(short)} if short else {}

    def to_json(self) -> dict[str, Any]:
        """The verdicts as JSON, by write."""
        return {w: [v.to_json() for v in found] for w, found in self.verdicts.items()}


def judge(candidates: Sequence[Candidate], run: str, folder: Path | None) -> Judgement:
    """What the gates of all candidates found; noted in the run's `folder`, and read from there
    if they have been judged before.

    Raises:
        OSError: the storage failed; judging again is safe.
    """
    if folder is None:  # of sinks that keep no versions
        return Judgement()
    found = judged(folder)
    if not found.versions and any(c.gates for c in candidates):
        found = Judgement(
            {c.write: _measure(c, run) for c in candidates if c.gates},
            {c.write: c.version for c in candidates},
            {c.dataset: _accepted_run(c.dataset) for c in candidates},
        )
        write_whole(folder / _NOTES, _to_json(found))
    return found


def judged(folder: Path) -> Judgement:
    """What was noted in a run's folder. Nothing, if that is damaged: judging again finds the same,
    as samples are drawn alike."""
    try:
        noted = read_json(folder / _NOTES)
    except CorruptState:
        return Judgement()
    verdicts = {w: tuple(Verdict(**v) for v in found) for w, found in noted["verdicts"].items()}
    return Judgement(verdicts, noted["versions"], noted["accepted"])


def withhold(candidates: Sequence[Candidate], run: str, judgement: Judgement) -> GateFailed:
    """Make refused datasets readable by the tag of their run alone, and the newest version of
    each what was accepted last. Doing it again completes what a killed process left.

    Raises:
        CommitConflict: somebody else wrote to a table in between.
        OSError: the storage failed; doing it again is safe.
    """
    for candidate in candidates:
        said = {**candidate.properties, **judgement.properties(candidate.write)}
        for uri, version in candidate.versions(run):
            _tag(uri, version, run, said if uri == candidate.dataset else {})
    for candidate in candidates:
        _restore_accepted(candidate, run)
    return _refusal(candidates, run, judgement)


def _measure(candidate: Candidate, run: str) -> tuple[Verdict, ...]:
    ledger = (candidate.ledger, tables.version_of(candidate.ledger, run))
    new = Snapshot(candidate.dataset, candidate.version, ledger)
    latest = tables.latest(candidate.dataset)
    accepted = None if latest is None else Snapshot(candidate.dataset, latest[0])
    return tuple(_verdict(gate, new, accepted) for gate in candidate.gates)


def _verdict(gate: Gate, new: Snapshot, accepted: Snapshot | None) -> Verdict:
    try:
        return gate.measure(new, accepted)
    except _UNCOMPUTABLE as error:
        return gate.verdict(f"it cannot be measured: {error}", passed=False)


def _accepted_run(dataset: str) -> str | None:
    latest = tables.latest(dataset)
    return None if latest is None else latest[1].get(tables.RUN_PROPERTY)


def _tag(uri: str, version: int, run: str, said: Mapping[str, str]) -> None:
    check_fence()
    tags, name = tables.open_table(uri, version).tags, f"run-{run}"
    if name not in tags.list():
        tags.create(name, version)
    tags.replace_metadata(name, {**said, tables.RUN_PROPERTY: run})


def _restore_accepted(candidate: Candidate, run: str) -> None:
    """The dataset last, as in a commit. A ledger without the accepted run's tag stays: a run that
    finds it so processes everything, as it would have before."""
    latest = tables.latest(candidate.dataset)
    if latest is None:
        made = next(v for v in tables.history(candidate.dataset) if v.run == run)
        restore(candidate.dataset, int(made.properties["weft.base"]))
        return
    name = f"run-{latest[1].get(tables.RUN_PROPERTY)}"
    for uri in (candidate.errors, candidate.ledger):
        if name in tables.open_table(uri).tags.list():
            restore(uri, name)
    restore(candidate.dataset, latest[0])


def _refusal(candidates: Sequence[Candidate], run: str, judgement: Judgement) -> GateFailed:
    everything = [v for found in judgement.verdicts.values() for v in found]
    lines = [
        f"{sum(not v.passed for v in everything)} of {len(everything)} gates failed, so run {run} "
        "is not shown:"
    ]
    for candidate in candidates:
        failed = [v for v in judgement.verdicts.get(candidate.write, ()) if not v.passed]
        lines += [f"  {candidate.dataset}: {v.gate}: {v.told}" for v in failed]
    seen = judgement.accepted[candidates[0].dataset]
    lines.append(f"Readers stay at run {seen}." if seen else "There is no version before it.")
    uri = shlex.quote(candidates[0].dataset)
    lines += [
        f'  Read it:    Lance("{candidates[0].dataset}", version="run-{run}")',
        f"  Look at it: weft show {uri} {run}",
        *([f"  Compare it: weft diff {uri} latest run-{run}"] if seen else []),
        f"  Show it:    weft promote {uri} {run}",
        f"  Give it up: weft reject {uri} {run}",
    ]
    return GateFailed("\n".join(lines))


def _to_json(found: Judgement) -> bytes:
    noted = {"verdicts": found.to_json(), "versions": found.versions, "accepted": found.accepted}
    return sealed_json(json.dumps(noted, indent=1).encode())
