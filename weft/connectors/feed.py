"""Training from a published version: the same global batches on any number of ranks and workers.

An epoch is cut into global batches: step s is the positions ``[s * B, (s + 1) * B)`` of the
epoch's order, which is a function of the seed and the epoch (`weft.connectors.shuffle`). A rank
takes its consecutive share of each step, and a worker of a rank takes every n-th step, so
neither their number nor what is read ahead changes what is in a step. A position is all there is
to resume: nothing is replayed, and no row before it is read.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.context import get_spawning_popen
from typing import Any, Literal

import numpy as np
import polars as pl
import pyarrow as pa

from weft.connectors.feed_rows import PinnedRows
from weft.connectors.permutation import Indices
from weft.connectors.shuffle import Score, Shuffle
from weft.errors import ContractError, DefinitionError
from weft.pipelines.batch import Column
from weft.pipelines.types import Arrow, Tensor, Type

try:
    from torch import distributed
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info
    from torch.utils.dlpack import from_dlpack
except ImportError as error:
    raise DefinitionError("Feed needs PyTorch: pip install 'weft[models]'") from error

VALID = "_valid"
"""The column that ``last="pad"`` adds: false for rows that only fill the last step."""

_FORMAT = 1

Last = Literal["drop", "pad", "wrap"]


class Feed(IterableDataset[Any]):
    """Batches of a Lance dataset for training: tensors when iterated, Arrow from `batches`.

    A batch is a dict of columns. Columns of numbers and of equally shaped arrays are tensors,
    ``(rows, …)``, around the memory that was read; arrays of differing shapes are lists of
    tensors; text and media are lists of ``str`` and ``bytes``, with ``None`` for null.

    >>> import tempfile, pyarrow as pa
    >>> from weft.pipelines import tables
    >>> token = tables.ensure(tempfile.mkdtemp() + "/t.lance", pa.schema({"x": pa.int64()}))
    >>> staged = tables.stage(token, pa.table({"x": range(10)}))
    >>> tables.tag(token["uri"], tables.commit(token, staged, "r1", {}), "r1", {})
    >>> feed = Feed(token["uri"], version="run-r1", global_batch=4, seed=None)
    >>> [batch["x"] for batch in feed]
    [tensor([0, 1, 2, 3]), tensor([4, 5, 6, 7])]
    >>> feed.epoch, feed.step
    (1, 0)

    An iteration goes from where the feed stands to the end of its epoch, and the next one is
    the next epoch; with `epochs` it goes to the end of that many, and then there is no more.

    Args:
        dataset: the path of a Lance dataset.
        global_batch: rows of one step on all ranks together; divisible by their number.
        version: a number or a tag, resolved once, here.
        columns: which to read; all without it.
        where: which rows: a Polars expression, or SQL as Lance has it. Null is a no.
        seed: names the shuffle; ``None`` keeps the order of the dataset.
        clump_rows: rows that are shuffled together, to read neighbours at a time; see
            `weft.connectors.shuffle`. ``global_batch // 16`` makes a batch of 16 ranges.
        last: what becomes of rows that do not fill a step: none of them is given (``drop``);
            the step is filled with rows marked false in a column ``_valid``, which every batch
            then has (``pad``); or it is filled from the start of the epoch (``wrap``).
        epochs: how many there are; without it there is no end to them.
        rank, world_size: which share of each step. By default those of ``torch.distributed``,
            else of the environment variables ``RANK`` and ``WORLD_SIZE``, else 0 of 1.
        prefetch: batches that are read ahead, by as many threads.
        transform: applied to each batch, in the process that reads it. It must be picklable
            where there are workers.

    Raises:
        DefinitionError: a parameter is wrong, there is no such dataset, version or column, or
            not a single step comes of it.
    """

    def __init__(
        self,
        dataset: str | os.PathLike[str],
        *,
        global_batch: int,
        version: int | str = "latest",
        columns: Sequence[str] | None = None,
        where: pl.Expr | str | None = None,
        seed: int | None = 0,
        clump_rows: int = 1,
        last: Last = "drop",
        epochs: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        prefetch: int = 2,
        transform: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self.rank, self.world_size = _place(rank, world_size)
        if global_batch < 1 or global_batch % self.world_size:
            raise DefinitionError(
                f"global_batch={global_batch} on {self.world_size} ranks: expected a positive "
                "multiple of the number of ranks, so that each has an equal share of a step."
            )
        if last not in ("drop", "pad", "wrap"):
            raise DefinitionError(f"last={last!r}; expected 'drop', 'pad' or 'wrap'.")
        for name, value in (("epochs", epochs), ("prefetch", prefetch)):
            if value is not None and value < 1:
                raise DefinitionError(f"{name}={value}: expected at least 1.")
        self.source = PinnedRows(os.fspath(dataset), version, columns, where)
        self.rows = len(self.source)
        self.global_batch = global_batch
        self.seed = seed
        self.clump_rows = clump_rows
        self.last = last
        self.epochs = epochs
        self.prefetch = prefetch
        self.transform = transform
        self._at = 0
        self._counts = True
        self._process = os.getpid()
        self._refuse_nothing()
        self._order(0)  # refuses wrong parameters

    @property
    def version(self) -> int:
        """The version number that is read."""
        return self.source.version

    @property
    def steps(self) -> int:
        """Steps of an epoch: as many on every rank."""
        if self.last == "drop":
            return self.rows // self.global_batch
        return -(-self.rows // self.global_batch)

    @property
    def epoch(self) -> int:
        """The epoch of the next batch."""
        return self._at // self.steps

    @property
    def step(self) -> int:
        """The step of the next batch in its epoch."""
        return self._at % self.steps

    def __len__(self) -> int:
        """Batches of an iteration that begins at the beginning."""
        return self.steps * (self.epochs or 1)

    def __iter__(self) -> Iterator[Any]:
        for table in self.batches():
            batch = to_tensors(table, self.source.types)
            yield batch if self.transform is None else self.transform(batch)

    def batches(self) -> Iterator[pa.Table]:
        """The batches as Arrow tables, without `transform`; the feed moves on with each.

        Raises:
            DefinitionError: this process was forked from the one that made the feed.
        """
        self._refuse_fork()
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        stop = self._stop()
        for step, table in self._ahead(range(self._at + worker, stop, workers)):
            if info is None:
                self._at = step + 1
            yield table
        self._at = stop

    def loader(self, num_workers: int = 0, pin_memory: bool = False) -> Loader:
        """A ``DataLoader`` with worker processes whose position is the position of this feed."""
        return Loader(self, num_workers, pin_memory)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of an epoch; where the feed stands in it already, it stays.

        Raises:
            DefinitionError: `epoch` is negative.
        """
        if epoch < 0:
            raise DefinitionError(f"epoch={epoch}: expected 0 or more.")
        if epoch != self.epoch or not self._counts:
            self._move(epoch * self.steps)

    def positions(self, step: int) -> Indices:
        """This rank's share of a step: positions in the order of the epoch."""
        share = self.global_batch // self.world_size
        start = step * self.global_batch + self.rank * share
        return np.arange(start, start + share)

    def score(self) -> Score:
        """How well this epoch is shuffled, and what reading it costs."""
        return self._order(self.epoch).score(self.global_batch)

    def state_dict(self, step: int | None = None) -> dict[str, Any]:
        """Where the feed stands and of what it is, as JSON. What was read ahead does not count.

        Args:
            step: batches of the epoch that were delivered, where this feed cannot know:
                a ``DataLoader`` of its own iterates copies of it.

        Raises:
            DefinitionError: it was handed to worker processes and `step` is not given.
        """
        if step is None and not self._counts:
            raise DefinitionError(
                "This feed was handed to the workers of a DataLoader and cannot see how many "
                "batches came out. Use feed.loader(num_workers=…), which counts them, or say it: "
                "feed.state_dict(step=batches of this epoch that were delivered)."
            )
        at = self._at if step is None else self.epoch * self.steps + step
        return {**self._identity(), "epoch": at // self.steps, "step": at % self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken; ranks, workers and read-ahead may be others than then.

        Raises:
            DefinitionError: `state` is of another version, filter, order, …: names the field.
        """
        for name, expected in self._identity().items():
            if name not in state or state[name] != expected:
                raise DefinitionError(
                    f"The state is not of this feed: {name} is {state.get(name)!r} in the state "
                    f"and {expected!r} here. Make the feed as it was then, or start anew."
                )
        epoch, step = state.get("epoch"), state.get("step")
        if not (isinstance(epoch, int) and isinstance(step, int)) or epoch < 0 or step < 0:
            raise DefinitionError(
                f"The state is broken: epoch={epoch!r}, step={step!r}; expected two numbers."
            )
        self._move(epoch * self.steps + step)

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a position to mean the same rows."""
        return {
            "format": _FORMAT,
            "version": self.version,
            "dataset": self.source.content,
            "columns": {name: str(kind) for name, kind in self.source.types.items()},
            "where": self.source.filter,
            "seed": self.seed,
            "clump_rows": self.clump_rows,
            "global_batch": self.global_batch,
            "last": self.last,
        }

    def _order(self, epoch: int) -> Shuffle:
        return Shuffle(self.rows, self.seed, epoch, self.clump_rows)

    def _stop(self) -> int:
        """The step, counted over all epochs, that an iteration ends before."""
        return (self.epoch + 1 if self.epochs is None else self.epochs) * self.steps

    def _ahead(self, steps: range) -> Iterator[tuple[int, pa.Table]]:
        """Read steps in order, `prefetch` of them ahead of whoever asks."""
        ahead: deque[tuple[int, Future[pa.Table]]] = deque()
        pool = ThreadPoolExecutor(self.prefetch, "weft-feed")
        try:
            for step in steps:
                ahead.append((step, pool.submit(self._read, step)))
                if len(ahead) > self.prefetch:
                    first, table = ahead.popleft()
                    yield first, table.result()
            for first, table in ahead:
                yield first, table.result()
        finally:  # also when the consumer stops early
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, at: int) -> pa.Table:
        epoch, step = divmod(at, self.steps)
        positions = self.positions(step)
        inside = positions < self.rows
        positions = positions % self.rows if self.last == "wrap" else positions
        order = self._order(epoch)
        table = self.source.take(order.rows_at(np.minimum(positions, self.rows - 1)))
        return table.append_column(VALID, pa.array(inside)) if self.last == "pad" else table

    def _move(self, at: int) -> None:
        self._at, self._counts = at, True

    def _refuse_nothing(self) -> None:
        if self.rows == 0 or self.steps == 0:
            what = f"{self.rows} rows" + (" pass the filter" if self.source.filter else "")
            raise DefinitionError(
                f"{self.source.path} version {self.version}: {what}, which is not one step of "
                f"global_batch={self.global_batch}. Give a smaller one, other rows, or "
                "last='pad' or 'wrap' where there are any."
            )

    def _refuse_fork(self) -> None:
        if os.getpid() != self._process:
            raise DefinitionError(
                "This process was forked from the one that made the feed, and Lance does not "
                "survive a fork: reading would hang. Use feed.loader(num_workers=…), or "
                "DataLoader(feed, batch_size=None, multiprocessing_context='spawn', …)."
            )

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:
            self._counts = False  # what a worker is given moves on without this one
        return self.__dict__.copy()

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._process, self._counts = os.getpid(), True


