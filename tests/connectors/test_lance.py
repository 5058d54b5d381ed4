"""The Lance connector: what is written is read, at any version, in splits of any size."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.connectors.lance import Lance
from weft.errors import ContractError, DefinitionError, PlanError
from weft.pipelines import tables
from weft.pipelines.connector import Chunk, Split
from weft.pipelines.fields import arrow_schema
from weft.pipelines.types import (
    Arrow,
    Binary,
    Bool,
    Embedding,
    Encoded,
    Float32,
    Float64,
    Image,
    Int32,
    Int64,
    Tensor,
    Text,
    Timestamp,
    Type,
    UInt8,
    UInt64,
)

KEYED = pa.schema([pa.field("_key", pa.string(), nullable=False), ("_source", pa.string())])


def keyed(columns: dict[str, Type]) -> pa.Schema:
    return pa.schema([*KEYED, *arrow_schema(columns)])


COLUMNS = {"n": Int64(nullable=True), "name": Text(), "media": Encoded("image", nullable=True)}
SCHEMA = keyed(COLUMNS)


def table_of(start: int, stop: int) -> pa.Table:
    numbers = range(start, stop)
    media = [None if i % 5 == 0 else b"" if i % 5 == 1 else bytes([i % 256]) * 50 for i in numbers]
    return pa.table(
        [
            [f"k{i}" for i in numbers],
            ["s"] * len(numbers),
            [None if i % 4 == 3 else i for i in numbers],
            [f"name {i}" for i in numbers],
            media,
        ],
        schema=SCHEMA,
    )


def write(path: str, run: str, *parts: pa.Table, publish: bool = True) -> int:
    sink = Lance(path)
    schema = parts[0].schema if parts else SCHEMA
    sink.check(schema)
    token = sink.prepare(schema)
    staged = [fragment for part in parts for fragment in sink.stage(token, part)]
    version = sink.commit(token, staged, run, {})
    if publish:
        sink.publish(version, run, {})
    return version


def chunks_of(
    source: Lance, rows: int = 100, batch_rows: int = 100, *predicates: pl.Expr, columns: Any = None
) -> Iterator[tuple[Split, Chunk]]:
    names = list(source.columns) if columns is None else columns
    for split in source.splits(rows):
        for chunk in source.read(split, names, predicates, batch_rows):
            yield split, chunk


def values_of(source: Lance, name: str, *predicates: pl.Expr) -> list[Any]:
    found = chunks_of(source, 7, 3, *predicates, columns=[name])
    return list(itertools.chain.from_iterable(c.batch.columns[name].values for _, c in found))


def keys_of(source: Lance) -> list[str]:
    return [key for _, chunk in chunks_of(source, columns=[]) for key in chunk.batch.keys]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "t.lance")


class TestSource:
    def test_reads_what_the_sink_wrote(self, path: str) -> None:
        version = write(path, "r1", table_of(0, 6), table_of(6, 10))
        source = Lance(path)
        assert dict(source.columns) == COLUMNS
        expected = table_of(0, 10)
        for name in COLUMNS:
            assert values_of(source, name) == expected[name].to_pylist()
        assert keys_of(source) == expected["_key"].to_pylist()
        sources = {s for _, c in chunks_of(source) for s in c.batch.envelope["_source"].values}
        assert {s.rpartition("-")[2] for s in sources} == {str(version)}

    def test_reads_only_the_columns_asked_for(self, path: str) -> None:
        write(path, "r1", table_of(0, 3))
        (_, chunk), *_ = chunks_of(Lance(path), columns=["name"])
        assert list(chunk.batch.columns) == ["name"]
        assert not chunk.dropped
        assert not chunk.failed

    def test_latest_is_the_published_version(self, path: str) -> None:
        write(path, "r1", table_of(0, 3))
        write(path, "r2", table_of(3, 4), publish=False)
        assert keys_of(Lance(path)) == ["k0", "k1", "k2"]
        assert keys_of(Lance(path, version=3)) == ["k3"]

    def test_count_is_that_of_its_version(self, path: str) -> None:
        write(path, "r1", table_of(0, 3), table_of(3, 5))
        write(path, "r2", table_of(5, 6), publish=False)
        assert Lance(path).count() == 5
        assert Lance(path, version=3).count() == 1
        assert Lance(path).only(pa.array(["k1", "k4", "gone"])).count() == 2

    def test_tags_of_old_runs_stay_readable(self, path: str) -> None:
        write(path, "r1", table_of(0, 2))
        write(path, "r2", table_of(2, 3))
        assert keys_of(Lance(path, version="run-r1")) == ["k0", "k1"]
        assert keys_of(Lance(path)) == ["k2"]

    def test_a_split_stays_at_its_version(self, path: str) -> None:
        write(path, "r1", table_of(0, 2))
        source = Lance(path)
        (split,) = source.splits(10)
        write(path, "r2", table_of(2, 5))
        (chunk,) = source.read(split, ["n"], [], 10)
        assert list(chunk.batch.keys) == ["k0", "k1"]

    def test_of_an_empty_dataset_has_no_splits(self, path: str) -> None:
        write(path, "r1")
        assert list(Lance(path).splits(10)) == []
        assert dict(Lance(path).columns) == COLUMNS

    def test_reads_other_peoples_tables_by_stable_row_id(self, path: str) -> None:
        rows = pa.table({"a": [5, 6, 7]})
        lance.write_dataset(rows, path, enable_stable_row_ids=True)
        lance.dataset(path).delete("a = 6")
        assert keys_of(Lance(path)) == ["0", "2"]
        assert values_of(Lance(path), "a", pl.col("a") > 5) == [7]

    def test_reads_them_by_a_key_column(self, path: str) -> None:
        lance.write_dataset(pa.table({"id": [5, 6], "a": ["x", "y"]}), path)
        source = Lance(path, key="id")
        assert keys_of(source) == ["5", "6"]
        found = list(chunks_of(source, 10, 10, pl.col("a") == "y"))
        assert [(c.batch.keys[0], c.dropped[0].keys) for _, c in found] == [("6", ["5"])]

    def test_the_source_of_their_rows_outlives_an_append(self, path: str) -> None:
        def sources() -> list[str]:
            found = chunks_of(Lance(path, key="id"), columns=[])
            return [s for _, c in found for s in c.batch.envelope["_source"].values]

        lance.write_dataset(pa.table({"id": [5, 6]}), path)
        before = sources()
        lance.write_dataset(pa.table({"id": [7]}), path, mode="append")
        after = sources()
        assert after[:2] == before
        assert after[2] not in before

    def test_foreign_blob_columns_are_encoded_bytes(self, path: str) -> None:
        schema = pa.schema([("id", pa.int64()), lance.blob_field("media")])
        blobs = lance.blob_array([b"x", None])
        lance.write_dataset(pa.table([[1, 2], blobs], schema=schema), path)
        source = Lance(path, key="id")
        assert source.columns["media"] == Encoded(nullable=True)
        assert values_of(source, "media") == [b"x", None]

    def test_a_changed_row_has_a_new_source(self, path: str) -> None:
        write(path, "r1", table_of(0, 3))
        dataset = lance.dataset(path)
        dataset.update({"name": "'new'"}, where="_key = 'k1'")
        sources = {
            key: source
            for _, c in chunks_of(Lance(path, version=3), columns=[])
            for key, source in zip(c.batch.keys, c.batch.envelope["_source"].values, strict=True)
        }
        versions = {key: source.rpartition("-")[2] for key, source in sources.items()}
        assert versions == {"k0": "2", "k1": "3", "k2": "2"}
        assert len({source.partition("-")[0] for source in sources.values()}) == 1


class TestSourceRefuses:
    def test_what_is_not_there(self, path: str) -> None:
        with pytest.raises(DefinitionError, match="no Lance table at"):
            Lance(path).columns  # noqa: B018
        write(path, "r1", table_of(0, 1))
        with pytest.raises(DefinitionError, match=r"no tag 'run-r2'. Tags: latest, run-r1"):
            list(Lance(path, version="run-r2").splits(1))
        with pytest.raises(DefinitionError, match="no version 8; the newest is 2"):
            list(Lance(path, version=8).splits(1))

    def test_rows_that_nothing_names(self, path: str) -> None:
        lance.write_dataset(pa.table({"a": [1]}), path)
        with pytest.raises(DefinitionError, match=r"Nothing names the rows.*key='…'"):
            list(Lance(path).splits(1))

    @pytest.mark.parametrize(
        ("key", "message"),
        [("b", "1 rows have no key"), ("c", "this column is double"), ("d", "no column 'd'")],
    )
    def test_columns_that_cannot_be_a_key(self, path: str, key: str, message: str) -> None:
        lance.write_dataset(pa.table({"b": [1, None], "c": [0.5, 1.5]}), path)
        with pytest.raises(DefinitionError, match=message):
            list(Lance(path, key=key).splits(1))

    def test_a_column_that_is_not_there(self, path: str) -> None:
        write(path, "r1", table_of(0, 1))
        with pytest.raises(DefinitionError, match="Did you mean 'name'"):
            list(chunks_of(Lance(path), columns=["nane"]))

    def test_a_predicate_it_did_not_accept(self, path: str) -> None:
        write(path, "r1", table_of(0, 1))
        with pytest.raises(PlanError, match="cannot apply"):
            list(chunks_of(Lance(path), 1, 1, pl.col("n") * 2 > 1))

    def test_an_object_store(self) -> None:
        with pytest.raises(PlanError, match="local or mounted path"):
            Lance("s3://bucket/t.lance")

    def test_rows_that_lance_did_not_ask_for(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Reading by row id is checked row by row: a wrong answer never becomes data."""
        write(path, "r1", table_of(0, 10))
        module = importlib.import_module("lance.dataset")  # `lance.dataset` is a function too
        original = module.serialize_row_addrs
        monkeypatch.setattr(module, "serialize_row_addrs", lambda ids: original(ids[1:]))
        with pytest.raises(ContractError, match="fault in Lance or weft"):
            list(chunks_of(Lance(path), 10, 10, pl.col("n") > 3))


