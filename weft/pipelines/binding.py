"""Binding an operator's ports to columns, checked as it is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

from weft.errors import DefinitionError, nearest
from weft.pipelines import graph as g
from weft.pipelines.batch import READABLE, kind_of
from weft.pipelines.fields import Fields
from weft.pipelines.graph import OnError
from weft.pipelines.grouping import Group, Pick
from weft.pipelines.operator import Expand, Filter, Map, OnChange, Operator

Pairs = dict[str, str]
"""Port -> column."""


def bind_apply(
    operator: Operator,
    columns: Fields,
    ports: Mapping[str, str],
    on_error: OnError,
    on_change: OnChange | None = None,
) -> tuple[g.Apply, Fields]:
    """An operator of one row at a time on `columns`, and the columns after it.

    Raises:
        DefinitionError: no such operator, or its ports do not fit.
    """
    if not isinstance(operator, Map | Filter | Expand):
        shown = operator.__name__ if isinstance(operator, type) else repr(operator)
        fix = (
            f"Make one: {shown}()"
            if isinstance(operator, type)
            else "Decorate it with @weft.operator."
        )
        if isinstance(operator, Group | Pick):
            fix = f'It works on rows that share a key: rows.group("column", operator={shown})'
        raise DefinitionError(f"apply() takes an operator; given {shown}. {fix}")
    if on_error not in ("quarantine", "null", "raise"):
        raise DefinitionError(f"on_error={on_error!r}; expected 'quarantine', 'null' or 'raise'.")
    if on_change not in (None, *get_args(OnChange)):
        told = ", ".join(map(repr, get_args(OnChange)))
        raise DefinitionError(f"on_change={on_change!r}; expected one of {told}.")
    if on_error == "null" and not isinstance(operator, Map):
        raise DefinitionError(
            f"on_error='null' keeps a failed row with null outputs, and {operator.name} is a "
            f"{'filter' if isinstance(operator, Filter) else 'one to many operator'}, which has "
            "no output to be null. Use 'quarantine' or 'raise'."
        )
    operator.rowwise  # noqa: B018  refuses a class that defines no method, or two
    inputs, outputs, bound = bind_ports(operator, columns, ports)
    # Only a map answers null: what a filter or an expand cannot read drops, or has no children.
    nullable = isinstance(operator, Map) and (
        on_error == "null"
        or any(bound[p].nullable and not operator.reads[p].nullable for p in bound)
    )
    types = made_types(operator, bound)
    added = Fields({outputs[p]: t.or_null() if nullable else t for p, t in types.items()})
    action = g.Apply(operator, tuple(inputs.items()), tuple(outputs.items()), on_error, on_change)
    return action, columns.merge(added)


def isolate(action: g.Apply, isolated: bool | None, row_seconds: float | None) -> g.Apply:
    """`action` in a process of its own, or not, and with a limit of time for a row.

    Raises:
        DefinitionError: no limit that can be, one that cannot be kept, or an operator on a GPU.
    """
    operator, told = action.operator, isolated or row_seconds is not None
    if row_seconds is not None and not 0 < row_seconds < float("inf"):
        raise DefinitionError(f"row_seconds={row_seconds!r}; expected a positive number.")
    if isolated is False and row_seconds is not None:
        raise DefinitionError(
            f"row_seconds={row_seconds!r} and isolated=False: only what runs in another process "
            "can be stopped. Leave one of them out."
        )
    if told and operator.resources.gpus:
        raise DefinitionError(
            f"{operator.name} takes a GPU, and an operator on a GPU runs in no process of its own. "
            "Leave out isolated and row_seconds."
        )
    return replace(action, isolated=isolated, row_seconds=row_seconds)


def bind_ports(
    operator: Operator, columns: Fields, ports: Mapping[str, str]
) -> tuple[Pairs, Pairs, Fields]:
    """The columns of an operator's input ports and of its output ports, and the types bound.

    Raises:
        DefinitionError: a wrong port, a column that is missing or of another type, or an output
            that would overwrite a column.
    """
    _refuse_unknown_ports(operator, ports)
    inputs = {port: _column_for(operator, port, ports, columns) for port in operator.reads}
    bound = Fields({port: kind_of(columns, column) for port, column in inputs.items()})
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
    return inputs, outputs, bound


def made_types(operator: Operator, bound: Fields) -> Fields:
    """The types that an operator writes, given those bound to its ports.

    Raises:
        DefinitionError: the operator's own inference is wrong.
    """
    types = operator.infer(bound)
    if set(types) != set(operator.writes):
        raise DefinitionError(
            f"{operator.name}.infer() gives types for ({types}); expected ({operator.writes})."
        )
    return types


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
    if column not in columns and column not in READABLE:
        hint = nearest(column, columns)
        raise DefinitionError(
            f"{operator.name} reads port {port!r} ({wanted}) from column {column!r}, and there is "
            f"no such column. Given: {columns}. {hint} {advice}".replace("  ", " ")
        )
    kind = kind_of(columns, column)
    if not wanted.accepts(kind):
        raise DefinitionError(
            f"{operator.name} reads port {port!r} as {wanted}; column {column!r} is {kind}. "
            f"{advice}"
        )
    return column
