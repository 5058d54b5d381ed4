"""Vector indexes. Truth: NumPy compares every vector, in double precision."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from lance.dataset import Tags

from weft.connectors import Lance
from weft.errors import DefinitionError, PlanError
from weft.pipelines import indexes, tables
from weft.pipelines.fields import arrow_schema
from weft.pipelines.types import Embedding, Int64, Text

DIM = 24
ROWS = 12_000
SCHEMA = pa.schema(
    [
        pa.field("_key", pa.string(), nullable=False),
        *arrow_schema({"n": Int64(), "clip": Embedding(DIM, nullable=True), "name": Text()}),
    ]
)

Vectors = npt.NDArray[np.float32]


def clustered(count: int, seed: int = 0, spread: float = 0.5) -> Vectors:
    """Unit vectors around a hundred centres, some crowded and some lonely."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(100, DIM))
    share = 1 / np.arange(1, 101)
    of = random.choice(100, count, p=share / share.sum())
    vectors = centres[of] + spread * random.normal(size=(count, DIM))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def rows(vectors: Vectors, start: int = 0) -> pa.Table:
    numbers = np.arange(start, start + len(vectors))
    keys = [f"k{n}" for n in numbers]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), DIM)
    return pa.table([keys, numbers, column, keys], schema=SCHEMA)


def truth(vectors: Vectors, query: Vectors, k: int) -> list[str]:
    near = np.argsort(-(vectors.astype(np.float64) @ query.astype(np.float64)), kind="stable")
    return [f"k{n}" for n in near[:k]]


def keys(uri: Any, version: Any, query: Vectors, k: int = 10, **more: Any) -> list[str]:
    found = indexes.nearest(str(uri), version, "clip", query, k, columns=["_key"], **more)
    return list(found["_key"].to_pylist())


def publish(uri: Any, table: pa.Table, run: str = "r1", index: Any = "clip") -> int:
    sink = Lance(str(uri), index=index)
    sink.check(SCHEMA)
    token = sink.prepare(SCHEMA)
    version = sink.commit(token, sink.stage(token, table), run, {})
    sink.publish(version, run, {})
    return version


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(ROWS)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, vectors: Vectors) -> tuple[str, int]:
    """A published dataset with an index, and its version."""
    uri = str(tmp_path_factory.mktemp("large") / "t.lance")
    return uri, publish(uri, rows(vectors))


@pytest.fixture
def exists_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda count: monkeypatch.setattr(indexes, "INDEX_FROM_ROWS", count)


def test_recall_against_all_vectors_compared(large: tuple[str, int], vectors: Vectors) -> None:
    queries = clustered(100, seed=1)
    found = sum(len({*keys(large[0], "latest", q)} & {*truth(vectors, q, 10)}) for q in queries)
    assert found / 1000 >= 0.99


def test_distances_are_cosine(large: tuple[str, int], vectors: Vectors) -> None:
    query = 7 * clustered(1, seed=2)[0]  # its length does not count
    found = indexes.nearest(large[0], "latest", "clip", query, 20, columns=["n", "name"])
    assert found.column_names == ["n", "name", indexes.DISTANCE]
    assert found.schema.field("n").metadata == SCHEMA.field("n").metadata
    exact = 1 - vectors[found["n"].to_numpy()].astype(np.float64) @ query / np.linalg.norm(query)
    np.testing.assert_allclose(found[indexes.DISTANCE].to_numpy(), exact, atol=1e-6)
    assert (np.diff(found[indexes.DISTANCE].to_numpy()) >= 0).all()


def test_where_is_asked_first(large: tuple[str, int], vectors: Vectors) -> None:
    query = clustered(1, seed=3)[0]
    expected = truth(vectors[:40], query, 10)
    assert keys(*large, query, where="n < 40") == expected


def test_the_version_shown_has_the_index(large: tuple[str, int]) -> None:
    uri, version = large
    tags = lance.dataset(uri).tags.list()
    assert {t["version"] for t in tags.values()} == {version}
    assert set(tags) == {"latest", "run-r1"}
    found = indexes.coverage(uri, "latest", "clip")
    assert (found.indexed, found.rows) == (ROWS, ROWS)
    assert str(found) == "by index clip_idx"
    assert lance.dataset(uri, version=version).describe_indices()[0].index_type == "IVF_SQ"


def test_few_rows_are_compared_one_by_one(tmp_path: Path) -> None:
    uri, few = tmp_path / "t.lance", clustered(500)
    assert publish(uri, rows(few)) == 2  # the rows' own version
    assert str(indexes.coverage(str(uri), "latest", "clip")) == "exact, all 500 rows compared"
    for query in clustered(20, seed=4):
        assert keys(uri, "latest", query) == truth(few, query, 10)


def test_rows_without_a_direction_are_near_to_nothing(tmp_path: Path) -> None:
    uri = tmp_path / "t.lance"
    table = rows(np.eye(4, DIM, dtype=np.float32)).to_pylist()
    table[1]["clip"], table[2]["clip"] = None, [0.0] * DIM
    publish(uri, pa.Table.from_pylist(table, SCHEMA))
    assert keys(uri, "latest", np.ones(DIM, np.float32)) == ["k0", "k3"]


def test_a_column_of_nulls_gets_no_index(tmp_path: Path, exists_from: Any) -> None:
    exists_from(300)
    table = rows(clustered(400)).to_pylist()
    nothing = pa.Table.from_pylist([r | {"clip": None} for r in table], SCHEMA)
    assert publish(tmp_path / "t.lance", nothing) == 2


