import itertools
import pickle
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.connectors.arrow import Arrow
from weft.errors import DefinitionError
from weft.pipelines.fields import Fields, arrow_schema
from weft.pipelines.types import Embedding, Image, Int64, Tensor, Text

TABLE = {"name": ["ann", "bob", "cid", "dot", "eve"], "age": [31, None, 7, 31, 90]}


def rows_of(source, columns, predicates=(), split_rows=1000, batch_rows=1000):
    rows, dropped, failed = [], [], []
    for split in source.splits(split_rows):
        for chunk in source.read(split, columns, list(predicates), batch_rows):
            batch = chunk.batch
            assert list(batch.columns) == list(columns)
            assert batch.rows <= batch_rows
            arrays = [c.array.to_pylist() for c in batch.columns.values()]
            assert all(len(array) == batch.rows == len(batch.keys) for array in arrays)
            rows += zip(batch.keys, *arrays, strict=True)
            dropped += [(d.predicate, key) for d in chunk.dropped for key in d.keys]
            failed += chunk.failed
    return rows, dropped, failed


def message(*args, **kwargs):
    with pytest.raises(DefinitionError) as error:
        list(Arrow(*args, **kwargs).splits(10))
    return str(error.value)


@pytest.mark.parametrize(
    "table",
    [
        pa.table(TABLE),
        pa.record_batch(TABLE),
        pl.DataFrame(TABLE),
        TABLE,
        [dict(zip(TABLE, row, strict=True)) for row in zip(*TABLE.values(), strict=True)],
    ],
    ids=["table", "record batch", "polars", "dict", "list"],
)
def test_every_kind_of_table(table):
    rows, _, _ = rows_of(Arrow(table), ["age", "name"])
    assert rows == [
        (str(i), age, name) for i, (name, age) in enumerate(zip(*TABLE.values(), strict=True))
    ]


@pytest.mark.parametrize("rows", [0, 5])
def test_count_is_the_length(rows):
    assert Arrow(pa.table(TABLE).slice(0, rows)).count() == rows


def test_types_of_python_values_are_nullable_as_found():
    assert Arrow(TABLE).columns == Fields({"name": Text(), "age": Int64(nullable=True)})
    assert Arrow(pa.table(TABLE)).columns["name"] == Text(nullable=True)


def test_list_of_dicts_keeps_names_that_the_first_row_has_not():
    assert rows_of(Arrow([{"a": 1}, {"b": 2}]), ["a", "b"])[0] == [("0", 1, None), ("1", None, 2)]


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.none() | st.integers(-5, 5), min_size=1, max_size=30),
    chunks=st.lists(st.integers(0, 30), max_size=4),
    split_rows=st.integers(1, 35),
    batch_rows=st.integers(1, 35),
    low=st.integers(-6, 6),
    high=st.integers(-6, 6),
)
def test_every_row_once_in_order_whatever_the_cut(
    *, values, chunks, split_rows, batch_rows, low, high
):
    table = pa.table(
        {"id": [f"k{i}" for i in range(len(values))], "x": pa.array(values, pa.int64())}
    )
    ends = [0, *sorted(min(c, len(values)) for c in chunks), len(values)]
    chunked = pa.concat_tables([table.slice(a, b - a) for a, b in itertools.pairwise(ends)])
    source = Arrow(chunked, key="id")
    assert source == Arrow(table, key="id")
    assert [s.id for s in source.splits(split_rows)] == [
        s.id for s in Arrow(table, key="id").splits(split_rows)
    ]
    cut = {"split_rows": split_rows, "batch_rows": batch_rows}
    everything = list(zip(table["id"].to_pylist(), values, strict=True))
    assert rows_of(source, ["x"], **cut) == (everything, [], [])

    predicates = [pl.col("x") > low, pl.col("x") < high]
    rows, dropped, failed = rows_of(source, ["x"], predicates, **cut)
    above = [row for row in everything if row[1] is not None and row[1] > low]
    assert rows == [row for row in above if row[1] < high]
    assert sorted(dropped) == sorted(
        [(0, row[0]) for row in everything if row not in above]
        + [(1, row[0]) for row in above if row[1] >= high]
    )
    assert failed == []


def test_rows_that_cannot_be_judged_fail_alone():
    source = Arrow({"x": ["1", "no", "3", "4", "neither"]})
    rows, dropped, failed = rows_of(source, ["x"], [pl.col("x").cast(pl.Int64) > 2])
    assert rows == [("2", "3"), ("3", "4")]
    assert dropped == [(0, "0")]
    assert [(row.key, row.source) for row in failed] == [
        ("1", source._digest),
        ("4", source._digest),
    ]
    assert str(failed[0].error).startswith(
        'the predicate [(col("x").strict_cast(Int64)) > (dyn int: 2)] cannot be judged: '
    )


def test_predicate_that_is_not_boolean():
    source = Arrow(TABLE)
    [split] = source.splits(10)
    with pytest.raises(DefinitionError, match=r"is Int64, and a predicate must be Boolean\. "):
        list(source.read(split, ["age"], [pl.col("age") + 1], 10))


