"""Run a model over rows of different sizes: micro-batches, prefetch, and what fits in memory.

Rows are sorted by size, the largest first, and cut into micro-batches of alike rows, so that
little is padded. While one is computed, the next is collated and copied by a thread of its own.
A micro-batch that runs out of memory is halved and tried again; how many rows of that size fit is
remembered for as long as the worker lives. It is never raised again: the model and the device stay
the same, and each attempt above the limit would cost a failed batch. Answers come back in the order
of the rows, and they do not depend on how the rows were cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from weft.errors import RowError
from weft.operators.devices import Feed, Inputs, check_alive, is_out_of_memory
from weft.pipelines.types import Values

Collate = Callable[[list[Any]], Inputs]
"""Rows to inputs of the model, on the CPU: pads, stacks. Runs in the prefetch thread."""

Forward = Callable[[Inputs], Values]
"""Inputs on the device to one answer a row: an array or a list, no longer on the device."""


def micro_batches(sizes: Sequence[int], rows: int, budget: int | None = None) -> list[list[int]]:
    """Rows cut into batches of alike size, the largest first.

    A batch has at most `rows` rows; padded to its largest, it has at most `budget` in all (a row
    that is larger by itself is alone).

    >>> micro_batches([3, 9, 4, 10], rows=2)
    [[3, 1], [2, 0]]
    >>> micro_batches([3, 9, 4, 10], rows=4, budget=12)
    [[3], [1], [2, 0]]
    """
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    batches: list[list[int]] = []
    for row in order:
        last = batches[-1] if batches else []
        largest = sizes[last[0]] if last else 0
        if not last or len(last) == rows or (budget and (len(last) + 1) * largest > budget):
            batches.append([row])
        else:
            last.append(row)
    return batches


class Batcher:
    """Runs a model over rows, one micro-batch after the other. One per worker.

    Args:
        device: ``"cpu"`` or ``"cuda:0"``.
        collate: see `Collate`.
        forward: see `Forward`; it runs in `torch.inference_mode`.
        by: the operator's name, for messages.
    """

    def __init__(self, device: str, collate: Collate, forward: Forward, by: str) -> None:
        self.collate = collate
        self.forward = forward
        self.by = by
        self._feed = Feed(device)
        self._prefetch = ThreadPoolExecutor(1, "weft-prefetch")
        self._fits: dict[int, int] = {}  # size, as a power of two -> rows that fit

    def run(self, items: Values, sizes: Sequence[int], batches: Iterable[list[int]]) -> list[Any]:
        """One answer for each of `items`, in their order.

        Args:
            items: what `collate` takes.
            sizes: of each item: tokens, pixels, samples.
            batches: see `micro_batches`.

        Raises:
            RowError: there is not enough memory for one row.
            Retryable: the device is broken.
        """
        answers: list[Any] = [None] * len(items)
        waiting = deque(batches)
        ahead = self._start(waiting, items, sizes)
        while ahead is not None:
            rows, inputs = ahead
            ahead = self._start(waiting, items, sizes)
            made = self._attempt(inputs)
            del inputs
            if made is None:
                if ahead is not None:
                    waiting.appendleft(ahead[0])
                    ahead[1].exception()  # it holds memory until it is done
                ahead = None
                self._feed.release()
                self._halve(rows, sizes, waiting)
                ahead = self._start(waiting, items, sizes)
                continue
            for row, answer in zip(rows, made, strict=True):
                answers[row] = answer
        return answers

    def fits(self, size: int) -> int | None:
        """How many rows of this size fit at once, if that was ever too many."""
        known = [rows for power, rows in self._fits.items() if power <= _power(size)]
        return min(known, default=None)

    def _start(
        self, waiting: deque[list[int]], items: Values, sizes: Sequence[int]
    ) -> tuple[list[int], Future[Any]] | None:
        """Have the next micro-batch prepared, cut to what fits."""
        if not waiting:
            return None
        rows = waiting.popleft()
        fit = self.fits(max(sizes[r] for r in rows))
        if fit is not None and len(rows) > fit:
            waiting.appendleft(rows[fit:])
            rows = rows[:fit]
        return rows, self._prefetch.submit(self._prepare, [items[r] for r in rows])

    def _prepare(self, items: list[Any]) -> Any:
        return self._feed.send(self.collate(items))

    def _attempt(self, inputs: Future[Any]) -> Values | None:
        """The answers of one micro-batch, or ``None`` if it is too large for the memory."""
        import torch

        try:
            with torch.inference_mode():
                return self.forward(self._feed.arrived(inputs.result()))
        except RuntimeError as error:
            check_alive(error)
            if not is_out_of_memory(error):
                raise
        # Only here is the error gone, and with it the frames that hold the batch's tensors.
        return None

    def _halve(self, rows: list[int], sizes: Sequence[int], waiting: deque[list[int]]) -> None:
        largest = max(sizes[r] for r in rows)
        if len(rows) == 1:
            raise RowError(
                f"{self.by}: the device has not enough memory for one row of size {largest}. Make "
                "it smaller, or drop the row."
            )
        half = len(rows) // 2
        self._fits[_power(largest)] = half
        waiting.extendleft([rows[half:], rows[:half]])


def _power(size: int) -> int:
    """The power of two that `size` is at most: 1, 2, 4, …"""
    return 1 << max(size - 1, 0).bit_length()