class Killed(BaseException):
    """The driver died here."""


@pytest.mark.parametrize("at", ["create_index", "after create_index", "tags.create", "tags.update"])
def test_a_driver_that_dies_converges(
    tmp_path: Path, exists_from: Any, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    exists_from(300)
    uri = str(tmp_path / "t.lance")
    publish(uri, rows(clustered(400)), "r0")
    sink = Lance(uri, index=("clip",))
    token = sink.prepare(SCHEMA)
    table = rows(clustered(500, seed=5))
    staged = sink.stage(token, table)
    with monkeypatch.context() as patch:
        kill(patch, at)
        with pytest.raises(Killed):
            sink.publish(sink.commit(token, staged, "r1", {}), "r1", {})
    assert tables.read(uri, "latest").num_rows == 400  # whole runs only
    again = sink.commit(token, staged, "r1", {})
    sink.publish(again, "r1", {})
    for _ in range(2):
        assert sink.commit(token, staged, "r1", {}) == again
        sink.publish(again, "r1", {})
    assert tables.latest(uri) == (again, {tables.RUN_PROPERTY: "r1"})
    assert tables.read(uri, "latest", ["n"]).num_rows == 500
    found = indexes.coverage(uri, "latest", "clip")
    assert (found.index, found.indexed) == ("clip_idx", 500)
    assert lance.dataset(uri).version == again == 5  # empty, r0, its index, r1, its index


def kill(patch: pytest.MonkeyPatch, at: str) -> None:
    where, _, name = at.rpartition(".")
    home: Any = Tags if where else lance.LanceDataset
    real = getattr(home, name.removeprefix("after "))

    def die(*given: Any, **named: Any) -> None:
        if at.startswith("after"):
            real(*given, **named)
        raise Killed

    patch.setattr(home, name.removeprefix("after "), die)


def test_rows_that_came_and_went(tmp_path: Path, exists_from: Any) -> None:
    """An append and a delete on an indexed table: the index is extended, not left behind."""
    exists_from(300)
    uri, first, more = str(tmp_path / "t.lance"), clustered(500), clustered(200, seed=6)
    publish(uri, rows(first))
    lance.write_dataset(rows(more, start=500), uri, mode="append")
    lance.dataset(uri).delete("n % 5 = 0")
    now = lance.dataset(uri).version
    both = np.concatenate([first, more])
    both[::5] = -both[::5]  # gone: nearer to nothing
    query = clustered(1, seed=7)[0]
    expected = [k for k in truth(both, query, 50) if int(k[1:]) % 5][:10]
    before = indexes.coverage(uri, now, "clip")
    assert (before.indexed, before.rows) == (400, 560)
    assert str(before) == "by index clip_idx, 160 rows of it compared"
    assert keys(uri, now, query) == expected  # rows without an index are found too
    version = indexes.build(uri, now, ["clip"])
    after = indexes.coverage(uri, version, "clip")
    assert (version, after.indexed, after.rows) == (now + 1, 560, 560)
    assert keys(uri, version, query) == expected
    assert indexes.build(uri, now, ["clip"]) == version
    assert indexes.build(uri, version, ["clip"]) == version


def test_a_stranger_s_rows_do_not_come_with_the_index(tmp_path: Path, exists_from: Any) -> None:
    uri = str(tmp_path / "t.lance")
    version = publish(uri, rows(clustered(400)))
    lance.write_dataset(rows(clustered(5), start=400), uri, mode="append")
    exists_from(300)
    assert indexes.build(uri, version, ["clip"]) == version
    assert lance.dataset(uri).describe_indices() == []


@pytest.mark.parametrize(
    ("query", "more", "message"),
    [
        (np.ones(3), {}, rf"'clip' has vectors of {DIM} numbers; given one of shape \(3,\)"),
        (np.zeros(DIM), {}, "zero or not finite: it has no direction"),
        (np.full(DIM, np.nan), {}, "zero or not finite"),
        (np.ones(DIM), {"where": "year > 3"}, "cannot search where year > 3: .*No field named"),
        (np.ones(DIM), {"column": "n"}, "column 'n' is int64; expected vectors of one length"),
        (np.ones(DIM), {"column": "clap"}, "has no column 'clap'. It has: n, clip, name."),
    ],
)
def test_what_cannot_be_searched(
    large: tuple[str, int], query: Any, more: dict[str, Any], message: str
) -> None:
    column = more.pop("column", "clip")
    with pytest.raises(DefinitionError, match=message):
        indexes.nearest(*large, column, query, 3, **more)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("clap", r"no column 'clap' is written. Written: n, clip, name. Did you mean 'clip'"),
        ("n", "column 'n' is Int64; a vector index is on an Embedding of a fixed length"),
    ],
)
def test_what_cannot_be_indexed(tmp_path: Path, index: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Lance(str(tmp_path / "t.lance"), index=index).check(SCHEMA)


def test_index_is_of_a_write(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="an index is made by a write"):
        _ = Lance(str(tmp_path), index="clip").columns
    assert Lance("a").identity() == {
        "type": "Lance", "path": Lance("a").path, "version": "latest", "key": None,
    }  # fmt: skip
    assert Lance("a", index="clip") == Lance("a", index=("clip", "clip"))
    assert Lance("a", index="clip").identity() == Lance("a").identity()