class Loader:
    """Batches of a feed made by worker processes; counts those that are delivered."""

    def __init__(self, feed: Feed, num_workers: int, pin_memory: bool) -> None:
        if num_workers < 0:
            raise DefinitionError(f"num_workers={num_workers}: expected 0 or more.")
        self.feed = feed
        self.num_workers = num_workers
        self.pin_memory = pin_memory

    def __len__(self) -> int:
        return len(self.feed)

    def __iter__(self) -> Iterator[Any]:
        feed = self.feed
        start, stop = feed._at, feed._stop()
        batches = DataLoader(
            feed,
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.pin_memory,
            multiprocessing_context="spawn" if self.num_workers else None,
        )
        iterator = iter(batches)
        feed._move(start)
        for at, batch in zip(range(start, stop), iterator, strict=True):
            feed._move(at + 1)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """See `Feed.state_dict`."""
        return self.feed.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Feed.load_state_dict`. The next iteration starts there."""
        self.feed.load_state_dict(state)


def to_tensors(table: pa.Table, types: Mapping[str, Type]) -> dict[str, Any]:
    """The columns of an Arrow table as tensors where they can be, else as lists.

    Raises:
        ContractError: a column of numbers has a null, which no tensor can hold.
    """
    batch: dict[str, Any] = {}
    for name, stored in types.items():
        kind = _as_tensor(stored)
        column = Column(kind, array=table.column(name))
        if column.array.null_count and isinstance(kind.to_values(column.array[:0]), np.ndarray):
            raise ContractError(
                f"Column {name!r} has nulls, and a tensor cannot. Leave these rows out, with "
                f'where=pl.col("{name}").is_not_null(), or fill them in a pipeline.'
            )
        batch[name] = _tensor(column.values)
    if VALID in table.schema.names:
        batch[VALID] = _tensor(table.column(VALID).to_numpy())
    return batch


def _as_tensor(kind: Type) -> Type:
    """Vectors of other numbers than float32, which weft has no name for, as tensors."""
    storage = kind.storage
    if isinstance(kind, Arrow) and pa.types.is_fixed_size_list(storage):
        value = storage.value_type
        if pa.types.is_integer(value) or pa.types.is_floating(value):
            dtype = np.dtype(value.to_pandas_dtype()).name
            return Tensor(dtype, (storage.list_size,), nullable=kind.nullable)
    return kind


def _tensor(values: Any) -> Any:
    """NumPy arrays as tensors around the same memory; everything else as it is."""
    # DLPack, because `from_numpy` warns of memory that Arrow gave as read-only. It is this
    # batch's own: writing to it changes nothing but the batch.
    if isinstance(values, np.ndarray):
        return from_dlpack(values)
    if isinstance(values, list):
        return [from_dlpack(v) if isinstance(v, np.ndarray) else v for v in values]
    return values


def _place(rank: int | None, world_size: int | None) -> tuple[int, int]:
    if (rank is None) != (world_size is None):
        raise DefinitionError(f"rank={rank}, world_size={world_size}: give both, or none.")
    if rank is None or world_size is None:
        if distributed.is_available() and distributed.is_initialized():
            rank, world_size = distributed.get_rank(), distributed.get_world_size()
        else:
            rank = int(os.environ.get("RANK", "0"))
            world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 <= rank < world_size:
        raise DefinitionError(f"rank={rank}, world_size={world_size}: expected 0 <= rank < size.")
    return rank, world_size
