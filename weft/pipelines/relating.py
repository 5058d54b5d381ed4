"""Checking unions, joins, groups and orders as they are said, and the columns after them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, get_args

import pyarrow as pa

from weft.errors import DefinitionError, nearest
from weft.pipelines import grouping
from weft.pipelines.aggregates import infer_aggregate
from weft.pipelines.batch import PARENT, READABLE, kind_of
from weft.pipelines.binding import bind_ports, made_types
from weft.pipelines.expressions import Expression
from weft.pipelines.fields import Fields
from weft.pipelines.operator import Operator
from weft.pipelines.relations import AsOf, Group, How, Join, Order, Strategy
from weft.pipelines.resources import Resources
from weft.pipelines.types import Encoded, Image, Tensor, Timestamp, Type, from_arrow

Names = str | Sequence[str]


def united(many: Sequence[Fields], missing: Literal["refuse", "null"]) -> Fields:
    """The columns of a union.

    Raises:
        DefinitionError: only one stream, or columns that do not unite.
    """
    if missing not in ("refuse", "null"):
        raise DefinitionError(f"missing={missing!r}; expected 'refuse' or 'null'.")
    if len(many) < 2:
        raise DefinitionError("union() needs at least two streams of rows.")
    names = list(dict.fromkeys(name for columns in many for name in columns))
    found: dict[str, Type] = {}
    for name in names:
        types = [columns[name] for columns in many if name in columns]
        if len(types) < len(many) and missing == "refuse":
            lacks = next(i for i, columns in enumerate(many) if name not in columns)
            raise DefinitionError(
                f"union(): stream {lacks + 1} has no column {name!r}; it has {many[lacks]}. "
                'select() the same columns of each, or fill in null: missing="null"'
            )
        kind = types[0]
        for other in types[1:]:
            kind = _one_type(name, kind, other)
        found[name] = kind.or_null() if len(types) < len(many) else kind
    return Fields(found)


def _one_type(name: str, one: Type, other: Type) -> Type:
    """A type that holds the values of both."""
    nullable = one.nullable or other.nullable
    one, other = (dataclasses.replace(t, nullable=nullable) for t in (one, other))
    if one == other:
        return one
    if type(one) is type(other) and isinstance(one, Tensor | Encoded):
        merged = _general(one, other)
        if merged is not None:
            return merged
    elif one.storage == other.storage and one.accepts(other) and other.accepts(one):
        return one
    wide = _wider(one.storage, other.storage)
    if wide is not None:
        kind = from_arrow(pa.field("", wide))
        nan = getattr(one, "nan", False) or getattr(other, "nan", False)
        made = dataclasses.replace(kind, nullable=nullable)
        return dataclasses.replace(made, nan=True) if nan else made  # type: ignore[call-arg]
    how = "" if isinstance(one, Tensor) else f': with_columns(pl.col("{name}").cast(…))'
    raise DefinitionError(
        f"union(): column {name!r} is {one} in one stream and {other} in another. Make them one "
        f"type before{how}, or name one of them otherwise."
    )


def _general(one: Any, other: Any) -> Type | None:
    """Two types of one class that differ in shape or kind as one that leaves it open."""
    if isinstance(one, Encoded):
        return dataclasses.replace(one, kind=None)
    if isinstance(one, Image) and one.dtype == other.dtype:
        sizes = ("height", "width", "channels")
        same = {n: a for n in sizes if (a := getattr(one, n)) == getattr(other, n)}
        return Image(**{n: same.get(n) for n in sizes}, dtype=one.dtype, nullable=one.nullable)
    return None


def _wider(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    for family in (pa.types.is_signed_integer, pa.types.is_unsigned_integer, pa.types.is_floating):
        if family(one) and family(other):
            return one if one.bit_width >= other.bit_width else other
    return None


def join(
    left: Fields,
    right: Fields,
    *,
    on: tuple[Names, Names, Names],
    how: How,
    suffix: str | None,
    asof: AsOf | None,
    many: bool,
) -> tuple[Join, Fields]:
    """A join of two streams, and the columns after it. `on` is (on, left_on, right_on).

    Raises:
        DefinitionError: unknown columns, keys of different types, names that are taken.
    """
    if how not in get_args(How):
        raise _not_among("how", how, get_args(How))
    if asof is not None and how not in ("inner", "left"):
        raise DefinitionError(f"join(): with asof it is 'inner' or 'left'; given how={how!r}.")
    if suffix is not None and not (isinstance(suffix, str) and suffix):
        raise DefinitionError(f'join(): suffix={suffix!r}; expected text such as "_right".')
    left_on, right_on = _pairs(*on, asof=asof)
    for side, columns, names in (("left", left, left_on), ("right", right, right_on)):
        for name in names:
            check_key_type(name, _of_side(columns, name, side, "left_on=…, right_on=…"))
    for a, b in zip(left_on, right_on, strict=True):
        if not keys_match(kind_of(left, a), kind_of(right, b)):
            raise DefinitionError(
                f"join(): {a!r} is {kind_of(left, a)} on the left and {b!r} is "
                f"{kind_of(right, b)} on the right. Cast one of them before."
            )
    if suffix is not None and how in ("semi", "anti"):
        raise DefinitionError(
            f"join(): how={how!r} brings no column, so nothing needs a suffix; given {suffix!r}."
        )
    brings = _brings(left, right, right_on, asof, suffix) if how in ("inner", "left") else ()
    brought = {new: right[c].or_null() if how == "left" else right[c] for c, new in brings}
    return Join(how, left_on, right_on, brings, asof, many), left.merge(brought)


def _brings(
    left: Fields, right: Fields, right_on: Sequence[str], asof: AsOf | None, suffix: str | None
) -> tuple[tuple[str, str], ...]:
    """The columns of the right that are not its keys, and their names in the result."""
    same = {*right_on} | ({asof.right} if asof and asof.left == asof.right else set())
    names = [name for name in right if name not in same]
    taken = [name for name in names if name in left]
    if taken and suffix is None:
        raise DefinitionError(
            f"join(): both sides have {', '.join(map(repr, taken))}. Name those of the right "
            'apart with suffix="_right", or select() what you need of it before.'
        )
    pairs = tuple((name, f"{name}{suffix}" if name in left else name) for name in names)
    new = [b for _, b in pairs]
    double = [n for n in new if n in left or new.count(n) > 1]
    if double:
        raise DefinitionError(
            f"join(): with suffix={suffix!r} there would be two columns {double[0]!r}. "
            "Choose another suffix."
        )
    return pairs


def _pairs(
    on: Names, left_on: Names, right_on: Names, *, asof: AsOf | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    both, left, right = _names("on", on), _names("left_on", left_on), _names("right_on", right_on)
    if both and (left or right):
        raise DefinitionError("join() takes on=…, or left_on=… and right_on=…; given both.")
    if len(left) != len(right):
        raise DefinitionError(
            f"join(): left_on and right_on name pairs of columns; given {len(left)} and "
            f"{len(right)}."
        )
    if not both and not left and not asof:
        raise DefinitionError('join() needs columns to join on: on="id", or on="_key".')
    pairs = [*zip(both or left, both or right, strict=True)]
    pairs += [(asof.left, asof.right)] if asof else []
    double = [a if a == b else f"{a}={b}" for a, b in pairs if pairs.count((a, b)) > 1]
    if double:
        raise DefinitionError(f"join(): {double[0]!r} is named twice. Leave one of them out.")
    return both or left, both or right


def _names(what: str, given: Names) -> tuple[str, ...]:
    names = tuple(given) if isinstance(given, list | tuple) else (given,)
    for name in names:
        if not isinstance(name, str):
            raise DefinitionError(
                f"join(): {what} takes names of columns; given {name!r}. What is computed must be "
                "a column first: with_columns(…)"
            )
    return names


def _of_side(columns: Fields, name: str, side: str, pair: str) -> Type:
    """The type of a column of one side of a join; `pair` is how to name a column of each."""
    if name not in columns and not name.startswith("_"):
        hint = nearest(name, columns) or f"If the names differ, say {pair}."
        raise DefinitionError(
            f"join(): the {side} has no column {name!r}; it has {columns}. {hint}"
        )
    return _require(columns, name)


def as_of(
    asof: str | tuple[str, str] | None,
    strategy: Strategy,
    tolerance: float | timedelta | None,
    left: Fields,
    right: Fields,
) -> AsOf | None:
    """How a join looks for the nearest in time.

    Raises:
        DefinitionError: unknown columns, or types that have no distance.
    """
    if strategy not in get_args(Strategy):
        raise _not_among("strategy", strategy, get_args(Strategy))
    if asof is None:
        if tolerance is not None or strategy != "backward":
            what = "strategy" if tolerance is None else "tolerance"
            raise DefinitionError(f'join(): {what} is for asof="column", which is not given.')
        return None
    names = _names("asof", asof)
    if len(names) > 2 or not names:
        raise DefinitionError(
            f"join(): asof={asof!r}; expected a column, or a pair of one of the left and one of "
            "the right."
        )
    one, other = names[0], names[-1]
    pair = "asof=(…, …)"
    kinds = _of_side(left, one, "left", pair), _of_side(right, other, "right", pair)
    if kinds[0].storage != kinds[1].storage or not _measurable(kinds[0].storage):
        raise DefinitionError(
            f"join(): asof needs one type of times or numbers on both sides; {one!r} is "
            f"{kinds[0]} and {other!r} is {kinds[1]}."
        )
    moments = isinstance(kinds[0], Timestamp)
    fits = timedelta if moments else int | float
    if tolerance is not None and not isinstance(tolerance, fits):
        wanted = "a datetime.timedelta" if moments else "a number"
        raise DefinitionError(
            f"join(): tolerance={tolerance!r}; for {one!r}, which is {kinds[0]}, expected {wanted}."
        )
    within = (
        tolerance / timedelta(microseconds=1) if isinstance(tolerance, timedelta) else tolerance
    )
    if within is not None and not within >= 0:
        raise DefinitionError(f"join(): tolerance={tolerance!r}; expected at least 0.")
    return AsOf(one, other, strategy, within)


def _measurable(storage: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(storage)
        or pa.types.is_floating(storage)
        or pa.types.is_timestamp(storage)
    )


def aggregate(
    by: Sequence[str], exprs: tuple[Expression, ...], columns: Fields
) -> tuple[Group, Fields]:
    """A group of Polars aggregates, and the columns after it.

    Raises:
        DefinitionError: unknown columns, or no aggregate.
    """
    keys = _keys(by, columns)
    if not exprs:
        raise DefinitionError(
            "group() needs aggregates, such as n=pl.len(), or an operator: operator=Top(3)."
        )
    made = dict(infer_aggregate(e, columns, by) for e in exprs)
    taken = [name for name in made if name in keys]
    if taken:
        raise DefinitionError(f"group(): {taken[0]!r} is a column of the key. Name it otherwise.")
    return Group(tuple(by), exprs), Fields({**keys, **made})


def by_operator(
    by: Sequence[str],
    operator: Operator,
    ports: Mapping[str, Any],
    on_error: Literal["quarantine", "raise"],
    columns: Fields,
) -> tuple[Group, Fields]:
    """An operator on the rows that share a key, and the columns after it.

    Raises:
        DefinitionError: not such an operator, or ports that do not fit.
    """
    keys = _keys(by, columns)
    if not isinstance(operator, grouping.Group | grouping.Pick):
        shown, fix = repr(operator), "What works row by row goes into apply()."
        if isinstance(operator, grouping.Order | grouping.Compose):
            fix = "It works on all rows, and goes into apply()."
        if isinstance(operator, type):
            shown, fix = operator.__name__, f"Make one: {operator.__name__}()"
        raise DefinitionError(f"group() takes a Group or a Pick operator; given {shown}. {fix}")
    if on_error not in ("quarantine", "raise"):
        raise DefinitionError(f"on_error={on_error!r}; expected 'quarantine' or 'raise'.")
    if operator.resources != Resources():
        raise DefinitionError(
            f"{operator.name} asks for {operator.resources}; what works on groups runs as a plain "
            "task on one CPU. Let a Map do the model's work before."
        )
    operator.rowwise  # noqa: B018  refuses a class that does not define its method
    inputs, outputs, bound = bind_ports(operator, columns, ports)
    action = Group(tuple(by), (), operator, tuple(inputs.items()), tuple(outputs.items()), on_error)
    if isinstance(operator, grouping.Pick):
        return action, columns
    added = {outputs[p]: t for p, t in made_types(operator, bound).items()}
    taken = [name for name in added if name in keys]
    if taken:
        raise DefinitionError(
            f"{operator.name} would overwrite {taken[0]!r}, a column of the key. Name its output."
        )
    return action, Fields({**keys, **added})


def order(operator: grouping.Order, columns: Fields) -> Order:
    """An order of all rows.

    Raises:
        DefinitionError: unknown columns, columns without an order, or a limit below 0.
    """
    for name in operator.by:
        kind = _require(columns, name)
        if not (_measurable(kind.storage) or _comparable(kind.storage)):
            raise DefinitionError(
                f"{operator.name}: column {name!r} is {kind}, which has no order. Expected text, "
                "numbers, booleans, dates or timestamps."
            )
    if operator.limit is not None and operator.limit < 0:
        raise DefinitionError(f"{operator.name}: limit={operator.limit!r}; expected at least 0.")
    if not operator.by and operator.limit is None:
        raise DefinitionError(f"{operator.name} needs columns to sort by, or a limit.")
    return Order(tuple(operator.by), operator.descending, operator.limit)


def _comparable(storage: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(storage)
        or pa.types.is_large_string(storage)
        or pa.types.is_boolean(storage)
        or pa.types.is_date(storage)
    )


def _keys(by: Sequence[str], columns: Fields) -> Fields:
    """The columns of the key that the result has."""
    for name in by:
        if not isinstance(name, str):
            fix = "Aggregates have names: n=pl.len()"
            if isinstance(name, Operator):
                fix = f"An operator is given by name: operator={name.name}(…)"
            elif isinstance(name, list | tuple):
                fix = f"Give each for itself: group({', '.join(map(repr, name))}, …)"
            raise DefinitionError(f"group() takes names of columns; given {name!r}. {fix}")
        check_key_type(name, _require(columns, name))
    if len(set(by)) < len(by):
        raise DefinitionError(f"group(): a column is named twice: {', '.join(by)}.")
    if PARENT in by and tuple(by) != (PARENT,):
        raise DefinitionError("group('_parent') stands alone: children of one parent are a group.")
    return Fields({name: columns[name] for name in by if name in columns})


def _require(columns: Fields, name: str) -> Type:
    if name in READABLE and name not in columns:
        return kind_of(columns, name)
    if name.startswith("_"):
        raise DefinitionError(
            f"There is no column {name!r}. Of the engine's own, {', '.join(READABLE)} can be used."
        )
    return columns.require(name, "column")


def _not_among(what: str, given: object, known: Sequence[str]) -> DefinitionError:
    expected, hint = ", ".join(map(repr, known)), nearest(str(given), known)
    return DefinitionError(f"join(): {what}={given!r}; expected {expected}. {hint}".rstrip())


def check_key_type(name: str, kind: Type) -> None:
    """Refuse a column whose values do not name things.

    Raises:
        DefinitionError: floats, tensors, lists or files.
    """
    if _key_family(kind.storage) is None:
        raise DefinitionError(
            f"Column {name!r} is {kind}, which cannot be a key: expected text, integers, "
            "booleans, dates or timestamps. Round or cast it with with_columns() before."
        )


def keys_match(left: Type, right: Type) -> bool:
    """Whether values of two key columns can be equal."""
    return _key_family(left.storage) == _key_family(right.storage)


def _key_family(storage: pa.DataType) -> str | None:
    families = {
        "text": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        "integer": (pa.types.is_integer,),
        "boolean": (pa.types.is_boolean,),
        "date": (pa.types.is_date,),
    }
    if pa.types.is_timestamp(storage):
        return "moment" if storage.tz else "time of a clock"
    return next((name for name, tests in families.items() if any(t(storage) for t in tests)), None)
