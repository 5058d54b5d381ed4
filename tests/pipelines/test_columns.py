"""New columns for rows that are there: what Lance reads back, and what is written for it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

from weft.errors import BooksError
from weft.pipelines import tables
from weft.pipelines.connector import Replacement
from weft.pipelines.fields import arrow_field
from weft.pipelines.types import Embedding, Encoded, Float32, Int64, Text, Type

TYPES: dict[str, Type] = {
    "image": Encoded("image", nullable=True),
    "a": Int64(),
    "b": Float32(nullable=True),
}


def schema(**types: Type) -> pa.Schema:
    own = [pa.field("_key", pa.string(), nullable=False)]
    return pa.schema(own + [arrow_field(n, t) for n, t in types.items()])


def row(i: int, **more: Any) -> dict[str, Any]:
    image = None if i % 7 == 3 else (b"" if i % 7 == 5 else bytes([i]) * 100_000)
    return {"_key": f"k{i}", "image": image, "a": i, "b": i / 2, **more}


def rows_of(uri: str, version: int | str | None = None) -> dict[str, dict[str, Any]]:
    return {r["_key"]: r for r in tables.read(uri, version).to_pylist()}


def size(path: str) -> int:
    return sum(p.stat().st_size for p in Path(path).rglob("*") if p.is_file())


class Dataset:
    """Rows 0 to 59 in two fragments, of which k3 is deleted; as weft publishes them."""

    def __init__(self, folder: Path) -> None:
        self.uri, self.folder, self.runs = str(folder / "t.lance"), folder, 0
        self.types = TYPES
        rows = [row(i) for i in range(60)]
        self.commit(rows[:40], rows[40:])
        self.commit(removed=["k3"])

    def commit(
        self,
        *parts: Sequence[Mapping[str, Any]],
        types: Mapping[str, Type] | None = None,
        removed: Sequence[str] | None = None,
        values: Sequence[Mapping[str, Any]] | None = None,
        names: Sequence[str] = (),
    ) -> int:
        self.types = types or self.types
        kept, self.runs = schema(**self.types), self.runs + 1
        token = tables.ensure(self.uri, kept)
        staged = [s for p in parts for s in tables.stage(token, pa.Table.from_pylist(p, kept))]
        replacement = None
        if names:
            replacement = Replacement(tuple(names), self._files(values or (), names))
        run = f"r{self.runs}"
        version = tables.commit(token, staged, run, {}, removed=removed, replacement=replacement)
        tables.tag(self.uri, version, run, {})
        return version

    def _files(self, values: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[str, ...]:
        kinds = schema(**{n: self.types[n] for n in names})
        found = []
        for start in range(0, len(values), 25):
            path = self.folder / f"values-{self.runs}-{start}.arrow"
            with pa.ipc.new_file(str(path), kinds) as file:
                file.write_table(pa.Table.from_pylist(values[start : start + 25], kinds))
            found.append(str(path))
        return tuple(found)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path)


LIVE = [i for i in range(60) if i != 3]


def test_a_new_column_is_written_and_nothing_else(dataset: Dataset) -> None:
    before, bytes_before = rows_of(dataset.uri), size(dataset.uri)
    values = [{"_key": f"k{i}", "c": [i, -i, 0.5, 1.0]} for i in reversed(LIVE)]
    types = {"image": TYPES["image"], "c": Embedding(4), "a": TYPES["a"], "b": TYPES["b"]}
    dataset.commit(types=types, values=values, names=["c"], removed=[])
    after = rows_of(dataset.uri, "latest")
    assert list(after["k0"]) == ["_key", "image", "c", "a", "b"]
    assert {k: {n: v for n, v in r.items() if n != "c"} for k, r in after.items()} == before
    assert all(after[f"k{i}"]["c"] == [i, -i, 0.5, 1.0] for i in LIVE)
    assert size(dataset.uri) - bytes_before < 0.01 * bytes_before


def test_everything_at_once_in_one_version(dataset: Dataset) -> None:
    """Columns: added, of another type, of other values, in another order, gone; rows: deleted,
    added."""
    before = rows_of(dataset.uri)
    types = {"c": Text(), "b": Int64(), "image": TYPES["image"]}
    live = [i for i in LIVE if i not in {7, 50}]
    values = [{"_key": f"k{i}", "c": f"text {i}", "b": -i} for i in live]
    new = [{"_key": "n1", "image": b"new", "c": "n", "b": 9}]
    version = dataset.commit(
        new, types=types, values=values, names=["c", "b"], removed=["k7", "k50"]
    )
    found = rows_of(dataset.uri, "latest")
    assert version == 4
    assert found == {
        f"k{i}": {"_key": f"k{i}", "c": f"text {i}", "b": -i, "image": before[f"k{i}"]["image"]}
        for i in live
    } | {"n1": {"_key": "n1", "image": b"new", "c": "n", "b": 9}}
    assert list(found["n1"]) == ["_key", "c", "b", "image"]
    assert rows_of(dataset.uri, "run-r2") == before


def test_rows_without_a_new_value_keep_theirs(dataset: Dataset) -> None:
    """An early cut-off: a recomputed value that is equal is not staged."""
    first = lance.dataset(dataset.uri).get_fragments()[0].metadata.files
    dataset.commit(values=[{"_key": "k45", "a": -45}], names=["a"], removed=[])
    found = rows_of(dataset.uri, "latest")
    assert {k: r["a"] for k, r in found.items()} == {f"k{i}": -45 if i == 45 else i for i in LIVE}
    again = lance.dataset(dataset.uri).get_fragments()[0].metadata.files
    assert [f.path for f in again] == [f.path for f in first], "no value of it changed"


def test_fragments_may_lose_all_of_their_rows(dataset: Dataset) -> None:
    first = [f"k{i}" for i in LIVE if i < 40]
    values = [{"_key": f"k{i}", "a": -i, "c": "x"} for i in LIVE if i >= 40]
    types = {**TYPES, "c": Text()}
    dataset.commit([row(2, c="new")], types=types, values=values, names=["a", "c"], removed=first)
    found = rows_of(dataset.uri)
    assert {k: (r["a"], r["c"]) for k, r in found.items()} == {
        f"k{i}": (-i, "x") for i in LIVE if i >= 40
    } | {"k2": (2, "new")}
    assert lance.dataset(dataset.uri).count_rows() == 21
    dataset.commit([row(1, c="y")], removed=["k59"])
    assert len(lance.dataset(dataset.uri).get_fragments()) == 3, "the empty one is gone"
    everything = [*rows_of(dataset.uri)]
    dataset.commit(types={**types, "d": Int64()}, values=[], names=["d"], removed=everything)
    assert rows_of(dataset.uri) == {}
    dataset.commit([row(1, c="y", d=3)], removed=[])
    assert rows_of(dataset.uri) == {"k1": row(1, c="y", d=3)}


def test_media_can_be_replaced_too(dataset: Dataset) -> None:
    values = [{"_key": f"k{i}", "image": b"x" * i if i % 5 else None} for i in LIVE if i > 20]
    before = rows_of(dataset.uri)
    dataset.commit(values=values, names=["image"], removed=[])
    expected = {k: r["image"] for k, r in before.items()} | {v["_key"]: v["image"] for v in values}
    assert {k: r["image"] for k, r in rows_of(dataset.uri).items()} == expected


def test_nothing_to_replace_changes_no_column(dataset: Dataset) -> None:
    before = rows_of(dataset.uri)
    dataset.commit(values=[], names=["a"], removed=["k5"])
    assert rows_of(dataset.uri) == {k: r for k, r in before.items() if k != "k5"}


def test_an_index_on_old_values_is_gone_and_others_stay(dataset: Dataset) -> None:
    table = lance.dataset(dataset.uri)
    table.create_scalar_index("a", "BTREE")
    lance.dataset(dataset.uri).create_scalar_index("b", "BTREE")
    values = [{"_key": f"k{i}", "a": 1000 + i} for i in LIVE]
    dataset.commit([row(70)], values=values, names=["a"], removed=[])
    after = lance.dataset(dataset.uri)
    assert [i.field_names for i in after.describe_indices()] == [["b"]]
    assert after.to_table(columns=["_key"], filter="a = 1011")["_key"].to_pylist() == ["k11"]
    assert after.to_table(columns=["_key"], filter="a = 11").num_rows == 0
    assert after.to_table(columns=["_key"], filter="b = 35")["_key"].to_pylist() == ["k70"]


def test_rows_can_be_changed_and_files_merged_afterwards(dataset: Dataset) -> None:
    values = [{"_key": f"k{i}", "c": f"{i}"} for i in LIVE]
    dataset.commit(types={**TYPES, "c": Text()}, values=values, names=["c"], removed=["k9"])
    dataset.commit([row(9, c="nine")], removed=["k0"])
    dataset.commit(values=[{"_key": "k9", "a": 0}], names=["a"], removed=[])
    expected = rows_of(dataset.uri)
    lance.dataset(dataset.uri).optimize.compact_files()
    assert rows_of(dataset.uri) == expected
    assert expected["k9"] == row(9, c="nine", a=0)


def test_structs_and_lists_keep_their_places(tmp_path: Path) -> None:
    from weft.pipelines.types import Arrow

    nested = Arrow(pa.list_(pa.struct([("x", pa.int64()), ("y", pa.list_(pa.string()))])))
    data = Dataset(tmp_path)
    values = [{"_key": f"k{i}", "s": [{"x": i, "y": [f"{i}"]}] * (i % 3)} for i in LIVE]
    data.commit(types={"s": nested, **TYPES}, values=values, names=["s"], removed=[])
    data.commit([row(80, s=[{"x": 1, "y": []}])], removed=[])
    values = [{"_key": f"k{i}", "b": None} for i in LIVE]
    data.commit(values=values, names=["b"], removed=["k1"])
    found = rows_of(data.uri)
    assert all(found[f"k{i}"]["s"] == [{"x": i, "y": [f"{i}"]}] * (i % 3) for i in LIVE if i != 1)
    assert found["k80"]["s"] == [{"x": 1, "y": []}]
    assert (found["k80"]["b"], found["k2"]["b"]) == (40, None)


def test_a_missing_value_is_told(dataset: Dataset) -> None:
    values = [{"_key": f"k{i}", "c": "x"} for i in LIVE if i != 30]
    with pytest.raises(BooksError, match=r"1 rows, the first 'k30', have no value for c"):
        dataset.commit(types={**TYPES, "c": Text()}, values=values, names=["c"], removed=[])


def test_a_value_for_a_key_twice_is_told(dataset: Dataset) -> None:
    values = [{"_key": "k1", "a": 1}, {"_key": "k1", "a": 2}]
    with pytest.raises(BooksError, match="a key has two new values"):
        dataset.commit(values=values, names=["a"], removed=[])


def test_a_column_that_nothing_was_staged_for_is_told(dataset: Dataset) -> None:
    with pytest.raises(BooksError, match="nothing was staged for c"):
        dataset.commit(types={**TYPES, "c": Text()}, values=[], names=["a"], removed=[])


def test_somebody_else_in_between_is_refused(dataset: Dataset, monkeypatch: Any) -> None:
    """The merge is a compare-and-swap: an append that slips in makes it look again, and refuse."""
    from weft.errors import CommitConflict
    from weft.pipelines import columns

    real = columns.merge

    def slow(table: Any, *given: Any) -> Any:
        operation = real(table, *given)
        kept = schema(**TYPES)
        part = tables.ensure(dataset.uri, kept)
        made = tables.stage(part, pa.Table.from_pylist([row(99)], kept))
        tables.commit(part, made, f"other{os.urandom(3).hex()}", {}, removed=[])
        return operation

    monkeypatch.setattr(tables, "merge", slow)
    with pytest.raises(CommitConflict, match="changed since"):
        dataset.commit(values=[{"_key": "k1", "a": 0}], names=["a"], removed=[])
    assert rows_of(dataset.uri)["k1"]["a"] == 1