@pytest.mark.parametrize(
    ("predicate", "accepted"),
    [
        (pl.col("age") > 3, True),
        (pl.col("name").is_in(["ann"]) | pl.col("age").is_null(), True),
        (pl.col("age") > pl.col("age").shift(1), False),
        (pl.col("t").arr.sum() > 1, False),
        (pl.col("nobody") > 1, False),
    ],
)
def test_accepts_predicate(predicate, accepted):
    tensor = Tensor("float32", (2, 2)).to_arrow(np.zeros((5, 2, 2), np.float32))
    table = pa.table(TABLE).append_column("t", tensor)
    assert Arrow(table).accepts_predicate(predicate) is accepted


def test_tensors_and_images_survive():
    kinds = {"pixels": Image(2, 3), "any": Image(), "vector": Embedding(4), "n": Int64()}
    pixels = np.arange(5 * 2 * 3 * 3, dtype=np.uint8).reshape(5, 2, 3, 3)
    sizes = [np.full((i + 1, 2, 3), i, np.uint8) for i in range(5)]
    vectors = np.arange(20, dtype=np.float32).reshape(5, 4)
    arrays = [
        k.to_arrow(v)
        for k, v in zip(kinds.values(), (pixels, sizes, vectors, range(5)), strict=True)
    ]
    source = Arrow(pa.table(arrays, schema=arrow_schema(kinds)))
    assert source.columns == Fields(kinds)
    splits = list(source.splits(2))
    [chunk] = source.read(splits[1], list(kinds), [pl.col("n") != 2], 10)
    columns = chunk.batch.columns
    assert np.array_equal(columns["pixels"].values, pixels[3:4])
    assert [v.tolist() for v in columns["any"].values] == [sizes[3].tolist()]
    assert np.array_equal(columns["vector"].values, vectors[3:4])
    [chunk] = source.read(splits[0], list(kinds), [], 10)
    assert np.array_equal(chunk.batch.columns["pixels"].values, pixels[:2])


def test_columns_arrive_in_the_storage_of_their_type():
    moment = datetime(2026, 1, 2, 3, tzinfo=UTC)
    table = pa.table(
        {
            "large": pa.array(["a"], pa.large_string()),
            "view": pa.array(["a"], pa.string_view()),
            "zone": pa.array([moment], pa.timestamp("s", tz="Europe/Berlin")),
            "nanos": pa.array([1], pa.timestamp("ns", tz="UTC")),
            "words": pa.array(["a"]).dictionary_encode(),
        }
    )
    source = Arrow(table)
    [split] = source.splits(1)
    [chunk] = source.read(split, list(source.columns), [], 1)
    for name, kind in source.columns.items():
        assert chunk.batch.columns[name].array.type == kind.storage
    assert chunk.batch.columns["zone"].values == [moment]
    assert chunk.batch.columns["nanos"].array.cast(pa.int64()).to_pylist() == [1]


def test_no_copy_and_only_views_of_the_payload():
    source = Arrow({"x": np.arange(10_000)})
    [split] = source.splits(10_000)
    before = pa.total_allocated_bytes()
    chunks = list(source.read(split, ["x"], [], 100))
    assert len(chunks) == 100
    assert pa.total_allocated_bytes() - before < 1000


def test_engine_columns_are_left_out_and_never_mixed_up():
    table = pa.table({"_key": ["z", "z"], "x": [1, 2]})
    assert rows_of(Arrow(table), ["x"])[0] == [("0", 1), ("1", 2)]


def test_value():
    source = Arrow(TABLE, key="name")
    other = pickle.loads(pickle.dumps(source))
    assert (other, hash(other)) == (source, hash(source))
    assert other.identity() == source.identity() == {
        "source": "Arrow", "digest": source._digest, "key": "name"
    }  # fmt: skip
    assert source != Arrow(TABLE)
    assert source != Arrow(TABLE | {"age": [1, 2, 3, 4, 5]}, key="name")
    assert source.uri is None
    assert repr(source) == "Arrow(<5 rows: name, age>, key='name')"
    assert Arrow({"x": np.zeros(8)}).row_bytes() == {"x": 8}


class TestMessages:
    def test_key_twice(self):
        assert message(pa.table({"id": [4, 5, 4, 4]}), key="id") == (
            "Arrow: key column 'id' holds 4 3 times. Keys must be unique; leave key out to number "
            "the rows."
        )

    def test_key_null(self):
        assert message(TABLE, key="age") == (
            "Arrow: key column 'age' is null in row 1 and 1 rows in all. Every row needs a key."
        )

    def test_key_missing(self):
        assert message(TABLE, key="nam") == (
            "There is no column 'nam'. Given: name, age. Did you mean 'name'?"
        )

    def test_key_of_floats(self):
        assert message({"x": [1.5]}, key="x") == (
            "Arrow: key column 'x' is double. Expected text or integers: a key names a row."
        )

    def test_no_table(self):
        assert message(3) == (
            "Arrow: a int is not a table. Expected a pyarrow Table or RecordBatch, a Polars "
            "DataFrame, a list of dicts or a dict of lists."
        )

    def test_no_columns_can_be_made(self):
        assert message({"x": [1, "a"]}).startswith("Arrow: these values are no columns: ")

    def test_no_rows(self):
        assert message({"x": pa.array([], pa.int8())}) == (
            "Arrow: the table has no rows. Its columns: x: Int8."
        )

    def test_nulls_where_none_may_be(self):
        schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
        table = pa.Table.from_arrays([pa.array([1, None])], schema=schema)
        assert message(table) == (
            "Arrow: column 'x' is declared not nullable and holds 1 nulls. Fill them, or make the "
            "field nullable."
        )
