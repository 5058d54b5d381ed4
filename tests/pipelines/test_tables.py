"""The versioned table: staged by many, committed once, readable in every version."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import polars as pl
import pyarrow as pa
import pytest

from weft.errors import BooksError, CommitConflict, DefinitionError, PlanError, Refused
from weft.pipelines import blobs, tables
from weft.pipelines.fields import arrow_schema, fields_of
from weft.pipelines.types import Encoded, Float32, Int64, Text

SCHEMA = pa.schema([pa.field("_key", pa.string(), nullable=False), pa.field("v", pa.int64())])


def rows(*values: int) -> pa.Table:
    return pa.table([[f"k{v}" for v in values], list(values)], schema=SCHEMA)


def values(uri: str, version: int | str | None = None) -> list[int]:
    return sorted(tables.read(uri, version)["v"].to_pylist())


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "t.lance")


def write(uri: str, run: str, *parts: pa.Table, schema: pa.Schema = SCHEMA) -> int:
    token = tables.ensure(uri, schema)
    staged = [fragment for part in parts for fragment in tables.stage(token, part)]
    return tables.commit(token, staged, run, {})


class TestEnsure:
    def test_makes_an_empty_table_with_stable_row_ids(self, uri: str) -> None:
        assert not tables.exists(uri)
        token = tables.ensure(uri, SCHEMA)
        assert json.loads(json.dumps(token)) == token
        assert tables.exists(uri)
        dataset = lance.dataset(uri)
        assert dataset.has_stable_row_ids
        assert dataset.data_storage_version == "2.2"
        assert tables.read(uri).num_rows == 0

    def test_opens_what_is_there(self, uri: str) -> None:
        write(uri, "r1", rows(1))
        tables.ensure(uri, SCHEMA)
        assert values(uri) == [1]

    def test_makes_one_where_an_earlier_attempt_was_cut_short(self, uri: str) -> None:
        Path(uri, "_versions").mkdir(parents=True)
        assert not tables.exists(uri)
        tables.ensure(uri, SCHEMA)
        assert write(uri, "r1", rows(1)) == 2

    def test_of_a_race_one_creates_and_all_can_stage(self, uri: str) -> None:
        with ThreadPoolExecutor(8) as pool:
            tokens = list(pool.map(lambda _: tables.ensure(uri, SCHEMA), range(8)))
        assert {t["read_version"] for t in tokens} == {1}
        assert lance.dataset(uri).version == 1

    def test_a_file_uri_is_a_path(self, uri: str) -> None:
        assert tables.ensure(f"file://{uri}", SCHEMA)["uri"] == uri

    @pytest.mark.parametrize("other", ["s3://bucket/t.lance", "memory://t"])
    def test_other_storages_are_refused(self, other: str) -> None:
        with pytest.raises(PlanError, match=r"local or mounted path.*Given: '\w+://"):
            tables.ensure(other, SCHEMA)

    def test_a_table_of_an_old_format_is_refused(self, uri: str) -> None:
        lance.write_dataset(rows(), uri, data_storage_version="2.0")
        with pytest.raises(PlanError, match=r"has file format 2\.0; weft writes 2\.2"):
            tables.ensure(uri, SCHEMA)


class TestStage:
    def test_is_invisible_and_gives_json(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1, 2))
        assert json.loads(json.dumps(staged)) == staged
        assert [item["rows"] for item in staged] == [2]
        assert values(uri) == []

    def test_of_no_rows_is_nothing(self, uri: str) -> None:
        assert tables.stage(tables.ensure(uri, SCHEMA), rows()) == []

    def test_columns_may_come_in_another_order_but_not_be_missing(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        assert tables.stage(token, rows(1).select(["v", "_key"]))
        with pytest.raises((KeyError, ValueError), match="v"):
            tables.stage(token, rows(1).select(["_key"]))

    def test_splits_large_tables_into_files(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tables, "_FILE_ROWS", 1024)
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(*range(3000)))
        assert [item["rows"] for item in staged] == [1024, 1024, 952]
        tables.commit(token, staged, "r1", {})
        assert values(uri) == list(range(3000))


class TestCommit:
    def test_replaces_the_content_and_keeps_old_versions(self, uri: str) -> None:
        first = write(uri, "r1", rows(1), rows(2))
        second = write(uri, "r2", rows(3))
        assert (first, second) == (2, 3)
        assert (values(uri, first), values(uri, second)) == ([1, 2], [3])

    def test_rows_of_any_key_go_and_the_others_stay(self, uri: str) -> None:
        odd = ["it's", 'a "b"', "c\nd", "é#0", "", "%_", "\\'; --", "😀", "k1", "k2"]
        schema = pa.schema([SCHEMA.field("_key")])
        table = pa.table([odd], schema=schema)
        write(uri, "r1", table.slice(0, 4), table.slice(4, 3), table.slice(7), schema=schema)
        for number, keys in enumerate([odd[1:4], [odd[0], "", "nobody"], odd[5:8]]):
            tables.commit(tables.ensure(uri, schema), [], f"d{number}", {}, removed=keys)
        assert tables.read(uri)["_key"].to_pylist() == ["k1", "k2"]
        assert [f.count_rows() for f in lance.dataset(uri).get_fragments()] == [2]

    def test_many_rows_go_at_once(self, uri: str) -> None:
        """A list of their keys in SQL took 14 s for as many again; positions take 0.3 s."""
        write(uri, "r1", rows(*range(200_000)))
        gone = [f"k{i}" for i in range(0, 200_000, 2)]
        tables.commit(tables.ensure(uri, SCHEMA), [], "r2", {}, removed=gone)
        assert values(uri) == list(range(1, 200_000, 2))

    def test_of_the_same_run_changes_nothing(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))
        versions = [tables.commit(token, staged, "r1", {}) for _ in range(3)]
        assert versions == [2, 2, 2]
        assert lance.dataset(uri).version == 2

    def test_is_found_by_its_tag_when_its_transaction_is_out_of_reach(self, uri: str) -> None:
        version = write(uri, "r1", rows(1))
        tables.tag(uri, version, "r1", {})
        write(uri, "r2", rows(2))
        late = tables.ensure(uri, SCHEMA)
        assert tables.commit(late, [], "r1", {}) == version

    def test_stores_run_properties_and_message(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        version = tables.commit(token, tables.stage(token, rows(1)), "r1", {"weft.recipe": "abc"})
        properties = lance.dataset(uri).read_transaction(version).transaction_properties
        assert properties == {
            "weft.run": "r1",
            "weft.recipe": "abc",
            "weft.base": "1",
            "__lance_commit_message": "run r1: 1 rows",
        }

    def test_of_an_empty_run_is_an_empty_version(self, uri: str) -> None:
        write(uri, "r1", rows(1))
        version = write(uri, "r2")
        assert values(uri, version) == []
        assert tables.read(uri).schema.names == SCHEMA.names
        assert values(uri, 2) == [1]

    def test_after_other_rows_is_a_conflict_that_names_versions(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))
        write(uri, "other", rows(2))
        with pytest.raises(CommitConflict, match=r"began at version 1 .* versions 2 \(run other\)"):
            tables.commit(token, staged, "r1", {})
        assert values(uri) == [2]
        assert all(Path(uri, "data", f).is_file() for f in staged[0]["files"])

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d.delete("v = 1"),
            lambda d: lance.write_dataset(rows(9), d.uri, mode="append"),
            lambda d: d.add_columns(pa.field("w", pa.int32())),
        ],
        ids=["delete", "append", "add a column"],
    )
    def test_after_any_change_of_the_rows_is_a_conflict(
        self, uri: str, change: Callable[[Any], object]
    ) -> None:
        write(uri, "r1", rows(1, 2))
        token = tables.ensure(uri, SCHEMA)
        change(lance.dataset(uri))
        with pytest.raises(CommitConflict, match="unknown"):
            tables.commit(token, [], "r2", {})

    def test_goes_on_over_configuration_indices_and_tags(self, uri: str) -> None:
        write(uri, "r1", rows(1, 2))
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(3))
        dataset = lance.dataset(uri)
        dataset.update_config({"weft.lease": "me"})
        dataset.create_scalar_index("v", "BTREE")
        dataset.tags.create("mine", 2)
        version = tables.commit(token, staged, "r2", {})
        assert version == 5
        assert values(uri) == [3]
        assert lance.dataset(uri).config()["weft.lease"] == "me"

    def test_of_two_at_once_one_wins(self, uri: str) -> None:
        tokens = [tables.ensure(uri, SCHEMA) for _ in range(4)]
        staged = [tables.stage(t, rows(i)) for i, t in enumerate(tokens)]

        def attempt(i: int) -> int | None:
            try:
                return tables.commit(tokens[i], staged[i], f"r{i}", {})
            except CommitConflict:
                return None

        with ThreadPoolExecutor(4) as pool:
            outcomes = list(pool.map(attempt, range(4)))
        won = [i for i, version in enumerate(outcomes) if version is not None]
        assert len(won) == 1
        assert values(uri) == won

    def test_of_one_run_by_many_at_once_is_one_version(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1, 2))
        with ThreadPoolExecutor(4) as pool:
            versions = set(pool.map(lambda _: tables.commit(token, staged, "r1", {}), range(4)))
        assert versions == {2}
        assert values(uri) == [1, 2]
        assert lance.dataset(uri).version == 2

    @pytest.mark.parametrize("kind", [OSError, RuntimeError, TimeoutError])
    def test_looks_again_after_an_error_that_came_after_the_commit(
        self, uri: str, monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
    ) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))
        commit = lance.LanceDataset.commit

        def answer_lost(*args: Any, **kwargs: Any) -> None:
            commit(*args, **kwargs)
            raise kind("connection reset by peer")

        monkeypatch.setattr(lance.LanceDataset, "commit", answer_lost)
        assert tables.commit(token, staged, "r1", {}) == 2
        assert lance.dataset(uri).version == 2
        assert values(uri) == [1]

    def test_tries_again_after_an_error_that_came_before_the_commit(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))
        commit, errors = lance.LanceDataset.commit, [OSError("slow down"), OSError("slow down")]

        def flaky(*args: Any, **kwargs: Any) -> Any:
            if errors:
                raise errors.pop()
            return commit(*args, **kwargs)

        monkeypatch.setattr(lance.LanceDataset, "commit", flaky)
        assert tables.commit(token, staged, "r1", {}) == 2

    def test_gives_up_with_the_storage_error_and_deletes_nothing(
        self, uri: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))

        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(lance.LanceDataset, "commit", full)
            patch.setattr(tables.time, "sleep", lambda seconds: None)
            with pytest.raises(OSError, match="no space left") as caught:
                tables.commit(token, staged, "r1", {})
        assert "committing again is safe" in caught.value.__notes__[0]
        assert tables.commit(token, staged, "r1", {}) == 2
        assert values(uri) == [1]

    def test_with_a_missing_file_is_refused(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1)) + tables.stage(token, rows(2))
        (lost,) = staged[1]["files"]
        Path(uri, "data", lost).unlink()
        with pytest.raises(BooksError, match=f"{lost} is missing"):
            tables.commit(token, staged, "r1", {})
        assert lance.dataset(uri).version == 1

    def test_with_a_truncated_file_is_refused(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))
        (file,) = staged[0]["files"]
        os.truncate(Path(uri, "data", file), 10)
        with pytest.raises(BooksError, match="has 10 bytes, not"):
            tables.commit(token, staged, "r1", {})

    def test_with_a_fragment_twice_is_refused(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1))
        with pytest.raises(BooksError, match="is given twice"):
            tables.commit(token, [*staged, *staged], "r1", {})

    def test_of_what_was_staged_for_another_schema_is_refused(self, uri: str) -> None:
        other = tables.ensure(uri, arrow_schema({"v": Text()}))
        staged = tables.stage(other, pa.table({"v": ["a"]}))
        with pytest.raises(PlanError, match="staged for another schema"):
            tables.commit(tables.ensure(uri, SCHEMA), staged, "r1", {})

    @pytest.mark.parametrize("run", ["", "a/b", "läuft", "-r", "a b"])
    def test_run_ids_that_cannot_be_tags_are_refused(self, uri: str, run: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        with pytest.raises(DefinitionError, match="cannot name a run"):
            tables.commit(token, [], run, {})

    def test_is_found_past_a_compaction_of_an_indexed_table(self, uri: str) -> None:
        """pylance 14 raises TypeError when it reads the transaction of such a compaction."""
        token = tables.ensure(uri, SCHEMA)
        staged = [f for i in range(3) for f in tables.stage(token, rows(i))]
        version = tables.commit(token, staged, "r1", {})
        dataset = lance.dataset(uri)
        dataset.create_scalar_index("v", "BTREE")
        dataset.optimize.compact_files()
        assert lance.dataset(uri).version > version + 1
        assert tables.commit(token, staged, "r1", {}) == version
        assert values(uri) == [0, 1, 2]
        assert tables.history(uri)[0].run is None


class TestSchemaChange:
    """A rerun may have other columns; each version is read with its own."""

    A = arrow_schema({"a": Int64(), "media": Encoded("image", nullable=True), "b": Text()})
    B = arrow_schema({"media": Encoded("audio", nullable=True), "a": Text(), "c": Float32()})

    def test_versions_keep_their_columns(self, uri: str) -> None:
        large = os.urandom(300_000)  # beyond what Lance keeps inside the data file
        first = pa.table([[1, 2, 3], [b"x", None, large], ["p", "q", "r"]], schema=self.A)
        second = pa.table([[large, b""], ["s", "t"], [0.5, 1.0]], schema=self.B)
        versions = [
            write(uri, "r1", first, schema=self.A),
            write(uri, "r2", second, schema=self.B),
            write(uri, "r3", schema=self.B),
            write(uri, "r4", first, schema=self.A),
        ]
        expected = [first, second, second.slice(0, 0), first]
        for version, table in zip(versions, expected, strict=True):
            found = tables.read(uri, version)
            assert found.to_pylist() == table.to_pylist()
            assert found.schema.equals(table.schema, check_metadata=True)
            assert fields_of(tables.open_table(uri, version).schema) == fields_of(table.schema)


class TestBlobs:
    SCHEMA = arrow_schema({"n": Int64(), "media": Encoded("image", nullable=True)})

    def test_round_trip_at_every_size(self, uri: str) -> None:
        media = [None, b"", b"a", os.urandom(100_000), None, os.urandom(5_000_000), b"z"]
        table = pa.table([range(7), media], schema=self.SCHEMA)
        token = tables.ensure(uri, self.SCHEMA)
        parts = [table.slice(0, 3), table.slice(3, 3), table.slice(6)]
        staged = [f for part in parts for f in tables.stage(token, part)]
        tables.commit(token, staged, "r1", {})
        assert tables.read(uri)["media"].to_pylist() == media
        assert tables.read(uri, columns=["media"], where="n = 4")["media"].to_pylist() == [None]

    def test_are_blob_columns(self, uri: str) -> None:
        write(uri, "r1", pa.table([[1], [b"x"]], schema=self.SCHEMA), schema=self.SCHEMA)
        dataset = lance.dataset(uri)
        assert blobs.is_blob(dataset.schema.field("media"))
        assert dataset.take_blobs("media", indices=[0])[0].readall() == b"x"

    def test_a_missing_sidecar_is_refused(self, uri: str) -> None:
        token = tables.ensure(uri, self.SCHEMA)
        table = pa.table([[1], [os.urandom(300_000)]], schema=self.SCHEMA)
        staged = tables.stage(token, table)
        sidecar = next(f for f in staged[0]["files"] if not f.endswith(".lance"))
        Path(uri, "data", sidecar).unlink()
        with pytest.raises(BooksError, match="is missing"):
            tables.commit(token, staged, "r1", {})

    def test_survive_a_compaction(self, uri: str) -> None:
        media = [None, b"", b"a", os.urandom(100_000)]
        parts = [pa.table([[i], [m]], schema=self.SCHEMA) for i, m in enumerate(media)]
        write(uri, "r1", *parts, schema=self.SCHEMA)
        lance.dataset(uri).optimize.compact_files()
        assert tables.read(uri)["media"].to_pylist() == media


class TestTag:
    def test_shows_a_version_and_keeps_the_old_ones(self, uri: str) -> None:
        for run, value in (("r1", 1), ("r2", 2)):
            tables.tag(uri, write(uri, run, rows(value)), run, {"rows": "1"})
        assert values(uri, "run-r1") == [1]
        assert values(uri, "run-r2") == values(uri, "latest") == [2]
        assert lance.dataset(uri).tags.list()["latest"]["metadata"] == {
            "rows": "1",
            "weft.run": "r2",
        }

    def test_does_not_move_latest_back(self, uri: str) -> None:
        first, second = write(uri, "r1", rows(1)), write(uri, "r2", rows(2))
        tables.tag(uri, second, "r2", {})
        tables.tag(uri, first, "r1", {})
        assert values(uri, "latest") == [2]
        assert lance.dataset(uri).tags.list()["latest"]["metadata"] == {"weft.run": "r2"}
        assert values(uri, "run-r1") == [1]

    def test_again_changes_nothing(self, uri: str) -> None:
        version = write(uri, "r1", rows(1))
        for _ in range(2):
            tables.tag(uri, version, "r1", {})
        assert set(lance.dataset(uri).tags.list()) == {"run-r1", "latest"}

    def test_of_a_run_stays_where_it_is(self, uri: str) -> None:
        first, second = write(uri, "r1", rows(1)), write(uri, "r2", rows(2))
        tables.tag(uri, first, "r1", {})
        with pytest.raises(Refused, match="names version 2 and cannot be moved to 3"):
            tables.tag(uri, second, "r1", {})

    def test_of_a_version_that_is_not_there(self, uri: str) -> None:
        write(uri, "r1", rows(1))
        with pytest.raises(DefinitionError, match="no version 9; the newest is 2"):
            tables.tag(uri, 9, "r1", {})

    def test_completes_what_was_cut_short(self, uri: str) -> None:
        version = write(uri, "r1", rows(1))
        lance.dataset(uri).tags.create("run-r1", version)
        lance.dataset(uri).tags.create("latest", version)
        tables.tag(uri, version, "r1", {"rows": "1"})
        listed = lance.dataset(uri).tags.list()
        assert listed["latest"]["metadata"] == listed["run-r1"]["metadata"] != {}


class TestRead:
    def test_names_what_there_is(self, uri: str) -> None:
        with pytest.raises(DefinitionError, match="no Lance table at"):
            tables.read(uri)
        tables.tag(uri, write(uri, "r1", rows(1)), "r1", {})
        with pytest.raises(DefinitionError, match=r"no tag 'lates'. Tags: latest, run-r1. Did"):
            tables.read(uri, "lates")

    def test_columns_and_filter(self, uri: str) -> None:
        write(uri, "r1", rows(1, 2, 3))
        assert tables.read(uri, columns=["v"], where="v > 1").to_pydict() == {"v": [2, 3]}

    def test_latest_is_what_readers_see(self, uri: str) -> None:
        assert tables.latest(uri) is None
        version = write(uri, "r1", rows(1))
        assert tables.latest(uri) is None
        tables.tag(uri, version, "r1", {"rows": "1"})
        write(uri, "r2", rows(2))
        assert tables.latest(uri) == (version, {"rows": "1", "weft.run": "r1"})

    def test_the_version_of_a_run(self, uri: str) -> None:
        versions = {run: write(uri, run, rows(1)) for run in ("r1", "r2")}
        tables.tag(uri, versions["r1"], "r1", {})
        assert {run: tables.version_of(uri, run) for run in versions} == versions
        with pytest.raises(DefinitionError, match="no version of run 'r3'"):
            tables.version_of(uri, "r3")

    def test_history(self, uri: str) -> None:
        token = tables.ensure(uri, SCHEMA)
        staged = tables.stage(token, rows(1, 2))
        tables.tag(uri, tables.commit(token, staged, "r1", {"weft.recipe": "x"}), "r1", {})
        lance.dataset(uri).delete("v = 1")
        newest, published, first = tables.history(uri)
        assert (newest.rows, newest.tags, newest.run) == (1, (), None)
        assert (published.number, published.rows) == (2, 2)
        assert published.tags == ("latest", "run-r1")
        assert published.run == "r1"
        assert published.properties["weft.recipe"] == "x"
        assert published.time.utcoffset() is not None
        assert first.number == 1
        assert tables.history(uri, limit=1) == [newest]

    def test_after_old_versions_were_cleaned_up(self, uri: str) -> None:
        for run in ("r1", "r2"):
            tables.tag(uri, write(uri, run, rows(1)), run, {})
        write(uri, "r3", rows(3))
        lance.dataset(uri).cleanup_old_versions(
            older_than=timedelta(microseconds=1),  # zero is falsy and means the default
            error_if_tagged_old_versions=False,
        )
        assert [v.number for v in tables.history(uri)] == [4, 3, 2]
        with pytest.raises(DefinitionError, match="no version 1"):
            tables.read(uri, 1)
        assert values(uri, "run-r1") == [1]


DRIVER = """
    import json, os, signal, sys
    import pyarrow as pa
    from pathlib import Path
    from weft.pipelines import blobs, tables

    uri, crash = sys.argv[1:]
    journal = Path(uri + ".journal")
    schema = pa.schema([pa.field("_key", pa.string(), nullable=False), pa.field("v", pa.int64())])

    def point(name):
        if name == crash:
            os.kill(os.getpid(), signal.SIGKILL)

    if journal.exists():
        token, staged = json.loads(journal.read_text())
    else:
        token = tables.ensure(uri, schema)
        parts = [pa.table([[f"k{i}"], [i]], schema=schema) for i in range(3)]
        staged = [f for part in parts for f in tables.stage(token, part)]
        journal.write_text(json.dumps([token, staged]))
    point("staged")
    version = tables.commit(token, staged, "r1", {})
    point("committed")
    tables.tag(uri, version, "r1", {})
    point("tagged")
