"""A new newest version with the rows of an older one, and what goes on from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest
from lance.dataset import Tags

from weft.errors import CommitConflict, DefinitionError
from weft.pipelines import indexes, restoring, tables
from weft.pipelines.fragments import content
from weft.pipelines.restoring import restore

SCHEMA = pa.schema([pa.field("_key", pa.string(), nullable=False), pa.field("v", pa.int64())])


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "t.lance")


def write(uri: str, run: str, *values: int, removed: list[str] | None = None) -> int:
    token = tables.ensure(uri, SCHEMA)
    rows = pa.table([[f"k{v}" for v in values], list(values)], schema=SCHEMA)
    return tables.commit(token, tables.stage(token, rows), run, {}, removed=removed)


def values(uri: str, version: int | str | None = None) -> list[int]:
    return sorted(tables.read(uri, version)["v"].to_pylist())


def test_the_newest_version_has_the_old_rows(uri: str) -> None:
    first = write(uri, "r1", 1, 2, 3)
    second = write(uri, "r2", 4, removed=["k2"])
    assert restore(uri, first) == second + 1
    newest = lance.dataset(uri)
    assert newest.version == second + 1
    assert content(newest) == content(lance.dataset(uri, version=first))
    assert values(uri) == [1, 2, 3]
    assert values(uri, second) == [1, 3, 4]
    assert restore(uri, second) == second + 2  # and back
    assert values(uri) == [1, 3, 4]


def test_other_columns_come_back_too(uri: str) -> None:
    first = write(uri, "r1", 1)
    other = pa.schema([SCHEMA.field("_key"), pa.field("w", pa.string())])
    token = tables.ensure(uri, other)
    tables.commit(token, tables.stage(token, pa.table([["a"], ["b"]], schema=other)), "r2", {})
    restore(uri, first)
    assert lance.dataset(uri).schema.names == ["_key", "v"]
    write(uri, "r3", 2, removed=[])  # which demands the same columns
    assert values(uri) == [1, 2]


def test_doing_it_again_changes_nothing(uri: str) -> None:
    first = write(uri, "r1", 1)
    write(uri, "r2", 2)
    restored = restore(uri, first)
    assert restore(uri, first) == restore(uri, restored) == restored
    assert lance.dataset(uri).version == restored


def test_by_a_tag(uri: str) -> None:
    tables.tag(uri, write(uri, "r1", 1), "r1", {})
    write(uri, "r2", 2)
    restore(uri, "run-r1")
    assert values(uri) == [1]
    with pytest.raises(DefinitionError, match="no tag 'run-r3'"):
        restore(uri, "run-r3")


def test_no_run_is_taken_for_the_one_that_was_restored(uri: str) -> None:
    first, second = write(uri, "r1", 1), write(uri, "r2", 2)
    restore(uri, first)
    assert tables.version_of(uri, "r1") == first
    assert tables.version_of(uri, "r2") == second
    third = write(uri, "r3", 3, removed=["k1"])
    assert third == second + 2
    assert values(uri) == [3]
    assert [v.run for v in tables.history(uri)][:4] == ["r3", None, "r2", "r1"]


def test_row_ids_go_on_where_they_were(uri: str) -> None:
    first = write(uri, "r1", 1, 2)
    second = write(uri, "r2", 3, 4, removed=[])
    restore(uri, first)
    write(uri, "r3", 5, 6, removed=[])

    def row_ids(version: int | None) -> dict[str, int]:
        table = lance.dataset(uri, version=version).scanner(["_key"], with_row_id=True).to_table()
        return dict(zip(*table.to_pydict().values(), strict=True))

    refused, newest = row_ids(second), row_ids(None)
    assert refused["k1"] == newest["k1"]
    assert not {refused["k3"], refused["k4"]} & set(newest.values())


def test_indices_are_those_of_the_version(uri: str) -> None:
    schema = pa.schema([SCHEMA.field("_key"), pa.field("e", pa.list_(pa.float32(), 8))])
    vectors = np.random.default_rng(0).normal(size=(10_050, 8)).astype("f4")

    def commit(run: str, part: slice, removed: list[str] | None) -> int:
        token = tables.ensure(uri, schema)
        keys = [f"k{i}" for i in range(10_050)][part]
        table = pa.table([keys, pa.FixedSizeListArray.from_arrays(vectors[part].ravel(), 8)],
                         schema=schema)  # fmt: skip
        version = tables.commit(token, tables.stage(token, table), run, {}, removed=removed)
        return indexes.build(uri, version, ["e"])

    first = commit("r1", slice(10_000), None)
    commit("r2", slice(10_000, 10_050), [f"k{i}" for i in range(50)])
    restored = restore(uri, first)
    assert indexes.built(uri, restored, ["e"])
    assert indexes.coverage(uri, restored, "e").indexed == 10_000
    near = indexes.nearest(uri, restored, "e", vectors[7], 1, columns=["_key"])
    assert near["_key"].to_pylist() == ["k7"]


def test_an_index_that_is_missing_is_a_difference(uri: str) -> None:
    first = write(uri, "r1", 1)
    lance.dataset(uri).create_scalar_index("v", "BTREE")
    assert restore(uri, first) == first + 2
    assert lance.dataset(uri).describe_indices() == []


def test_a_version_that_was_cleaned_up(uri: str) -> None:
    write(uri, "r1", 1)
    with pytest.raises(DefinitionError, match="has no version 9"):
        restore(uri, 9)


def test_somebody_else_writes_in_between(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(uri, "r1", 1)
    write(uri, "r2", 2)
    act = lance.LanceDataset.restore

    def meddling(dataset: Any) -> None:
        lance.write_dataset(pa.table([["x"], [9]], schema=SCHEMA), uri, mode="append")
        act(dataset)

    monkeypatch.setattr(lance.LanceDataset, "restore", meddling)
    with pytest.raises(CommitConflict, match=r"version 2 was restored over version 3; the newest"):
        restore(uri, first)
    assert values(uri, 4) == [2, 9]


class TestRun:
    """The three tables of a dataset, and their tags."""

    @pytest.fixture
    def three(self, tmp_path: Path) -> dict[str, str]:
        return {n: str(tmp_path / f"{n}.lance") for n in ("dataset", "ledger", "errors")}

    def run(self, three: dict[str, str], run: str, *values: int) -> None:
        for uri in three.values():
            tables.tag(uri, write(uri, run, *values), run, {"weft.recipe": f"of {run}"})

    def test_is_shown_again(self, three: dict[str, str]) -> None:
        self.run(three, "r1", 1)
        self.run(three, "r2", 2)
        assert restoring.restore_run(run="r1", **three) == 4
        for uri in three.values():
            assert tables.latest(uri) == (4, {"weft.recipe": "of r1", "weft.run": "r1"})
            assert values(uri) == values(uri, "latest") == values(uri, "run-r1") == [1]
            assert content(lance.dataset(uri)) == content(lance.dataset(uri, version="run-r1"))
            assert values(uri, "run-r2") == [2]

    def test_one_that_is_there_is_shown_as_it_is(self, three: dict[str, str]) -> None:
        self.run(three, "r1", 1)
        assert restoring.restore_run(run="r1", **three) == 2
        assert tables.latest(three["dataset"]) == (2, {"weft.recipe": "of r1", "weft.run": "r1"})

    def test_where_nothing_was_shown_yet(self, three: dict[str, str]) -> None:
        self.run(three, "r1", 1)
        for uri in three.values():
            lance.dataset(uri).tags.delete("latest")
        restoring.restore_run(run="r1", **three)
        assert tables.latest(three["dataset"]) == (2, {"weft.recipe": "of r1", "weft.run": "r1"})

    def test_that_one_of_them_has_no_more(self, three: dict[str, str]) -> None:
        self.run(three, "r1", 1)
        self.run(three, "r2", 2)
        lance.dataset(three["dataset"]).tags.delete("run-r1")
        dataset = lance.dataset(three["dataset"])
        dataset.cleanup_old_versions(older_than=None, retain_versions=1)
        with pytest.raises(DefinitionError, match=r"dataset\.lance has no version of run 'r1'"):
            restoring.restore_run(run="r1", **three)
        assert values(three["ledger"]) == [2]

    @pytest.mark.parametrize("at", range(12))
    def test_cut_short_and_done_again(
        self, three: dict[str, str], at: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Cut short anywhere between its first write and its last, it never says of the rows
        of one run that they are another's; done again, it is whole."""
        self.run(three, "r1", 1)
        self.run(three, "r2", 2)
        done = 0

        def mortal(act: Any) -> Any:
            def call(*arguments: Any) -> Any:
                nonlocal done
                done += 1
                if done == at + 1:
                    raise InterruptedError
                return act(*arguments)

            return call

        with monkeypatch.context() as patch:
            for owner, name in (
                (lance.LanceDataset, "restore"), (Tags, "update"), (Tags, "replace_metadata")
            ):  # fmt: skip
                patch.setattr(owner, name, mortal(getattr(owner, name)))
            with pytest.raises(InterruptedError):
                restoring.restore_run(run="r1", **three)
        version, said = tables.latest(three["dataset"])  # type: ignore[misc]
        rows = values(three["dataset"], version)
        assert said.get("weft.recipe") in (None, {1: "of r1", 2: "of r2"}[rows[0]])
        restoring.restore_run(run="r1", **three)
        for uri in three.values():
            assert values(uri) == values(uri, "latest") == [1]
            assert tables.latest(uri)[1]["weft.run"] == "r1"  # type: ignore[index]
