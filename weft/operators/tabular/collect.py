"""Children brought back to their parents, as lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from weft.errors import DefinitionError
from weft.pipelines.grouping import Compose


@dataclass(frozen=True, init=False)
class Collect(Compose):
    """One row for each parent again, with lists of its children's `columns` and their `count`.

    Below an operator that makes several rows of one: frames of a video, chunks of a document.
    Each list has the values of the children that are still there, in the order of the children;
    null is a value, so the lists of a row are equally long. `count` is how many there are.
    `keep` names columns that the children have of their parent, such as its path: they go on
    with the value of the first child. The row has its parent's key again, so other columns of
    the parent can be joined to it: ``videos.join(collected, on="_key")``.

    A parent none of whose children is there any more has no row, but is on the books: as
    expanded, and each of its children as dropped or failed. Children come back inside their
    unit of work, and nothing is moved between workers unless rows were joined, grouped by
    something else or sorted since. Images are no values of a list; `video.Stack` takes them.

    >>> print(Collect("caption", "time_seconds", keep="path"))
    tabular.Collect(columns=['caption', 'time_seconds'], keep=['path'])

    Raises:
        DefinitionError: no column, one named twice, or one named ``count``.
    """

    columns: tuple[str, ...]
    keep: tuple[str, ...] = ()

    version = "1"

    def __init__(self, *columns: str, keep: str | Sequence[str] = ()) -> None:
        kept = (keep,) if isinstance(keep, str) else tuple(keep)
        names = (*columns, *kept)
        if not columns or not all(isinstance(name, str) for name in names):
            raise DefinitionError(
                f"{self.name}: given {names!r}; expected names of columns: Collect('caption')"
            )
        double = [name for name in names if names.count(name) > 1 or name == "count"]
        if double:
            raise DefinitionError(
                f"{self.name}: the result would have two columns {double[0]!r}. Name each once; "
                "'count' is the number of children."
            )
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "keep", kept)

    def compose(self, rows: Any, **columns: str) -> Any:
        """A group by ``_parent``."""
        lists = {name: pl.col(name).sort_by("_index") for name in self.columns}
        kept = {name: pl.col(name).first() for name in self.keep}
        return rows.group("_parent", **kept, **lists, count=pl.len())
