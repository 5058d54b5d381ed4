"""The units of later phases, cut from what the exchanges of earlier ones kept.

What was kept is known to the row and the byte, so the cut is by facts: small partitions go
together, one that is too large to be in memory at once is cut again by another hash, and the
left of a join, which needs not be in memory, is dealt out in slices where a key or a few have
most of the rows. The cut is written into the journal: a run that is resumed on another machine
goes on with the same units.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from weft.pipelines.connector import Split
from weft.pipelines.engines.kept import Kept, read_kept
from weft.pipelines.engines.meeting import Files, many_to_many, room
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Unit
from weft.pipelines.graph import Exchange, Group, Join, Order
from weft.pipelines.operator import digest
from weft.pipelines.plan import Plan, Step
from weft.pipelines.resources import Cluster

UNIT_BYTES = 64 * 2**20
"""Kept bytes from which a unit of a later phase is worth its receipt."""

HELD_BYTES = 256 * 2**20
"""Kept bytes that one unit has in memory at once: a side of a join, the rows of some groups."""

UNIT_ROWS = 8192
"""Rows from which a unit is worth its receipt if there are CPUs without work."""

SAMPLES = 64
"""Values that are looked at in each sorted file so as to cut the whole into even ranges."""


def kept_files(plan: Plan, receipts: Sequence[Receipt]) -> dict[str, list[Kept]]:
    """What was kept so far, by exchange; receipts are in the order of their units."""
    return {
        step.id: [r["kept"][step.id] for r in receipts if step.id in r.get("kept", ())]
        for step in plan.exchanges()
    }


def units_of_phase(plan: Plan, phase: int, files: Files, cluster: Cluster) -> list[Unit]:
    """The units of a phase that take up what was kept, in the order of the plan's steps."""
    made: list[Unit] = []
    for step in plan.steps:
        if isinstance(step.action, Exchange):
            if step.action.kind == "hold" and _taken(plan, step, phase):
                made += _held(plan, step, phase, files[step.id])
        elif plan.phase_of(step.id) != phase:
            continue
        elif plan.enters(step):
            made += _entry(plan, step, files, cluster)
        elif isinstance(step.action, Join):  # of which the right is broadcast
            rows = sum(sum(f["rows"]) for f in files[step.inputs[1]])
            made.append(_unit(plan, step, {"phase": phase}, rows, 0))
    return made


def in_order(plan: Plan, units: Sequence[Unit]) -> list[Unit]:
    """Units in the order of the steps that they begin with."""
    place = {step.id: number for number, step in enumerate(plan.steps)}
    return sorted(units, key=lambda u: place[u.read])


def refuse_many(plan: Plan, receipts: Sequence[Receipt]) -> None:
    """Refuse joins of which units noted, together, that rows meet many to many.

    Raises:
        DataError: they do.
    """
    for step in plan.steps:
        if isinstance(step.action, Join) and not step.action.many:
            seen: set[str] = set()
            for receipt in receipts:
                for key in receipt.get("met", {}).get(step.id, ()):
                    if key in seen:
                        raise many_to_many(step.id, key)
                    seen.add(key)


def exchanges(plan: Plan) -> list[list[Any]]:
    """How rows are kept between the phases of a plan, as JSON: what a resumed run must agree on."""
    found = []
    for step in plan.exchanges():
        assert isinstance(step.action, Exchange)
        found.append([step.id, list(step.inputs), step.action.identity()])
    return found


def _taken(plan: Plan, held: Step, phase: int) -> bool:
    return any(plan.phase_of(c.id) == phase for c in plan.consumers(held.id))


def _unit(plan: Plan, step: Step, payload: Mapping[str, Any], rows: int, size: int) -> Unit:
    data = json.dumps(payload, sort_keys=True).encode()
    name = digest([plan.recipe, step.id, dict(payload)])
    return Unit(name, step.id, Split(name, rows, data, size))


def _held(plan: Plan, step: Step, phase: int, files: Sequence[Kept]) -> Iterator[Unit]:
    """Units of rows that were held as they are: some files each."""
    start = rows = size = 0
    for end, file in enumerate(files, 1):
        rows, size = rows + sum(file["rows"]), size + file["bytes"]
        if size >= UNIT_BYTES or rows >= plan.unit_rows or end == len(files):
            if rows:
                yield _unit(plan, step, {"phase": phase, "files": [start, end]}, rows, size)
            start, rows, size = end, 0, 0


