"""What a worker does, whichever engine it works for: one stage, on one unit at a time.

A unit's rows flow depth first: a batch goes through all the steps that can take it before the
next one is read, so a worker holds a batch, not a unit. What later stages take is handed over
when the unit is through; in the last stage it is staged to the sinks instead, and the unit ends
in a receipt, written once, whoever else may have worked on the same unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from time import perf_counter, time
from typing import Any

import pyarrow as pa

from weft.errors import redact
from weft.pipelines.batch import COUNT, ENVELOPE, INDEX, KEY, PARENT, SOURCE, Batch, concat_batches
from weft.pipelines.connector import Chunk, Source, Split
from weft.pipelines.engines.allocator import tune_allocator
from weft.pipelines.engines.books import Count, Outcomes, new_books
from weft.pipelines.engines.expand import ExpandRunner
from weft.pipelines.engines.receipts import Receipt, put_receipt
from weft.pipelines.engines.runners import (
    FilterRunner,
    MapRunner,
    Runner,
    WhereRunner,
    WithColumnsRunner,
    Work,
)
from weft.pipelines.fields import Fields, arrow_field
from weft.pipelines.graph import Apply, Read, Select, Where, WithColumns, Write
from weft.pipelines.operator import Expand, Filter, Map
from weft.pipelines.plan import Plan, Step

LEDGER_SCHEMA = pa.schema(
    [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(SOURCE, pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field(PARENT, pa.string()),
        pa.field("children", pa.int32()),
    ]
)
"""One row for each row that ended: kept, dropped, failed or expanded, and at which step; of a
child the key of its parent."""

ERRORS_SCHEMA = pa.schema(
    [
        pa.field(KEY, pa.string(), nullable=False),
        pa.field(SOURCE, pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("step", pa.string(), nullable=False),
        pa.field("operator", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
    ]
)
"""One row for each row that failed: where, and why."""

SAMPLES = 5
"""Failures that a receipt spells out, for progress and summaries; the errors table has all."""


@dataclass(frozen=True)
class Unit:
    """A slice of one source: the grain of work, of receipts and of resume."""

    id: str
    read: str
    split: Split


@dataclass(frozen=True)
class Target:
    """Where one write stages: the tokens of the dataset, of its ledger and of its errors."""

    token: Mapping[str, Any]
    ledger: Mapping[str, Any] | None = None
    errors: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Context:
    """What workers must know of the run: its id, where receipts go, where writes stage."""

    run: str
    receipts: str | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)


class Cargo:
    """A unit between stages: the rows of each port, and the work noted so far."""

    def __init__(self, unit: Unit, work: Work) -> None:
        self.unit = unit
        self.work = work
        self.ports: dict[str, list[Batch]] = {}
        self.stages: list[tuple[float, float]] = []  # when each began (Unix time), its seconds


class StageWorker:
    """Runs one stage of a plan. Made once per worker: operators load here.

    `gpu` is which of the GPUs that this process sees is its own, if the stage wants one.
    """

    def __init__(self, plan: Plan, index: int, context: Context, *, gpu: int = 0) -> None:
        tune_allocator()
        self.plan = plan
        self.index = index
        self.context = context
        self.stage = plan.stages[index]
        steps = plan.stage_steps(index)
        device = f"cuda:{gpu}" if self.stage.resources.gpus else "cpu"
        needed = plan.needed()
        self.reads = {s.id: s for s in steps if isinstance(s.action, Read)}
        self.runners: dict[str, Runner] = {
            s.id: runner(s, plan.step(s.inputs[0]).columns, device, needed[s.id])
            for s in steps
            if not isinstance(s.action, Read)
        }
        self.consumers: dict[str, tuple[Runner, ...]] = {
            s.id: tuple(r for r in self.runners.values() if s.id in r.step.inputs)
            for s in plan.steps
        }
        self.writes = {s.id for s in steps if isinstance(s.action, Write)}
        self.ports = set(plan.ports(index))
        self.last = index == len(plan.stages) - 1

    def start(self, unit: Unit) -> Cargo:
        """Read a unit and run the first stage on it."""
        cargo = Cargo(unit, Work(new_books(self.plan)))
        began, started = time(), perf_counter()
        step = self.reads[unit.read]
        for batch in self._read(step, unit, cargo.work):
            self._flow(step.id, batch, cargo)
        cargo.stages.append((began, perf_counter() - started))
        return cargo

    def proceed(self, cargo: Cargo) -> Cargo:
        """Run a later stage on what earlier ones handed over."""
        began, started = time(), perf_counter()
        given, cargo.ports = cargo.ports, {}
        for port, batches in given.items():
            mine = bool(self.consumers[port])
            if mine:
                for batch in _rebatch(batches, self.stage.batch_rows):
                    self._flow(port, batch, cargo, handover=False)
            if port in self.ports:
                cargo.ports[port] = batches
        cargo.stages.append((began, perf_counter() - started))
        return cargo

    def finish(self, cargo: Cargo) -> Receipt:
        """Stage what the writes took and leave the unit's receipt; the first one counts."""
        started = perf_counter()
        writes = {
            name: self._stage(self.plan.step(name), cargo.ports.pop(name, []), cargo.work)
            for name in sorted(self.writes)
        }
        began, seconds = cargo.stages.pop()
        cargo.stages.append((began, seconds + perf_counter() - started))
        receipt: Receipt = {
            "unit": cargo.unit.id,
            "rows": cargo.unit.split.rows,
            "writes": writes,
            "books": {n: dataclasses.asdict(line) for n, line in cargo.work.books.items()},
            "samples": _samples(cargo.work.outcomes),
            "stages": cargo.stages,
        }
        if self.context.receipts is None:
            return receipt
        return put_receipt(self.context.receipts, cargo.unit.id, receipt)

    def _read(self, step: Step, unit: Unit, work: Work) -> Iterator[Batch]:
        assert isinstance(step.action, Read)
        line = work.books[step.id]
        chunks = step.action.source.read(
            unit.split,
            tuple(step.columns),
            [p.expression.expr for p in step.predicates],
            self.stage.batch_rows,
        )
        started = perf_counter()
        for chunk in chunks:
            self._account(step, chunk, work)
            line.seconds += perf_counter() - started
            yield chunk.batch
            started = perf_counter()

    def _account(self, step: Step, chunk: Chunk, work: Work) -> None:
        """Put on the books what a source delivered, dropped and could not read."""
        line = work.books[step.id]
        dropped = sum(len(lost.keys) for lost in chunk.dropped)
        taken = chunk.batch.rows + dropped + len(chunk.failed)
        gone = {lost.predicate: lost for lost in chunk.dropped}
        left = taken
        for number, predicate in enumerate(step.predicates):
            lost = gone.get(number)
            count = len(lost.keys) if lost else 0
            work.books[predicate.node].add(
                Count(taken=left, passed=left - count, dropped=count, emitted=left - count)
            )
            left -= count
            if lost:
                keys, sources = list(lost.keys), list(lost.sources)
                work.outcomes.append(Outcomes(predicate.node, "dropped", keys, sources))
        if chunk.failed:
            errors = [(type(f.error).__name__, redact(str(f.error))) for f in chunk.failed]
            keys = [f.key for f in chunk.failed]
            work.outcomes.append(
                Outcomes(step.id, "failed", keys, [f.source for f in chunk.failed], errors)
            )
        line.taken += taken
        line.failed += len(chunk.failed)
        line.passed += chunk.batch.rows + dropped
        line.emitted += chunk.batch.rows

    def _flow(self, name: str, batch: Batch, cargo: Cargo, *, handover: bool = True) -> None:
        """Give a batch of step `name` to everybody who takes it."""
        for consumer in self.consumers[name]:
            out = consumer(batch, cargo.work)
            if out.rows == 0:
                continue
            if consumer.step.id in self.writes:
                cargo.ports.setdefault(consumer.step.id, []).append(out)
            else:
                self._flow(consumer.step.id, out, cargo)
        if handover and name in self.ports:
            cargo.ports.setdefault(name, []).append(batch)

    def _stage(self, step: Step, batches: list[Batch], work: Work) -> dict[str, Any]:
        """Stage the rows of one write, its ledger and its errors; what the receipt says of it."""
        assert isinstance(step.action, Write)
        started = perf_counter()
        target = self.context.targets[step.id]
        schema = dataset_schema(self.plan, step)
        table = pa.concat_tables([b.to_arrow(schema) for b in batches]) if batches else None
        staged = step.action.sink.stage(target.token, table) if table else []
        written: dict[str, Any] = {"staged": staged, "rows": table.num_rows if table else 0}
        if target.ledger is not None and target.errors is not None:
            from weft.pipelines import tables  # imports lance

            mine = self.plan.upstream(step.id) | {
                p.node for s in self.plan.upstream(step.id) for p in self.plan.step(s).predicates
            }
            outcomes = [o for o in work.outcomes if o.node in mine]
            ledger = _ledger(step.id, batches, outcomes)
            written["ledger"] = tables.stage(target.ledger, ledger) if ledger.num_rows else []
            errors = _errors(self.plan, outcomes)
            written["errors"] = tables.stage(target.errors, errors) if errors.num_rows else []
        work.books[step.id].seconds += perf_counter() - started
        return written


