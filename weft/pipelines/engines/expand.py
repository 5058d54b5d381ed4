"""How a batch goes through an expand: one row in, its children out.

The children of a row are listed first, then the filters that were pushed into the step are
asked, and only then is made what the operator left for later: a page that nobody wants is
never rendered. A row whose children cannot be listed fails as a whole; a child that cannot be
made fails alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from weft.errors import ContractError
from weft.pipelines.batch import (
    ABOVE,
    ANCESTORS,
    COUNT,
    ENVELOPE,
    INDEX,
    JOINED,
    KEY,
    PARENT,
    READ,
    SOURCE,
    Batch,
    Column,
)
from weft.pipelines.engines.conform import conform
from weft.pipelines.engines.process import Answer, remote
from weft.pipelines.engines.runners import (
    ApplyRunner,
    Failures,
    Indices,
    WhereRunner,
    Work,
    attempted,
    parted,
    shape_of,
)
from weft.pipelines.fields import Fields
from weft.pipelines.graph import Apply, Where
from weft.pipelines.operator import Later
from weft.pipelines.plan import Step
from weft.pipelines.types import Int64

Child = dict[str, Any]

Families = list[tuple[int, list[Child]]]
"""Rows of the batch with their children."""

_PLACE = "_place"
"""Which of the listed children a row is, while filters are asked."""


class ExpandRunner(ApplyRunner):
    """One row in, its children out."""

    def __init__(
        self, step: Step, action: Apply, given: Fields, device: str, needed: frozenset[str]
    ) -> None:
        super().__init__(step, action, given, device)
        made = {name for _, name in self.outputs}
        asked = {root for p in step.predicates for root in p.expression.roots}
        self.inherited = tuple(c for c in given if c not in made and c in {*self.keeps, *asked})
        self.needed = needed
        self.filters = tuple(
            _Filter(Step(p.node, Where(p.expression), (step.id,), step.columns))
            for p in step.predicates
        )

    def run(self, batch: Batch, work: Work) -> Batch:
        complete = self.complete(batch)
        some = batch if complete is None else batch.take(complete)
        rows = np.arange(batch.rows) if complete is None else complete
        families, failures = self._call(some, rows)
        children = [(parent, child) for parent, family in families for child in family]
        late = {p for p in self.types if any(isinstance(c[p], Later) for _, c in children)}
        columns, wrong = self._columns(children, late)
        failures += [(parent, ContractError(text)) for parent, text in wrong.items()]
        self.fail(batch, failures, work)
        good = np.array([i for i, (p, _) in enumerate(children) if p not in wrong], np.int64)
        self._note_parents(batch, families, wrong, complete, work)
        below = self._children(batch, np.array([children[i][0] for i in good], np.int64))
        below = below.with_columns({name: c.take(good) for name, c in columns.items()})
        below.envelope[_PLACE] = Column(Int64(), values=good)
        for ask in self.filters:
            below = ask(below, work)
        places = below.envelope.pop(_PLACE).values
        wanted = [children[i][1] for i in places]
        del children, families  # so that `_make` holds a child alone, and lets it go
        if late:
            below = self._make(below, wanted, late, work)
        if self.isolated is not None:
            self.isolated.forget()
        return below.only(self.keeps)

    def _call(self, batch: Batch, rows: Indices) -> tuple[Families, Failures]:
        if batch.rows and not self.rowwise:
            return self._call_batch(batch, rows)
        answers = self.answers("expand_row", batch, lambda made: [self._ports(c) for c in made])
        good, families, failures = parted(rows, answers)
        return list(zip(good.tolist(), families, strict=True)), failures

    def _call_batch(self, batch: Batch, rows: Indices) -> tuple[Families, Failures]:
        families: Families = []
        pieces, failures = self.attempt(batch, lambda part: self.answer("expand", part), rows)
        for indices, made in pieces:
            if not isinstance(made, Sequence) or len(made) != len(indices):
                many = len(made) if isinstance(made, Sequence) else type(made).__name__
                raise ContractError(
                    f"{self.operator.name}.expand() must return {len(indices)} lists of "
                    f"children, one for each row; it returned {many}."
                )
            families += [
                (int(i), [self._ports(c) for c in family])
                for i, family in zip(indices, made, strict=True)
            ]
        return families, failures

    def _ports(self, given: Any) -> Child:
        child: Child = given
        if not isinstance(child, dict) or set(child) != set(self.types):
            if len(self.types) != 1:
                raise ContractError(
                    f"{self.operator.name} writes {', '.join(self.types)}; a child has "
                    f"{shape_of(child)}."
                )
            child = {next(iter(self.types)): child}
        wrong = [p for p in self.operator.early if isinstance(child[p], Later)]
        if wrong:
            raise ContractError(
                f"{self.operator.name}.{wrong[0]} is a Later, but is declared early."
            )
        return child

    def _columns(
        self, children: list[tuple[int, Child]], late: set[str]
    ) -> tuple[dict[str, Column], dict[int, str]]:
        """The columns that are there at once, and the parents of values that do not fit."""
        columns: dict[str, Column] = {}
        wrong: dict[int, str] = {}
        for port, name in self.outputs:
            if port in late:
                continue
            what = f"{self.operator.name}.{port}"
            values = [child[port] for _, child in children]
            columns[name], faults = conform(what, self.types[port], values, len(children))
            wrong |= {children[i][0]: f"{what}: {fault}" for i, fault in faults.items()}
        return columns, wrong

    def _note_parents(
        self,
        batch: Batch,
        families: Families,
        wrong: Iterable[int],
        complete: Indices | None,
        work: Work,
    ) -> None:
        """A parent ends here: the books say how many children it has, also when none."""
        counts = {parent: len(family) for parent, family in families if parent not in wrong}
        if complete is not None:
            nulls = set(range(batch.rows)) - set(complete.tolist())
            counts |= dict.fromkeys(nulls, 0)
        rows = np.array(sorted(counts), np.int64)
        if len(rows):
            children = pa.array([counts[i] for i in rows.tolist()], pa.int32())
            work.note(self.step.id, "expanded", batch, rows, children=children)

    def _children(self, batch: Batch, parents: Indices) -> Batch:
        """A row for each child: its parent's columns, its own key and place in the family."""
        counts = np.bincount(parents, minlength=batch.rows)
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        index = np.arange(len(parents)) - first[parents] if len(parents) else parents
        keys = [str(batch.keys[p]) for p in parents]
        below = batch.only(self.inherited).take(parents)
        below.envelope = {n: c for n, c in below.envelope.items() if n in (READ, JOINED)} | {
            KEY: Column(
                ENVELOPE[KEY], values=[f"{k}#{i}" for k, i in zip(keys, index, strict=True)]
            ),
            SOURCE: below.envelope[SOURCE],
            PARENT: Column(ENVELOPE[PARENT], values=keys),
            INDEX: Column(ENVELOPE[INDEX], values=index.astype(np.int32)),
            COUNT: Column(ENVELOPE[COUNT], values=counts[parents].astype(np.int32)),
        }
        if PARENT in batch.envelope:
            below.envelope[ABOVE] = _above(batch).take(parents)
        return below

    def _make(self, below: Batch, children: list[Child], late: set[str], work: Work) -> Batch:
        """What was left for later, for the children that are wanted and the columns that are read.

        Each child is let go when it is made, and its memory with it.
        """
        ports = [(p, name) for p, name in self.outputs if p in late and name in self.needed]
        answers = self._values(children, [port for port, _ in ports])
        rows, values, failures = parted(np.arange(below.rows), answers)
        good: list[int] = rows.tolist()
        made = {port: [row[i] for row in values] for i, (port, _) in enumerate(ports)}
        columns: dict[str, Column] = {}
        wrong: dict[int, str] = {}
        for port, name in ports:
            what = f"{self.operator.name}.{port}"
            columns[name], faults = conform(what, self.types[port], made[port], len(good))
            wrong |= {i: f"{what}: {fault}" for i, fault in faults.items()}
        failures += [(good[i], ContractError(text)) for i, text in wrong.items()]
        self.fail(below, failures, work, children=True)
        kept = np.array([i for i in range(len(good)) if i not in wrong], np.int64)
        whole = below.take(np.array(good, np.int64)[kept])
        for port, name in self.outputs:  # of a plan whose unread columns were not pruned
            if port in late and name not in columns and name in self.keeps:
                nothing = [None] * len(good)
                columns[name] = Column(self.types[port].or_null(), values=nothing)
        return whole.with_columns({name: column.take(kept) for name, column in columns.items()})

    def _values(self, children: list[Child], ports: list[str]) -> Iterator[Answer]:
        """Of each child the values of `ports`, made if they were left for later."""
        if self.isolated is None:
            for row, child in enumerate(children):
                children[row] = {}
                yield attempted(lambda c: [_made(c[port]) for port in ports], child)
            return
        wanted = [[remote(c[p]) for p in ports if isinstance(c[p], Later)] for c in children]
        answers = self.isolated.make(wanted) if any(wanted) else [([], None)] * len(children)
        for child, (values, error) in zip(children, answers, strict=True):
            made = iter(values or ())
            yield (
                [next(made) if isinstance(child[p], Later) else child[p] for p in ports]
                if error is None
                else None,
                error,
            )


def _above(batch: Batch) -> Column:
    """What is above the children of these rows: what is above the rows, and their own place."""
    own = (batch.envelope[name].values for name in (PARENT, INDEX, COUNT))
    above = [
        [*(before or ()), {"parent": parent, "index": index, "count": count}]
        for before, parent, index, count in zip(batch.column(ABOVE).values, *own, strict=True)
    ]
    return Column(ENVELOPE[ABOVE], array=pa.array(above, ANCESTORS))


class _Filter(WhereRunner):
    """A filter that was pushed into the step; columns still to be made are none of its business."""

    def __init__(self, step: Step) -> None:
        assert isinstance(step.action, Where)
        super().__init__(step, step.action)

    def __call__(self, batch: Batch, work: Work) -> Batch:
        self.keeps = tuple(batch.columns)
        return super().__call__(batch, work)


def _made(value: Any) -> Any:
    return value.make() if isinstance(value, Later) else value
