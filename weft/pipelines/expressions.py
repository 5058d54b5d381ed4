"""Polars expressions, checked when the graph is built and comparable afterwards.

Polars itself is the judge of names and types: an expression is tried on an empty frame with the
schema it will meet. What the check adds is a question of weft's own: an expression must give a
row the same answer whatever batch the row is in, so means, sorts, shifts and windows are
refused, and so are Python functions, which have no canonical form and belong in an operator.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from weft.errors import DefinitionError, nearest
from weft.pipelines.batch import ENVELOPE, READABLE, Batch, Column, kind_of
from weft.pipelines.fields import Fields, arrow_schema
from weft.pipelines.types import Float32, Float64, Type, from_arrow

_PYTHON = '"AnonymousFunction":'
"""The key under which Polars serializes a call of Python code, as a pickle."""


class Expression:
    """One Polars expression as a value: printable, comparable, picklable."""

    __slots__ = ("_json", "expr", "roots")

    def __init__(self, expr: pl.Expr) -> None:
        self.expr = expr
        try:
            self._json = expr.meta.serialize(format="json")
        except (ModuleNotFoundError, pl.exceptions.PolarsError):
            self._json = _PYTHON
        if _PYTHON in self._json:
            raise DefinitionError(
                f"{expr} calls Python code, which Polars cannot describe, so runs could not tell "
                "when it changes. Make it an operator: @weft.operator"
            )
        self.roots = tuple(dict.fromkeys(expr.meta.root_names()))

    @property
    def name(self) -> str:
        """The column it makes."""
        return self.expr.meta.output_name()

    @property
    def column(self) -> str | None:
        """The column it copies under the name `name`; ``None`` if it computes something."""
        bare = self.expr.meta.undo_aliases()
        return bare.meta.output_name() if bare.meta.is_column() else None

    def identity(self) -> str:
        """Canonical text: equal for equal expressions."""
        return self._json

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self._json == other._json

    def __hash__(self) -> int:
        return hash(self._json)

    def __reduce__(self) -> tuple[Any, ...]:
        return Expression, (self.expr,)

    def __str__(self) -> str:
        return _readable(str(self.expr))

    def __repr__(self) -> str:
        return f"Expression({self})"


_CONSTANT = re.compile(r"dyn (?:int|float): ")
_OPERAND = re.compile(r'(?<!\w)\((col\("[^"]*"\)(?:\.\w+\(\))*|-?[\w.]+|"[^"]*")\)')
_TERM = r"\[([^\[\]]* (?:[<>=!&|+\-*/%^]+|//) [^\[\]]*)\]"
_OPERATION = re.compile(rf"\({_TERM}\)|{_TERM}")


def _readable(text: str) -> str:
    """Polars' own text of an expression with fewer brackets.

    >>> print(Expression((pl.col("width") > 640) & (pl.col("height") > 480)))
    (col("width") > 640) & (col("height") > 480)
    """
    text, before = _CONSTANT.sub("", text), ""
    while text != before:
        before = text
        text = _OPERATION.sub(lambda m: f"({m[1] or m[2]})", _OPERAND.sub(r"\1", text))
    inside = text[1:-1]
    return inside if text.startswith("(") and text.endswith(")") and _closed(inside) else text


def _closed(text: str) -> bool:
    """Whether every bracket in `text` is closed after it is opened."""
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return True


def check_predicate(expression: Expression, columns: Fields) -> None:
    """Refuse a predicate that does not answer true or false for each row of `columns`.

    Raises:
        DefinitionError: an unknown column, a wrong type, or an answer that depends on the batch.
    """
    made = _try(expression, columns)
    if made.dtype != pl.Boolean:
        raise DefinitionError(
            f"{expression} is {made.dtype}, and a predicate must be Boolean. "
            'Compare it with something: pl.col("x") > 0'
        )


def infer_column(expression: Expression, columns: Fields) -> tuple[str, Type]:
    """Name and type of the column that an expression makes of `columns`.

    A copied column keeps its meaning. A computed one is nullable, and may hold NaN, since
    nobody can promise otherwise for every input.

    Raises:
        DefinitionError: an unknown column, a wrong type, or an answer that depends on the batch.
    """
    if expression.expr.meta.has_multiple_outputs():
        raise DefinitionError(f"{expression} makes several columns. Write one expression for each.")
    made = _try(expression, columns)
    if expression.column is not None:
        return expression.name, kind_of(columns, expression.column)
    field = made.to_frame().to_arrow().schema.field(0)
    kind = from_arrow(field).or_null()
    if isinstance(kind, Float32 | Float64):
        kind = dataclasses.replace(kind, nan=True)
    return expression.name, kind


def evaluate(expressions: tuple[Expression, ...], batch: Batch, kinds: Fields) -> dict[str, Column]:
    """The columns that expressions make of a batch, typed as `kinds`; copies cost nothing.

    A column that is not among `kinds` is computed all the same: whether a row fails must not
    depend on who reads what.
    """
    made = {
        e.name: batch.column(e.column)
        for e in expressions
        if e.column is not None and e.name in kinds
    }
    computed = [e for e in expressions if e.column is None]
    if computed:
        frame = _frame(batch, {r for e in computed for r in e.roots})
        result = frame.select([e.expr for e in computed])
        for name in filter(kinds.__contains__, result.columns):
            series = result.get_column(name)
            if len(series) == 1 != batch.rows:  # a literal
                series = series.new_from_index(0, batch.rows)
            array = series.to_arrow().cast(kinds[name].storage)
            made[name] = Column(kinds[name], array=array)
    return made


def matches(expression: Expression, batch: Batch) -> npt.NDArray[np.bool_]:
    """For each row of a batch, whether the predicate holds; null does not."""
    frame = _frame(batch, set(expression.roots))
    mask = frame.select(expression.expr).to_series().fill_null(value=False)
    if len(mask) == 1 != batch.rows:
        mask = mask.new_from_index(0, batch.rows)
    return mask.to_numpy()


def _frame(batch: Batch, roots: set[str]) -> pl.DataFrame:
    if not roots:
        return pl.DataFrame({"_": np.zeros(batch.rows, np.int8)})
    return pl.DataFrame([pl.Series(name, batch.column(name).array) for name in sorted(roots)])


def is_row_by_row(expr: pl.Expr) -> bool:
    """Whether `expr` answers a row the same, whatever rows are beside it.

    ``Expr.meta.is_row_separable`` of Polars 2.1 judges the outermost step alone: it says yes to
    ``x > x.mean()``. So each step is asked. ``is_in`` of a column calls itself row by row and
    may look at all of that column.

    >>> is_row_by_row(pl.col("x").fill_null(0) > 1), is_row_by_row(pl.col("x") > pl.col("x").mean())
    (True, False)
    """
    try:
        expr = expr.meta.undo_aliases()  # the alias of a literal calls itself not row by row
        meta = expr.meta
        if meta.is_literal():
            return str(expr) != "Series"  # one value for each row of the first batch it meets
        if meta.is_column():
            return True
        parts = meta.pop()
        alone = meta.is_row_separable() and meta.is_length_preserving()
    except pl.exceptions.PolarsError:  # a Python function, or a selector of columns
        return False
    return alone and not _looks_around(expr, parts) and all(map(is_row_by_row, parts))


def _looks_around(expr: pl.Expr, parts: Sequence[pl.Expr]) -> bool:
    if not parts:
        return False
    call = str(expr).removeprefix(str(parts[-1]))  # the input that comes first is last
    return call.startswith(".is_in(") and any(p.meta.root_names() for p in parts[:-1])


def tried(
    expression: Expression, columns: Fields, call: Callable[[pl.DataFrame], pl.DataFrame]
) -> pl.DataFrame:
    """What `call` makes with an expression of no rows of `columns`: Polars judges names and types.

    Raises:
        DefinitionError: there is no such column, or Polars refuses.
    """
    for root in expression.roots:
        if root not in READABLE:
            columns.require(root)
    own = {name: ENVELOPE[name] for name in READABLE}
    empty = pl.from_arrow(arrow_schema({**columns, **own}).empty_table())
    assert isinstance(empty, pl.DataFrame)
    try:
        return call(empty)
    except pl.exceptions.ColumnNotFoundError as error:
        raise DefinitionError(
            f"There is no column {error}. Given: {', '.join(columns)}. "
            + nearest(str(error), columns)
        ) from error
    except pl.exceptions.PolarsError as error:
        first = str(error).split("\n", 1)[0]
        raise DefinitionError(f"Polars refuses {expression}: {first}") from error


def _try(expression: Expression, columns: Fields) -> pl.Series:
    made = tried(expression, columns, lambda frame: frame.select(expression.expr))
    if not is_row_by_row(expression.expr):
        raise DefinitionError(
            f"{expression} depends on other rows of the batch, so its answer would change with "
            "the size of batches. Only row by row expressions can be used here."
        )
    return made.to_series()
