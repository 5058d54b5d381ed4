"""What changed between versions: checked against plain dictionaries of their rows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.pipelines import compaction, tables
from weft.pipelines.fields import arrow_field
from weft.pipelines.observe import diff as module
from weft.pipelines.observe.diff import Diff, diff
from weft.pipelines.types import Embedding, Encoded, Tensor

PLAIN = pa.schema([
    pa.field("_key", pa.string(), nullable=False),
    pa.field("number", pa.int64()),
    pa.field("words", pa.list_(pa.string())),
    pa.field("media", pa.large_binary()),
])  # fmt: skip
SCHEMA = PLAIN.set(3, arrow_field("media", Encoded(nullable=True)))

Rows = dict[str, tuple[Any, ...]]


def write(uri: str, rows: Rows, *, base: Rows | None = None, run: str = "") -> int:
    """Commit `rows` as the whole content, or, with a `base`, as a change of it."""
    token = tables.ensure(uri, SCHEMA)
    run = run or f"r{token['read_version']}"
    removed = None
    if base is not None:
        removed = [k for k in base if rows.get(k) != base[k]]
        rows = {k: v for k, v in rows.items() if base.get(k) != v}
    items = [(key, *values) for key, values in rows.items()]
    columns = [[item[i] for item in items] for i in range(4)]
    table = pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, PLAIN, strict=True)], schema=PLAIN
    )
    version = tables.commit(token, tables.stage(token, table), run, {}, removed=removed)
    tables.tag(uri, version, run, {})
    return version


def expected(before: Rows, after: Rows) -> tuple[dict[str, int], dict[str, int]]:
    common = [k for k in before if k in after]
    changed = {
        name: sum(before[k][i] != after[k][i] for k in common)
        for i, name in enumerate(PLAIN.names[1:])
    }
    rows = sum(before[k] != after[k] for k in common)
    counts = {
        "before": len(before),
        "after": len(after),
        "added": len(after.keys() - before.keys()),
        "removed": len(before.keys() - after.keys()),
        "changed": rows,
        "same": len(common) - rows,
    }
    return counts, {name: count for name, count in changed.items() if count}


VALUES = st.tuples(
    st.none() | st.integers(0, 2),
    st.none() | st.lists(st.sampled_from(["a", "b"]), max_size=2),
    st.none() | st.sampled_from([b"", b"a", b"b", b"x" * 70_000, b"y" * 70_000]),
)
ROWS = st.dictionaries(st.sampled_from("abcdefgh"), VALUES, max_size=8)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=ROWS, second=ROWS, whole=st.booleans(), compacted=st.booleans())
def test_it_is_what_the_rows_say(
    first: Rows,
    second: Rows,
    whole: bool,
    compacted: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    uri = str(tmp_path_factory.mktemp("diff") / "t.lance")
    before = write(uri, first)
    after = write(uri, second, base=None if whole else first)
    if compacted:
        after = compaction.compact(uri, ("latest",)).version
    found = diff(uri, before, after)
    assert (found.rows, found.fields) == expected(first, second)
    assert found.same == (first == second)
    back = diff(uri, after, before)
    assert (back.rows, back.fields) == expected(second, first)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "t.lance")


def test_examples_tell_what_was_and_what_is(uri: str) -> None:
    media = os.urandom(100_000)
    before = {
        "a": (1, ["x"], media),
        "b": (2, None, b"abc"),
        "c": (3, [], b"12345"),
        "d": (4, [], None),
    }
    after = {"a": (1, ["x"], media), "b": (5, ["y"], b"abd"), "c": (3, [], b"1"), "e": before["d"]}
    found = diff(uri, write(uri, before), write(uri, after))
    told = {e.key: (e.what, dict(e.fields)) for e in found.examples}
    assert told == {
        "b": (
            "changed",
            {
                "number": ("2", "5"),
                "words": ("null", "['y']"),
                "media": ("3 bytes, sha256 ba7816bf", "3 bytes, sha256 a52d159f"),
            },
        ),
        "c": ("changed", {"media": ("5 bytes", "1 byte")}),
        "d": ("removed", {}),
        "e": ("added", {}),
    }
    assert diff(uri, 2, 3, examples=0).examples == ()


def test_files_that_both_have_are_not_opened(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base = {f"k{i}": (i, ["w"], os.urandom(70_000)) for i in range(20)}
    first = write(uri, base)
    after = base | {"k3": (33, ["w"], base["k3"][2])}
    second = write(uri, after, base=base)
    taken: list[int] = []
    asked: list[int] = []
    take, media = module._Side.take, module._Side.media

    def take_and_count(self: Any, columns: Any, rows: Any) -> pa.Table:
        taken.append(len(rows))
        return take(self, columns, rows)

    def media_and_count(self: Any, column: str, rows: Any) -> Any:
        asked.append(len(rows))
        return media(self, column, rows)

    monkeypatch.setattr(module._Side, "take", take_and_count)
    monkeypatch.setattr(module._Side, "media", media_and_count)
    found = diff(uri, first, second)
    assert (found.rows["changed"], found.rows["same"], found.fields) == (1, 19, {"number": 1})
    assert (taken, asked) == ([1, 1], [1, 1])  # one row of each, and its media, just as long
    assert diff(uri, second, second).same
    assert taken == [1, 1]


def test_columns_come_go_and_change_their_type(uri: str) -> None:
    def made(schema: pa.Schema, columns: list[Any]) -> int:
        token = tables.ensure(uri, schema)
        run = f"r{token['read_version']}"
        return tables.commit(token, tables.stage(token, pa.table(columns, schema=schema)), run, {})

    key = pa.field("_key", pa.string(), nullable=False)
    first = made(pa.schema([key, ("a", pa.int32()), ("b", pa.int32())]), [["x"], [1], [1]])
    second = made(pa.schema([key, ("b", pa.int64()), ("c", pa.string())]), [["x"], [2], ["s"]])
    found = diff(uri, first, second)
    assert found.added == {"c": "string"}
    assert found.removed == {"a": "int32"}
    assert found.retyped == {"b": ("int32", "int64")}
    assert (found.rows["same"], found.fields, found.same) == (1, {}, False)


def test_numbers_are_told_by_how_far_they_are_apart(uri: str) -> None:
    schema = pa.schema([
        pa.field("_key", pa.string(), nullable=False),
        arrow_field("vector", Embedding(4)),
        arrow_field("tensor", Tensor("float32", (2, 2))),
        pa.field("score", pa.float64()),
    ])  # fmt: skip

    def made(vectors: np.ndarray, tensors: np.ndarray, scores: list[float]) -> int:
        token = tables.ensure(uri, schema)
        kinds = [f.type for f in schema]
        tensor = pa.FixedSizeListArray.from_arrays(pa.array(tensors.ravel()), 4)
        if isinstance(kinds[2], pa.BaseExtensionType):
            tensor = pa.ExtensionArray.from_storage(kinds[2], tensor.cast(kinds[2].storage_type))
        vector = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4).cast(kinds[1])
        table = pa.table([[f"k{i}" for i in range(3)], vector, tensor, scores], schema=schema)
        staged = tables.stage(token, table)
        return tables.commit(token, staged, f"r{token['read_version']}", {})

    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensors = vectors.reshape(3, 2, 2) * 10
    first = made(vectors, tensors, [0.5, float("nan"), 1.0])
    others, more = vectors.copy(), tensors.copy()
    others[0, 0] += 0.25
    others[1, 3] -= 0.5
    more[2, 0, 0] += 2
    second = made(others, more, [0.5, float("nan"), 1.5])
    found = diff(uri, first, second)
    assert found.fields == {"vector": 2, "tensor": 1, "score": 1}
    assert found.apart == {"vector": 0.5, "tensor": 2.0, "score": 0.5}
    told = {e.key: dict(e.fields) for e in found.examples}
    assert told["k1"] == {"vector": ("4 numbers", "4 numbers, at most 0.5 apart")}
    assert told["k2"]["score"] == ("1.0", "1.5")


def test_a_new_column_file_is_compared_and_the_others_are_not(
    uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column that is computed anew is one more file in each fragment."""
    base = {f"k{i}": (i, ["w"], os.urandom(70_000)) for i in range(10)}
    first = write(uri, base)
    dataset = tables.open_table(uri)
    dataset.drop_columns(["number"])
    dataset = tables.open_table(uri)
    dataset.add_columns({"number": "CAST(99 AS BIGINT)"})
    second = tables.open_table(uri).version
    columns: list[list[str]] = []
    take = module._Side.take

    def take_and_note(self: Any, names: list[str], rows: Any) -> pa.Table:
        columns.append(list(names))
        return take(self, names, rows)

    monkeypatch.setattr(module._Side, "take", take_and_note)
    found = diff(uri, first, second)
    assert found.fields == {"number": 10}
    assert columns == [["number"], ["number"]]


