"""Polars predicates as Lance SQL: the part of the language where both give the same answer.

A predicate is translated whole or not at all, and everything that is not known to agree is
refused; the engine then evaluates it with Polars. The subset: a Boolean column; a column of
integers, floats, text or Booleans compared with one literal; `is_in`, `is_between`, `is_null`,
`is_not_null`; and `&`, `|`, `~` of these. Null is three-valued logic in both.

Floats need care. Both order NaN above everything, but DataFusion looks at its sign and Polars
does not, and x86 makes NaN with the sign set; so an ordering comparison says in SQL what a NaN
answers. Literals are rounded to the column's width here, as Polars does it.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

_COMPARISONS = {"Eq": "=", "NotEq": "!=", "Lt": "<", "LtEq": "<=", "Gt": ">", "GtEq": ">="}
_FLIPPED = {"Eq": "Eq", "NotEq": "NotEq", "Lt": "Gt", "LtEq": "GtEq", "Gt": "Lt", "GtEq": "LtEq"}
_JOINS = {"And": "AND", "LogicalAnd": "AND", "Or": "OR", "LogicalOr": "OR"}
_BETWEEN = {
    "Both": ("GtEq", "LtEq"),
    "Left": ("GtEq", "Lt"),
    "Right": ("Gt", "LtEq"),
    "None": ("Gt", "Lt"),
}

_LARGEST_LITERAL = 2**63 - 1
"""What DataFusion's parser reads as an integer; beyond it a literal may become a float."""

_LONGEST_LIST = 1000
"""Values of an `is_in` that are written out; parsing more costs more than it saves."""


class _Untranslatable(Exception):  # noqa: N818 - an answer, not an error
    """This part of the predicate has no SQL that is known to agree."""


def to_sql(predicate: pl.Expr, schema: pa.Schema) -> str | None:
    """The SQL filter that keeps the same rows as `predicate`; ``None`` where none is known.

    >>> schema = pa.schema({"width": pa.int32(), "kind": pa.string()})
    >>> to_sql((pl.col("width") > 640) & ~pl.col("kind").is_in(["raw"]), schema)
    "(`width` > 640 AND NOT (`kind` IN ('raw')))"
    >>> to_sql(pl.col("width") * 2 > 640, schema) is None
    True
    """
    try:
        tree = json.loads(predicate.meta.serialize(format="json"))
    except (pl.exceptions.PolarsError, ValueError):
        return None  # a Python function inside, which has no JSON
    try:
        return _boolean(tree, schema)
    except _Untranslatable:
        return None


def quoted(name: str) -> str:
    """`name` as a Lance identifier; unquoted ones are folded to lower case.

    >>> quoted("Width")
    '`Width`'

    Raises:
        ValueError: `name` holds a backtick, which Lance has no escape for.
    """
    if "`" in name:
        raise ValueError(f"column name {name!r} holds a backtick; Lance cannot quote it")
    return f"`{name}`"


def _boolean(node: Any, schema: pa.Schema) -> str:
    match node:
        case {"Column": str(name)}:
            field = _field(name, schema)
            if not pa.types.is_boolean(field.type):
                raise _Untranslatable
            return quoted(name)
        case {"BinaryExpr": {"left": left, "op": str(op), "right": right}} if op in _JOINS:
            return f"({_boolean(left, schema)} {_JOINS[op]} {_boolean(right, schema)})"
        case {"BinaryExpr": {"left": left, "op": str(op), "right": right}} if op in _COMPARISONS:
            if "Literal" in left:
                left, op, right = right, _FLIPPED[op], left
            return _comparison(_column(left, schema), op, right)
        case {"Function": {"input": list(inputs), "function": {"Boolean": function}}}:
            return _function(function, inputs, schema)
    raise _Untranslatable


