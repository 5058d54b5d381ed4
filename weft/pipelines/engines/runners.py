"""How a batch goes through one step: a runner for each kind of action (`expand` has its own).

A runner takes a batch and gives the batch that goes on. Rows that do not go on, and why, it
reports to the `Work` at hand. The happy path through an operator touches no row one by one
that the operator does not touch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.errors import ContractError, RowError, WeftError, redact, words
from weft.pipelines.batch import (
    ABOVE,
    COUNT,
    INDEX,
    JOINED,
    KEY,
    PARENT,
    READ,
    SOURCE,
    Batch,
    Column,
    concat_batches,
    kind_of,
)
from weft.pipelines.engines.books import Books, OutcomeKind, Outcomes
from weft.pipelines.engines.conform import conform
from weft.pipelines.engines.isolation import isolated
from weft.pipelines.engines.process import Answer, named
from weft.pipelines.expressions import evaluate, matches
from weft.pipelines.fields import Fields
from weft.pipelines.graph import Apply, OnError, Where, WithColumns
from weft.pipelines.operator import Operator, booleans
from weft.pipelines.plan import Step
from weft.pipelines.types import Tensor, Type, Values

Indices = npt.NDArray[np.int64]

Pieces = list[tuple[Indices, Any]]
"""Answers of a step, with the rows of the batch they stand for."""

Failures = list[tuple[int, Exception]]
"""Rows of the batch that failed, and why."""


class Work:
    """What a worker notes about the unit in its hands: books and outcomes."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.outcomes: list[Outcomes] = []
        self.met: dict[str, set[str]] = {}  # by join: keys that several rows of the right have

    def note(
        self,
        node: str,
        kind: OutcomeKind,
        batch: Batch,
        rows: Indices,
        errors: Sequence[BaseException] = (),
        **more: pa.Array,
    ) -> None:
        """Record that `rows` of `batch` met an end at step `node`, with `more` for the ledger.

        Of rows that failed, what ended a process and how often they were tried is noted too.
        """
        own = {KEY: KEY, SOURCE: SOURCE, PARENT: PARENT, READ: "read", JOINED: "joined"}
        ended = {
            new: batch.envelope[name].take(rows).array
            for name, new in own.items()
            if name in batch.envelope
        }
        told = [(type(e).__name__, words(e)) for e in errors]
        if any(isinstance(e, RowError) and (e.signal or e.attempts != 1) for e in errors):
            more["signal"] = pa.array([getattr(e, "signal", None) for e in errors], pa.string())
            more["attempts"] = pa.array([getattr(e, "attempts", 1) for e in errors], pa.int32())
        self.outcomes.append(Outcomes(node, kind, pa.table(ended | more), told))


