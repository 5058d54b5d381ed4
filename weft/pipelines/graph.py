"""The graph: what a user said, checked, before anybody plans how to do it.

A graph is a tuple of nodes in topological order. A node names its inputs, knows the columns it
delivers and remembers the line of the user's program that made it, so that every refusal can
name that line. Nodes are named by what they do (`read`, `decode`, `where_2`): the same names
stand in plans, on the books and in the errors table.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from weft.pipelines.connector import Sink, Source
from weft.pipelines.expressions import Expression
from weft.pipelines.fields import Fields
from weft.pipelines.operator import OnChange, Operator, digest
from weft.pipelines.relations import Exchange, Group, Join, Order, Union
from weft.pipelines.sites import Site, at

if TYPE_CHECKING:
    from weft.pipelines.gates.gate import Gate

__all__ = [
    "Action", "Apply", "Exchange", "Graph", "Group", "Join", "Node", "OnError", "Order", "Read",
    "Select", "Union", "Where", "WithColumns", "Write", "build",
]  # fmt: skip

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
"""Where words begin in a name: MinHash is min_hash, PDF is pdf."""

OnError = Literal["quarantine", "null", "raise"]
"""What becomes of a row that fails: an entry in the errors table, a null, the end of the run."""


@dataclass(frozen=True)
class Read:
    """Rows from a source."""

    source: Source

    label = "read"

    def identity(self) -> Any:
        return {"read": self.source.identity()}

    def __str__(self) -> str:
        return str(self.source)


@dataclass(frozen=True)
class Apply:
    """An operator, its ports bound to columns: pairs of (port, column)."""

    operator: Operator
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[tuple[str, str], ...]
    on_error: OnError = "quarantine"
    on_change: OnChange | None = None  # None: what the operator says
    isolated: bool | None = None  # None, here and below: what the operator says
    row_seconds: float | None = None

    @property
    def label(self) -> str:
        name = self.operator.name.rpartition(".")[2]
        return _WORD_STARTS.sub("_", name).lower()

    def identity(self) -> Any:
        # What it writes is said apart: a version that is given says nothing of types.
        given = {"apply": self.operator.identity(), "inputs": dict(self.inputs)}
        types = {"outputs": dict(self.outputs), "writes": self.operator.writes.to_json()}
        return given | types | {"on_error": self.on_error}

    def __str__(self) -> str:
        reads = ", ".join(c if p == c else f"{p}={c}" for p, c in self.inputs)
        writes = ", ".join(c if p == c else f"{p}={c}" for p, c in self.outputs)
        arrow = f"{reads} -> {writes}" if writes else reads
        policy = "" if self.on_error == "quarantine" else f"  on_error={self.on_error}"
        return f"{self.operator}  {arrow}{policy}"


@dataclass(frozen=True)
class Where:
    """Rows for which a predicate holds."""

    predicate: Expression

    label = "where"

    def identity(self) -> Any:
        return {"where": self.predicate.identity()}

    def __str__(self) -> str:
        return str(self.predicate)


@dataclass(frozen=True)
class WithColumns:
    """Columns added or replaced by expressions."""

    expressions: tuple[Expression, ...]

    label = "with_columns"

    def identity(self) -> Any:
        return {"with_columns": [e.identity() for e in self.expressions]}

    def __str__(self) -> str:
        return ", ".join(str(e) for e in self.expressions)


@dataclass(frozen=True)
class Select:
    """Some of the columns, in this order."""

    columns: tuple[str, ...]

    label = "select"

    def identity(self) -> Any:
        return {"select": list(self.columns)}

    def __str__(self) -> str:
        return ", ".join(self.columns)


@dataclass(frozen=True)
class Write:
    """Rows into a sink, shown to readers if all gates pass. Gates change no row, so they are no
    part of the identity."""

    sink: Sink
    gates: tuple[Gate, ...] = ()

    label = "write"

    def identity(self) -> Any:
        return {"write": self.sink.identity()}

    def __str__(self) -> str:
        return str(self.sink)


Action = (
    Read | Apply | Where | WithColumns | Select | Union | Join | Group | Order | Exchange | Write
)
"""An `Exchange` is in plans only."""


@dataclass(frozen=True)
class Node:
    """One action, where its rows come from, and the columns it delivers."""

    id: str
    action: Action
    inputs: tuple[str, ...]
    columns: Fields
    site: Site

    def __str__(self) -> str:
        return f"{self.id:<12} {self.action}"


@dataclass(frozen=True)
class Graph:
    """A checked pipeline: nodes in topological order."""

    name: str
    nodes: tuple[Node, ...]

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(n for n in self.nodes if n.id == name)

    def writes(self) -> Iterator[Node]:
        """The nodes that write."""
        return (n for n in self.nodes if isinstance(n.action, Write))

    def afresh(self) -> Graph:
        """The same graph with sources that look at what is there now, and have not yet."""
        nodes = [
            replace(n, action=Read(copy.copy(n.action.source))) if isinstance(n.action, Read) else n
            for n in self.nodes
        ]
        return replace(self, nodes=tuple(nodes))

    def recipe(self) -> str:
        """Digest of everything that decides the rows: same recipe and source, same rows."""
        return digest([[n.id, n.action.identity(), list(n.inputs)] for n in self.nodes])

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {n}" for n in self.nodes)])


def build(name: str, nodes: Iterable[Node], returned: Iterable[str]) -> Graph:
    """A graph of `nodes`, of which the writes named in `returned` are wanted.

    Raises:
        DefinitionError: a cycle, rows nobody uses, a write that is not returned, two writes to
            one dataset, or a dataset that is read and written.
    """
    ordered = _topological(tuple(nodes))
    _refuse_unused(ordered, set(returned), name)
    _refuse_shared_targets(ordered)
    return Graph(name, ordered)


def _topological(nodes: tuple[Node, ...]) -> tuple[Node, ...]:
    """Nodes after their inputs, otherwise in the order given."""
    done: dict[str, Node] = {}
    waiting = list(nodes)
    while waiting:
        ready = next((n for n in waiting if all(i in done for i in n.inputs)), None)
        if ready is None:
            raise at(waiting[0].site, f"These rows are made from themselves: {_loop(waiting)}.")
        done[ready.id] = ready
        waiting.remove(ready)
    return tuple(done.values())


def _loop(nodes: list[Node]) -> str:
    """A way around among nodes of which each waits for another, in the direction of the rows."""
    names = {n.id: n for n in nodes}
    way = [nodes[0].id]
    while way.count(way[-1]) == 1:
        way.append(next((i for i in names[way[-1]].inputs if i in names), way[-1]))
    return " -> ".join(reversed(way[way.index(way[-1]) :]))


def _refuse_unused(nodes: tuple[Node, ...], returned: set[str], name: str) -> None:
    writes = [n for n in nodes if isinstance(n.action, Write)]
    if not writes:
        site = nodes[-1].site if nodes else Site(name, 0)
        raise at(site, f"Pipeline {name!r} writes nothing. End it with rows.write(Lance(out)).")
    for node in writes:
        if node.id not in returned:
            raise at(node.site, f"This write is not returned by pipeline {name!r}. Return it.")
    used = {i for n in nodes for i in n.inputs}
    for node in nodes:
        if node.id not in used and not isinstance(node.action, Write):
            raise at(
                node.site,
                f"Nobody uses the rows of {node.id!r}. Rows are values: each call returns new "
                "ones. Write them, use them, or remove the line.",
            )


def _refuse_shared_targets(nodes: tuple[Node, ...]) -> None:
    targets: dict[str, Node] = {}
    for node in nodes:
        if isinstance(node.action, Write):
            uri = node.action.sink.uri
            if uri in targets:
                raise at(
                    node.site,
                    f"Two writes to one dataset, {uri}; the other is at {targets[uri].site}. "
                    "Give each its own path, or union the rows first.",
                )
            targets[uri] = node
    for node in nodes:
        if isinstance(node.action, Read) and node.action.source.uri in targets:
            raise at(
                node.site,
                f"A cycle: {node.action.source.uri} is read here and written at "
                f"{targets[node.action.source.uri].site}. Write to another path.",
            )