def _entry(plan: Plan, step: Step, files: Files, cluster: Cluster) -> Iterator[Unit]:
    match step.action:
        case Join() | Group():
            return _partitions(plan, step, files, cluster)
        case Order() as order:
            return _ranges(plan, step, order, files[step.inputs[0]], cluster)
    raise AssertionError(f"no phase begins with {step}")


def _partitions(plan: Plan, step: Step, files: Files, cluster: Cluster) -> Iterator[Unit]:
    """Units of partitions: several small ones each, or a share of a large one: a part of the keys
    where what is held at once is too large, a slice of the left where that is long."""
    sides = [_sizes(plan, i, files[i]) for i in step.inputs]
    rows = [sum(r for r, _ in both) for both in zip(*sides, strict=True)]
    size = [sum(b for _, b in both) for both in zip(*sides, strict=True)]
    wanted = max(
        -(-sum(size) // UNIT_BYTES), min(2 * int(max(1, cluster.cpus)), sum(rows) // UNIT_ROWS), 1
    )
    enough = sum(size) / wanted
    start = 0
    for end in range(1, len(rows) + 1):
        some = slice(start, end)
        if sum(size[some]) < enough and end < len(rows):
            continue
        if sum(rows[some]):
            held = sum(b for _, b in sides[-1][some])  # all of a group, the right of a join
            most = min(HELD_BYTES, room() // 2)
            parts = max(1, -(-int(held) // most)) if _by(step) else 1
            slices = max(1, -(-int(sum(size[some]) - held) // (parts * most)))
            share = (sum(rows[some]) // (parts * slices), int(sum(size[some])) // (parts * slices))
            for part, number in itertools.product(range(parts), range(slices)):
                payload = {
                    "chunks": [start, end], "part": [part, parts], "slice": [number, slices]
                }  # fmt: skip
                yield _unit(plan, step, payload, *share)
        start = end


def _by(step: Step) -> tuple[str, ...]:
    match step.action:
        case Join(right_on=by) | Group(by=by):
            return by
    return ()


def _sizes(plan: Plan, name: str, files: Sequence[Kept]) -> list[tuple[int, float]]:
    """Rows and bytes of each partition of a shuffle."""
    action = plan.step(name).action
    assert isinstance(action, Exchange)
    found = [(0, 0.0)] * action.partitions
    for file in files:
        each = file["bytes"] / max(1, sum(file["rows"]))
        for number, rows in enumerate(file["rows"]):
            found[number] = (found[number][0] + rows, found[number][1] + rows * each)
    return found


def _ranges(
    plan: Plan, step: Step, order: Order, files: Sequence[Kept], cluster: Cluster
) -> Iterator[Unit]:
    """Units of an order, in that order: ranges of its first column, or the first rows."""
    rows, size = sum(sum(f["rows"]) for f in files), sum(f["bytes"] for f in files)
    if not rows:
        return
    if order.limit is not None or not order.by:
        payload = {"files": [0, len(files)], "most": order.limit, "bounds": [None, None]}
        yield _unit(plan, step, payload, rows, size)
        return
    wanted = max(-(-size // UNIT_BYTES), min(2 * int(max(1, cluster.cpus)), rows // UNIT_ROWS), 1)
    bounds = [None, *_bounds(plan, step, order, files, wanted), None]
    for low, high in itertools.pairwise(bounds):
        payload = {"files": [0, len(files)], "most": None, "bounds": [low, high]}
        yield _unit(plan, step, payload, rows // (len(bounds) - 1), size // (len(bounds) - 1))


def _bounds(plan: Plan, step: Step, order: Order, files: Sequence[Kept], wanted: int) -> list[Any]:
    """Where the whole is cut into `wanted` ranges, by values of sorted files at even distances."""
    by = order.by[0]
    types = plan.step(step.inputs[0]).columns
    samples = []
    for file in files:
        only = {by: types[by]} if by in types else {}
        for batch in read_kept([file], only, rows=1):
            values = pl.Series("v", batch.column(by).array).to_physical().drop_nulls()
            samples.append(values.gather_every(max(1, len(values) // SAMPLES)))
    if not samples:
        return []
    everything = pl.concat(samples).sort(descending=order.descending)
    at = [len(everything) * i // wanted for i in range(1, wanted)]
    return list(dict.fromkeys(everything[i] for i in at)) if len(everything) else []
