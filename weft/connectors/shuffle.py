"""The order of an epoch: which row is at which position, as a function of a seed.

Nothing is stored and nothing is replayed: the row at any position of any epoch is computed, in
the same time for ten rows and for ten billion.

With ``clump_rows=1`` every order of the rows is as likely as every other, as far as a 64-bit
hash can tell, and each row is read by itself. Larger clumps trade randomness for locality, in
two levels: clumps of neighbouring rows are permuted over the whole table, and then the rows of
`WINDOW_CLUMPS` clumps that came to lie side by side are permuted among themselves. A batch is
then drawn from at most one window more than it fills; `Shuffle.score` measures what that costs
and saves. Where clumps begin moves with each epoch, so rows that share one do not always.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from weft.connectors.permutation import Indices, Permutation
from weft.errors import DefinitionError

WINDOW_CLUMPS = 16
"""Clumps whose rows are mixed: a batch of one window has 1/16 of its rows from one clump."""


@dataclass(frozen=True)
class Score:
    """How well an order is mixed, and what reading it costs; both are 1 for a perfect shuffle.

    `displacement` is how far rows are from where they would be unshuffled, on average and
    relative to the mean of all orders (a third of the table). `reads_per_row` is how many
    separate ranges of rows a batch touches, per row: 0.01 means 100 neighbours at a time.
    """

    displacement: float
    reads_per_row: float


@dataclass(frozen=True)
class Shuffle:
    """The order of `rows` rows in one epoch; ``seed=None`` is the order of the table.

    >>> order = Shuffle(rows=10, seed=0, epoch=0)
    >>> sorted(order.rows_at(np.arange(10)).tolist()) == list(range(10))
    True
    >>> Shuffle(rows=10, seed=None, epoch=3).rows_at(np.array([4, 5])).tolist()
    [4, 5]

    Raises:
        DefinitionError: there are no rows, or `clump_rows` is less than 1.
    """

    rows: int
    seed: int | None
    epoch: int
    clump_rows: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise DefinitionError("There are no rows to shuffle.")
        if self.clump_rows < 1:
            raise DefinitionError(
                f"clump_rows={self.clump_rows}: expected 1 (each row by itself) or the number "
                "of neighbouring rows to keep together, such as 256."
            )

    def rows_at(self, positions: Indices) -> Indices:
        """The rows at `positions`, each in ``[0, rows)``."""
        if self.seed is None:
            return positions
        if self.clump_rows == 1:
            return self._clumps.at(positions)
        slots = self._within_windows(positions)
        clumps, offsets = np.divmod(slots, self.clump_rows)
        whole = clumps < self._clumps.size
        clumps[whole] = self._clumps.at(clumps[whole])
        return (clumps * self.clump_rows + offsets + self._rotation) % self.rows

    def score(self, batch_rows: int, batches: int = 64) -> Score:
        """Measure the order on `batches` batches spread over the epoch."""
        count = max(1, self.rows // batch_rows)
        chosen = np.unique(np.linspace(0, count - 1, min(batches, count)).astype(np.int64))
        length = min(batch_rows, self.rows)
        positions = chosen[:, None] * batch_rows + np.arange(length)
        found = np.sort(self.rows_at(positions.reshape(-1)).reshape(positions.shape), axis=1)
        far = np.abs(self.rows_at(positions.reshape(-1)) - positions.reshape(-1)).mean()
        ranges = 1 + (np.diff(found, axis=1) > 1).sum(axis=1)
        return Score(float(far) / (self.rows / 3), float(ranges.mean()) / length)

    @cached_property
    def _clumps(self) -> Permutation:
        """Of whole clumps; the rows left over stay last, and are others in each epoch."""
        return Permutation(max(1, self.rows // self.clump_rows), self._key("clumps"))

    @cached_property
    def _rotation(self) -> int:
        return int(Permutation(self.rows, self._key("rotation")).at(np.array([0]))[0])

    def _within_windows(self, positions: Indices) -> Indices:
        length = self.clump_rows * WINDOW_CLUMPS
        windows = positions // length
        slots = np.empty_like(positions)
        for window in np.unique(windows):
            inside = windows == window
            start = int(window) * length
            size = min(length, self.rows - start)
            order = Permutation(size, self._key(f"window {window}"))
            slots[inside] = start + order.at(positions[inside] - start)
        return slots

    def _key(self, what: str) -> str:
        return f"weft shuffle 1, seed {self.seed}, epoch {self.epoch}, {what}"
