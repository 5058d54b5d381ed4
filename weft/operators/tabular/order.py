"""All rows in an order, and the first of them."""

from __future__ import annotations

from dataclasses import dataclass

from weft.errors import DefinitionError
from weft.pipelines.grouping import Order


@dataclass(frozen=True, init=False)
class Sort(Order):
    """Sort all rows by one or more columns, and keep the first `limit` of them if one is given.

    ``rows.apply(Sort("score", descending=True, limit=100))`` keeps the hundred best rows, the
    best first. `descending` is for all columns. Null is last either way, and NaN is larger than
    every number; rows that are equal stay in the order of the source. Text is sorted by code
    points. With a `limit` the other rows are dropped, each worker keeps no more than it can
    want, and little is moved.

    >>> print(Sort("label", "score", descending=True, limit=10))
    tabular.Sort(by=['label', 'score'], descending=True, limit=10)

    Raises:
        DefinitionError: no column, or `limit` is below 1.
    """

    by: tuple[str, ...]
    descending: bool = False
    limit: int | None = None

    version = "1"

    def __init__(self, *by: str, descending: bool = False, limit: int | None = None) -> None:
        if not by or not all(isinstance(name, str) for name in by):
            raise DefinitionError(
                f"{self.name}: given {by!r}; expected names of columns: Sort('label', 'score')"
            )
        if limit is not None:
            _check_count(f"{self.name}: limit", limit)
        for name, value in (("by", by), ("descending", descending), ("limit", limit)):
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Limit(Order):
    """Keep the first `limit` rows, in the order of the source; the others are dropped.

    >>> print(Limit(1000))
    tabular.Limit(limit=1000)

    Raises:
        DefinitionError: `limit` is below 1.
    """

    limit: int

    version = "1"

    def __post_init__(self) -> None:
        _check_count(f"{self.name}: limit", self.limit)


def _check_count(what: str, given: object) -> None:
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise DefinitionError(f"{what}={given!r}; expected a number of rows, 1 or more.")
