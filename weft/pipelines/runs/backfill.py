"""A backfill: the pipeline that computes some fields anew for rows that a dataset has already.

It is a pipeline like any other, made of the steps of the one that changed: it runs on the same
engines, in units that end in receipts. It has the steps that differ and those whose columns they
need, and nothing else.

Going up from the write, it begins as soon as every column that is still needed is in the dataset
with the recipe that it has there: then it reads the dataset, those columns and no media. Else it
begins at the sources, with the rows that are in the dataset, and beside them what this has of them.

Its rows end in files beside the journal: new values by key, which `weft.pipelines.columns` puts
into the dataset, and what became of rows that a changed filter drops now or a changed operator
fails on. Where the dataset has what a changed operator answered before, the rows for which it
answers the same go no further: this is an early cut-off, and what only reads it is not run.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from weft.pipelines import blobs, tables
from weft.pipelines.batch import ENVELOPE, KEY
from weft.pipelines.connector import Sink, Source
from weft.pipelines.engines.aside import write_table
from weft.pipelines.fields import Fields, fields_of
from weft.pipelines.graph import (
    Apply,
    Graph,
    Node,
    Read,
    Select,
    Union,
    Where,
    WithColumns,
    Write,
)
from weft.pipelines.operator import BatchView, Filter, digest
from weft.pipelines.plan import Plan, Step
from weft.pipelines.recipes import Recipes, derive
from weft.pipelines.runs.changes import Changes
from weft.pipelines.runs.stored import Beside, Stored
from weft.pipelines.sites import Site
from weft.pipelines.types import Encoded, Type

STORED = "(stored)"
"""The read of a backfill that begins at the dataset; no step of a pipeline is called like that."""

CUT_OFF = "(differs)"
"""The step that lets rows pass for which something came out otherwise than before."""

_FIELDS = "(fields)"
"""The select at the end of a backfill."""


@dataclass(frozen=True)
class Backfill:
    """What is to be computed for the rows of one write.

    `rows` are about as many as are processed; `stored` says whether they are read from the
    dataset. `steps` are those that run, `cut_off` those of them that run only for rows for which
    something before them came out otherwise.
    """

    write: str
    fields: tuple[str, ...]
    graph: Graph
    rows: int
    stored: bool
    steps: tuple[str, ...]
    cut_off: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = f"{', '.join(self.fields)} of" if self.fields else "nothing but filters on"
        where = "as the dataset has them" if self.stored else "read again"
        return f"{what} {self.rows:,} rows, {where}"


@dataclass(frozen=True)
class Case:
    """A write, what differs for it, and the dataset whose rows stay.

    Attributes:
        plan: as `plain_plan` made it.
        write: the write whose rows they are.
        changes: what differs.
        before: the recipes of the dataset.
        version: the version of the dataset that stays.
        keys: by read, the rows of the source that are in the dataset and have not changed;
            without them, all rows of the source.
        leaving: keys of rows of the dataset that do not stay.
    """

    plan: Plan
    write: Step
    changes: Changes
    before: Recipes
    version: int
    keys: Mapping[str, Sequence[str]] | None = None
    leaving: frozenset[str] = frozenset()

    @property
    def uri(self) -> str:
        """Where the dataset is."""
        assert isinstance(self.write.action, Write)
        return self.write.action.sink.uri


def backfill(case: Case) -> Backfill | None:
    """The backfill that changes ask for; ``None``: none."""
    changes = case.changes
    if not changes.fields and not changes.steps:
        return None
    stored = _Stored.of(case)
    chain, cut = _chain(case, stored), tuple[str, ...]()
    reads_dataset = chain is not None
    if chain is not None:
        nodes, cut = _on_chain(case, stored, chain, source=None)
        rows = tables.open_table(case.uri, case.version).count_rows() - len(case.leaving)
    else:
        rows = sum(len(found) for found in (case.keys or {}).values())
        chain = _chain(case, None)
        if chain is not None and _cut_off(case, stored, chain)[0]:
            nodes, cut = _on_chain(case, stored, chain, source=_only_read(case))
        else:
            nodes = _from_sources(case)
    graph = Graph(f"{case.plan.name}: {', '.join(changes.fields) or 'filters'}", tuple(nodes))
    ran = tuple(n.id for n in nodes if n.id in changes.columns)
    return Backfill(case.write.id, changes.fields, graph, rows, reads_dataset, ran, cut)


@dataclass(frozen=True)
class _Stored:
    """What a dataset has: by recipe, the column; and the columns' types."""

    uri: str
    version: int
    columns: Mapping[str, str]
    types: Fields
    leaving: frozenset[str]

    @staticmethod
    def of(case: Case) -> _Stored:
        types = fields_of(blobs.plain_schema(tables.open_table(case.uri, case.version).schema))
        found = {
            recipe: name
            for name, made in case.before.fields.items()
            if name in types and (len(made) == 1 or name not in case.changes.fields)
            for recipe in made
        }
        return _Stored(case.uri, case.version, found, types, case.leaving)

    def read(self, columns: Mapping[str, Type], names: Mapping[str, str]) -> Node:
        """The node that reads `columns`, each from the stored one that `names` has for it."""
        pairs = tuple(sorted(names.items()))
        source = Stored(self.uri, self.version, pairs, Fields(columns), self.leaving)
        return _node(STORED, Read(source), (), columns)


