import os
import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.connectors import rowgroups
from weft.connectors.parquet import Parquet
from weft.errors import DefinitionError
from weft.pipelines.fields import Fields, arrow_schema
from weft.pipelines.types import Embedding, Image, Int64, Text


@pytest.fixture
def folder(tmp_path):
    """30 rows in two files with row groups of 4; `x` is null in every seventh row."""
    rows = {
        "id": [f"k{i:02}" for i in range(30)],
        "x": [None if i % 7 == 0 else i for i in range(30)],
        "s": [f"text {i}" for i in range(30)],
    }
    table = pa.table(rows)
    (tmp_path / "data" / "b").mkdir(parents=True)
    pq.write_table(table.slice(0, 13), tmp_path / "data" / "a.parquet", row_group_size=4)
    pq.write_table(table.slice(13), tmp_path / "data" / "b" / "c.parquet", row_group_size=4)
    (tmp_path / "data" / "_SUCCESS").touch()
    return tmp_path / "data"


def rows_of(source, columns, predicates=(), split_rows=1000, batch_rows=1000):
    rows, dropped, failed = [], [], []
    for split in source.splits(split_rows):
        seen = 0
        for chunk in source.read(split, columns, list(predicates), batch_rows):
            batch = chunk.batch
            assert list(batch.columns) == list(columns)
            assert batch.rows <= batch_rows
            for name, column in batch.columns.items():
                assert column.array.type == source.columns[name].storage
            arrays = [c.array.to_pylist() for c in batch.columns.values()]
            rows += zip(batch.keys, *arrays, strict=True)
            dropped += [(d.predicate, key) for d in chunk.dropped for key in d.keys]
            failed += chunk.failed
            seen += batch.rows + sum(len(d.keys) for d in chunk.dropped) + len(chunk.failed)
        assert seen == split.rows
    return rows, dropped, failed


def message(*args, **kwargs):
    with pytest.raises(DefinitionError) as error:
        list(Parquet(*args, **kwargs).splits(10))
    return str(error.value)


def test_count_is_of_the_footers(folder):
    assert Parquet(folder).count() == Parquet(folder, key="id").count() == 30
    some = pa.array(["a.parquet#1", "b/c.parquet#16", "gone"])
    assert Parquet(folder).only(some).count() == 2


def test_rows_are_those_of_the_files(folder):
    source = Parquet(folder)
    assert source.columns == Fields({"id": Text | None, "x": Int64 | None, "s": Text | None})
    rows, dropped, failed = rows_of(source, ["x", "id"])
    numbered = [f"a.parquet#{i}" for i in range(13)] + [f"b/c.parquet#{i}" for i in range(17)]
    whole = pq.read_table(folder / "a.parquet"), pq.read_table(folder / "b" / "c.parquet")
    table = pa.concat_tables(whole)
    assert rows == list(zip(numbered, table["x"].to_pylist(), table["id"].to_pylist(), strict=True))
    assert (dropped, failed) == ([], [])
    [chunk] = source.read(next(source.splits(4)), [], [], 4)
    found = (folder / "a.parquet").stat()
    assert chunk.batch.envelope["_source"].values == [f"{found.st_size}-{found.st_mtime_ns}"] * 4


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    split_rows=st.integers(1, 32), batch_rows=st.integers(1, 32), low=st.integers(-1, 31),
    key=st.sampled_from([None, "id"]), keep=st.booleans(),
)  # fmt: skip
def test_every_row_once_in_order_whatever_the_cut(
    folder, *, split_rows, batch_rows, low, key, keep
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowgroups, "_KEEP_BYTES", 2**20 if keep else 0)
        rowgroups._group.cache_clear()
        source = Parquet(folder, key=key)
        cut = {"split_rows": split_rows, "batch_rows": batch_rows}
        everything, _, _ = rows_of(source, ["x", "s"])
        assert rows_of(source, ["x", "s"], **cut)[0] == everything
        predicates = [pl.col("x") > low, pl.col("id") != "k25"]
        rows, dropped, failed = rows_of(source, ["x", "s"], predicates, **cut)
        above = [r for r in everything if r[1] is not None and r[1] > low]
        assert rows == [r for r in above if r[2] != "text 25"]
        assert sorted(dropped) == sorted(
            [(0, r[0]) for r in everything if r not in above]
            + [(1, r[0]) for r in above if r[2] == "text 25"]
        )
        assert failed == []
    rowgroups._group.cache_clear()


