"""The training feed: the same global batches everywhere, and resume that misses nothing."""

from __future__ import annotations

import itertools
import json
import os
import pickle
from collections.abc import Iterator
from multiprocessing.context import set_spawning_popen
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from weft.connectors import Feed
from weft.connectors import feed as feed_module
from weft.errors import ContractError, DefinitionError
from weft.pipelines import tables
from weft.pipelines.fields import arrow_schema
from weft.pipelines.types import (
    Bool,
    Embedding,
    Encoded,
    Float32,
    Image,
    Int64,
    Tensor,
    Text,
    Timestamp,
)

ROWS = 103
COLUMNS = {
    "n": Int64(),
    "half": Float32(nullable=True),
    "odd": Bool(),
    "name": Text(nullable=True),
    "vector": Embedding(3),
    "grid": Tensor("uint8", (2, 2)),
    "image": Image(),
    "media": Encoded("image", nullable=True),
}
SCHEMA = pa.schema([pa.field("_key", pa.string()), *arrow_schema(COLUMNS)])


def table_of(start: int, stop: int) -> pa.Table:
    numbers = range(start, stop)
    values: dict[str, Any] = {
        "n": list(numbers),
        "half": [None if i % 10 == 0 else i / 2 for i in numbers],
        "odd": [i % 2 == 1 for i in numbers],
        "name": [None if i == 7 else f"name {i}" for i in numbers],
        "vector": [np.array([i, i + 1, i + 2], np.float32) for i in numbers],
        "grid": [np.full((2, 2), i % 256, np.uint8) for i in numbers],
        "image": [np.full((1 + i % 3, 2, 3), i % 256, np.uint8) for i in numbers],
        "media": [None if i % 5 == 0 else bytes([i % 256]) * (i % 4) for i in numbers],
    }
    arrays = [COLUMNS[name].to_arrow(value) for name, value in values.items()]
    return pa.table([pa.array([f"k{i}" for i in numbers]), *arrays], schema=SCHEMA)


def publish(path: str, run: str, *parts: pa.Table) -> int:
    token = tables.ensure(path, parts[0].schema)
    staged = [fragment for part in parts for fragment in tables.stage(token, part)]
    version = tables.commit(token, staged, run, {})
    tables.tag(path, version, run, {})
    return version


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """103 rows in three fragments; the rows 40 and 41 of 105 are deleted."""
    made = str(tmp_path_factory.mktemp("feed") / "t.lance")
    publish(made, "r1", table_of(0, 37), table_of(37, 90), table_of(90, 105))
    lance.dataset(made).delete("n IN (40, 41)")
    tables.tag(made, lance.dataset(made).version, "r2", {})
    return made


NUMBERS = [i for i in range(105) if i not in (40, 41)]


def numbers(batches: Iterator[Any]) -> list[list[int]]:
    return [batch["n"].tolist() for batch in batches]


def feed_of(path: str, **options: Any) -> Feed:
    return Feed(
        path, **{"global_batch": 8, "columns": ["n"], "rank": 0, "world_size": 1, **options}
    )