def _chain(case: Case, stored: _Stored | None) -> list[Step] | None:
    """The steps to run on what the dataset has, or on a source, one after the other; ``None``: it
    lacks some, or there are several ways to it, or other rows come out than went in."""
    plan, write, changes = case.plan, case.write, case.changes
    needed, chain = set(changes.fields), list[Step]()
    step = plan.step(write.inputs[0])
    while True:
        left = {*changes.steps} & {*plan.upstream(step.id)}
        recipes = changes.columns[step.id]
        if stored is None and isinstance(step.action, Read):
            return chain
        if stored and not left and all(recipes[name] in stored.columns for name in needed):
            return chain
        if len(step.inputs) != 1 or step.expands or isinstance(step.action, Read | Union):
            return None
        if not isinstance(step.action, Apply | Where | WithColumns | Select):
            return None
        if step.id in changes.steps or needed & step.makes():
            step = _only(step, needed)
            chain.insert(0, step)
            needed = {*step.wants(step.inputs[0], frozenset(needed))}
        step = plan.step(step.inputs[0])


def _only(step: Step, needed: Collection[str]) -> Step:
    """A step with those of its expressions alone that somebody needs."""
    if not isinstance(step.action, WithColumns):
        return step
    chosen = tuple(e for e in step.action.expressions if e.name in needed)
    return replace(step, action=WithColumns(chosen))


def _only_read(case: Case) -> Step:
    """The step that reads the one source of a write."""
    upstream = case.plan.upstream(case.write.id)
    [read] = [s for s in case.plan.reads() if s.id in upstream]
    return read


def _on_chain(
    case: Case, stored: _Stored, chain: list[Step], *, source: Step | None
) -> tuple[list[Node], tuple[str, ...]]:
    """The nodes of a backfill that runs `chain` on the rows of the dataset, or on those of a
    `source`, and the steps behind the cut-off."""
    plan, write, changes = case.plan, case.write, case.changes
    needed: set[str] = set(changes.fields)
    for step in reversed(chain):
        needed = {*step.wants(step.inputs[0], frozenset(needed))}
    compared, first = _cut_off(case, stored, chain)
    before = {_was(name): stored.types[name] for name in compared}
    names = {_was(name): name for name in compared}
    if source is None:
        above = chain[0].inputs[0] if chain else write.inputs[0]
        at = plan.step(above)
        columns = {name: at.columns[name] for name in sorted(needed)}
        names |= {name: stored.columns[changes.columns[above][name]] for name in columns}
        nodes = [stored.read({**columns, **before}, names)]
    else:
        columns = {n: kind for n, kind in source.columns.items() if n in needed}
        nodes = [_beside(case, source, columns, before, names)]
    for number, step in enumerate(chain):
        if compared and number == first:
            nodes.append(_differs(nodes[-1], compared))
        nodes.append(_after(nodes[-1], step))
    if compared and first == len(chain):
        nodes.append(_differs(nodes[-1], compared))
    nodes += _ending(nodes[-1], write, changes)
    return nodes, tuple(s.id for s in chain[first:]) if compared else ()