def test_only_needed_columns_are_decoded(folder, monkeypatch):
    decoded = []
    real = rowgroups.Part.decode
    monkeypatch.setattr(
        rowgroups.Part,
        "decode",
        lambda part, names, types: decoded.extend(names) or real(part, names, types),
    )
    source = Parquet(folder / "a.parquet")
    split = next(source.splits(4))
    list(source.read(split, ["s"], [], 4))
    assert decoded == ["s"]
    list(source.read(split, ["s", "x"], [pl.col("x") > 100], 4))
    assert decoded == ["s", "x"]
    list(source.read(split, ["s", "x"], [pl.col("x") > 2], 4))
    assert decoded == ["s", "x", "x", "s"]


def test_splits_stay_within_row_groups_and_follow_content(folder, tmp_path):
    before = list(Parquet(folder).splits(3))
    assert [s.rows for s in before] == [3, 1, 3, 1, 3, 1, 1] + [3, 1] * 4 + [1]
    assert len({s.id for s in before}) == len(before)
    assert all(s.content_bytes > 0 for s in before)
    folder.rename(tmp_path / "moved")
    after = list(Parquet(tmp_path / "moved").splits(3))
    assert [s.id for s in after] == [s.id for s in before]
    os.utime(tmp_path / "moved" / "a.parquet", ns=(0, 0))
    touched = list(Parquet(tmp_path / "moved").splits(3))
    assert [a.id == b.id for a, b in zip(touched, before, strict=True)] == [False] * 7 + [True] * 9


def test_keys_that_are_null_or_twice_fail_alone(tmp_path):
    table = pa.table({"id": [1, None, 2, 1, 3], "x": [1, 2, 3, 4, 5]})
    pq.write_table(table, tmp_path / "a.parquet")
    source = Parquet(tmp_path, key="id")
    rows, dropped, failed = rows_of(source, ["x"], [pl.col("x") < 5])
    assert rows == [("1", 1), ("2", 3)]
    assert dropped == [(0, "3")]
    assert {row.key: str(row.error) for row in failed} == {
        "a.parquet#1": "a.parquet#1: key column 'id' is null. Every row needs its own.",
        "a.parquet#3": "a.parquet#3: key column 'id' holds '1' twice. Every row needs its own.",
    }


def test_rows_that_cannot_be_judged_fail_alone(tmp_path):
    pq.write_table(pa.table({"x": ["1", "no", "30"]}), tmp_path / "a.parquet")
    rows, dropped, failed = rows_of(Parquet(tmp_path), ["x"], [pl.col("x").cast(pl.Int8) < 9])
    assert (rows, dropped) == ([("a.parquet#0", "1")], [(0, "a.parquet#2")])
    assert [row.key for row in failed] == ["a.parquet#1"]


def test_file_that_is_gone_or_changed_fails_with_all_its_rows(folder):
    source = Parquet(folder, key="id")
    splits = list(source.splits(100))
    (folder / "a.parquet").unlink()
    os.utime(folder / "b" / "c.parquet", ns=(0, 0))
    failed = [
        f for s in splits for c in source.read(s, ["x"], [pl.col("x") > 1], 5) for f in c.failed
    ]
    assert len(failed) == 30
    assert (failed[3].key, failed[29].key) == ("a.parquet#3", "b/c.parquet#16")
    assert str(failed[0].error) == f"{folder}/a.parquet is gone since it was listed. Run again."
    assert str(failed[-1].error) == (
        f"{folder}/b/c.parquet changed since it was listed. Run again when nobody writes it."
    )


def test_damaged_pages_fail_with_their_rows(folder):
    path = folder / "a.parquet"
    source = Parquet(folder)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56  # the first pages of the first row group
    found = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    rows, _, failed = rows_of(source, ["id"])
    assert [row.key for row in failed] == [f"a.parquet#{i}" for i in range(4)]
    assert str(failed[0].error).startswith(f"{path} cannot be read: ")
    assert len(rows) == 26


