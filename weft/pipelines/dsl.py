"""What a user writes: a function that reads, applies, filters and writes rows.

Rows are values. Every verb returns new rows and leaves the old ones as they were; using one
value twice is a fan-out, returning several writes is several sinks. Everything is checked as
it is said, and a refusal names the line.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import polars as pl

from weft.errors import DefinitionError
from weft.pipelines import graph as g
from weft.pipelines import relating
from weft.pipelines.batch import PARENT
from weft.pipelines.binding import bind_apply, bind_ports, isolate
from weft.pipelines.connector import Sink, Source
from weft.pipelines.expressions import Expression, check_predicate
from weft.pipelines.fields import Fields
from weft.pipelines.gates.gate import Gate, checked
from weft.pipelines.graph import Graph, Node, OnError
from weft.pipelines.grouping import Compose, Order, Pick
from weft.pipelines.operator import Expand, OnChange, Operator
from weft.pipelines.parameters import Parameter, bind, named_values, parameters_of
from weft.pipelines.relations import How, Strategy
from weft.pipelines.sites import Site, at, call_site, definition_site
from weft.pipelines.verbs import (
    added_columns,
    aggregate_of,
    expr_of,
    refuse_policies,
    selected_columns,
)

if TYPE_CHECKING:
    from weft.pipelines.plan import Plan
    from weft.pipelines.resources import Cluster
    from weft.pipelines.runs.result import RunResult

P = ParamSpec("P")

_recording: contextvars.ContextVar[_Recorder | None] = contextvars.ContextVar(
    "weft_recording", default=None
)


class _Recorder:
    """Collects the nodes of the pipeline that is being built."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._used: dict[str, int] = {}

    def add(self, action: g.Action, inputs: tuple[str, ...], columns: Fields, site: Site) -> Node:
        count = self._used[action.label] = self._used.get(action.label, 0) + 1
        name = action.label if count == 1 else f"{action.label}_{count}"
        node = Node(name, action, inputs, columns, site)
        self.nodes.append(node)
        return node

    def depth(self, node: Node) -> int:
        """How many `Expand`s the rows of `node` have come through: their parents' parents."""
        above = [self.depth(n) for n in self.nodes if n.id in node.inputs]
        match node.action:
            case g.Apply(operator=Expand()):
                return above[0] + 1
            case g.Group(by=by, operator=operator) if not isinstance(operator, Pick):
                return max(0, above[0] - 1) if by == (PARENT,) else 0
            case g.Join():
                return next(self.depth(n) for n in self.nodes if n.id == node.inputs[0])
        return max(above, default=0)


class Written:
    """A write: what a pipeline returns, alone or several in a tuple, list or dict."""

    __slots__ = ("_node", "_recorder")

    def __init__(self, recorder: _Recorder, node: Node) -> None:
        self._recorder = recorder
        self._node = node

    def __repr__(self) -> str:
        return f"<write to {self._node.action}>"