class TestSplits:
    def test_are_equal_for_equal_input_and_json(self, path: str) -> None:
        write(path, "r1", table_of(0, 5), table_of(5, 9))
        splits = list(Lance(path).splits(2))
        assert splits == list(Lance(path).splits(2))
        assert [s.rows for s in splits] == [2, 2, 1, 2, 2]
        assert len({s.id for s in splits}) == len(splits)
        assert all(json.loads(s.payload) for s in splits)
        assert all(s.content_bytes > 0 for s in splits)

    def test_have_the_same_id_in_a_later_version_and_at_another_path(self, path: str) -> None:
        lance.write_dataset(pa.table({"id": [1, 2]}), path)
        before = [s.id for s in Lance(path, key="id").splits(10)]
        lance.write_dataset(pa.table({"id": [3]}), path, mode="append")
        os.rename(path, path + ".moved")
        after = [s.id for s in Lance(path + ".moved", key="id").splits(10)]
        assert after[: len(before)] == before
        assert len(after) == 2

    def test_have_another_id_after_a_delete(self, path: str) -> None:
        write(path, "r1", table_of(0, 5))
        before = {s.id for s in Lance(path, version=2).splits(2)}
        lance.dataset(path).delete("n = 4")
        after = {s.id for s in Lance(path, version=3).splits(2)}
        assert not before & after

    @settings(max_examples=30, deadline=None)
    @given(
        sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
        deleted=st.sets(st.integers(0, 30), max_size=6),
        rows=st.integers(1, 20),
        batch_rows=st.integers(1, 20),
        limits=st.lists(st.integers(-1, 40), max_size=3),
    )
    def test_of_any_size_give_the_same_rows(
        self, sizes: list[int], deleted: set[int], rows: int, batch_rows: int, limits: list[int]
    ) -> None:
        bounds = [0, *itertools.accumulate(sizes)]
        everything = table_of(0, bounds[-1])
        predicates = [pl.col("n") > limit for limit in limits]
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/t.lance"
            version = write(path, "r1", *(table_of(a, b) for a, b in itertools.pairwise(bounds)))
            gone = [f"k{i}" for i in deleted if i < bounds[-1]]
            if gone:
                version = lance.dataset(path).version + 1
                lance.dataset(path).delete(f"_key IN ({', '.join(map(repr, gone))})")
            found = list(chunks_of(Lance(path, version=version), rows, batch_rows, *predicates))
        there = pl.DataFrame(everything.to_pylist(), infer_schema_length=None, strict=False)
        there = there.filter(~pl.col("_key").is_in(pl.Series(gone, dtype=pl.String)))
        expected_dropped = {}
        for number, predicate in enumerate(predicates):
            passing = there.filter(predicate)
            out = there.join(passing, on="_key", how="anti", maintain_order="left")
            expected_dropped[number] = out["_key"].to_list()
            there = passing
        assert [k for _, c in found for k in c.batch.keys] == there["_key"].to_list()
        for name in COLUMNS:
            read = [v for _, c in found for v in c.batch.columns[name].values]
            assert read == there[name].to_list()
        dropped = [d for _, c in found for d in c.dropped]
        for number in range(len(predicates)):
            keys = [k for d in dropped if d.predicate == number for k in d.keys]
            assert keys == expected_dropped[number]
        assert all(c.batch.rows <= batch_rows for _, c in found)
        for split, group in itertools.groupby(found, key=lambda pair: pair[0]):
            seen = [c for _, c in group]
            counted = sum(c.batch.rows + sum(len(d.keys) for d in c.dropped) for c in seen)
            assert counted == split.rows