def test_types_survive(tmp_path):
    kinds = {"image": Image(2, 2), "vector": Embedding(3)}
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3)
    vectors = np.arange(12, dtype=np.float32).reshape(4, 3)
    arrays = [kinds["image"].to_arrow(pixels), kinds["vector"].to_arrow(vectors)]
    pq.write_table(pa.table(arrays, schema=arrow_schema(kinds)), tmp_path / "a.parquet")
    source = Parquet(tmp_path)
    assert source.columns == Fields(kinds)
    second = list(source.splits(2))[1]
    [chunk] = source.read(second, ["vector", "image"], [], 9)
    assert np.array_equal(chunk.batch.columns["image"].values, pixels[2:])
    assert np.array_equal(chunk.batch.columns["vector"].values, vectors[2:])
    assert not source.accepts_predicate(pl.col("vector").arr.sum() > 1)


def test_accepts_predicate(folder):
    source = Parquet(folder)
    assert source.accepts_predicate((pl.col("x") > 1) & (pl.col("s") != ""))
    assert not source.accepts_predicate(pl.col("x") > pl.col("x").max())
    assert not source.accepts_predicate(pl.col("y") > 1)


def test_value(folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = Parquet("*.parquet", key="id")
    assert source == Parquet(folder / "*.parquet", key="id") != Parquet("*.parquet")
    assert source.identity() == {
        "source": "Parquet", "paths": [f"{folder}/*.parquet"], "key": "id"
    }  # fmt: skip
    [split, *_] = source.splits(100)
    other = pickle.loads(pickle.dumps(source))
    assert (other, hash(other)) == (source, hash(source))
    monkeypatch.chdir("/")
    monkeypatch.setattr(os, "scandir", None)  # a worker lists nothing
    [chunk] = other.read(split, ["x"], [], 100)
    assert chunk.batch.keys == ["k00", "k01", "k02", "k03"]


def test_name_that_is_no_utf8(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.parquet"))
    with path.open("wb") as file:
        pq.write_table(pa.table({"x": [1]}), file)
    rows, _, failed = rows_of(Parquet(tmp_path), ["x"])
    assert (rows, failed) == ([("\\xff.parquet#0", 1)], [])


class TestMessages:
    def test_files_disagree(self, folder):
        pq.write_table(pa.table({"id": ["a"], "x": [1.5], "s": ["b"]}), folder / "b" / "d.parquet")
        assert message(folder) == (
            f"Parquet: files disagree on column 'x': Int64? in {folder}/a.parquet, Float64? in "
            f"{folder}/b/d.parquet. Read them as two sources, or write them with one schema."
        )
        pq.write_table(pa.table({"id": ["a"], "x": [1]}), folder / "b" / "d.parquet")
        assert "on column 's': Text? in" in message(folder)

    def test_not_parquet(self, folder):
        (folder / "z.parquet").write_text("no")
        assert message(folder).startswith(f"Parquet: {folder}/z.parquet is no Parquet file: ")

    def test_no_key_column(self, folder):
        assert message(folder, key="ix") == (
            "There is no column 'ix'. Given: id, x, s. Did you mean 'x'?"
        )

    def test_key_of_floats(self, tmp_path):
        pq.write_table(pa.table({"x": [1.5]}), tmp_path / "a.parquet")
        assert message(tmp_path, key="x") == (
            "Parquet: key column 'x' is double. Expected text or integers: a key names a row."
        )

    def test_no_rows(self, tmp_path):
        pq.write_table(pa.table({"x": pa.array([], pa.int8())}), tmp_path / "a.parquet")
        assert message(tmp_path) == (
            f"Parquet: the files of {tmp_path} have no rows: 1 looked at. Check what wrote them."
        )

    def test_folder_without_parquet(self, tmp_path):
        (tmp_path / "a.csv").touch()
        assert message(tmp_path) == (
            f"Parquet: the folder {tmp_path} has no files named *.parquet. The folder {tmp_path} "
            "exists and has 1 file: 1 .csv. Ask for one of these, or check the folder."
        )
