"""What a run has to do: cut the source into units, or find that there is nothing to do."""

from __future__ import annotations

from collections.abc import Mapping

from weft.errors import CorruptState
from weft.pipelines import tables
from weft.pipelines.connector import Sink, Source
from weft.pipelines.engines.worker import Unit, units_of
from weft.pipelines.graph import Read, Write
from weft.pipelines.operator import digest
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster
from weft.pipelines.runs.changes import behind
from weft.pipelines.runs.forgotten import whole
from weft.pipelines.runs.journal import FINISHED, Journal, journals

_DIGEST_ROWS = 65_536
"""Rows a split has when the input as a whole is digested; any fixed number serves."""

_UNITS_PER_CPU = 8
"""So that the last unit to end keeps the others waiting for a few percent of the run at most."""

_TINY_ROWS = 65_536
"""A plan whose units may have this many rows has rows of microseconds: there, what a unit costs
(some 20 ms on Ray) weighs more than an idle core at the end, and two for each CPU are enough."""

_SMALL = 8
"""Rows below which a unit is hardly worth its receipt, if they are small."""

_SMALL_BYTES = 4 * 2**20
"""Bytes of content from which a unit is worth its receipt, however few rows they are: some ten
photographs or one clip, a tenth of a second of decoding or more. Ten clips in two units would
leave one of two cores waiting for the longer half."""


def cut(plan: Plan, cluster: Cluster, sources: Mapping[str, Source] | None = None) -> list[Unit]:
    """The units of a run: several for each CPU, if the source is large enough for that.

    `sources` take the place of the plan's own, by read, in an incremental run.
    """
    units = list(units_of(plan, plan.unit_rows, sources))
    rows = sum(u.split.rows for u in units)
    cpus = int(max(1, cluster.cpus))
    each = 2 if plan.unit_rows >= _TINY_ROWS else _UNITS_PER_CPU
    if len(units) >= each * cpus:
        return units
    share, least = -(-rows // (each * cpus)), min(_small(units), -(-rows // cpus))
    return list(units_of(plan, max(1, share, least), sources))


def _small(units: list[Unit]) -> int:
    """How many rows a unit has at least."""
    rows = sum(u.split.rows for u in units)
    content = sum(u.split.content_bytes for u in units)
    return min(_SMALL, -(-_SMALL_BYTES * rows // content)) if content else _SMALL


def input_digest(plan: Plan) -> str:
    """Digest of everything the plan reads: keys and versions, however they are cut."""
    splits = []
    for step in plan.reads():
        assert isinstance(step.action, Read)
        splits += [s.id for s in whole(step.action.source).splits(_DIGEST_ROWS)]
    return digest(splits)


def unfinished(state: str, *, fresh: bool = False) -> Journal | None:
    """The newest run of a dataset by its state folder, if there is something left to do for it.

    Raises:
        CorruptState: nobody can tell. A `fresh` start takes it for one to give up.
    """
    for journal in journals(state)[:1]:
        try:
            if journal.state()["state"] not in FINISHED:
                return journal
        except CorruptState:
            if not fresh:
                raise
            return journal
    return None


def nothing_to_do(plan: Plan) -> dict[str, int] | None:
    """The versions by write, if no run is unfinished and every dataset is what a run would make.

    The input is listed only if everything else is as it should be.
    """
    sinks = {step.id: _sink(step.action) for step in plan.writes()}
    found = {name: _published(sink, plan) for name, sink in sinks.items()}
    inputs = input_digest(plan) if all(found.values()) else None
    versions = {n: f[0] for n, f in found.items() if f is not None and f[1] == inputs}
    return versions if len(versions) == len(sinks) else None


def _published(sink: Sink, plan: Plan) -> tuple[int, str] | None:
    """The version and the input digest at `latest`, if that recipe made it and no run is open."""
    if sink.state is None or unfinished(sink.state) is not None:
        return None
    latest = tables.latest(sink.uri)
    if latest is None or latest[1].get("weft.recipe") != plan.recipe:
        return None
    if behind(plan, latest[1]):
        return None
    if not sink.complete(latest[0]):
        return None
    return latest[0], latest[1].get("weft.input", "")


def _sink(action: object) -> Sink:
    assert isinstance(action, Write)
    return action.sink