class TestPredicates:
    def test_say_what_they_dropped_and_from_which_version(self, path: str) -> None:
        version = write(path, "r1", table_of(0, 6))
        predicates = [pl.col("n") >= 2, pl.col("name") != "name 4"]
        (split,) = Lance(path).splits(10)
        (chunk,) = Lance(path).read(split, ["media"], predicates, 10)
        assert list(chunk.batch.keys) == ["k2", "k5"]
        assert [(d.predicate, list(d.keys)) for d in chunk.dropped] == [
            (0, ["k0", "k1", "k3"]),
            (1, ["k4"]),
        ]
        dropped = {s.rpartition("-")[2] for d in chunk.dropped for s in d.sources}
        assert dropped == {str(version)}

    def test_that_drop_all_leave_an_empty_batch(self, path: str) -> None:
        write(path, "r1", table_of(0, 3))
        (_, chunk), *more = chunks_of(Lance(path), 10, 10, pl.col("n") > 99)
        assert not more
        assert chunk.batch.rows == 0
        assert list(chunk.batch.columns) == list(COLUMNS)
        assert [list(d.keys) for d in chunk.dropped] == [["k0", "k1", "k2"]]

    def test_accepted_are_those_that_sql_can_say(self, path: str) -> None:
        write(path, "r1", table_of(0, 3))
        source = Lance(path)
        assert source.accepts_predicate((pl.col("n") > 1) & pl.col("name").is_in(["a"]))
        assert not source.accepts_predicate(pl.col("name").str.len_bytes() > 1)
        assert not source.accepts_predicate(pl.col("media").is_null())
        assert not source.accepts_predicate(pl.col("_key") == "k1")

    def test_read_no_media_of_what_they_drop(self, path: str) -> None:
        schema = keyed({"n": Int64(), "media": Encoded("image")})
        big = [os.urandom(100_000) for _ in range(50)]
        rows = pa.table([[f"k{i}" for i in range(50)], ["s"] * 50, range(50), big], schema=schema)
        write(path, "r1", rows)
        before = _bytes_read()
        assert sum(c.batch.rows for _, c in chunks_of(Lance(path), columns=["media"])) == 50
        everything, before = _bytes_read() - before, _bytes_read()
        found = [c for _, c in chunks_of(Lance(path), 50, 10, pl.col("n") == 7, columns=["media"])]
        assert found[0].batch.columns["media"].values == [big[7]]
        assert _bytes_read() - before < 1_000_000 < everything