def _beside(
    case: Case,
    read: Step,
    columns: Mapping[str, Type],
    before: Mapping[str, Type],
    names: Mapping[str, str],
) -> Node:
    """The node that reads rows of a source, and what the dataset has of them."""
    source = _source(read, case.keys)
    pairs = tuple(sorted(names.items()))
    both = Beside(source, case.uri, case.version, pairs, Fields(before))
    return _node(read.id, Read(both), (), {**columns, **before})


def _cut_off(case: Case, stored: _Stored, chain: list[Step]) -> tuple[tuple[str, ...], int]:
    """The fields to compare with what the dataset has, and the number of steps before that.

    Rows for which all of them are equal need nothing more if, those columns being what they
    were, every later step and field would be what it was.
    """
    write, changes, before = case.write, case.changes, case.before
    last = max((i for i, s in enumerate(chain) if s.id in changes.own), default=None)
    if last is None:
        return (), 0
    recipes = changes.columns[chain[last].id]
    final = changes.columns[write.inputs[0]]
    made = [n for n in changes.fields if recipes.get(n) == final[n]]
    comparable = all(
        n in stored.types
        and stored.types[n] == write.columns[n]
        and not isinstance(write.columns[n], Encoded)
        and len(before.fields.get(n, ())) == 1
        for n in made
    )
    if not made or not comparable:
        return (), 0
    equal = {final[n]: before.fields[n][0] for n in made}
    then = derive(case.plan, write, changes.versions, equal).recipes
    had = {s.recipe for s in before.steps}
    later = {s.id for s in then.steps if s.recipe not in had} - {*changes.own}
    same = all(then.fields[n][0] in before.fields.get(n, ()) for n in changes.fields)
    return (tuple(made), last + 1) if same and not later else ((), 0)


def _was(name: str) -> str:
    """What the value of a column is called that the dataset has: like no column of anybody."""
    return f"before_{digest(name)}"


def _differs(after: Node, compared: Sequence[str]) -> Node:
    """The node that drops rows for which nothing came out otherwise."""
    pairs = [(f"now_{i}", name) for i, name in enumerate(compared)]
    pairs += [(f"before_{i}", _was(name)) for i, name in enumerate(compared)]
    types = Fields({port: after.columns[name].or_null() for port, name in pairs})
    return _node(CUT_OFF, Apply(Differs(types), tuple(pairs), ()), (after.id,), after.columns)


def _from_sources(case: Case) -> list[Node]:
    """The nodes of a backfill that reads the sources again, as far as it needs them.

    A filter that is as it was is left out, for all these rows passed it; but not below an
    expand, whose other children it dropped.
    """
    plan, write, changes, keys = case.plan, case.write, case.changes, case.keys
    above = [s for s in plan.steps if s.id in plan.upstream(write.id) and s.id != write.id]
    needed: dict[str, set[str]] = {s.id: set() for s in above}
    needed[write.inputs[0]] = {*changes.fields}
    runs: dict[str, Step] = {}
    for step in reversed(above):
        wanted = needed[step.id]
        passing = isinstance(step.action, Apply | Where | WithColumns | Select)
        moulds = step.expands or not passing
        filters = passing and not step.makes() and plan.depth(step.id) > 0
        if moulds or filters or step.id in changes.steps or wanted & step.makes():
            runs[step.id] = _only(step, wanted)
            for i in step.inputs:
                needed[i] |= runs[step.id].wants(i, frozenset(wanted))
        else:
            needed[step.inputs[0]] |= wanted
    nodes: dict[str, Node] = {}
    stands: dict[str, str] = {}  # for a step that does not run, the one before it that does
    for step in above:
        stands[step.id] = step.id if step.id in runs else stands[step.inputs[0]]
        if step.id in runs:
            inputs = tuple(stands[i] for i in step.inputs)
            nodes[step.id] = _source_node(runs[step.id], inputs, nodes, keys, needed[step.id])
    last = nodes[stands[write.inputs[0]]]
    return [*nodes.values(), *_ending(last, write, changes)]