def test_keys_that_are_there_twice(uri: str) -> None:
    schema = pa.schema([pa.field("_key", pa.string(), nullable=False), ("v", pa.int64())])

    def made(keys: list[str], values: list[int]) -> int:
        token = tables.ensure(uri, schema)
        staged = tables.stage(token, pa.table([keys, values], schema=schema))
        return tables.commit(token, staged, f"r{token['read_version']}", {})

    first = made(["a", "a", "b"], [1, 2, 3])
    found = diff(uri, first, made(["a", "b", "a", "a"], [1, 3, 5, 6]))
    assert found.duplicates == (1, 2)
    assert found.rows == {
        "before": 3, "after": 4, "added": 1, "removed": 0, "changed": 1, "same": 2,
    }  # fmt: skip


def test_batches_are_cut(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_ROWS", 7)
    monkeypatch.setattr(module, "_BATCH_BYTES", 150_000)
    before = {f"k{i:02}": (i, [], bytes([i]) * 70_000) for i in range(50)}
    after = {k: (v[0], v[1], v[2] if v[0] % 5 else v[2][:-1] + b"!") for k, v in before.items()}
    found = diff(uri, write(uri, before), write(uri, after))
    assert (found.fields, found.rows["same"]) == ({"media": 10}, 40)


def test_a_table_whose_rows_have_no_key(uri: str) -> None:
    import lance

    lance.write_dataset(pa.table({"v": [1]}), uri)
    with pytest.raises(DefinitionError, match="has no column '_key', which names the rows"):
        diff(uri, 1, 1)


def test_a_version_that_is_not_there(uri: str) -> None:
    write(uri, {})
    with pytest.raises(DefinitionError, match="has no version 7; the newest is 2"):
        diff(uri, 2, 7)


def test_an_empty_diff_is_a_diff(uri: str) -> None:
    found = diff(uri, write(uri, {}), write(uri, {}))
    assert isinstance(found, Diff)
    assert found.same