def runner(step: Step, given: Fields, device: str, needed: frozenset[str]) -> Runner:
    """The runner of a step whose input delivers `given`. Loads what the operator needs.

    `needed` are the columns of its rows that somebody reads.

    Raises:
        ContractError: the operator's setup failed.
    """
    match step.action:
        case Where() as action:
            return WhereRunner(step, action)
        case WithColumns() as action:
            return WithColumnsRunner(step, action)
        case Select() | Write():
            return Runner(step)
        case Apply(operator=Map()) as action:
            return MapRunner(step, action, given, device)
        case Apply(operator=Filter()) as action:
            return FilterRunner(step, action, given, device)
        case Apply(operator=Expand()) as action:
            return ExpandRunner(step, action, given, device, needed)
        case _:
            raise AssertionError(f"no runner for {step}")


def dataset_schema(plan: Plan, write: Step) -> pa.Schema:
    """The Arrow schema of what a write stores: the envelope, then the columns."""
    names = [KEY, SOURCE]
    if any(plan.step(s).expands for s in plan.upstream(write.id)):
        names += [PARENT, INDEX, COUNT]
    own = [arrow_field(n, ENVELOPE[n]) for n in names]
    return pa.schema(own + [arrow_field(n, t) for n, t in write.columns.items()])


def units_of(plan: Plan, rows: int, sources: Mapping[str, Source] | None = None) -> Iterator[Unit]:
    """The units of a plan: each source cut into slices of at most `rows` rows.

    `sources` take the place of the plan's own, by read: the same with fewer rows. A unit's id
    depends on what it reads and on the recipe, and on nothing else.
    """
    from weft.pipelines.operator import digest

    for step in plan.reads():
        assert isinstance(step.action, Read)
        source = (sources or {}).get(step.id, step.action.source)
        for split in source.splits(rows):
            yield Unit(digest([plan.recipe, step.id, split.id]), step.id, split)