def _source_node(
    step: Step,
    inputs: tuple[str, ...],
    nodes: Mapping[str, Node],
    keys: Mapping[str, Sequence[str]] | None,
    needed: Collection[str],
) -> Node:
    if isinstance(step.action, Read):
        columns = {name: kind for name, kind in step.columns.items() if name in needed}
        return _node(step.id, Read(_source(step, keys)), (), columns)
    if len(inputs) == 1 and isinstance(step.action, Apply | Where | WithColumns | Select):
        return _after(nodes[inputs[0]], step)
    # Another column may be of another type here: what makes it what it is does not run.
    chosen = {*needed} | step.makes()
    columns = {name: kind for name, kind in step.columns.items() if name in chosen}
    return _node(step.id, step.action, inputs, columns)


def _source(read: Step, keys: Mapping[str, Sequence[str]] | None) -> Source:
    """The source of a read, with those rows alone that a backfill is for."""
    assert isinstance(read.action, Read)
    source = read.action.source
    return source if keys is None else source.only(pa.array(keys[read.id], pa.string()))


def _after(before: Node, step: Step) -> Node:
    """A step on the rows of `before`, which may have fewer columns than it had."""
    made = {name: step.columns[name] for name in step.columns if name in step.makes()}
    columns = {**before.columns, **made}
    if isinstance(step.action, Select):
        columns = {n: k for n, k in before.columns.items() if n in step.action.columns}
        return _node(step.id, Select(tuple(columns)), (before.id,), columns)
    return _node(step.id, step.action, (before.id,), columns)


def _ending(last: Node, write: Step, changes: Changes) -> list[Node]:
    columns = {name: write.columns[name] for name in changes.fields}
    select = _node(_FIELDS, Select(changes.fields), (last.id,), columns)
    return [select, _node(write.id, Write(Values(write.id)), (select.id,), columns)]


def _node(name: str, action: Any, inputs: tuple[str, ...], columns: Mapping[str, Type]) -> Node:
    return Node(name, action, inputs, Fields(columns), Site("backfill", 0))


@dataclass(frozen=True)
class Differs(Filter):
    """Whether a value is not the one that the dataset has: NaN is NaN, 0.0 is not -0.0."""

    reads: Fields = field(default_factory=Fields)
    version = "1"

    def keep(self, batch: BatchView, loaded: Any) -> Sequence[bool]:
        pairs = [(batch[p], batch[f"before_{p[4:]}"]) for p in batch if p.startswith("now_")]
        columns = [
            [not _equal(now, before) for now, before in zip(*pair, strict=True)] for pair in pairs
        ]
        return np.any(np.array(columns, np.bool_), axis=0)  # type: ignore[no-any-return]


def _equal(now: Any, before: Any) -> bool:
    if now is None or before is None:
        return now is before
    if isinstance(now, np.ndarray):
        return bool(now.shape == before.shape and now.tobytes() == before.tobytes())
    same = now == before or (now != now and before != before)  # noqa: PLR0124  NaN
    return bool(same) and repr(now) == repr(before)  # 0.0 == -0.0, in a list too


@dataclass(frozen=True)
class Values(Sink):
    """Files of values by key, for `weft.pipelines.columns` to put into a dataset."""

    write: str

    @property
    def uri(self) -> str:
        return f"values of {self.write}"

    def identity(self) -> dict[str, Any]:
        return {"values": self.write}

    def stage(self, token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
        path = Path(token["folder"], f"{secrets.token_hex(8)}.arrow")
        own = [n for n in table.schema.names if n == KEY or n not in ENVELOPE]
        write_table(path, table.select(own))
        return [{"file": str(path), "rows": table.num_rows}]