class Rows:
    """Rows of one shape, as a value. Made by `weft.read`; changed by its verbs, never in place."""

    __slots__ = ("_node", "_recorder")

    def __init__(self, recorder: _Recorder, node: Node) -> None:
        self._recorder = recorder
        self._node = node

    @property
    def columns(self) -> Fields:
        """The columns and their types."""
        return self._node.columns

    def apply(
        self,
        operator: Operator,
        *,
        on_error: OnError = "quarantine",
        on_change: OnChange | None = None,
        isolated: bool | None = None,
        row_seconds: float | None = None,
        **ports: str,
    ) -> Rows:
        """Run an operator, its ports bound to columns: ``port="column"``.

        A port that is not named is bound to the column of its own name. An output takes its
        port's name unless it is bound to another; one that has the name of an input port
        replaces the column that input is bound to.

        Args:
            operator: a `Map`, `Filter` or `Expand`, or a function under ``@weft.operator``.
            on_error: what becomes of a row that fails: ``"quarantine"`` moves it to the errors
                table, ``"null"`` keeps it with null outputs, ``"raise"`` stops the run.
            on_change: what a change of the operator's version alone means for rows that are
                there: ``"recompute"``, ``"keep"`` or ``"new-rows-only"``; see `OnChange`.
            isolated: whether it runs in a process of its own, without network and credentials;
                decoders do unless told otherwise. This and `row_seconds` change no answer.
            row_seconds: how long it may take for a row; it then runs in a process of its own.
            ports: columns for ports.

        Raises:
            DefinitionError: a wrong port, column, type or shape.
        """
        site = call_site()
        try:
            if isinstance(operator, Compose | Order):
                refuse_policies(
                    operator, on_error=on_error, isolated=isolated, row_seconds=row_seconds
                )
            if isinstance(operator, Compose):
                return self._compose(operator, ports)
            if isinstance(operator, Order):
                bind_ports(operator, self.columns, ports)  # it has none
                return self._add(relating.order(operator, self.columns), self.columns, site)
            action, columns = bind_apply(operator, self.columns, ports, on_error, on_change)
            action = isolate(action, isolated, row_seconds)
        except DefinitionError as error:
            raise at(site, error) from None
        return self._add(action, columns, site)

    def _compose(self, operator: Compose, ports: dict[str, str]) -> Rows:
        inputs, _, _ = bind_ports(operator, self.columns, ports)
        made = operator.compose(self, **inputs)
        if not isinstance(made, Rows):
            raise DefinitionError(f"{operator.name}.compose() must return rows; given {made!r}.")
        return made

    def where(self, predicate: pl.Expr) -> Rows:
        """Keep the rows for which a Polars expression is true; null is not true.

        Raises:
            DefinitionError: unknown columns, wrong types, or not one answer a row.
        """
        site = call_site()
        try:
            expression = Expression(expr_of(predicate))
            check_predicate(expression, self.columns)
        except DefinitionError as error:
            raise at(site, error) from None
        return self._add(g.Where(expression), self.columns, site)

    def with_columns(self, *expressions: pl.Expr, **named: pl.Expr) -> Rows:
        """Add columns, or replace them, by Polars expressions: ``area=pl.col("w") * pl.col("h")``.

        Raises:
            DefinitionError: unknown columns, wrong types, or not one answer a row.
        """
        site = call_site()
        try:
            made = tuple(
                Expression(e)
                for e in (
                    *map(expr_of, expressions),
                    *(expr_of(e).alias(name) for name, e in named.items()),
                )
            )
            added = added_columns(made, self.columns)
        except DefinitionError as error:
            raise at(site, error) from None
        return self._add(g.WithColumns(made), self.columns.merge(added), site)

    def select(self, *names: str) -> Rows:
        """Keep these columns, in this order.

        Raises:
            DefinitionError: an unknown column, or one named twice.
        """
        site = call_site()
        try:
            columns = selected_columns(names, self.columns)
        except DefinitionError as error:
            raise at(site, error) from None
        return self._add(g.Select(names), columns, site)

    def union(self, *others: Rows, missing: Literal["refuse", "null"] = "refuse") -> Rows:
        """These rows and those of `others`, as one stream.

        All must have the same columns, in whatever order, or ``missing="null"`` fills in null.
        A column of two types gets one that holds both: nullable if one is, the wider of two
        integers or of two floats, an image of any shape for images of two shapes. Other types
        are refused. Rows keep their keys.

        Raises:
            DefinitionError: nothing to unite, rows of another pipeline, or columns that differ.
        """
        site = call_site()
        try:
            streams = (self, *(self._mine(other, "union") for other in others))
            columns = relating.united([s.columns for s in streams], missing)
        except DefinitionError as error:
            raise at(site, error) from None
        inputs = tuple(s._node.id for s in streams)
        return Rows(self._recorder, self._recorder.add(g.Union(), inputs, columns, site))

    def join(
        self,
        right: Rows,
        *,
        on: str | Sequence[str] = (),
        left_on: str | Sequence[str] = (),
        right_on: str | Sequence[str] = (),
        how: How = "inner",
        suffix: str | None = None,
        asof: str | tuple[str, str] | None = None,
        tolerance: float | timedelta | None = None,
        strategy: Strategy = "backward",
        many: bool = False,
    ) -> Rows:
        """These rows with the columns of the rows of `right` that have the same key.

        Rows keep their keys, and each knows the rows of the right that it met; one that meets
        several becomes as many rows. Null meets nothing. Keys are text, integers, booleans,
        dates or timestamps.

        Args:
            right: the other rows.
            on: columns on both sides, or ``"_key"``, the rows' own keys.
            left_on: columns of these rows, where the names differ.
            right_on: columns of `right`, as many.
            how: ``"inner"`` drops rows that meet nothing, ``"left"`` keeps them with nulls,
                ``"semi"`` keeps rows that meet something and ``"anti"`` those that do not, both
                as they are.
            suffix: what to append to names of the right that these rows have already.
            asof: a column of times or numbers, or one for each side: among the rows with the
                same key each row meets the one nearest to it.
            tolerance: how far that may be, in the column's unit; a `timedelta` for timestamps.
            strategy: ``"backward"`` looks for the last row before or at the time, ``"forward"``
                for the first at or after it, ``"nearest"`` in both directions.
            many: let rows meet many to many. Otherwise a key that is there several times on
                both sides ends the run, and nothing is published.

        Raises:
            DefinitionError: unknown columns, keys of different types, names that are taken.
        """
        site = call_site()
        try:
            action, columns = relating.join(
                self.columns,
                self._mine(right, "join").columns,
                on=(on, left_on, right_on),
                how=how,
                suffix=suffix,
                asof=relating.as_of(asof, strategy, tolerance, self.columns, right.columns),
                many=many,
            )
        except DefinitionError as error:
            raise at(site, error) from None
        inputs = (self._node.id, right._node.id)
        return Rows(self._recorder, self._recorder.add(action, inputs, columns, site))

    def group(
        self,
        *by: str,
        operator: Operator | None = None,
        on_error: Literal["quarantine", "raise"] = "quarantine",
        **named: Any,
    ) -> Rows:
        """One row for each value of the columns `by`, by Polars aggregates or by an operator.

        ``rows.group("label", n=pl.len(), best=pl.col("score").max())`` makes rows of the columns
        `by` and the aggregates; without `by` all rows are one group. ``rows.group("label",
        operator=Top(3), value="score")`` runs a `Group` or a `Pick` on each group, its ports
        bound to columns. Null is a value of its own. ``rows.group("_parent", …)`` brings
        children back to the row that they came from; as long as no join, sort or other group
        came between, that moves no rows between workers.

        Raises:
            DefinitionError: unknown columns, neither aggregates nor an operator, or wrong ports.
        """
        site = call_site()
        try:
            if operator is None:
                exprs = tuple(Expression(aggregate_of(n, e).alias(n)) for n, e in named.items())
                action, columns = relating.aggregate(by, exprs, self.columns)
            else:
                action, columns = relating.by_operator(by, operator, named, on_error, self.columns)
        except DefinitionError as error:
            raise at(site, error) from None
        if by == (PARENT,) and not self._recorder.depth(self._node):
            raise at(
                site,
                "group('_parent') brings children back to their parents, and these rows have "
                "none: no operator before makes several rows of one.",
            )
        return self._add(action, columns, site)

    def _mine(self, other: Any, verb: str) -> Rows:
        if not isinstance(other, Rows):
            many = " Give them one by one: union(*rows)." if isinstance(other, list | tuple) else ""
            raise DefinitionError(f"{verb}() takes rows; given {other!r}.{many}")
        if other._recorder is not self._recorder:
            raise DefinitionError(f"{verb}() takes rows of the same pipeline.")
        return other

    def write(self, sink: Sink, *, gates: Iterable[Gate] = ()) -> Written:
        """Write the rows, and show them if they pass all `gates`, which `weft.gates` has. Return
        what this returns from the pipeline."""
        site = call_site()
        if not isinstance(sink, Sink):
            raise at(site, f"write() takes a sink such as Lance('out.lance'); given {sink!r}.")
        action = g.Write(sink, checked(gates, sink, self.columns, site))
        node = self._recorder.add(action, (self._node.id,), self.columns, site)
        return Written(self._recorder, node)

    def _add(self, action: g.Action, columns: Fields, site: Site) -> Rows:
        node = self._recorder.add(action, (self._node.id,), columns, site)
        return Rows(self._recorder, node)

    def __repr__(self) -> str:
        return f"<rows of {self._node.id}: {self.columns}>"