def _bytes_read() -> int:
    """What this process read, from the page cache too."""
    text = Path("/proc/self/io").read_text()
    return int(text.split("rchar: ")[1].split()[0])


class TestSink:
    def test_refuses_a_table_that_weft_did_not_write(self, path: str) -> None:
        lance.write_dataset(pa.table({"a": [1, 2]}), path)
        with pytest.raises(PlanError, match=r"2 rows, columns a, no `_key`.*another path"):
            Lance(path).check(SCHEMA)

    def test_takes_an_empty_one_and_its_own(self, path: str) -> None:
        empty = pa.table({"a": pa.array([], pa.int64())})
        lance.write_dataset(empty, path, enable_stable_row_ids=True)
        write(path, "r1", table_of(0, 2))
        write(path, "r2", table_of(0, 3))
        assert keys_of(Lance(path)) == ["k0", "k1", "k2"]

    def test_refuses_a_folder_or_file_of_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "photos").mkdir()
        Lance(str(tmp_path / "photos")).check(SCHEMA)
        (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
        for place in (tmp_path / "photos", tmp_path / "photos" / "a.jpg"):
            with pytest.raises(PlanError, match="is not a Lance table"):
                Lance(str(place)).check(SCHEMA)

    def test_refuses_a_version(self, path: str) -> None:
        with pytest.raises(PlanError, match="Leave out `version` to write"):
            Lance(path, version=3).check(SCHEMA)

    def test_refuses_a_column_that_lance_cannot_store(self, path: str) -> None:
        schema = keyed({"span": Arrow(pa.month_day_nano_interval())})
        with pytest.raises(PlanError, match="cannot store column 'span' of type month_day_nano"):
            Lance(path).check(schema)

    def test_check_writes_nothing(self, path: str) -> None:
        Lance(path).check(SCHEMA)
        assert not Path(path).exists()

    def test_paths(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        here = Lance("t.lance")
        assert here.uri == str(tmp_path / "t.lance")
        assert here.state == str(tmp_path / "t.lance.weft")
        assert here == Lance(str(tmp_path / "t.lance")) == Lance(f"file://{tmp_path}/t.lance")
        assert here.name == "Lance"
        assert json.loads(json.dumps(here.identity())) == here.identity()


RNG = np.random.default_rng(7)
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def pixels(*shape: int) -> Any:
    return RNG.integers(0, 255, shape).astype(np.uint8)


ROUND_TRIPS: list[tuple[Type, list[Any]]] = [
    (Bool(nullable=True), [True, None, False]),
    (UInt8(), [0, 1, 255]),
    (UInt64(nullable=True), [2**64 - 1, None, 0]),
    (Int32(), [-1, 0, 2**31 - 1]),
    (Float32(nan=True), [0.5, float("nan"), float("-inf")]),
    (Float64(nullable=True), [0.1, None, 1e300]),
    (Text(nullable=True), ["", None, "ü\0日"]),
    (Binary(nullable=True), [b"", None, b"\0x"]),
    (Timestamp(nullable=True), [NOW, None, NOW]),
    (Encoded("image"), [b"a", b"", b"c" * 100_000]),
    (Encoded("audio", nullable=True), [None, b"", b"c" * 100_000]),
    (Encoded("video", nullable=True), [None, None, None]),
    (Image(4, 5), [pixels(4, 5, 3) for _ in range(3)]),
    (Image(4, 5, nullable=True), [pixels(4, 5, 3), None, pixels(4, 5, 3)]),
    (Image(), [pixels(4, 5, 3), pixels(1, 2, 3), pixels(7, 3, 3)]),
    (Image(channels=1, nullable=True), [None, pixels(1, 2, 1), pixels(7, 3, 1)]),
    (Embedding(8), [np.arange(8, dtype=np.float32) + i for i in range(3)]),
    (Embedding(8, nullable=True), [None, np.ones(8, np.float32), None]),
    (Tensor("float64", (2, 2)), [np.full((2, 2), i, np.float64) for i in range(3)]),
    (Tensor("float16", (3,), nullable=True), [None, np.ones(3, np.float16), None]),
    (Tensor("int32", (None, 2)), [np.ones((i, 2), np.int32) for i in range(3)]),
    (Tensor("float32", (None,), nullable=True), [None, np.ones(4, np.float32), None]),
    (Arrow(pa.list_(pa.int32())), [[1], [], [2, 3]]),
    (Arrow(pa.struct([("a", pa.int64())]), nullable=True), [{"a": 1}, None, {"a": None}]),
    (Arrow(pa.dictionary(pa.int32(), pa.string())), ["a", "b", "a"]),
    (Arrow(pa.decimal128(10, 2), nullable=True), [None, None, None]),
]


@pytest.mark.parametrize(("kind", "values"), ROUND_TRIPS, ids=lambda v: str(v)[:40])
def test_types_round_trip(path: str, kind: Type, values: list[Any]) -> None:
    """Values, nulls and meaning; and plain pyarrow and Polars read the column without weft."""
    columns = [["a", "b", "c"], ["s"] * 3, kind.to_arrow(values)]
    written = pa.table(columns, schema=keyed({"x": kind}))
    write(path, "r1", written)
    source = Lance(path)
    assert source.columns["x"] == kind
    (split,) = source.splits(10)
    for batch_rows in (10, 2):
        found = [c.batch.columns["x"] for c in source.read(split, ["x"], [], batch_rows)]
        read = [v for column in found for v in column.values]
        for got, wanted in zip(read, values, strict=True):
            np.testing.assert_equal(got, wanted)
        assert all(column.array.type == kind.storage for column in found)
    plain = lance.dataset(path).scanner(["x"], blob_handling="all_binary").to_table()
    assert plain["x"].null_count == sum(v is None for v in values)
    frame = pl.from_arrow(plain)
    assert isinstance(frame, pl.DataFrame)
    assert frame["x"].null_count() == plain["x"].null_count
    assert tables.read(path).schema.equals(written.schema, check_metadata=True)
