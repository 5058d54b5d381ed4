"""Ports for columns of whatever type, and what operators are given of them."""

from __future__ import annotations

import pyarrow as pa

from weft.pipelines.types import Type, Values


class AnyColumn(Type):
    """A port that any column may be bound to; operators are given the column as Arrow."""

    as_arrow = True

    def accepts(self, other: Type) -> bool:
        """Every type."""
        return True

    def _describe(self) -> str:
        return "any type"


def to_array(values: Values) -> pa.Array:
    """Values of a column as Arrow."""
    return values if isinstance(values, pa.Array) else pa.array(values)


def cut(text: str) -> str:
    """The start of a text, for an error message, which is no place for a whole document."""
    return text if len(text) <= 100 else f"{text[:99]}…"