class Runner:
    """Takes the batches of one step, keeping its line in the books."""

    on_error: OnError = "quarantine"

    def __init__(self, step: Step) -> None:
        self.step = step
        self.keeps = tuple(step.columns)

    def __call__(self, batch: Batch, work: Work) -> Batch:
        """The rows of `batch` that go on."""
        line = work.books[self.step.id]
        started = perf_counter()
        line.taken += batch.rows
        out = self.run(batch, work)
        line.emitted += out.rows
        line.passed = line.taken - line.dropped - line.failed
        line.seconds += perf_counter() - started
        return out

    def run(self, batch: Batch, work: Work) -> Batch:
        """The step itself."""
        return batch.only(self.keeps)

    def drop(self, batch: Batch, keep: npt.NDArray[np.bool_], work: Work) -> Batch:
        """The rows where `keep` is true; the others go on the books as dropped."""
        if keep.all():
            return batch
        work.note(self.step.id, "dropped", batch, np.flatnonzero(~keep))
        work.books[self.step.id].dropped += batch.rows - int(keep.sum())
        return batch.take(np.flatnonzero(keep))

    def sift(self, batch: Batch, pieces: Pieces, failures: Failures, work: Work) -> Batch:
        """The rows that answered true; `pieces` are answers, the rows in none were not asked."""
        keep = np.zeros(batch.rows, np.bool_)
        for indices, answers in pieces:
            keep[indices] = answers
        if failures:
            self.fail(batch, failures, work)
            left = np.ones(batch.rows, np.bool_)
            left[[row for row, _ in failures]] = False
            batch, keep = batch.take(np.flatnonzero(left)), keep[left]
        return self.drop(batch.only(self.keeps), keep, work)

    def attempt(
        self, batch: Batch, call: Callable[[Batch], Any], rows: Indices
    ) -> tuple[Pieces, Failures]:
        """`call` on the batch; a batch that raises is bisected until the rows at fault are alone.

        Returns the pieces that worked, with the rows they stand for, and the rows that failed.
        """
        try:
            return [(rows, call(batch))], []
        except Exception as error:
            if isinstance(error, WeftError) and not isinstance(error, RowError):
                raise
            failure = error  # whatever else an operator raises is a row's fault
        if batch.rows <= 1:
            return [], [(int(row), failure) for row in rows]
        half = batch.rows // 2
        left = self.attempt(batch.slice(0, half), call, rows[:half])
        right = self.attempt(batch.slice(half, batch.rows), call, rows[half:])
        return left[0] + right[0], left[1] + right[1]

    def fail(
        self,
        batch: Batch,
        failures: Failures,
        work: Work,
        *,
        nullable: bool = False,
        children: bool = False,
    ) -> None:
        """Put failed rows on the books, as the step's policy says.

        Args:
            nullable: whether the step can go on with null for a row.
            children: whether the rows are children that an expand could not make.

        Raises:
            RowError: the policy is ``raise``.
        """
        if not failures:
            return
        failures.sort(key=lambda f: f[0])
        row, error = failures[0]
        if self.on_error == "raise":
            raise RowError(
                f"{self.step.id}: row {batch.keys[row]!r}: {type(error).__name__}: {words(error)}"
            ) from error
        rows = np.array([row for row, _ in failures])
        nulled = self.on_error == "null" and nullable
        work.note(
            self.step.id, "nulled" if nulled else "failed", batch, rows, [e for _, e in failures]
        )
        line = work.books[self.step.id]
        if nulled:
            line.nulled += len(rows)
        elif children:
            line.children_failed += len(rows)
        else:
            line.failed += len(rows)


class WhereRunner(Runner):
    """Rows for which a predicate holds."""

    def __init__(self, step: Step, action: Where) -> None:
        super().__init__(step)
        self.predicate = action.predicate

    def run(self, batch: Batch, work: Work) -> Batch:
        rows = np.arange(batch.rows)
        pieces, failures = self.attempt(batch, lambda part: matches(self.predicate, part), rows)
        return self.sift(batch, pieces, failures, work)


class UnionRunner(Runner):
    """Rows of any input, in the columns that all of them have after it."""

    def __init__(self, step: Step, *, children: bool) -> None:
        super().__init__(step)
        self.own = (PARENT, INDEX, COUNT, ABOVE) if children else ()

    def run(self, batch: Batch, work: Work) -> Batch:
        columns = {
            name: self._column(batch, name, kind) for name, kind in self.step.columns.items()
        }
        own = {name: batch.column(name) for name in self.own}
        kept = {n: c for n, c in batch.envelope.items() if n not in (PARENT, INDEX, COUNT, ABOVE)}
        joined = {JOINED: batch.column(JOINED)}
        return Batch(columns, kept | own | joined, batch.rows)

    def _column(self, batch: Batch, name: str, kind: Type) -> Column:
        found = batch.columns.get(name)
        if found is None:
            return Column(kind, array=pa.nulls(batch.rows, kind.storage))
        if found.type == kind:
            return found
        if isinstance(kind, Tensor) and found.type.storage != kind.storage:
            return Column(kind, values=list(found.values))
        array = found.array
        return Column(kind, array=array if array.type == kind.storage else array.cast(kind.storage))


class WithColumnsRunner(Runner):
    """Columns by expressions."""

    def __init__(self, step: Step, action: WithColumns) -> None:
        super().__init__(step)
        self.expressions = action.expressions

    def run(self, batch: Batch, work: Work) -> Batch:
        pieces, failures = self.attempt(batch, self._evaluate, np.arange(batch.rows))
        self.fail(batch, failures, work)
        return concat_batches([part for _, part in pieces]) if pieces else batch.slice(0, 0)

    def _evaluate(self, batch: Batch) -> Batch:
        made = evaluate(self.expressions, batch, self.step.columns)
        return batch.with_columns(made).only(self.keeps)