def _function(function: Any, inputs: list[Any], schema: pa.Schema) -> str:
    match function, inputs:
        case "Not", [inner]:
            return f"NOT ({_boolean(inner, schema)})"
        case "IsNull", [column]:
            return f"{quoted(_column(column, schema).name)} IS NULL"
        case "IsNotNull", [column]:
            return f"{quoted(_column(column, schema).name)} IS NOT NULL"
        case {"IsBetween": {"closed": str(closed)}}, [column, low, high] if closed in _BETWEEN:
            field = _column(column, schema)
            above, below = _BETWEEN[closed]
            return f"({_comparison(field, above, low)} AND {_comparison(field, below, high)})"
        case {"IsIn": {"nulls_equal": False}}, [column, {"Literal": {"Scalar": {"List": ipc}}}]:
            return _membership(_column(column, schema), ipc)
    raise _Untranslatable


def _comparison(field: pa.Field, op: str, literal: Any) -> str:
    name = quoted(field.name)
    sql = f"{name} {_COMPARISONS[op]} {_literal(literal, field.type, op)}"
    if pa.types.is_floating(field.type):
        if op in ("Gt", "GtEq"):
            return f"({sql} OR isnan({name}))"
        if op in ("Lt", "LtEq"):
            return f"({sql} AND NOT isnan({name}))"
    return sql


def _membership(field: pa.Field, ipc: list[int]) -> str:
    """`is_in`; the list is an Arrow stream of one column inside the JSON."""
    try:
        values = pa.ipc.open_stream(bytes(ipc)).read_all().column(0).to_pylist()
    except (pa.ArrowException, IndexError, ValueError) as error:
        raise _Untranslatable from error
    if not values or len(values) > _LONGEST_LIST or pa.types.is_floating(field.type):
        raise _Untranslatable
    if pa.types.is_integer(field.type):
        texts = [_integer(v, field.type) for v in values]
    elif _is_text(field.type):
        texts = [_text(v) for v in values]
    else:
        raise _Untranslatable
    return f"{quoted(field.name)} IN ({', '.join(texts)})"


def _literal(node: Any, dtype: pa.DataType, op: str) -> str:
    match node:
        case {"Literal": {"Dyn": {"Int": int(value)}}} if pa.types.is_integer(dtype):
            return _integer(value, dtype)
        case {"Literal": {"Dyn": {"Int": int(value)}}} | {
            "Literal": {"Dyn": {"Float": float(value)}}
        } if pa.types.is_floating(dtype):
            return _float(value, dtype)
        case {"Literal": {"Scalar": {"String": str(value)}}} if _is_text(dtype):
            return _text(value)
        case {"Literal": {"Scalar": {"Boolean": bool(value)}}} if pa.types.is_boolean(
            dtype
        ) and op in ("Eq", "NotEq"):
            return str(value).lower()
    raise _Untranslatable


def _integer(value: Any, dtype: pa.DataType) -> str:
    if type(value) is not int or abs(value) > _LARGEST_LITERAL:
        raise _Untranslatable
    try:
        pa.scalar(value, dtype)
    except (pa.ArrowInvalid, OverflowError) as error:
        raise _Untranslatable from error  # Polars widens the column; Lance refuses the filter
    return str(value)


def _float(value: float, dtype: pa.DataType) -> str:
    """The literal at the column's width; an integer must be exact there."""
    if not pa.types.is_float32(dtype) and not pa.types.is_float64(dtype):
        raise _Untranslatable
    with np.errstate(over="ignore"):
        rounded = float(np.float32(value)) if pa.types.is_float32(dtype) else float(value)
    if not math.isfinite(rounded) or (isinstance(value, int) and int(rounded) != value):
        raise _Untranslatable
    return repr(rounded)


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise _Untranslatable
    return "'" + value.replace("'", "''") + "'"


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype))


def _column(node: Any, schema: pa.Schema) -> pa.Field:
    match node:
        case {"Column": str(name)}:
            return _field(name, schema)
    raise _Untranslatable


def _field(name: str, schema: pa.Schema) -> pa.Field:
    """The field, if it is a plain column; media and nested ones are none of SQL's business."""
    index = schema.get_field_index(name)
    if index < 0 or "`" in name:
        raise _Untranslatable
    dtype = schema.field(index).type
    if not (
        pa.types.is_integer(dtype)
        or pa.types.is_floating(dtype)
        or pa.types.is_boolean(dtype)
        or pa.types.is_timestamp(dtype)
        or _is_text(dtype)
    ):
        raise _Untranslatable
    return schema.field(index)
