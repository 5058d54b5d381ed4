"""The best rows of each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from weft.errors import DefinitionError
from weft.operators.tabular.ports import AnyColumn, to_array
from weft.pipelines.fields import fields
from weft.pipelines.grouping import Pick
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Type

_ORDERED = (
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_timestamp,
    pa.types.is_date,
    pa.types.is_duration,
)


class Ordered(AnyColumn):
    """A port for a column whose values have an order."""

    def accepts(self, other: Type) -> bool:
        """Numbers, booleans, text, dates, moments and durations."""
        return any(has_order(other.storage) for has_order in _ORDERED)

    def _describe(self) -> str:
        return "numbers, text, booleans or times"


@dataclass(frozen=True)
class Top(Pick):
    """Keep the `k` rows of each group that have the largest values, and drop the others.

    Reads `value`: numbers, text, booleans, dates or timestamps. The rows stay as they are.
    Of rows with equal values those that come first in the source are kept. Null and NaN are no
    values: rows with them are kept only where a group has fewer than `k` others. With
    ``descending=False`` the smallest values are kept.

    ``rows.group("video", operator=Top(3), value="sharpness")`` keeps three frames of each video.

    >>> Top(2)([3, 9, None, 5])
    [False, True, False, True]
    >>> Top(1, descending=False)(["pear", "apple", "apple"])
    [False, True, False]

    Raises:
        DefinitionError: `k` is below 1.
    """

    k: int
    descending: bool = True

    version = "1"
    reads = fields(value=Ordered(nullable=True))

    def __post_init__(self) -> None:
        if not isinstance(self.k, int) or isinstance(self.k, bool) or self.k < 1:
            raise DefinitionError(
                f"{self.name}: k={self.k!r}; expected a number of rows, 1 or more."
            )

    def pick(self, rows: BatchView, loaded: Any) -> Sequence[bool]:
        """The rows of one group."""
        kept: list[bool] = self.pick_all(
            rows, np.zeros(len(rows["value"]), np.int64), loaded
        ).tolist()
        return kept

    def pick_all(
        self, rows: BatchView, groups: npt.NDArray[np.int64], loaded: Any
    ) -> npt.NDArray[np.bool_]:
        """The rows of many groups, by one sort."""
        value = pl.Series("value", to_array(rows["value"]))
        if value.dtype.is_float():
            value = value.fill_nan(None)
        best = pl.arg_sort_by(
            "value", descending=self.descending, nulls_last=True, maintain_order=True
        )
        order = value.to_frame().select(best).to_series().to_numpy()
        order = order[np.argsort(groups[order], kind="stable")]  # by group, the best first
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        sizes = np.diff(starts, append=len(order))
        keep = np.zeros(len(order), np.bool_)
        keep[order] = np.arange(len(order)) - np.repeat(starts, sizes) < self.k
        return keep
