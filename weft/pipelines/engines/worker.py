"""What a worker does, whichever engine it works for: one stage, on one unit at a time.

A unit's rows flow depth first: a batch goes through all the steps that can take it before the
next one is read, so a worker holds a batch, not a unit. What later stages take is handed over
when the unit is through; in the last stage it is staged to the sinks instead, and the unit ends
in a receipt, written once, whoever else may have worked on the same unit.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, time
from typing import Any

import pyarrow as pa

from weft.errors import redact
from weft.pipelines.batch import COUNT, ENVELOPE, INDEX, KEY, PARENT, SOURCE, Batch, concat_batches
from weft.pipelines.connector import Chunk, Source, Split
from weft.pipelines.engines.allocator import tune_allocator
from weft.pipelines.engines.aside import put_aside
from weft.pipelines.engines.books import Count, Outcomes, new_books
from weft.pipelines.engines.claims import Claims
from weft.pipelines.engines.expand import ExpandRunner
from weft.pipelines.engines.grouping import GroupRunner
from weft.pipelines.engines.kept import Kept, cut_to_limit, keep, read_kept
from weft.pipelines.engines.ledger import errors_table, ledger_table, samples
from weft.pipelines.engines.meeting import (
    Files,
    JoinRunner,
    Meeting,
    broadcast_side,
    note_right,
)
from weft.pipelines.engines.receipts import Receipt, put_receipt
from weft.pipelines.engines.runners import (
    FilterRunner,
    MapRunner,
    Runner,
    UnionRunner,
    WhereRunner,
    WithColumnsRunner,
    Work,
)
from weft.pipelines.fields import arrow_field
from weft.pipelines.graph import (
    Apply,
    Exchange,
    Group,
    Join,
    Order,
    Read,
    Select,
    Union,
    Where,
    WithColumns,
    Write,
)
from weft.pipelines.operator import Expand, Filter, Map
from weft.pipelines.plan import Plan, Step


@dataclass(frozen=True)
class Unit:
    """A slice of one source, or of what an earlier phase kept: the grain of work, of receipts and
    of resume. `read` is the step that it begins with."""

    id: str
    read: str
    split: Split


@dataclass(frozen=True)
class Target:
    """Where one write stages: the tokens of the dataset, of its ledger and of its errors; of a
    backfill, which stages no ledger, the folder that its outcomes are put into."""

    token: Mapping[str, Any]
    ledger: Mapping[str, Any] | None = None
    errors: Mapping[str, Any] | None = None
    aside: str | None = None


@dataclass(frozen=True)
class Context:
    """What workers must know of the run: its id, where receipts go, where writes stage.

    `folder` is where exchanges keep rows, `kept` what they kept in earlier phases. With `claims`
    a worker begins with a unit only if they give it to it. The driver
    notes in `incidents` what went wrong on the way and was got over.
    """

    run: str
    receipts: str | None = None
    targets: Mapping[str, Target] = field(default_factory=dict)
    folder: str | None = None
    kept: Files = field(default_factory=dict)
    claims: Claims | None = None
    incidents: list[str] = field(default_factory=list)


class Cargo:
    """A unit between stages: the rows of each port, and the work noted so far."""

    def __init__(self, unit: Unit, work: Work) -> None:
        self.unit = unit
        self.work = work
        self.ports: dict[str, list[Batch]] = {}
        self.gathered: dict[str, list[Batch]] = {}  # of a group in this stage: its children so far
        self.stages: list[tuple[float, float]] = []  # when each began (Unix time), its seconds


class StageWorker:
    """Runs one stage of a plan of one phase. Made once per worker: operators load here.

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
        self.runners: dict[str, Runner] = {
            s.id: runner(plan, s, device, context.kept)
            for s in steps
            if not (isinstance(s.action, Read) or (isinstance(s.action, Join) and plan.enters(s)))
        }
        self.consumers: dict[str, tuple[Runner, ...]] = {
            s.id: tuple(r for r in self.runners.values() for i in r.step.inputs if i == s.id)
            for s in plan.steps
        }
        self.gathers = {s.id for s in steps if isinstance(s.action, Group) and not plan.enters(s)}
        self.ends = {s.id for s in steps if s.ends}
        self.ports = set(plan.ports(index))
        self.last = index == len(plan.stages) - 1

    def start(self, unit: Unit) -> Cargo:
        """Take up the rows of a unit and run the first stage on them."""
        cargo = Cargo(unit, Work(new_books(self.plan)))
        began, started = time(), perf_counter()
        for batch in self._rows(self.plan.step(unit.read), unit, cargo.work):
            self._flow(unit.read, batch, cargo)
        self._gather(cargo)
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
        self._gather(cargo)
        cargo.stages.append((began, perf_counter() - started))
        return cargo

    def finish(self, cargo: Cargo) -> Receipt:
        """Stage what the writes took, keep what the exchanges took, and leave the unit's receipt;
        the first one counts."""
        started = perf_counter()
        kept = self.keep(cargo)
        writes = {
            step.id: self._stage(step, cargo.ports.pop(step.id, []), cargo)
            for step in sorted(self.plan.writes(), key=lambda s: s.id)
        }
        began, seconds = cargo.stages.pop()
        cargo.stages.append((began, seconds + perf_counter() - started))
        receipt: Receipt = {
            "unit": cargo.unit.id,
            "phase": self.stage.phase,
            "rows": cargo.unit.split.rows if self._reads(cargo.unit) else 0,  # of sources
            "writes": writes,
            "kept": kept,
            "met": {step: sorted(keys) for step, keys in cargo.work.met.items()},
            "books": {n: dataclasses.asdict(line) for n, line in cargo.work.books.items()},
            "samples": samples(cargo.work.outcomes),
            "stages": cargo.stages,
        }
        if self.context.receipts is None:
            return receipt
        return put_receipt(self.context.receipts, cargo.unit.id, receipt)

    def keep(self, cargo: Cargo) -> dict[str, Kept]:
        """Keep what the exchanges took, by exchange."""
        return {s.id: self._keep(s, cargo) for s in self.plan.exchanges() if s.id in self.ends}

    def _rows(self, step: Step, unit: Unit, work: Work) -> Iterator[Batch]:
        """The rows that a unit begins with: read, held since an earlier phase, or met."""
        match step.action:
            case Read():
                return self._read(step, unit, work)
            case Exchange():
                chunks = json.loads(unit.split.payload)["files"]
                held = self.context.kept[step.id][slice(*chunks)]
                found = read_kept(held, step.columns, rows=self.stage.batch_rows)
                return (p for b in found for p in _rebatch([b], self.stage.batch_rows))
            case Join() if not self.plan.enters(step):
                right = read_kept(self.context.kept[step.inputs[1]], {})
                note_right(step, right, work)  # this unit is there for it
                return iter(())
        meeting = Meeting(self.plan, step, self.context.kept, unit.split.payload, work)
        found = meeting.rows(self.runners.get(step.id), self.stage.batch_rows)
        return (part for batch in found for part in _rebatch([batch], self.stage.batch_rows))

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
                ended = _ended(lost.keys, lost.sources)
                work.outcomes.append(Outcomes(predicate.node, "dropped", ended))
        if chunk.failed:
            errors = [(type(f.error).__name__, redact(str(f.error))) for f in chunk.failed]
            ended = _ended([f.key for f in chunk.failed], [f.source for f in chunk.failed])
            work.outcomes.append(Outcomes(step.id, "failed", ended, errors))
        line.taken += taken
        line.failed += len(chunk.failed)
        line.passed += chunk.batch.rows + dropped
        line.emitted += chunk.batch.rows

    def _flow(self, name: str, batch: Batch, cargo: Cargo, *, handover: bool = True) -> None:
        """Give a batch of step `name` to everybody who takes it."""
        for consumer in self.consumers[name]:
            if consumer.step.id in self.gathers:
                cargo.gathered.setdefault(consumer.step.id, []).append(batch)
                continue
            out = consumer(batch, cargo.work)
            if out.rows == 0:
                continue
            if consumer.step.id in self.ends:
                cargo.ports.setdefault(consumer.step.id, []).append(out)
            else:
                self._flow(consumer.step.id, out, cargo)
        if handover and name in self.ports:
            cargo.ports.setdefault(name, []).append(batch)

    def _gather(self, cargo: Cargo) -> None:
        """Bring children back to their parents, when all of the unit's are there."""
        for step in self.plan.stage_steps(self.index):
            if step.id in self.gathers and (batches := cargo.gathered.pop(step.id, None)):
                out = self.runners[step.id](concat_batches(batches), cargo.work)
                for batch in _rebatch([out] if out.rows else [], self.stage.batch_rows):
                    self._flow(step.id, batch, cargo)

    def _keep(self, step: Step, cargo: Cargo) -> Kept:
        """Write what an exchange took."""
        assert self.context.folder is not None
        started = perf_counter()
        batches = cut_to_limit(step, cargo.ports.pop(step.id, []), cargo.work)
        read = cargo.unit.read if self._reads(cargo.unit) else None
        kept = keep(step, cargo.unit.id, read, batches, self.context.folder)
        cargo.work.books[step.id].seconds += perf_counter() - started
        return kept

    def _reads(self, unit: Unit) -> bool:
        return isinstance(self.plan.step(unit.read).action, Read)

    def _stage(self, step: Step, batches: list[Batch], cargo: Cargo) -> dict[str, Any]:
        """Stage the rows of one write, its ledger and its errors; what the receipt says of it.

        Rows that end on the way to a write of a later phase are on its ledger now.
        """
        assert isinstance(step.action, Write)
        work, started = cargo.work, perf_counter()
        target = self.context.targets[step.id]
        schema = dataset_schema(self.plan, step)
        table = pa.concat_tables([b.to_arrow(schema) for b in batches]) if batches else None
        staged = step.action.sink.stage(target.token, table) if table else []
        written: dict[str, Any] = {"staged": staged, "rows": table.num_rows if table else 0}
        if target.ledger is not None or target.aside is not None:
            mine = self.plan.upstream(step.id) | {
                p.node for s in self.plan.upstream(step.id) for p in self.plan.step(s).predicates
            }
            outcomes = [o for o in work.outcomes if o.node in mine]
            read = cargo.unit.read if self._reads(cargo.unit) else None
            ledger = ledger_table(step.id, batches, outcomes, read)
            written |= _note(target, ledger, errors_table(self.plan, outcomes))
        work.books[step.id].seconds += perf_counter() - started
        return written