class ApplyRunner(Runner):
    """What the three kinds of operator share: ports, nulls, failures."""

    def __init__(self, step: Step, action: Apply, given: Fields, device: str) -> None:
        super().__init__(step)
        self.operator: Any = action.operator
        self.inputs = action.inputs
        self.outputs = action.outputs
        self.on_error = action.on_error
        self.rowwise = action.operator.rowwise
        reads = action.operator.reads
        self.as_arrow = {port for port, kind in reads.items() if kind.as_arrow}
        self.strict = tuple(
            c for p, c in action.inputs if not reads[p].nullable and kind_of(given, c).nullable
        )
        self.types = dict(
            action.operator.infer(Fields({p: kind_of(given, c) for p, c in action.inputs}))
        )
        self.isolated = isolated(action, device)
        self.loaded = None if self.isolated else _setup(action.operator, device)

    def answers(self, method: str, batch: Batch, shape: Callable[[Any], Any]) -> Iterator[Answer]:
        """What the operator's `method` says to each row, put into `shape`, or what went wrong."""
        if self.isolated is None:
            call = getattr(self.operator, method)
            return (
                attempted(lambda r: shape(call(r, self.loaded)), row) for row in self.rows(batch)
            )
        said = self.isolated.each(method, self.rows(batch))
        return (a if a[1] is not None else attempted(shape, a[0]) for a in said)

    def answer(self, method: str, batch: Batch) -> Any:
        """What the operator's `method` says to the batch."""
        view = self.view(batch)
        if self.isolated is None:
            return getattr(self.operator, method)(view, self.loaded)
        [(said, error)] = self.isolated.each(method, [view], weight=batch.rows)
        if error is not None:
            raise error
        return said

    def view(self, batch: Batch) -> dict[str, Values]:
        """The batch as the operator sees it."""
        columns = {port: batch.column(column) for port, column in self.inputs}
        return {p: c.array if p in self.as_arrow else c.values for p, c in columns.items()}

    def rows(self, batch: Batch) -> Iterator[dict[str, Any]]:
        """The batch as a row by row operator sees it."""
        ports = [port for port, _ in self.inputs]
        columns = [_row_values(batch.column(column)) for _, column in self.inputs]
        return (dict(zip(ports, row, strict=True)) for row in zip(*columns, strict=True))

    def complete(self, batch: Batch) -> Indices | None:
        """The rows without a null that the operator does not take; ``None``: all of them."""
        mask = None
        for column in self.strict:
            valid = batch.column(column).valid()
            if valid is not None:
                mask = valid if mask is None else mask & valid
        return None if mask is None else np.flatnonzero(mask)