def read(source: Source) -> Rows:
    """Rows of a source.

    Raises:
        DefinitionError: not a source, or called outside a pipeline.
    """
    site = call_site()
    recorder = _recording.get()
    if recorder is None:
        raise at(site, "weft.read() belongs in a function under @weft.pipeline.")
    if not isinstance(source, Source):
        raise at(site, f"read() takes a source such as Files('photos/*.jpg'); given {source!r}.")
    try:
        columns = source.columns
    except DefinitionError as error:
        raise at(site, error) from None
    return Rows(recorder, recorder.add(g.Read(source), (), columns, site))


def union(first: Rows, *others: Rows, missing: Literal["refuse", "null"] = "refuse") -> Rows:
    """The rows of all, as one stream; see `Rows.union`.

    Raises:
        DefinitionError: not rows of one pipeline, or columns that differ.
    """
    if not isinstance(first, Rows):
        raise at(call_site(), f"union() takes rows; given {first!r}.")
    return first.union(*others, missing=missing)


class Pipeline:
    """A graph with the parameters it was built from: ready to be planned and run."""

    def __init__(self, graph: Graph, parameters: Mapping[str, Any], module: str) -> None:
        self.graph = graph
        self.parameters = dict(parameters)
        self.module = module

    @property
    def name(self) -> str:
        """The name of the pipeline's function."""
        return self.graph.name

    def plan(self, cluster: Cluster | None = None) -> Plan:
        """What would run on `cluster` (default: this machine), without running anything."""
        from weft.pipelines.compile import compile_plan
        from weft.pipelines.resources import this_machine

        return compile_plan(self.graph, cluster or this_machine())

    def run(self, engine: Literal["ray", "local"] = "ray", **options: Any) -> RunResult:
        """Run it and publish; see `weft.pipelines.runs.run.run` for the options."""
        from weft.pipelines.runs.run import run

        return run(self, engine=engine, **options)

    def preview(self, rows: int = 10) -> dict[str, pl.DataFrame]:
        """The first rows each write would get, computed here and written nowhere."""
        from weft.pipelines.runs.preview import preview

        return preview(self, rows)

    def __repr__(self) -> str:
        return f"<pipeline {self.graph}>"