def runner(plan: Plan, step: Step, device: str, kept: Files) -> Runner:
    """The runner of a step. Loads what the operator needs, and a side that is broadcast.

    Raises:
        ContractError: the operator's setup failed.
        TooLarge: what is broadcast does not fit into memory.
    """
    given = plan.step(step.inputs[0]).columns
    match step.action:
        case Where() as action:
            return WhereRunner(step, action)
        case WithColumns() as action:
            return WithColumnsRunner(step, action)
        case Select() | Write() | Exchange() | Order():
            return Runner(step)
        case Union():
            return UnionRunner(step, children=plan.depth(step.id) > 0)
        case Join():
            return JoinRunner(step, broadcast_side(plan, step, kept))
        case Group() as action:
            return GroupRunner(step, action, given, device, children=plan.depth(step.id) > 0)
        case Apply(operator=Map()) as action:
            return MapRunner(step, action, given, device)
        case Apply(operator=Filter()) as action:
            return FilterRunner(step, action, given, device)
        case Apply(operator=Expand()) as action:
            return ExpandRunner(step, action, given, device, plan.needed()[step.id])
        case _:
            raise AssertionError(f"no runner for {step}")


def dataset_schema(plan: Plan, write: Step) -> pa.Schema:
    """The Arrow schema of what a write stores: the envelope, then the columns."""
    names = [KEY, SOURCE]
    if plan.depth(write.id):
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


def _note(target: Target, ledger: pa.Table, errors: pa.Table) -> dict[str, Any]:
    """Stage a unit's ledger and its errors, or put them aside; what the receipt says of them."""
    if target.aside is not None:
        return {"aside": put_aside(target.aside, ledger, errors)}
    from weft.pipelines import tables  # imports lance

    assert target.ledger is not None
    assert target.errors is not None
    return {
        "ledger": tables.stage(target.ledger, ledger) if ledger.num_rows else [],
        "errors": tables.stage(target.errors, errors) if errors.num_rows else [],
    }


def _ended(keys: Sequence[str], sources: Sequence[str]) -> pa.Table:
    return pa.table({KEY: pa.array(keys, pa.string()), SOURCE: pa.array(sources, pa.string())})


def _rebatch(batches: list[Batch], rows: int) -> Iterator[Batch]:
    """The same rows in batches of `rows`, the last one shorter."""
    if not batches:
        return
    whole = concat_batches(batches)
    for start in range(0, whole.rows, rows):
        yield whole.slice(start, start + rows)
