"""The parts of forgetting: the search for bytes, kin in ledgers, tables without rows, sources
without forgotten ones."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lance.query import DocumentGranularity

from weft.connectors import Files
from weft.errors import CorruptState, Refused
from weft.pipelines import erasing, tables
from weft.pipelines.batch import KEY, PARENT
from weft.pipelines.fields import arrow_field
from weft.pipelines.runs import traces
from weft.pipelines.runs.family import LINE, NAME, family, roots_of
from weft.pipelines.runs.forgotten import Forgotten, Without, bar, forgotten_of
from weft.pipelines.types import Encoded, Text


@given(
    st.lists(st.binary(min_size=8, max_size=20), min_size=1, max_size=6, unique=True),
    st.lists(st.one_of(st.binary(max_size=12), st.integers(0, 5)), max_size=12),
)
def test_a_search_finds_what_is_there_across_chunks(
    sought: list[bytes], made_of: list[bytes | int]
) -> None:
    """Against `in`, with chunks so small that most strings are cut by their ends."""
    data = b"".join(p if isinstance(p, bytes) else sought[p % len(sought)] for p in made_of)
    search = traces._Search(sought)
    for size in (9, 32, 1 << 20):
        found = search.through(io.BytesIO(data), size)
        assert found == {s for s in sought if s in data}


def test_traces_of_texts_media_and_vectors() -> None:
    random = np.random.default_rng(0)
    media, vector = random.bytes(100_000), random.normal(size=32).astype(np.float32)
    rows = pa.table({
        "_source": ["a version that is long enough"],
        "text": ["a text that is long enough"],
        "short": ["a text"],
        "media": pa.array([media], pa.large_binary()),
        "black": pa.array([bytes(100_000)], pa.large_binary()),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vector), 32),
    })  # fmt: skip
    found = traces.of_rows(rows)
    assert b"a text that is long enough" in found
    assert sum(t in media for t in found) == 3
    assert sum(t in vector.tobytes() for t in found) == 2
    assert len(found) == 6
    assert traces.of_keys(["a/ü.jpg", "short", "longer.jpg"]) == {
        "a/ü.jpg".encode(), b"a/\\u00fc.jpg", b"longer.jpg",
    }  # fmt: skip


def test_a_scan_goes_through_all_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c.bin").write_bytes(b"..needle-1..")
    (tmp_path / "d.bin").write_bytes(b"needle-2")
    found = traces.scan(
        [tmp_path / "a", tmp_path / "d.bin"], [b"needle-1", b"needle-2", b"needle-3"]
    )
    assert (found.files, found.size) == (2, 20)
    assert found.found == {
        b"needle-1": (str(tmp_path / "a" / "b" / "c.bin"),),
        b"needle-2": (str(tmp_path / "d.bin"),),
    }


def ledger(*lines: dict[str, Any]) -> pl.DataFrame:
    """Lines of a ledger; what a line does not say is null, and it was read by `read`."""
    columns = {KEY: None, PARENT: None, "read": "read", "into": None, "outcome": "kept",
               "step": "write", "joined": None}  # fmt: skip
    given = [{LINE: i, **columns, **line} for i, line in enumerate(lines)]
    met = pl.List(pl.Struct({"step": pl.String, "key": pl.String}))
    texts = dict.fromkeys((KEY, PARENT, "read", "into", "outcome", "step"), pl.String)
    return pl.DataFrame(given, schema={LINE: pl.Int64, **texts, "joined": met})


def kin(lines: pl.DataFrame, key: str, *reads: str) -> list[str]:
    return sorted(family(lines, roots_of(lines, [key], reads or None))[KEY])


def test_kin_are_children_groups_and_what_was_joined() -> None:
    lines = ledger(
        {KEY: "a", "outcome": "expanded"},
        {KEY: "a#0", PARENT: "a", "outcome": "grouped", "into": "sum"},
        {KEY: "a#1", PARENT: "a", "outcome": "failed"},
        {KEY: "sum", "read": None, "outcome": "expanded"},
        {KEY: "sum#0", PARENT: "sum", "read": None},
        {KEY: "b", "outcome": "expanded"},
        {KEY: "b#0", PARENT: "b", "outcome": "grouped", "into": "sum"},
        {KEY: "b#1", PARENT: "b"},
    )
    assert kin(lines, "a") == ["a", "a#0", "a#1", "sum", "sum#0"]
    assert kin(lines, "b") == ["b", "b#0", "b#1", "sum", "sum#0"]
    assert kin(lines, "sum") == []  # it was not read


def test_kin_by_joins_and_reads() -> None:
    """`7` is one row of each read. Of the left, `7*x` and `7*y` are the row that met two."""
    lines = ledger(
        {KEY: "7", "read": "right", "outcome": "joined", "step": "join"},
        {KEY: "x", "read": "right", "outcome": "joined", "step": "join"},
        {KEY: "7*x", "read": "left", "joined": [{"step": "join", "key": "x"}]},
        {KEY: "7*7", "read": "left", "joined": [{"step": "join", "key": "7"}]},
        {KEY: "8*7", "read": "left", "joined": [{"step": "join", "key": "7"}]},
        {KEY: "9", "read": "left", "joined": [{"step": "other", "key": "7"}]},
    )
    assert kin(lines, "7", "left") == ["7*7", "7*x"]
    assert kin(lines, "7", "right") == ["7", "7*7", "8*7"]
    assert kin(lines, "x") == ["7*x", "x"]
    assert roots_of(lines, ["7"], ["left"])[NAME].to_list() == ["7", "7"]


def test_every_kind_of_index_is_made_anew(tmp_path: Path) -> None:
    """With its parameters; none has the name of a file that it had."""
    uri, random = str(tmp_path / "t.lance"), np.random.default_rng(0)
    vectors = pa.array(random.normal(size=600 * 16).astype("f4"))
    rows = pa.table({
        KEY: [f"key-{i}" for i in range(600)],
        "few": [i % 5 for i in range(600)],
        "text": [f"text {i}" for i in range(600)],
        "labels": [["aa", "bb"][: 1 + i % 2] for i in range(600)],
        "vector": pa.FixedSizeListArray.from_arrays(vectors, 16),
    })  # fmt: skip
    dataset = lance.write_dataset(rows, uri, enable_stable_row_ids=True, max_rows_per_file=400)
    dataset.create_scalar_index(KEY, "BTREE")
    dataset.create_scalar_index("few", "BITMAP")
    dataset.create_scalar_index("few", "ZONEMAP", name="zones")
    dataset.create_scalar_index("few", "BLOOMFILTER", name="bloom")
    dataset.create_scalar_index("text", "INVERTED", with_position=True, stem=False)
    dataset.create_scalar_index("text", "NGRAM", name="ngrams")
    dataset.create_scalar_index("labels", "LABEL_LIST")
    each = DocumentGranularity.LIST_ELEMENT
    dataset.create_scalar_index("labels", "INVERTED", name="each", document_granularity=each)
    dataset.create_index("vector", "IVF_SQ", metric="cosine")

    def indexes() -> dict[str, Any]:
        found = lance.dataset(uri).describe_indices()
        return {i.name: (i.index_type, i.field_names, i.details) for i in found}

    def files() -> set[str]:
        return {p.name for p in Path(uri, "_indices").iterdir() if any(p.iterdir())}

    before, old = indexes(), files()
    places = erasing.places(uri, ["key-7"])
    erased = erasing.erase(uri, places, {})
    assert (erased.rows, erased.dropped_indexes) == (1, ())
    assert indexes() == before
    assert len(files()) == 9
    assert files().isdisjoint(old)
    assert erasing.strays(uri) == []
    assert lance.dataset(uri).count_rows() == 599
    assert erasing.versions(uri) == (erased.version,)


def test_media_of_any_size_are_gone_and_all_others_are_whole(tmp_path: Path) -> None:
    """Lance keeps small ones in the table's file, larger ones together beside it, and each of the
    largest in a file of its own; null and nothing are values, too."""
    uri, random = str(tmp_path / "t.lance"), np.random.default_rng(0)
    sizes = [0, 100, 3_000, 100_000, 5_000_000]
    media = {f"row-{i}-{n}": random.bytes(n) for i in range(3) for n in sizes}
    values = [*media.values(), None]
    schema = pa.schema([arrow_field(KEY, Text()), arrow_field("clip", Encoded("video") | None)])
    token = tables.ensure(uri, schema)
    rows = pa.table([[*media, "row-none"], values], schema=schema)
    version = tables.commit(token, tables.stage(token, rows), "r1", {})
    tables.tag(uri, version, "r1", {})
    gone = {key: value for key, value in media.items() if key.startswith("row-1-")}
    tags = {name: {"weft.run": "r1"} for name in ("latest", "run-r1")}
    erased = erasing.erase(uri, erasing.places(uri, gone), tags)
    assert erased.rows == len(sizes)
    left = tables.read(uri, "latest").to_pylist()
    assert {r[KEY]: r["clip"] for r in left} == {
        key: value for key, value in [*media.items(), ("row-none", None)] if key not in gone
    }
    files = [path.read_bytes() for path in Path(uri).rglob("*") if path.is_file()]
    for value in gone.values():
        assert not value or not any(value[:64] in f or value[-64:] in f for f in files)
    assert sum(len(f) for f in files) < 1.1 * sum(len(v) for k, v in media.items() if k not in gone)


def test_only_fragments_with_deleted_rows_are_written_anew(tmp_path: Path) -> None:
    uri = str(tmp_path / "t.lance")
    rows = pa.table({KEY: [f"key-{i}" for i in range(40)]})
    dataset = lance.write_dataset(rows, uri, enable_stable_row_ids=True, max_rows_per_file=10)
    dataset.delete("_key = 'key-35'")  # by somebody, earlier
    before = {f.path for g in dataset.get_fragments() for f in g.metadata.files}
    erasing.erase(uri, erasing.places(uri, [f"key-{i}" for i in (3, *range(10, 20))]), {})
    after = [g.metadata for g in lance.dataset(uri).get_fragments()]
    assert len(before & {f.path for g in after for f in g.files}) == 1
    assert [g.num_deletions for g in after] == [0] * len(after)
    assert lance.dataset(uri).count_rows() == 28


def test_a_table_with_branches_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "t.lance")
    dataset = lance.write_dataset(pa.table({KEY: ["a"]}), uri)
    dataset.create_branch("try", None)
    with pytest.raises(Refused, match=r"has branches: try\. Rows cannot be erased from them"):
        erasing.settle(uri)


def test_what_is_written_down_of_a_key(tmp_path: Path) -> None:
    bar(tmp_path, ["ann@example.org"])
    first = forgotten_of(tmp_path)
    again = bar(tmp_path, ["ben@example.org"])
    assert (first.salt, len(again.digests)) == (again.salt, 2)
    assert again.has("ann@example.org")
    assert not first.has("ben@example.org")
    assert "ann" not in (tmp_path / "forgotten.json").read_text()
    assert forgotten_of(tmp_path / "other").salt != first.salt
    file = tmp_path / "forgotten.json"
    file.write_bytes(file.read_bytes().replace(b"digests", b"gidests"))
    with pytest.raises(CorruptState, match="says which rows must not be read again"):
        forgotten_of(tmp_path)


def test_a_source_without_forgotten_rows(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(name)
    whole = Files(f"{tmp_path}/*", kind="text")
    some = Without(
        whole, [Forgotten(b"1").adding(["b.txt"]), Forgotten(b"2").adding(["x", "d.txt"])]
    )
    assert some.listing()[KEY].to_pylist() == ["a.txt", "c.txt"]
    assert (some.count(), some.left_out()) == (2, 2)
    assert (some.identity(), some.name, str(some)) == (whole.identity(), whole.name, str(whole))
    (split,) = pickle.loads(pickle.dumps(some)).splits(10)
    (chunk,) = some.read(split, ["key"], [], 10)
    assert chunk.batch.columns["key"].values == ["a.txt", "c.txt"]
    none = Without(whole, [Forgotten(b"1")])
    assert [s.id for s in none.splits(3)] == [s.id for s in whole.splits(3)]
