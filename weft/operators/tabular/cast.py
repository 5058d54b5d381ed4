"""Change the type of columns, and nothing else about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weft.errors import DefinitionError, RowError
from weft.operators.tabular.ports import AnyColumn, cut, to_array
from weft.pipelines.fields import Fields
from weft.pipelines.operator import BatchView, Map
from weft.pipelines.types import Tensor, Timestamp, Type, Values


@dataclass(frozen=True)
class Cast(Map):
    """Give columns other types; a value that would not survive it fails its row.

    `columns` are the columns with the types they are to have, in any spelling that
    `weft.fields` takes: ``Cast({"price": float, "taken": weft.Timestamp})``. The operator has
    a port of each name, and replaces the column bound to it. A null stays null.

    A row fails with the column, the value and the type wanted where the value

    * has a fraction, or is out of range: 3.7 and 300 are no `Int8`, 2 is no `Bool`, 2⁵³ + 1 no
      `Float64`, 1e300 no `Float32`. A float may be rounded to the digits of a smaller one;
    * is text that does not say such a value from its first character to its last. Integers are
      decimal digits, or hexadecimal after "0x"; floats may have an exponent, and "nan" is one
      only where the type says ``nan=True``; booleans are "true", "false", "1", "0";
    * is text for a `Timestamp` and not ISO 8601 with a zone and at most six digits of a second,
      such as "2024-05-01T12:00:00Z" or "2024-05-01 14:00+02:00";
    * is bytes for `Text` and not UTF-8.

    Numbers, dates and times without a zone do not say which moment they are, and are refused
    for a `Timestamp` as the pipeline is built: ``pl.from_epoch`` and ``dt.replace_time_zone``
    in `with_columns` say it. The casts are Arrow's safe ones, with the gaps closed.

    >>> from weft.pipelines.types import Int8
    >>> Cast({"price": float})("3.5"), Cast({"count": Int8})(100.0)
    (np.float64(3.5), np.int8(100))
    >>> Cast({"price": int})("3.5")
    Traceback (most recent call last):
    weft.errors.RowError: tabular.Cast: column 'price': '3.5' cannot be Int64 (Failed to parse ...

    Raises:
        DefinitionError: no column, or a type that cannot be made of the column's.
        RowError: a value that the type cannot hold.
    """

    columns: Fields | Mapping[str, Any]

    version = "1"

    def __post_init__(self) -> None:
        columns = Fields(self.columns)
        if not columns:
            raise DefinitionError(
                f"{self.name}: no columns given. Expected some: Cast({{'price': float}})"
            )
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "reads", Fields(dict.fromkeys(columns, AnyColumn())))
        object.__setattr__(self, "writes", columns)

    def infer(self, inputs: Fields) -> Fields:
        """The types wanted, if they can be made of those given."""
        for name, wanted in self.writes.items():
            _check(f"{self.name}: column {name!r}", inputs[name], wanted)
        return self.writes

    def map(self, batch: BatchView, loaded: Any) -> dict[str, Values]:
        """A batch. One value that cannot be cast fails it, and then the row it is in."""
        return {
            name: _cast(f"{self.name}: column {name!r}", to_array(batch[name]), wanted)
            for name, wanted in self.writes.items()
        }

    def __str__(self) -> str:
        return f"{self.name}({self.writes})"


_LOSSY = (pa.types.is_boolean, pa.types.is_date, pa.types.is_time, pa.types.is_decimal)
"""Types that Arrow makes of others and drops what they cannot hold, even in its safe casts."""


def _check(what: str, given: Type, wanted: Type) -> None:
    if isinstance(wanted, Timestamp) and not _is_moment(given.storage):
        raise DefinitionError(
            f"{what} is {given}, which does not say which moment it is, as {wanted} must. Say it "
            'in with_columns: pl.from_epoch(pl.col("x"), "s").dt.replace_time_zone("UTC") of a '
            'number, pl.col("x").dt.replace_time_zone("Europe/Paris") of a time without a zone.'
        )
    if not _castable(given, wanted):
        raise DefinitionError(f"{what} is {given}, and {wanted} cannot be made of it.")


def _castable(given: Type, wanted: Type) -> bool:
    if isinstance(given, Tensor) or isinstance(wanted, Tensor):
        return False  # arrays have operators of their own
    try:
        pc.cast(pa.array([], given.storage), wanted.storage)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def _is_moment(source: pa.DataType) -> bool:
    if pa.types.is_timestamp(source):
        return source.tz is not None
    return bool(pa.types.is_string(source) or pa.types.is_large_string(source))


def _cast(what: str, given: pa.Array, wanted: Type) -> Values:
    try:
        made = pc.cast(given, wanted.storage)
        reason = _loss(given, made, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        reason = cut(str(error).split("\n", 1)[0])
    if not reason:
        return wanted.to_values(made)
    if len(given) > 1:  # the engine asks again for fewer rows, until the one at fault is alone
        raise RowError(f"{what}: a value among {len(given)} cannot be {wanted} ({reason}).")
    raise RowError(f"{what}: {cut(repr(given[0].as_py()))} cannot be {wanted} ({reason}).")


def _loss(given: pa.Array, made: pa.Array, wanted: Type) -> str:
    """What a cast that Arrow calls safe has lost; empty if nothing."""
    if pa.types.is_floating(made.type):
        if not getattr(wanted, "nan", True) and _any(pc.is_nan(made)):
            return "it is no number; declare nan=True if that is meant"
        beyond = pc.and_(pc.is_inf(made), pc.invert(_is_infinite(given)))
        return "it is out of range" if _any(beyond) else ""
    # Casts to the other types fail if they lose something; so does the parsing of text.
    if _is_text(given.type) or not any(holds(made.type) for holds in _LOSSY):
        return ""
    back = pc.cast(made, given.type, safe=False)
    return "" if back.equals(given) else "it would be another value"


def _is_infinite(given: pa.Array) -> pa.Array:
    if pa.types.is_floating(given.type):
        return pc.is_inf(given)
    if _is_text(given.type):
        return pc.match_substring_regex(given, "(?i)inf")
    return pa.array([False] * len(given))


def _is_text(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )


def _any(mask: pa.Array) -> bool:
    return bool(pc.any(mask).as_py())