def in_workers(feed: Feed, workers: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What a DataLoader does with `workers` workers, in this process: round robin."""
    if not workers:
        yield from feed
        return
    streams = []
    for worker in range(workers):
        copy = Feed.__new__(Feed)
        copy.__setstate__(feed.__getstate__())
        streams.append((worker, iter(copy)))
    while streams:
        worker, stream = streams.pop(0)
        info = SimpleNamespace(id=worker, num_workers=workers)
        monkeypatch.setattr(feed_module, "get_worker_info", lambda info=info: info)
        batch = next(stream, None)
        monkeypatch.undo()
        if batch is not None:
            streams.append((worker, stream))
            yield batch


def global_batches(
    path: str, world: int, workers: int, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> list[list[int]]:
    """The steps of all ranks, put together."""
    ranks = []
    for rank in range(world):
        feed = feed_of(path, rank=rank, world_size=world, **options)
        ranks.append(numbers(in_workers(feed, workers, monkeypatch)))
    return [list(itertools.chain(*step)) for step in zip(*ranks, strict=True)]


class TestOrder:
    def test_an_epoch_has_every_row_once(self, path: str) -> None:
        seen = list(itertools.chain(*numbers(feed_of(path, last="wrap", global_batch=1))))
        assert sorted(seen) == NUMBERS
        assert seen != NUMBERS

    def test_without_a_seed_it_is_the_order_of_the_dataset(self, path: str) -> None:
        assert list(itertools.chain(*numbers(feed_of(path, seed=None)))) == NUMBERS[:96]

    def test_epochs_and_seeds_differ_and_repeat(self, path: str) -> None:
        feed = feed_of(path)
        first, second = numbers(feed), numbers(feed)
        assert first != second
        assert numbers(feed_of(path)) == first
        assert numbers(feed_of(path, seed=1)) != first
        feed.set_epoch(0)
        assert numbers(feed) == first

    def test_epochs_in_one_iteration(self, path: str) -> None:
        one_by_one = feed_of(path)
        expected = numbers(one_by_one) + numbers(one_by_one) + numbers(one_by_one)
        feed = feed_of(path, epochs=3)
        assert len(feed) == len(expected)
        assert numbers(feed) == expected
        assert numbers(feed) == []

    @pytest.mark.parametrize("clump_rows", [1, 4])
    def test_global_batches_are_the_same_on_any_ranks_and_workers(
        self, path: str, clump_rows: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for last in ("drop", "pad", "wrap"):
            options = {"last": last, "clump_rows": clump_rows}
            expected = global_batches(path, 1, 0, monkeypatch, **options)
            for world, workers in ((1, 2), (2, 0), (4, 3), (8, 0)):
                found = global_batches(path, world, workers, monkeypatch, **options)
                assert found == expected, (world, workers)

    def test_prefetch_changes_nothing(self, path: str) -> None:
        assert numbers(feed_of(path, prefetch=7)) == numbers(feed_of(path, prefetch=1))


class TestLastStep:
    @pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17])
    @pytest.mark.parametrize("world", [1, 2, 8])
    def test_every_rank_has_as_many_steps(self, path: str, rows: int, world: int) -> None:
        for last, steps in (("drop", rows // 8), ("pad", -(-rows // 8)), ("wrap", -(-rows // 8))):
            if not steps:
                continue
            seen = []
            for rank in range(world):
                where = f"n < {rows}"
                feed = feed_of(path, where=where, last=last, rank=rank, world_size=world)
                batches = list(feed)
                assert len(batches) == len(feed) == steps
                assert {len(b["n"]) for b in batches} == {8 // world}
                for batch in batches:
                    valid = batch.get("_valid", torch.ones(len(batch["n"]), dtype=torch.bool))
                    seen += batch["n"][valid].tolist()
            counts = np.bincount(seen, minlength=rows)
            if last == "drop":
                assert counts.max() == 1
                assert len(seen) == steps * 8
            elif last == "pad":
                assert counts.tolist() == [1] * rows
            else:
                assert counts.min() >= 1
                assert counts.max() - counts.min() <= 1

    def test_wrap_fills_from_the_start_of_the_epoch(self, path: str) -> None:
        steps = numbers(feed_of(path, last="wrap"))
        assert steps[-1][7:] == steps[0][:1]  # 103 = 12 * 8 + 7


class TestWhere:
    @pytest.mark.parametrize(
        ("where", "passes"),
        [
            ("n > 50 AND odd", lambda i: i > 50 and i % 2),
            (pl.col("n").is_between(10, 60), lambda i: 10 <= i <= 60),
            (pl.col("half") > 20, lambda i: i % 10 and i / 2 > 20),  # null is a no
            (pl.col("name").str.ends_with("3"), lambda i: i % 10 == 3),  # Polars, no SQL
        ],
    )
    def test_rows_that_pass(self, path: str, where: Any, passes: Any) -> None:
        feed = feed_of(path, where=where, last="pad", seed=None)
        seen = [n for b in feed for n in b["n"][b["_valid"]].tolist()]
        assert seen == [i for i in NUMBERS if passes(i)]
        shuffled = feed_of(path, where=where, last="pad")
        assert sorted(n for b in shuffled for n in b["n"][b["_valid"]].tolist()) == seen

    def test_reads_only_its_columns_to_plan(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scanned = []
        original = lance.LanceDataset.scanner
        monkeypatch.setattr(
            lance.LanceDataset,
            "scanner",
            lambda self, *a, **k: scanned.append(k["columns"]) or original(self, *a, **k),
        )
        feed_of(path, where="n > 5", columns=None)
        feed_of(path, where=pl.col("name").str.len_chars() > 2, columns=None)
        assert scanned == [{"passes": "n > 5"}, ["name"]]

    def test_what_it_refuses(self, path: str) -> None:
        for where, message in (
            ("nn > 5", "Lance cannot judge it"),
            ("n +", "Lance cannot judge it"),
            ("n + 1", "is int64; a predicate must be Boolean"),
            (pl.col("nn") * 2 > 5, r"no column 'nn'"),
            (pl.col("n") > pl.col("n").mean(), "answers for each row by itself"),
            (pl.col("n") + 1, "must be Boolean"),
            (pl.col("name").str.to_integer() > 3, "row 0: the predicate"),
            ("n > 1000", "0 rows pass the filter"),
        ):
            with pytest.raises(DefinitionError, match=message):
                feed_of(path, where=where)


class TestResume:
    @pytest.mark.parametrize(("at", "last"), [(5, "drop"), (12, "drop"), (13, "pad"), (20, "wrap")])
    def test_the_stream_goes_on_as_if_never_stopped(
        self, path: str, at: int, last: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From the middle of an epoch (12 steps with drop, else 13) and from its end."""
        options = {"epochs": 2, "last": last}
        whole = global_batches(path, 1, 0, monkeypatch, **options)
        states = []
        for world in (1, 2, 4):
            feed = feed_of(path, **options, rank=world - 1, world_size=world)
            for _ in itertools.islice(feed, at):
                pass
            states.append(json.loads(json.dumps(feed.state_dict())))
        assert states[0] == states[1] == states[2]  # so each of them goes on as any other
        for world, workers in itertools.product((1, 2, 4), (0, 2)):
            ranks = []
            for rank in range(world):
                feed = feed_of(path, **options, rank=rank, world_size=world)
                feed.load_state_dict(states[0])
                ranks.append(numbers(in_workers(feed, workers, monkeypatch)))
            found = [list(itertools.chain(*step)) for step in zip(*ranks, strict=True)]
            assert found == whole[at:], (world, workers)

    def test_the_boundary_of_an_epoch_is_the_start_of_the_next(self, path: str) -> None:
        feed = feed_of(path)
        list(feed)
        assert (feed.epoch, feed.step) == (1, 0)
        expected = numbers(feed)
        other = feed_of(path)
        other.load_state_dict({**feed.state_dict(), "epoch": 1, "step": 0})
        other.set_epoch(1)  # it is there already, and stays
        assert numbers(other) == expected

    def test_set_epoch_keeps_a_loaded_position(self, path: str) -> None:
        feed = feed_of(path)
        whole = numbers(feed)
        other = feed_of(path)
        other.load_state_dict({**feed.state_dict(), "epoch": 0, "step": 4})
        other.set_epoch(0)
        assert numbers(other) == whole[4:]

    def test_batches_read_ahead_do_not_count(self, path: str) -> None:
        feed = feed_of(path, prefetch=5)
        stream = iter(feed)
        next(stream)
        assert feed.state_dict()["step"] == 1

    @pytest.mark.parametrize("where", [None, "n >= 0"])
    def test_it_reads_no_row_before_its_position(
        self, path: str, where: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        feed = feed_of(path, where=where)
        whole = numbers(feed)
        read: list[int] = []
        other = feed_of(path, where=where)
        original = other.source.take
        monkeypatch.setattr(
            other.source, "take", lambda at: read.extend(at.tolist()) or original(at)
        )
        other.load_state_dict({**feed.state_dict(), "epoch": 0, "step": 10})
        assert numbers(other) == whole[10:]
        assert [NUMBERS[i] for i in read] == list(itertools.chain(*whole[10:]))

    def test_another_feed_is_refused_by_the_field_that_differs(
        self, path: str, tmp_path: Path
    ) -> None:
        base: dict[str, Any] = {"where": "n < 90", "version": 2}
        state = feed_of(path, **base).state_dict()
        feed_of(path, **base, rank=1, world_size=2, prefetch=9, epochs=7).load_state_dict(state)
        for field, options in (
            ("version", {"version": 3}),
            ("columns", {"columns": ["n", "name"]}),
            ("where", {"where": "n < 91"}),
            ("seed", {"seed": 1}),
            ("clump_rows", {"clump_rows": 2}),
            ("global_batch", {"global_batch": 4}),
            ("last", {"last": "wrap"}),
        ):
            with pytest.raises(DefinitionError, match=f"not of this feed: {field} is"):
                feed_of(path, **{**base, **options}).load_state_dict(state)
        with pytest.raises(DefinitionError, match=r"where is 'n < 90.*and 'n < 91"):
            feed_of(path, **{**base, "where": "n < 91"}).load_state_dict(state)
        remade = str(tmp_path / "t.lance")
        assert publish(remade, "r1", table_of(0, 37), table_of(37, 90), table_of(90, 105)) == 2
        with pytest.raises(DefinitionError, match="not of this feed: dataset is"):
            feed_of(remade, **base).load_state_dict(state)
        os.rename(path, f"{path}.away")
        try:
            feed_of(f"{path}.away", **base).load_state_dict(state)  # the same files elsewhere
        finally:
            os.rename(f"{path}.away", path)
        with pytest.raises(DefinitionError, match="not of this feed: format is None"):
            feed_of(path).load_state_dict({})
        with pytest.raises(DefinitionError, match="state is broken: epoch=None, step='x'"):
            feed_of(path, **base).load_state_dict({**state, "epoch": None, "step": "x"})


class TestVersion:
    def test_is_pinned_when_it_is_made(self, tmp_path: Path) -> None:
        path = str(tmp_path / "t.lance")
        publish(path, "r1", table_of(0, 20))
        feed, tagged = feed_of(path), feed_of(path, version="run-r1")
        publish(path, "r2", table_of(100, 140))
        assert (feed.version, tagged.version, feed_of(path).version) == (2, 2, 3)
        assert {n for step in numbers(feed) for n in step} <= set(range(20))
        assert {n for step in numbers(feed_of(path)) for n in step} <= set(range(100, 140))

    def test_of_a_dataset_that_weft_did_not_publish(self, tmp_path: Path) -> None:
        path = str(tmp_path / "t.lance")
        lance.write_dataset(pa.table({"n": range(10)}), path)
        assert feed_of(path, seed=None, global_batch=5).version == 1
        assert numbers(feed_of(path, seed=None, global_batch=5))[1] == [5, 6, 7, 8, 9]


class TestBatches:
    def test_hold_every_column_as_it_was_written(self, path: str) -> None:
        feed = feed_of(path, columns=None, where=pl.col("half").is_not_null(), last="pad")
        seen = []
        for batch in feed:
            assert list(batch) == [*COLUMNS, "_valid"]
            assert (batch["n"].dtype, batch["half"].dtype) == (torch.int64, torch.float32)
            assert batch["odd"].dtype == torch.bool
            assert batch["vector"].shape == (8, 3)
            assert (batch["grid"].shape, batch["grid"].dtype) == ((8, 2, 2), torch.uint8)
            for row, n in enumerate(batch["n"].tolist()):
                assert batch["half"][row] == n / 2
                assert batch["odd"][row] == (n % 2 == 1)
                assert batch["vector"][row].tolist() == [n, n + 1, n + 2]
                assert batch["grid"][row].flatten().tolist() == [n] * 4
                assert batch["image"][row].shape == (1 + n % 3, 2, 3)
                assert batch["image"][row].unique().tolist() == [n]
                assert batch["name"][row] == (None if n == 7 else f"name {n}")
                assert batch["media"][row] == (None if n % 5 == 0 else bytes([n]) * (n % 4))
            seen += batch["n"][batch["_valid"]].tolist()
        assert sorted(seen) == [i for i in NUMBERS if i % 10]

    def test_tensors_share_the_memory_that_was_read(self, path: str) -> None:
        table = next(feed_of(path, columns=["n", "vector", "grid"]).batches())
        types = {name: COLUMNS[name] for name in ("n", "vector", "grid")}
        tensors = feed_module.to_tensors(table, types)
        for name, tensor in tensors.items():
            chunk = table.column(name).chunk(0)
            chunk = chunk.storage if isinstance(chunk, pa.ExtensionArray) else chunk
            values = chunk.values if isinstance(chunk, pa.FixedSizeListArray) else chunk
            start = values.buffers()[1].address
            assert start <= tensor.data_ptr() < start + values.buffers()[1].size

    def test_are_arrow_for_whoever_wants_that(self, path: str) -> None:
        for table, batch in zip(feed_of(path).batches(), feed_of(path), strict=True):
            assert table.column("n").to_pylist() == batch["n"].tolist()

    def test_a_null_that_no_tensor_holds_is_refused(self, path: str) -> None:
        with pytest.raises(ContractError, match=r"'half' has nulls.*is_not_null\(\)"):
            list(feed_of(path, columns=["half"]))

    def test_go_through_the_transform(self, path: str) -> None:
        feed = feed_of(path, transform=lambda batch: batch["n"] * 2)
        assert [b.tolist() for b in feed] == [[2 * n for n in s] for s in numbers(feed_of(path))]

    def test_of_other_peoples_datasets_hold_vectors_as_tensors(self, tmp_path: Path) -> None:
        path = str(tmp_path / "t.lance")
        values = np.arange(12, dtype=np.float64)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
        lance.write_dataset(pa.table({"vector": vectors, "tags": [["a"], [], ["b"], []]}), path)
        (batch,) = feed_of(path, columns=None, seed=None, global_batch=4)
        assert torch.equal(batch["vector"], torch.from_numpy(values.reshape(4, 3)))
        assert batch["tags"] == [["a"], [], ["b"], []]

    def test_timestamps_stay_what_they_are(self, tmp_path: Path) -> None:
        path = str(tmp_path / "t.lance")
        schema = arrow_schema({"at": Timestamp()})
        publish(path, "r1", pa.table([pa.array([5, 6], schema.field("at").type)], schema=schema))
        (batch,) = feed_of(path, columns=None, seed=None, global_batch=2)
        assert [at.microsecond for at in batch["at"]] == [5, 6]


class TestPlace:
    def test_is_taken_from_the_environment(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert (Feed(path, global_batch=8).rank, Feed(path, global_batch=8).world_size) == (0, 1)
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")
        feed = Feed(path, global_batch=8, columns=["n"])
        assert numbers(feed) == numbers(feed_of(path, rank=1, world_size=2))

    def test_is_taken_from_torch_distributed(self, path: str, tmp_path: Path) -> None:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
        )
        try:
            assert Feed(path, global_batch=8).world_size == 1
        finally:
            torch.distributed.destroy_process_group()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"global_batch": 9, "rank": 0, "world_size": 2}, "multiple of the number of ranks"),
            ({"global_batch": 0}, "global_batch=0 on 1 ranks"),
            ({"rank": 2, "world_size": 2}, "expected 0 <= rank < size"),
            ({"rank": 1, "world_size": None}, "give both, or none"),
            ({"last": "keep"}, "last='keep'; expected 'drop', 'pad' or 'wrap'"),
            ({"prefetch": 0}, "prefetch=0: expected at least 1"),
            ({"clump_rows": 0}, "clump_rows=0: expected 1"),
            ({"global_batch": 200}, "103 rows, which is not one step of global_batch=200"),
            ({"columns": ["nn"]}, "no column 'nn'"),
            ({"version": "run-x"}, "no tag 'run-x'"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, path: str, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(DefinitionError, match=message):
            feed_of(path, **options)


class TestLoader:
    def test_workers_deliver_in_order_and_are_resumed_where_they_delivered(self, path: str) -> None:
        """With real worker processes, which take seconds to start: the only test that does."""
        options: dict[str, Any] = {"rank": 1, "world_size": 2, "epochs": 2}
        whole = numbers(feed_of(path, **options))
        loader = feed_of(path, **options).loader(num_workers=2)
        loader.feed.load_state_dict({**loader.state_dict(), "step": 3})
        assert len(loader) == len(whole)
        stream = iter(loader)
        assert numbers(itertools.islice(stream, 5)) == whole[3:8]
        state = loader.state_dict()  # the workers have read steps ahead; they do not count
        assert (state["epoch"], state["step"]) == (0, 8)
        assert numbers(stream) == whole[8:]
        assert loader.feed.epoch == 2
        other = feed_of(path, **options).loader()
        other.load_state_dict(state)
        assert numbers(other) == whole[8:]

    def test_a_feed_that_went_to_workers_is_told_how_far_they_came(self, path: str) -> None:
        feed = feed_of(path)
        set_spawning_popen(object())  # what a DataLoader's processes are started under
        try:
            copy = pickle.loads(pickle.dumps(feed))
        finally:
            set_spawning_popen(None)
        whole = numbers(copy)
        with pytest.raises(DefinitionError, match="handed to the workers of a DataLoader"):
            feed.state_dict()
        other = feed_of(path)
        other.load_state_dict(feed.state_dict(step=3))
        assert numbers(other.loader()) == whole[3:]
        other.load_state_dict(feed.state_dict(step=12))
        assert (other.epoch, other.step) == (1, 0)

    def test_a_plain_dataloader_in_this_process_counts(self, path: str) -> None:
        feed = feed_of(path)
        stream = iter(DataLoader(feed, batch_size=None))
        assert numbers(itertools.islice(stream, 3)) == numbers(feed_of(path))[:3]
        assert feed.state_dict()["step"] == 3

    def test_a_forked_process_is_refused(self, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
        feed = feed_of(path)
        monkeypatch.setattr(feed_module.os, "getpid", lambda: -1)
        with pytest.raises(DefinitionError, match="forked from the one that made the feed"):
            next(iter(feed))

    def test_workers_cannot_be_negative(self, path: str) -> None:
        with pytest.raises(DefinitionError, match="num_workers=-1"):
            feed_of(path).loader(num_workers=-1)
