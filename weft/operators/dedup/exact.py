"""Rows that say exactly the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weft.operators.dedup.content_hash import Content, ContentHash
from weft.operators.dedup.steps import RANK, check_held, ranked
from weft.pipelines.fields import fields
from weft.pipelines.grouping import Compose, Pick
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Float64, Text

if TYPE_CHECKING:
    from weft.pipelines.dsl import Rows

_HASH = "dedup_hash"


@dataclass(frozen=True)
class Exact(Compose):
    """Keep one row of each content, and drop those that say exactly the same.

    Reads `content`: text or bytes. Of rows with equal content the one with the smallest key
    stays (text compared by code points), or with `prefer` the one in which that column, of
    numbers, is largest. Which one stays depends neither on the order of rows nor on the engine;
    of rows of one key it is the first. Null is no content: such rows stay.

    `against` are rows of the same pipeline that are held already, with a column of the same
    name: ``Exact(against=weft.read(Lance("corpus.lance")))``. What they have is dropped; they
    themselves are not written.

    Content is compared by its SHA-256 (`ContentHash`). Rows are brought together whole, and all
    copies of one content must fit into a worker's memory.

    >>> Exact(prefer="quality").name
    'dedup.Exact'

    Raises:
        DefinitionError: `prefer` is not a column of numbers, or `against` has no such column.
    """

    prefer: str | None = None
    against: Rows | None = None

    version = "1"
    reads = fields(content=Content())

    def compose(self, rows: Any, **columns: str) -> Rows:
        """Hash, group, and keep the best of each group."""
        names, content = tuple(rows.columns), columns["content"]
        hashed = ranked(self.name, rows, self.prefer).apply(
            ContentHash(), content=content, content_hash=_HASH
        )
        if self.against is not None:
            check_held(self.name, rows, self.against, content)
            held = self.against.apply(ContentHash(), content=content, content_hash=_HASH)
            hashed = hashed.join(held.select(_HASH), on=_HASH, how="anti")
        rank: dict[str, Any] = {"rank": RANK} if self.prefer is not None else {}
        first = First(ranked=self.prefer is not None)
        kept: Rows = hashed.group(_HASH, operator=first, key="_key", hash=_HASH, **rank)
        return kept.select(*names)


@dataclass(frozen=True)
class First(Pick):
    """The best row of each group: of the largest rank, then of the smallest key."""

    ranked: bool = False

    version = "1"

    def __post_init__(self) -> None:
        rank = {"rank": Float64(nan=True, nullable=True)} if self.ranked else {}
        object.__setattr__(self, "reads", fields(key=Text(), hash=Text() | None, **rank))

    def pick(self, rows: BatchView, loaded: Any) -> list[bool]:
        """One group."""
        one = np.zeros(len(rows["key"]), np.int64)
        return [bool(kept) for kept in self.pick_all(rows, one, loaded)]

    def pick_all(
        self, rows: BatchView, groups: npt.NDArray[np.int64], loaded: Any
    ) -> npt.NDArray[np.bool_]:
        """Many groups at once."""
        order = np.argsort(np.array(rows["key"], object), kind="stable")
        if self.ranked:
            ranks = np.array([np.nan if r is None else r for r in rows["rank"]], np.float64)
            order = order[np.argsort(-ranks[order], kind="stable")]  # NaN is last
        order = order[np.argsort(groups[order], kind="stable")]
        best = np.zeros(len(order), np.bool_)
        best[order] = np.diff(groups[order], prepend=-1) != 0
        return best | np.array([h is None for h in rows["hash"]], np.bool_)
