"""Aggregates: Polars expressions that make one value of the rows that share a key.

As with other expressions, Polars is the judge of names and types: an aggregate is tried on a
frame without rows. What the check adds: a group must get the same answer whatever other groups
are beside it, and whenever it is asked, so windows and random numbers without a seed are
refused. An expression that does not aggregate makes a list of the group's values, in the order
of the source.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl
import pyarrow as pa

from weft.errors import DefinitionError
from weft.pipelines.batch import Column, kind_of
from weft.pipelines.expressions import Expression, tried
from weft.pipelines.fields import Fields
from weft.pipelines.types import Embedding, Float32, Float64, Tensor, Type, from_arrow

_COUNTS = ("Count", "NUnique", "Sum")
"""Aggregates that are 0, and never null, where there is nothing to count."""

_CHOOSES = {
    "First": True, "Last": True, "Min": True, "Max": True, "Item": True,
    "FirstNonNull": False, "LastNonNull": False,
}  # fmt: skip
"""Aggregates that answer with one of the values, and whether they do if no value is null."""


def infer_aggregate(expression: Expression, columns: Fields, by: Sequence[str]) -> tuple[str, Type]:
    """Name and type of the column that an aggregate makes of the rows that share `by`.

    ``pl.col("image").sort_by("score").last()`` chooses a value, and keeps the type of its
    column. What is computed is nullable, but for counts and sums, and may hold NaN.

    Raises:
        DefinitionError: an unknown column, a wrong type, several columns, a name that is taken,
            or an answer that depends on other groups or on chance.
    """
    if expression.expr.meta.has_multiple_outputs():
        raise DefinitionError(f"{expression} makes several columns. Write one aggregate for each.")
    name = expression.name
    if name in by:
        raise DefinitionError(
            f"group(): aggregate {name!r} has the name of a column of the key. Name it otherwise."
        )
    made = _try(expression, columns)
    tree = _tree(expression)
    chosen = _chosen(tree)
    if chosen is not None:
        column, always = chosen
        kind = kind_of(columns, column)
        return name, kind if always else kind.or_null()
    _refuse_lists_of_arrays(expression, columns, made.schema["made"])
    dtype = _plain(made.to_arrow().schema.field(0).type)
    kind = from_arrow(pa.field("", dtype, nullable=False))
    if isinstance(kind, Float32 | Float64):
        kind = dataclasses.replace(kind, nan=True)
    return name, kind if _is_count(tree) else kind.or_null()


def aggregate(
    expressions: Sequence[Expression],
    columns: dict[str, Column],
    groups: pl.Series,
    kinds: Fields,
) -> dict[str, Column]:
    """The columns that aggregates make, one value for each group, in the order of the groups.

    A column that is not among `kinds` is computed all the same: whether a group fails must not
    depend on who reads what.

    Args:
        expressions: the aggregates.
        columns: the columns, and the envelope's, that they read.
        groups: the number of each row's group; groups are numbered as they first come.
        kinds: the types of the columns wanted.
    """
    given = [pl.Series(name, column.array) for name, column in columns.items()]
    frame = pl.DataFrame([groups.alias(_GROUP), *given])
    made = frame.group_by(_GROUP, maintain_order=True).agg(e.expr for e in expressions)
    names = [e.name for e in expressions if e.name in kinds]
    return {n: Column(kinds[n], array=_stored(made.get_column(n), kinds[n])) for n in names}


_GROUP = "_group"
"""The number of the group, in the frames that Polars is given."""


def _stored(series: pl.Series, kind: Type) -> pa.Array:
    array = series.to_arrow()
    return array if array.type == kind.storage else array.cast(kind.storage)


def _try(expression: Expression, columns: Fields) -> pl.DataFrame:
    """The column that the aggregate makes of no rows."""
    made = expression.expr.alias("made")
    keyed = pl.lit(0).alias(_GROUP)
    found = tried(expression, columns, lambda f: f.with_columns(keyed).group_by(_GROUP).agg(made))
    _refuse_unsteady(expression)
    return found.select("made")


def _refuse_unsteady(expression: Expression) -> None:
    for name, inside in _nodes(_tree(expression)):
        if name == "Over":
            raise DefinitionError(
                f"{expression} has a window, over(), which looks at rows of other groups. "
                "Aggregate with group() and join() the result to the rows."
            )
        if name == "Random" and inside.get("seed") is None:
            raise DefinitionError(
                f"{expression} is random, so a run could not be repeated. Give it a seed: seed=0"
            )


def _refuse_lists_of_arrays(expression: Expression, columns: Fields, made: pl.DataType) -> None:
    for root in expression.roots:
        kind = kind_of(columns, root)
        arrays = isinstance(kind, Tensor) and not isinstance(kind, Embedding)
        if arrays and made == pl.List(pl.Series(kind.to_arrow([])).dtype):
            raise DefinitionError(
                f"{expression} makes lists of {kind}, which no column can hold. Choose one value, "
                "with first() for example, or make an array of them: operator=video.Stack() does "
                "it for images, a Group of your own for others."
            )


def _tree(expression: Expression) -> Any:
    """The expression without its alias, as Polars serializes it."""
    return json.loads(expression.expr.meta.undo_aliases().meta.serialize(format="json"))


def _nodes(tree: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, inside in tree.items():
            if name != "Literal":
                yield name, inside
                yield from _nodes(inside)
    elif isinstance(tree, list):
        for inside in tree:
            yield from _nodes(inside)


def _is_count(tree: Any) -> bool:
    name, inside = next(_nodes(tree), (tree, {}))
    return name == "Len" or (name == "Agg" and any(count in inside for count in _COUNTS))


def _chosen(tree: Any) -> tuple[str, bool] | None:
    """The column one of whose values is the answer, and whether there always is one.

    ``None`` if the answer is computed.
    """
    match tree:
        case {"Agg": inside}:
            ((choice, below),) = inside.items()
            given = below.get("input", below) if isinstance(below, dict) else below
            found = _values(given) if choice in _CHOOSES else None
            return found and (found[0], found[1] and _CHOOSES[choice])
        case {"Gather": {"expr": given, "returns_scalar": True}}:
            found = _values(given)
            return found and (found[0], False)
        case {"Function": {"function": "MinBy" | "MaxBy", "input": [given, *_]}}:
            found = _values(given)
            return found and (found[0], False)
    return None


def _values(tree: Any) -> tuple[str, bool] | None:
    """The column whose values these are, sorted or filtered, and whether all are there."""
    match tree:
        case {"Column": name}:
            return name, True
        case {"SortBy": {"expr": given}} | {"Sort": {"expr": given}}:
            return _values(given)
        case {"Filter": {"input": given}}:
            found = _values(given)
            return found and (found[0], False)
    return None


def _plain(dtype: pa.DataType) -> pa.DataType:
    """An Arrow type of Polars in the spelling that columns have: lists and texts of 32 bits."""
    if pa.types.is_large_list(dtype) or pa.types.is_list(dtype):
        return pa.list_(_plain(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(field.name, _plain(field.type)) for field in dtype])
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return pa.string()
    if pa.types.is_binary_view(dtype):
        return pa.large_binary()
    return dtype