def _rebatch(batches: list[Batch], rows: int) -> Iterator[Batch]:
    """The same rows in batches of `rows`, the last one shorter."""
    if not batches:
        return
    whole = concat_batches(batches)
    for start in range(0, whole.rows, rows):
        yield whole.slice(start, start + rows)


def _ledger(write: str, batches: Iterable[Batch], outcomes: Iterable[Outcomes]) -> pa.Table:
    parts = [
        {
            KEY: b.envelope[KEY].array,
            SOURCE: b.envelope[SOURCE].array,
            "outcome": pa.repeat("kept", b.rows),
            "step": pa.repeat(write, b.rows),
            PARENT: b.envelope[PARENT].array if PARENT in b.envelope else pa.nulls(b.rows),
            "children": pa.nulls(b.rows, pa.int32()),
        }
        for b in batches
    ]
    parts += [
        {
            KEY: pa.array(o.keys, pa.string()),
            SOURCE: pa.array(o.sources, pa.string()),
            "outcome": pa.repeat(o.kind, len(o.keys)),
            "step": pa.repeat(o.node, len(o.keys)),
            PARENT: pa.array(o.parents or [None] * len(o.keys), pa.string()),
            "children": _children(o),
        }
        for o in outcomes
        if o.kind != "nulled"  # a nulled row went on: its end is told by a later step
    ]
    tables = [pa.table({n: p[n] for n in LEDGER_SCHEMA.names}).cast(LEDGER_SCHEMA) for p in parts]
    return pa.concat_tables(tables) if tables else LEDGER_SCHEMA.empty_table()


def _children(outcomes: Outcomes) -> pa.Array:
    if outcomes.kind == "expanded":
        return pa.array(outcomes.children, pa.int32())
    return pa.nulls(len(outcomes.keys), pa.int32())


def _errors(plan: Plan, outcomes: Iterable[Outcomes]) -> pa.Table:
    rows = [
        {
            KEY: key,
            SOURCE: source,
            "outcome": o.kind,
            "step": o.node,
            "operator": _operator(plan, o.node),
            "error": error,
            "message": message,
        }
        for o in outcomes
        if o.kind in ("failed", "nulled")
        for key, source, (error, message) in zip(o.keys, o.sources, o.errors, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=ERRORS_SCHEMA)


def _operator(plan: Plan, node: str) -> str:
    step = next((s for s in plan.steps if s.id == node), None)
    if step is None:  # a filter that was pushed into another step
        return Where.label
    action = step.action
    if isinstance(action, Apply):
        return action.operator.name
    return action.source.name if isinstance(action, Read) else action.label


def _samples(outcomes: Iterable[Outcomes]) -> list[dict[str, str]]:
    found = [
        {"key": key, "step": o.node, "error": error, "message": message}
        for o in outcomes
        if o.errors
        for key, (error, message) in zip(o.keys, o.errors, strict=True)
    ]
    return found[:SAMPLES]
