"""Micro-batches: what is in them, memory that runs out, order, prefetch. No model is needed."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import Retryable, RowError
from weft.operators.batching import Batcher, micro_batches
from weft.operators.devices import is_out_of_memory

SIZES = st.lists(st.integers(1, 300), max_size=60)


class TestMicroBatches:
    @given(sizes=SIZES, rows=st.integers(1, 20))
    def test_every_row_is_in_one(self, sizes: list[int], rows: int) -> None:
        batches = micro_batches(sizes, rows)
        assert sorted(row for batch in batches for row in batch) == list(range(len(sizes)))
        assert all(1 <= len(batch) <= rows for batch in batches)

    @given(sizes=SIZES, budget=st.integers(1, 1000))
    def test_padded_they_keep_the_budget(self, sizes: list[int], budget: int) -> None:
        for batch in micro_batches(sizes, 1000, budget):
            assert len(batch) == 1 or len(batch) * max(sizes[r] for r in batch) <= budget

    @given(sizes=SIZES, rows=st.integers(1, 20))
    def test_the_largest_come_first(self, sizes: list[int], rows: int) -> None:
        order = [sizes[row] for batch in micro_batches(sizes, rows) for row in batch]
        assert order == sorted(sizes, reverse=True)

    def test_rows_of_one_size_keep_their_order(self) -> None:
        assert micro_batches([5] * 5, 2) == [[0, 1], [2, 3], [4]]


class Memory:
    """A model that doubles numbers and has room for `room` elements, padding included."""

    def __init__(self, room: int, error: type[Exception] = torch.OutOfMemoryError) -> None:
        self.room = room
        self.error = error
        self.tried: list[tuple[int, int]] = []

    def collate(self, rows: list[int]) -> dict[str, Any]:
        return {"rows": torch.tensor(rows)}

    def forward(self, inputs: Any) -> Any:
        rows = inputs["rows"]
        self.tried.append((len(rows), int(rows.max())))
        if len(rows) * int(rows.max()) > self.room:
            raise self.error("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return (rows * 2).numpy()

    def batcher(self) -> Batcher:
        return Batcher("cpu", self.collate, self.forward, "models.Test")


def run(batcher: Batcher, sizes: list[int], rows: int) -> list[int]:
    return [int(a) for a in batcher.run(sizes, sizes, micro_batches(sizes, rows))]


class TestOutOfMemory:
    @given(
        sizes=st.lists(st.integers(1, 50), max_size=40),
        rows=st.integers(1, 40),
        room=st.integers(50, 400),
    )
    def test_answers_and_order_are_the_same(self, sizes: list[int], rows: int, room: int) -> None:
        assert run(Memory(room).batcher(), sizes, rows) == [2 * size for size in sizes]

    def test_what_fits_is_remembered(self) -> None:
        memory = Memory(room=40)
        batcher = memory.batcher()
        run(batcher, [10] * 16, rows=16)
        assert memory.tried[:3] == [(16, 10), (8, 10), (4, 10)]
        assert set(memory.tried[3:]) == {(4, 10)}
        memory.tried.clear()
        run(batcher, [10] * 8, rows=8)
        assert memory.tried == [(4, 10)] * 2
        assert batcher.fits(10) == batcher.fits(16) == batcher.fits(1000) == 4

    def test_smaller_rows_are_not_held_back(self) -> None:
        memory = Memory(room=40)
        batcher = memory.batcher()
        run(batcher, [10] * 16, rows=16)
        memory.tried.clear()
        run(batcher, [2] * 16, rows=16)
        assert memory.tried == [(16, 2)]
        assert batcher.fits(8) is None

    def test_one_row_that_does_not_fit_is_a_row_error(self) -> None:
        batcher = Memory(room=40).batcher()
        with pytest.raises(RowError, match=r"models\.Test: .* for one row of size 41"):
            run(batcher, [41, 3, 3], rows=4)
        assert run(batcher, [3, 4], rows=4) == [6, 8]  # and it works on

    def test_the_failed_batch_is_freed_before_the_next_try(self) -> None:
        held: list[weakref.ref[Any]] = []
        alive: list[int] = []

        def forward(inputs: Any) -> Any:
            alive.append(sum(ref() is not None for ref in held))
            inside = inputs["rows"].clone()
            held.extend((weakref.ref(inside), weakref.ref(inputs["rows"])))
            if len(inside) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inside.numpy()

        batcher = Batcher("cpu", lambda r: {"rows": torch.tensor(r)}, forward, "models.Test")
        assert run(batcher, [1, 1, 1, 1], rows=4) == [1, 1, 1, 1]
        assert alive == [0] * len(alive)

    def test_while_the_next_is_prepared(self) -> None:
        """Memory may run out in the copy as well."""
        first = True

        def collate(rows: list[int]) -> dict[str, Any]:
            nonlocal first
            if first and len(rows) == 4:
                first = False
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return {"rows": torch.tensor(rows)}

        batcher = Batcher("cpu", collate, lambda i: i["rows"].numpy(), "models.Test")
        assert run(batcher, list(range(1, 13)), rows=4) == list(range(1, 13))
        assert not first

    @pytest.mark.parametrize(
        "words",
        [
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "CUDA error: out of memory",
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory",
        ],
    )
    def test_libraries_say_it_otherwise(self, words: str) -> None:
        assert is_out_of_memory(RuntimeError(words))
        assert not is_out_of_memory(ValueError(words))


class TestErrors:
    def test_of_a_row_stay_as_they_are(self) -> None:
        memory = Memory(room=1, error=ValueError)
        with pytest.raises(ValueError, match="out of memory"):
            run(memory.batcher(), [5, 5], rows=2)

    def test_of_the_device_end_the_run(self) -> None:
        def forward(inputs: Any) -> Any:
            raise RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel")

        batcher = Batcher("cpu", lambda r: {"rows": torch.tensor(r)}, forward, "models.Test")
        with pytest.raises(Retryable, match=r"illegal memory access was encountered\. Finished"):
            run(batcher, [1, 2], rows=2)


def test_the_next_batch_is_prepared_while_one_is_computed() -> None:
    prepared = [threading.Event() for _ in range(4)]
    seen: list[bool] = []

    def collate(rows: list[int]) -> dict[str, Any]:
        prepared[rows[0]].set()
        return {"rows": torch.tensor(rows)}

    def forward(inputs: Any) -> Any:
        (row,) = inputs["rows"].tolist()
        if row + 1 < len(prepared):
            seen.append(prepared[row + 1].wait(timeout=10))
        return inputs["rows"].numpy()

    batcher = Batcher("cpu", collate, forward, "models.Test")
    answers = batcher.run(range(4), [1] * 4, [[0], [1], [2], [3]])
    assert [int(a) for a in answers] == [0, 1, 2, 3]
    assert seen == [True] * 3


def test_no_rows() -> None:
    assert Memory(10).batcher().run([], [], []) == []


def test_models_run_in_inference_mode() -> None:
    modes = []

    def forward(inputs: Any) -> Any:
        modes.append(torch.is_inference_mode_enabled())
        return np.zeros(1)

    Batcher("cpu", lambda r: {}, forward, "models.Test").run([1], [1], [[0]])
    assert modes == [True]
