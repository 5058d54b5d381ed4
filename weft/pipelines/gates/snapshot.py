"""One version of a dataset, read as far as gates need: single columns, in batches, or samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from weft.pipelines import tables
from weft.pipelines.batch import KEY, PARENT
from weft.pipelines.gates.gate import Unmeasurable

BATCH_ROWS = 65_536
"""Rows read at a time, of the columns that a gate names: of 512 floats each, 128 MB."""

SEED = 20_181_117
"""Of samples, so that a version is judged alike each time; any fixed number serves."""


class Snapshot:
    """A version of a dataset and of its ledger.

    Raises:
        DefinitionError: there is no such table or version.
    """

    def __init__(self, uri: str, version: int, ledger: tuple[str, int] | None = None) -> None:
        self.uri = uri
        self.version = version
        self._dataset = tables.open_table(uri, version)
        self._ledger = ledger

    @cached_property
    def rows(self) -> int:
        """How many rows it has."""
        return int(self._dataset.count_rows())

    def has(self, column: str) -> bool:
        """Whether it has a column of that name."""
        return column in self._dataset.schema.names

    def missing(self, column: str) -> int:
        """How many values of a column are missing. Media are counted without being read."""
        self._require([column])
        kind = self._dataset.schema.field(column).type
        null = int(self._dataset.count_rows(f"`{column}` IS NULL"))
        if not _can_be_not_finite(kind):
            return null
        return sum(int(is_missing(batch[column]).sum()) for batch in self.batches([column]))

    def batches(self, columns: Sequence[str], *, keys: bool = False) -> Iterator[pl.DataFrame]:
        """These columns of all rows, and the rows' keys if they are asked for.

        Raises:
            Unmeasurable: there is no such column.
        """
        self._require(columns)
        names = [*columns, KEY] if keys else list(columns)
        for batch in self._dataset.scanner(names, batch_size=BATCH_ROWS).to_batches():
            yield pl.DataFrame(batch)

    def sample(self, column: str, most: int) -> pl.Series:
        """The values of a column that are not missing: all of them, or those of `most` rows,
        drawn without replacement.

        Raises:
            Unmeasurable: there is no such column, or fewer than two values.
        """
        self._require([column])
        if self.rows <= most:
            table = self._dataset.to_table(columns=[column])
        else:
            chosen = np.random.default_rng(SEED).choice(self.rows, most, replace=False)
            table = self._dataset.take(np.sort(chosen).tolist(), columns=[column])
        values = pl.DataFrame(table)[column]
        found = values.filter(~is_missing(values))
        if len(found) < 2:
            raise Unmeasurable(f"{len(found)} values of column {column!r} in {len(values)} rows")
        return found

    def failures(self) -> tuple[int, int]:
        """How many rows failed on the way to it, at whatever step, and how many were read.

        Raises:
            Unmeasurable: it has no ledger.
        """
        if self._ledger is None:
            raise Unmeasurable(f"{self.uri} has no ledger")
        uri, version = self._ledger
        failed = tables.open_table(uri, version).count_rows("outcome = 'failed'")
        where = f"{PARENT} IS NULL AND read IS NOT NULL"
        read = pl.DataFrame(tables.read(uri, version, [KEY, "read"], where))
        return int(failed), read.n_unique()

    def _require(self, columns: Sequence[str]) -> None:
        gone = [name for name in columns if not self.has(name)]
        if gone:
            raise Unmeasurable(f"version {self.version} has no column {gone[0]!r}")


def is_missing(values: pl.Series) -> pl.Series:
    """Which values are null, NaN, or vectors with a number that is not finite.

    >>> is_missing(pl.Series([1.0, None, float("nan"), float("inf")])).to_list()
    [False, True, True, False]
    >>> vectors = pl.Series([[1.0, 2.0], None, [1.0, float("inf")]], dtype=pl.Array(pl.Float32, 2))
    >>> is_missing(vectors).to_list()
    [False, True, True]
    """
    if values.dtype.is_float():
        return values.is_null() | values.is_nan().fill_null(value=False)
    if isinstance(values.dtype, pl.Array) and values.dtype.inner.is_float():
        whole = np.isfinite(values.to_numpy()).all(axis=1)  # where there is none NumPy has NaN
        return pl.Series(values.name, ~whole, pl.Boolean)
    return values.is_null()


def _can_be_not_finite(kind: Any) -> bool:
    import pyarrow as pa

    inner = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return bool(pa.types.is_floating(inner))
