"""What the verbs of the DSL demand of what they are given."""

from __future__ import annotations

from typing import Any

import polars as pl

from weft.errors import DefinitionError
from weft.pipelines.expressions import Expression, infer_column
from weft.pipelines.fields import Fields
from weft.pipelines.operator import Operator


def refuse_policies(operator: Operator, on_error: str, **others: object) -> None:
    """Refuse what to do with failures of an operator that has none."""
    given = {} if on_error == "quarantine" else {"on_error": on_error}
    for name, value in (given | {n: v for n, v in others.items() if v is not None}).items():
        raise DefinitionError(
            f"{name}={value!r} is for operators that work on rows; {operator.name} has no row "
            "that could fail in it."
        )


def expr_of(value: Any) -> pl.Expr:
    """A Polars expression."""
    if not isinstance(value, pl.Expr):
        raise DefinitionError(
            f'Expected a Polars expression such as pl.col("x") > 0; given {value!r}.'
        )
    return value


def aggregate_of(name: str, value: Any) -> pl.Expr:
    """An aggregate of a group."""
    if isinstance(value, Operator):
        raise DefinitionError(
            f"group() takes one operator, by name: operator={value}. Given: {name}={value}."
        )
    if not isinstance(value, pl.Expr):
        raise DefinitionError(
            f"group() takes Polars aggregates such as {name}=pl.len() or "
            f'{name}=pl.col("x").max(); given {name}={value!r}.'
        )
    return value


def added_columns(expressions: tuple[Expression, ...], columns: Fields) -> Fields:
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


def selected_columns(names: tuple[str, ...], columns: Fields) -> Fields:
    """The columns of a selection."""
    if not names or len(set(names)) < len(names):
        raise DefinitionError(
            f"select() needs columns, each once; given ({', '.join(map(repr, names))})."
        )
    return columns.only(names)