class PipelineFunction:
    """A function under ``@weft.pipeline``: call it with parameters to get a `Pipeline`."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = function.__name__
        try:
            self.parameters: tuple[Parameter, ...] = parameters_of(function)
        except DefinitionError as error:
            raise at(definition_site(function), error) from None

    def __call__(self, *values: Any, **named: Any) -> Pipeline:
        try:
            given = named_values(self.name, self.parameters, values, named)
            bound = bind(self.name, self.parameters, given)
        except DefinitionError as error:
            raise at(definition_site(self.function), error) from None
        recorder = _Recorder()
        token = _recording.set(recorder)
        try:
            returned = self.function(**bound)
        finally:
            _recording.reset(token)
        writes = [w._node.id for w in _written(returned, self)]
        graph = g.build(self.name, recorder.nodes, writes)
        return Pipeline(graph, bound, self.function.__module__)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}({', '.join(map(str, self.parameters))})>"


def pipeline(function: Callable[P, Any]) -> Callable[P, Pipeline]:
    """Make a pipeline of a function that reads rows and returns one write or several.

    Raises:
        DefinitionError: a parameter has neither a hint nor a default.
    """
    return PipelineFunction(function)


def _written(returned: Any, pipeline: PipelineFunction) -> list[Written]:
    many: Iterable[Any] = (
        returned.values() if isinstance(returned, Mapping)
        else returned if isinstance(returned, tuple | list)
        else [returned]
    )  # fmt: skip
    writes = list(many)
    for item in writes:
        if not isinstance(item, Written):
            what = "nothing" if item is None else repr(item)
            raise at(
                definition_site(pipeline.function),
                f"Pipeline {pipeline.name!r} returned {what}. "
                "Return what rows.write(…) returns: return rows.write(Lance(out))",
            )
    return writes