"""


class TestKilled:
    """Real processes, killed at named points, and run again."""

    def drive(self, uri: str, crash: str) -> int:
        command = [sys.executable, "-c", textwrap.dedent(DRIVER), uri, crash]
        return subprocess.run(command, check=False, timeout=120).returncode

    @pytest.mark.parametrize(
        "points", [["staged"], ["committed"], ["staged", "committed", "tagged"]]
    )
    def test_ends_with_one_version_and_each_row_once(self, uri: str, points: list[str]) -> None:
        tables.tag(uri, write(uri, "before", rows(7)), "before", {})
        for point in points:
            assert self.drive(uri, point) == -signal.SIGKILL
            if point != "tagged":
                assert values(uri, "latest") == [7]
        assert self.drive(uri, "none") == 0
        assert values(uri, "latest") == [0, 1, 2]
        assert values(uri, "run-before") == [7]
        assert [v.run for v in tables.history(uri)] == ["r1", "before", None]


def test_every_column_is_readable_without_weft(uri: str) -> None:
    schema = arrow_schema({"a": Int64(nullable=True), "t": Text(), "f": Float32()})
    table = pa.table([[1, None], ["x", "ü"], [0.5, 1.5]], schema=schema)
    write(uri, "r1", table, schema=schema)
    found = lance.dataset(uri).to_table()
    assert found.to_pylist() == table.to_pylist()
    assert pl.from_arrow(found).rows() == [(1, "x", 0.5), (None, "ü", 1.5)]
    shutil.rmtree(uri)
    assert not tables.exists(uri)
