"""What a user writes: a function that reads, applies, filters and writes rows.

Rows are values. Every verb returns new rows and leaves the old ones as they were; using one
value twice is a fan-out, returning several writes is several sinks. Everything is checked as
it is said, and a refusal names the line.
"""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import polars as pl

from weft.errors import DefinitionError, nearest
from weft.pipelines import graph as g
from weft.pipelines.connector import Sink, Source
from weft.pipelines.expressions import Expression, check_predicate, infer_column
from weft.pipelines.fields import Fields
from weft.pipelines.graph import Graph, Node, OnError
from weft.pipelines.operator import Expand, Filter, Map, Operator
from weft.pipelines.parameters import Parameter, bind, named_values, parameters_of
from weft.pipelines.sites import Site, at, call_site, definition_site

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

    def apply(self, operator: Operator, *, on_error: OnError = "quarantine", **ports: str) -> Rows:
        """Run an operator, its ports bound to columns: ``port="column"``.

        A port that is not named is bound to the column of its own name. An output takes its
        port's name unless it is bound to another; one that has the name of an input port
        replaces the column that input is bound to.

        Args:
            operator: a `Map`, `Filter` or `Expand`, or a function under ``@weft.operator``.
            on_error: what becomes of a row that fails: ``"quarantine"`` moves it to the errors
                table, ``"null"`` keeps it with null outputs, ``"raise"`` stops the run.
            ports: columns for ports.

        Raises:
            DefinitionError: a wrong port, column, type or shape.
        """
        site = call_site()
        try:
            action, columns = _bind(operator, self.columns, ports, on_error)
        except DefinitionError as error:
            raise at(site, error) from None
        return self._add(action, columns, site)

    def where(self, predicate: pl.Expr) -> Rows:
        """Keep the rows for which a Polars expression is true; null is not true.

        Raises:
            DefinitionError: unknown columns, wrong types, or not one answer a row.
        """
        site = call_site()
        try:
            expression = Expression(_expr(predicate))
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
                    *map(_expr, expressions),
                    *(_expr(e).alias(name) for name, e in named.items()),
                )
            )
            added = _added(made, self.columns)
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
            columns = _selected(names, self.columns)
        except DefinitionError as error:
            raise at(site, error) from None
        return self._add(g.Select(names), columns, site)

    def write(self, sink: Sink) -> Written:
        """Write the rows. Return what this returns from the pipeline."""
        site = call_site()
        if not isinstance(sink, Sink):
            raise at(site, f"write() takes a sink such as Lance('out.lance'); given {sink!r}.")
        node = self._recorder.add(g.Write(sink), (self._node.id,), self.columns, site)
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


def _expr(value: Any) -> pl.Expr:
    if not isinstance(value, pl.Expr):
        raise DefinitionError(
            f'Expected a Polars expression such as pl.col("x") > 0; given {value!r}.'
        )
    return value


def _added(expressions: tuple[Expression, ...], columns: Fields) -> Fields:
    """The columns that expressions make, each its own."""
    if not expressions:
        raise DefinitionError(
            "with_columns() was given no expression. Give one: with_columns(area=pl.col(…))"
        )
    added = Fields(dict(infer_column(e, columns) for e in expressions))
    if len(added) != len(expressions):
        raise DefinitionError(
            f"Two expressions make one column: {', '.join(e.name for e in expressions)}. "
            "Name them apart with .alias(…)."
        )
    return added


def _selected(names: tuple[str, ...], columns: Fields) -> Fields:
    if not names or len(set(names)) < len(names):
        raise DefinitionError(
            f"select() needs columns, each once; given ({', '.join(map(repr, names))})."
        )
    return columns.only(names)


def _bind(
    operator: Operator, columns: Fields, ports: Mapping[str, str], on_error: OnError
) -> tuple[g.Apply, Fields]:
    if not isinstance(operator, Map | Filter | Expand):
        shown = operator.__name__ if isinstance(operator, type) else repr(operator)
        fix = (
            f"Make one: {shown}()"
            if isinstance(operator, type)
            else "Decorate it with @weft.operator."
        )
        raise DefinitionError(f"apply() takes an operator; given {shown}. {fix}")
    if on_error not in ("quarantine", "null", "raise"):
        raise DefinitionError(f"on_error={on_error!r}; expected 'quarantine', 'null' or 'raise'.")
    if on_error == "null" and not isinstance(operator, Map):
        raise DefinitionError(
            f"on_error='null' keeps a failed row with null outputs, and {operator.name} is a "
            f"{'filter' if isinstance(operator, Filter) else 'one to many operator'}, which has "
            "no output to be null. Use 'quarantine' or 'raise'."
        )
    operator.rowwise  # noqa: B018  refuses a class that defines no method, or two
    _refuse_unknown_ports(operator, ports)
    inputs = {port: _column_for(operator, port, ports, columns) for port in operator.reads}
    bound = Fields({port: columns[column] for port, column in inputs.items()})
    outputs = {port: ports.get(port, inputs.get(port, port)) for port in operator.writes}
    for port, column in outputs.items():
        if list(outputs.values()).count(column) > 1:
            raise DefinitionError(
                f"{operator.name} would write two outputs to column {column!r}. "
                f'Name one of them: apply({operator.name}(…), {port}="{column}_2")'
            )
        if column in columns and column not in inputs.values():
            raise DefinitionError(
                f"{operator.name} would overwrite column {column!r}. "
                f'Name its output: apply({operator.name}(…), {port}="{column}_2")'
            )
    # Only a map answers null: what a filter or an expand cannot read drops, or has no children.
    nullable = isinstance(operator, Map) and (
        on_error == "null"
        or any(bound[p].nullable and not operator.reads[p].nullable for p in bound)
    )
    types = operator.infer(bound)
    if set(types) != set(operator.writes):
        raise DefinitionError(
            f"{operator.name}.infer() gives types for ({types}); expected ({operator.writes})."
        )
    added = Fields({outputs[p]: t.or_null() if nullable else t for p, t in types.items()})
    action = g.Apply(operator, tuple(inputs.items()), tuple(outputs.items()), on_error)
    return action, columns.merge(added)


def _refuse_unknown_ports(operator: Operator, ports: Mapping[str, str]) -> None:
    known = [*operator.reads, *operator.writes]
    for port, column in ports.items():
        if not isinstance(column, str):
            raise DefinitionError(
                f"{operator.name} binds port {port!r} to {column!r}; expected the name of a column."
            )
        if port not in known:
            raise DefinitionError(
                f"{operator.name} has no port {port!r}. It reads ({operator.reads}) and writes "
                f"({operator.writes}). {nearest(port, known)}".rstrip()
            )


def _column_for(operator: Operator, port: str, ports: Mapping[str, str], columns: Fields) -> str:
    wanted = operator.reads[port]
    column = ports.get(port, port)
    fits = [name for name, kind in columns.items() if wanted.accepts(kind)]
    advice = (
        f'Bind another: apply({operator.name}(…), {port}="{fits[0]}")'
        if fits
        else (f"No column here is {wanted}.")
    )
    if column not in columns:
        hint = nearest(column, columns)
        raise DefinitionError(
            f"{operator.name} reads port {port!r} ({wanted}) from column {column!r}, and there is "
            f"no such column. Given: {columns}. {hint} {advice}".replace("  ", " ")
        )
    if not wanted.accepts(columns[column]):
        raise DefinitionError(
            f"{operator.name} reads port {port!r} as {wanted}; column {column!r} is "
            f"{columns[column]}. {advice}"
        )
    return column