class MapRunner(ApplyRunner):
    """One row in, one row out."""

    def run(self, batch: Batch, work: Work) -> Batch:
        complete = self.complete(batch)
        some = batch if complete is None else batch.take(complete)
        rows = np.arange(batch.rows) if complete is None else complete
        pieces, failures = self._call(some, rows)
        done = [self._conform(rows, out, failures) for rows, out in pieces]
        if complete is None and not failures and len(done) == 1:
            return batch.with_columns(done[0][1]).only(self.keeps)
        self.fail(batch, failures, work, nullable=True)
        columns = {name: self._scatter(name, done, batch.rows) for _, name in self.outputs}
        lost = set() if self.on_error == "null" else {row for row, _ in failures}
        keep = np.array([i for i in range(batch.rows) if i not in lost], np.int64)
        return batch.with_columns(columns).only(self.keeps).take(keep)

    def _call(self, batch: Batch, rows: Indices) -> tuple[Pieces, Failures]:
        if batch.rows == 0:
            return [], []
        if not self.rowwise:
            return self.attempt(batch, lambda part: self.answer("map", part), rows)
        answers = self.answers("map_row", batch, self._row_ports)
        good, made, failures = parted(rows, answers)
        if not len(good):
            return [], failures
        return [(good, {port: [row[port] for row in made] for port in self.types})], failures

    def _row_ports(self, out: Any) -> dict[str, Any]:
        if len(self.types) == 1 and not (isinstance(out, dict) and set(out) == set(self.types)):
            return {next(iter(self.types)): out}
        if not isinstance(out, dict) or set(out) != set(self.types):
            raise ContractError(
                f"{self.operator.name} writes {', '.join(self.types)}; for this row it returned "
                f"{shape_of(out)}."
            )
        return out

    def _conform(
        self, rows: Indices, out: Any, failures: Failures
    ) -> tuple[Indices, dict[str, Column], set[int]]:
        if not isinstance(out, Mapping) or set(out) != set(self.types):
            raise ContractError(
                f"{self.operator.name} writes {', '.join(self.types)}; it returned {shape_of(out)}."
            )
        columns: dict[str, Column] = {}
        wrong: dict[int, str] = {}
        for port, name in self.outputs:
            what = f"{self.operator.name}.{port}"
            columns[name], faults = conform(what, self.types[port], out[port], len(rows))
            wrong |= {row: f"{what}: {fault}" for row, fault in faults.items()}
        failures += [(int(rows[row]), ContractError(text)) for row, text in wrong.items()]
        return rows, columns, {int(rows[row]) for row in wrong}

    def _scatter(
        self, name: str, done: list[tuple[Indices, dict[str, Column], set[int]]], rows: int
    ) -> Column:
        """One column of the whole batch from the pieces; null where there is no answer."""
        values: list[Any] = [None] * rows
        for indices, columns, wrong in done:
            if name in columns:
                for i, value in zip(indices.tolist(), columns[name].values, strict=True):
                    values[i] = None if i in wrong else value
        kind: Type = self.step.columns.get(name) or next(
            self.types[p] for p, c in self.outputs if c == name
        )
        return Column(kind.or_null(), values=values)


class FilterRunner(ApplyRunner):
    """A filter operator; a null in a port it does not take drops the row."""

    def run(self, batch: Batch, work: Work) -> Batch:
        complete = self.complete(batch)
        some = batch if complete is None else batch.take(complete)
        rows = np.arange(batch.rows) if complete is None else complete
        pieces, failures = self._call(some, rows)
        checked = [
            (at, booleans(f"{self.operator.name}.keep", answers, len(at))) for at, answers in pieces
        ]
        return self.sift(batch, checked, failures, work)

    def _call(self, batch: Batch, rows: Indices) -> tuple[Pieces, Failures]:
        if batch.rows == 0:
            return [], []
        if not self.rowwise:
            return self.attempt(batch, lambda part: self.answer("keep", part), rows)
        good, answers, failures = parted(rows, self.answers("keep_row", batch, bool))
        return [(good, answers)] if len(good) else [], failures


def attempted(call: Callable[[Any], Any], value: Any) -> Answer:
    """What `call` makes of a value, or what went wrong."""
    try:
        return call(value), None
    except Exception as error:  # noqa: BLE001  whatever a user's operator raises is the row's fault
        return None, error
    except SystemExit as error:
        return None, named("SystemExit", words(error))


def parted(rows: Indices, answers: Iterator[Answer]) -> tuple[Indices, list[Any], Failures]:
    """The rows that have an answer, their answers, and the rows that failed."""
    good: list[int] = []
    made: list[Any] = []
    failures: Failures = []
    for number, (answer, error) in zip(rows.tolist(), answers, strict=True):
        if error is None:
            good.append(number)
            made.append(answer)
        else:
            failures.append((number, error))
    return np.array(good, np.int64), made, failures


def _setup(operator: Operator, device: str) -> Any:
    try:
        return operator.setup(device)
    except Exception as error:
        raise ContractError(
            f"{operator.name}.setup({device!r}): {type(error).__name__}: {redact(str(error))}"
        ) from error


def shape_of(out: Any) -> str:
    """What an operator returned, for messages: the names of a dict, or a type."""
    return (", ".join(out) or "nothing") if isinstance(out, Mapping) else type(out).__name__


def _row_values(column: Column) -> Values:
    """Row by row operators are given Python numbers, not NumPy scalars."""
    values = column.values
    if isinstance(values, np.ndarray) and values.ndim == 1:
        plain: list[Any] = values.tolist()
        return plain
    return values
