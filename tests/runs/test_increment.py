"""A rerun processes what changed, and the dataset is the one that a full run would make."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Files, Lance, Memory, Parquet
from weft.errors import OverBudget
from weft.pipelines import tables
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.result import Listener

SEEN: list[str] = []
"""Files that the operators saw."""


@weft.operator(version="1")
def lines(content: weft.Encoded) -> Iterator[weft.fields(line=str)]:  # type: ignore[valid-type]
    text = content.decode()
    SEEN.append(text)
    if "broken" in text:
        raise ValueError("a broken file")
    return ({"line": line} for line in text.splitlines())


@weft.operator(version="1")
def words(line: str) -> Iterator[weft.fields(word=str)]:  # type: ignore[valid-type]
    if "bad" in line:
        raise ValueError("a bad line")
    return ({"word": word} for word in line.split())


@weft.operator(version="1")
def shout(word: str, mark: str = "!") -> str:
    if word == "mute":
        raise ValueError("it cannot shout")
    return word.upper() + mark


@weft.pipeline
def nested(source: str, out: str, mark: str = "!") -> Any:
    """Files to lines to words, some of which fail or are dropped at each step."""
    rows = weft.read(Files(source, kind="text")).where(pl.col("size") > 0)
    rows = rows.apply(lines).where(pl.col("line") != "skip").apply(words)
    rows = rows.apply(shout.replace(mark=mark)).where(pl.col("word") != "drop")
    return rows.select("key", "word", "shout").write(Lance(out))


class Heard(Listener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


BUDGET = Budget(rows=1000)


def run(pipeline: Any, **more: Any) -> tuple[Any, list[str]]:
    SEEN.clear()
    heard = Heard()
    result = pipeline.run(engine="local", listener=heard, budget=BUDGET, **more)
    return result, heard.notices


def content(out: Path) -> dict[str, list[dict[str, Any]]]:
    """All that a run leaves, in an order that does not depend on how it came about."""
    state = f"{out}.weft"
    found = {"rows": str(out), "ledger": ledger_uri(state), "errors": errors_uri(state)}
    return {
        name: tables.read(uri, "latest").sort_by([("_key", "ascending")]).to_pylist()
        for name, uri in found.items()
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in {
        "a.txt": "one two\nthree",
        "b.txt": "four\nskip\nfive drop six",
        "c.txt": "broken",
        "d.txt": "a bad line\nmute seven",
        "e.txt": "",
    }.items():
        (folder / name).write_text(text)
    return folder


def full(folder: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    other = out.with_name("full.lance")
    run(nested(source=f"{folder}/*", out=str(other)))
    found = content(other)
    shutil.rmtree(other)
    shutil.rmtree(f"{other}.weft")
    return found


def test_only_what_changed_is_processed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    first, _ = run(nested(source=f"{folder}/*", out=str(out)))
    (folder / "a.txt").write_text("uno")
    (folder / "b.txt").unlink()
    (folder / "n.txt").write_text("new one")
    second, notices = run(nested(source=f"{folder}/*", out=str(out)))
    assert sorted(SEEN) == ["new one", "uno"]
    counts = {"new": 1, "changed": 1, "deleted": 1, "retried": 0, "unchanged": 3}
    assert second.increment == counts
    assert second.rows == 2
    told = "1 new, 1 changed, 1 deleted, 3 unchanged"
    assert notices == [f"Since run {first.run}: {told}."]
    assert content(out) == full(folder, out)
    words_before = tables.read(str(out), f"run-{first.run}")["word"].to_pylist()
    assert sorted(words_before) == ["five", "four", "one", "seven", "six", "three", "two"]
    assert run(nested(source=f"{folder}/*", out=str(out)))[0].in_sync


def test_deleting_alone_starts_no_work(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    run(nested(source=f"{folder}/*", out=str(out)))
    (folder / "c.txt").unlink()
    (folder / "a.txt").unlink()
    result, _ = run(nested(source=f"{folder}/*", out=str(out)))
    assert SEEN == []
    assert (result.rows, result.increment["deleted"]) == (0, 2)
    assert content(out) == full(folder, out)


def test_a_rerun_after_every_row_is_gone_but_one_that_is_dropped(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.lance"
    run(nested(source=f"{folder}/*", out=str(out)))
    for name in "abcd":
        (folder / f"{name}.txt").unlink()
    run(nested(source=f"{folder}/*", out=str(out)))
    assert content(out)["rows"] == []
    assert [r["outcome"] for r in content(out)["ledger"]] == ["dropped"]


def test_rows_that_failed_are_tried_again_when_asked(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    pipeline = nested(source=f"{folder}/*", out=str(out))
    run(pipeline)
    assert run(pipeline)[0].in_sync
    before = content(out)
    result, _ = run(pipeline, retry_failed=True)
    assert sorted(SEEN) == ["a bad line\nmute seven", "broken"]
    assert (result.increment["retried"], result.increment["unchanged"]) == (2, 3)
    assert content(out) == before


def test_rows_that_failed_on_the_way_to_any_dataset_are_tried_again(
    folder: Path, tmp_path: Path
) -> None:
    @weft.pipeline
    def two() -> Any:
        rows = weft.read(Files(f"{folder}/*", kind="text"))
        paths = rows.select("key").write(Lance(tmp_path / "paths.lance"))
        return paths, rows.apply(lines).select("line").write(Lance(tmp_path / "lines.lance"))

    run(two())
    result, _ = run(two(), retry_failed=True)
    assert SEEN == ["broken"]
    assert (result.increment["retried"], result.increment["unchanged"]) == (1, 4)


def test_a_row_and_another_rows_child_of_one_key(folder: Path, tmp_path: Path) -> None:
    """The children of `a.txt#0` are called like the grandchildren of `a.txt`."""
    out = tmp_path / "o.lance"
    (folder / "a.txt#0").write_text("eight nine")
    run(nested(source=f"{folder}/*", out=str(out)))
    (folder / "a.txt").write_text("uno")
    _, notices = run(nested(source=f"{folder}/*", out=str(out)))
    told = "some rows of Files, or made of them, have the same key"
    assert notices == [f"All rows are processed: {told}."]
    assert content(out) == full(folder, out)


def test_rows_of_one_key(tmp_path: Path) -> None:
    source, out = tmp_path / "s.lance", tmp_path / "o.lance"
    lance.write_dataset(
        pa.table({"k": ["a", "a", "b"], "v": [1, 2, 3]}), source, enable_stable_row_ids=True
    )

    @weft.pipeline
    def copy() -> Any:
        return weft.read(Lance(source, key="k")).write(Lance(out))

    run(copy())
    lance.dataset(source).delete("v = 2")
    _, notices = run(copy())
    told = "some rows of Lance, or made of them, have the same key"
    assert notices == [f"All rows are processed: {told}."]
    assert tables.read(str(out), "latest")["v"].to_pylist() == [1, 3]


def test_a_dataset_beside_one_that_keeps_no_ledger(folder: Path, tmp_path: Path) -> None:
    @weft.pipeline
    def both() -> Any:
        rows = weft.read(Files(f"{folder}/*", kind="text")).select("key")
        return rows.write(Memory("beside")), rows.write(Lance(tmp_path / "o.lance"))

    assert run(both())[1] == []
    (folder / "n.txt").write_text("new")
    result, notices = run(both())
    assert notices == ["All rows are processed: beside keeps no ledger."]
    assert set(result.kept.values()) == {6}
    Memory("beside").clear()


@pytest.mark.parametrize("fresh", [False, True])
def test_a_changed_parameter_is_said_and_recomputes_what_it_makes(
    folder: Path, tmp_path: Path, fresh: bool
) -> None:
    out = tmp_path / "o.lance"
    run(nested(source=f"{folder}/*", out=str(out)))
    result, notices = run(nested(source=f"{folder}/*", out=str(out), mark="?"), fresh=fresh)
    told = "shout was shout(mark='!')  word -> shout, is shout(mark='?')  word -> shout"
    if fresh:
        assert len(SEEN) == 4
        assert result.increment == {}
        assert notices == []
    else:
        assert len(SEEN) == 1, "what failed was tried again, and nothing else was read"
        assert result.increment == {
            "new": 0,
            "changed": 0,
            "deleted": 0,
            "retried": 1,
            "unchanged": 4,
        }
        assert notices[0].endswith(f": 1 retried, 4 unchanged; {told}.")
        assert notices[1] == "Computing anew: shout of 6 rows, as the dataset has them."
    assert {r["shout"][-1] for r in content(out)["rows"]} == {"?"}


def test_a_changed_version_and_changed_steps_are_said(folder: Path, tmp_path: Path) -> None:
    def counted(version: str, *, upper: bool = False) -> Any:
        @weft.operator(version=version)
        def count(content: weft.Encoded) -> int:
            return len(content)

        @weft.pipeline
        def counts() -> Any:
            rows = weft.read(Files(folder, kind="text")).apply(count)
            rows = rows.with_columns(upper=pl.col("key").str.to_uppercase()) if upper else rows
            return rows.select("count").write(Lance(tmp_path / "o.lance"))

        return counts()

    run(counted("1"))
    _, notices = run(counted("2"))
    assert notices[0].endswith(": 5 unchanged; count is of version 2, was of 1.")
    assert notices[1:] == ["Computing anew: count of 5 rows, read again."]
    _, notices = run(counted("2", upper=True))
    assert notices[0].endswith(": 5 unchanged; with_columns is new.")
    _, notices = run(counted("2"))
    assert notices[0].endswith(": 5 unchanged; with_columns is gone.")


def test_a_dataset_that_somebody_else_changed_is_made_anew(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    run(nested(source=f"{folder}/*", out=str(out)))
    lance.dataset(str(out)).delete("word = 'one'")
    (folder / "n.txt").write_text("new")
    _, notices = run(nested(source=f"{folder}/*", out=str(out)))
    assert notices == [
        f"All rows are processed: the rows of {out} were changed by something else than a run."
    ]
    assert content(out) == full(folder, out)


def test_a_dataset_of_an_earlier_weft_is_made_anew(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    run(nested(source=f"{folder}/*", out=str(out)))
    lance.dataset(ledger_uri(f"{out}.weft")).drop_columns(["_parent"])
    (folder / "n.txt").write_text("new")
    _, notices = run(nested(source=f"{folder}/*", out=str(out)))
    assert notices == [f"All rows are processed: the ledger of {out} is of another weft."]
    assert content(out) == full(folder, out)


def test_indices_stay(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    run(nested(source=f"{folder}/*", out=str(out)))
    lance.dataset(str(out)).create_scalar_index("word", "BTREE")
    (folder / "n.txt").write_text("one")
    result, _ = run(nested(source=f"{folder}/*", out=str(out)))
    assert result.increment["new"] == 1
    dataset = lance.dataset(str(out), version="latest")
    assert [i.name for i in dataset.describe_indices()] == ["word_idx"]
    assert dataset.count_rows("word = 'one'") == 2


def test_the_error_budget_is_a_share_of_the_whole_source(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    for number in range(40):
        (folder / f"good{number}.txt").write_text("word")
    pipeline = nested(source=f"{folder}/*", out=str(out))
    run(pipeline)
    (folder / "n.txt").write_text("broken")
    run(pipeline) if False else pipeline.run(engine="local", budget=Budget(0, 0.05))
    (folder / "m.txt").write_text("broken")
    with pytest.raises(OverBudget, match="1 of 47 rows failed"):
        pipeline.run(engine="local", budget=Budget(0, 0.01))
    pipeline.run(engine="local", budget=Budget(0, 0.05))
    assert content(out) == full(folder, out)


class Stop(Heard):
    """Stops a run when its second unit ends."""

    def advanced(self, rows_done: int, *_: Any) -> None:
        if rows_done >= 2:
            raise KeyboardInterrupt


def test_an_interrupted_increment_goes_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    pipeline = nested(source=f"{folder}/*", out=str(out))
    run(pipeline)
    for number in range(9):
        (folder / f"n{number}.txt").write_text(f"n{number} more")
    (folder / "a.txt").write_text("uno")
    with pytest.raises(weft.errors.Interrupted):
        pipeline.run(engine="local", listener=Stop())
    (folder / "z.txt").write_text("too late for this one")
    result, _ = run(pipeline)
    assert result.increment == {"new": 9, "changed": 1, "deleted": 0, "retried": 0, "unchanged": 4}
    assert "n8 more" in {r["word"] + " more" for r in content(out)["rows"]}
    assert run(pipeline)[0].increment["new"] == 1
    assert content(out) == full(folder, out)


@pytest.mark.parametrize("die_at", ["ledger", "dataset", "tags"])
def test_a_driver_that_dies_while_it_publishes_an_increment(
    folder: Path, tmp_path: Path, die_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.lance"
    pipeline = nested(source=f"{folder}/*", out=str(out))
    run(pipeline)
    (folder / "a.txt").write_text("uno dos")
    (folder / "b.txt").unlink()
    commit, tag = tables.commit, tables.tag

    def dying(token: Any, *arguments: Any, **more: Any) -> int:
        version = commit(token, *arguments, **more)
        if Path(token["uri"]).name == {"ledger": "ledger.lance", "dataset": "o.lance"}.get(die_at):
            raise OSError("the driver dies")
        return version

    def dying_tag(*arguments: Any) -> None:
        if die_at == "tags":
            raise OSError("the driver dies")
        tag(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tables, "commit", dying)
        patch.setattr(tables, "tag", dying_tag)
        with pytest.raises(OSError, match="the driver dies"):
            run(pipeline)
    assert len(journals(f"{out}.weft")) == 2
    result, _ = run(pipeline)
    assert result.increment["changed"] == 1
    assert content(out) == full(folder, out)


@weft.pipeline
def downstream(source: str, out: str) -> Any:
    rows = weft.read(Lance(source)).apply(shout, shout="loud")
    return rows.select("word", "loud").write(Lance(out))


def test_a_dataset_is_read_incrementally_too(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "o.lance", tmp_path / "p.lance"
    run(nested(source=f"{folder}/*", out=str(first)))
    run(downstream(source=str(first), out=str(second)))
    (folder / "a.txt").write_text("one uno")
    (folder / "b.txt").unlink()
    run(nested(source=f"{folder}/*", out=str(first)))
    result, _ = run(downstream(source=str(first), out=str(second)))
    assert result.increment == {"new": 0, "changed": 2, "deleted": 4, "retried": 0, "unchanged": 1}
    found = {r["_key"]: r["loud"] for r in content(second)["rows"]}
    assert found == {"a.txt#0#0": "ONE!", "a.txt#0#1": "UNO!", "d.txt#1#1": "SEVEN!"}


EDIT = st.one_of(
    st.tuples(st.sampled_from(["delete", "update", "merge"]), st.integers(0, 25)),
    st.tuples(st.sampled_from(["append", "compact", "run"]), st.just(0)),
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(edits=st.lists(EDIT, max_size=6), stable=st.booleans())
def test_a_table_that_others_edit_is_read_incrementally(
    edits: list[tuple[str, int]], stable: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("edits")
    source, out, other = (str(home / f"{name}.lance") for name in ("s", "o", "full"))

    def rows(first: int, count: int, more: int = 0) -> pa.Table:
        keys = range(first, first + count)
        return pa.table({"k": [f"it's {k}" for k in keys], "v": [k + more for k in keys]})

    @weft.pipeline
    def odd(out: str) -> Any:
        key = None if stable else "k"
        return weft.read(Lance(source, key=key)).where(pl.col("v") % 7 != 0).write(Lance(out))

    lance.write_dataset(rows(0, 20), source, enable_stable_row_ids=stable, max_rows_per_file=7)
    run(odd(out=out))
    for number, (edit, at) in enumerate([*edits, ("run", 0)]):
        table = lance.dataset(source)
        if edit == "delete":
            table.delete(f"v % 100 BETWEEN {at} AND {at + 2}")
        elif edit == "update":
            table.update({"v": "v + 100"}, where=f"v % 100 BETWEEN {at} AND {at + 2}")
        elif edit == "merge":
            merge = table.merge_insert("k").when_matched_update_all()
            merge.when_not_matched_insert_all().execute(rows(at, 5, 200))
        elif edit == "append":
            lance.write_dataset(
                rows(1000 + 9 * number, 9), source, mode="append", max_rows_per_file=7
            )
        elif edit == "compact":
            table.optimize.compact_files()
        else:
            result, _ = run(odd(out=out))
            assert result.in_sync or result.increment
    run(odd(out=other))
    assert content(Path(out)) == content(Path(other))


def test_a_dataset_made_anew_has_no_row_that_was_seen(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "o.lance", tmp_path / "p.lance"
    run(nested(source=f"{folder}/*", out=str(first)))
    run(downstream(source=str(first), out=str(second)))
    shutil.rmtree(first)
    shutil.rmtree(f"{first}.weft")
    (folder / "a.txt").write_text("eins zwei\ndrei")  # the same keys, other words
    run(nested(source=f"{folder}/*", out=str(first)))
    result, _ = run(downstream(source=str(first), out=str(second)))
    assert result.increment["unchanged"] == 0
    assert {"EINS!", "ZWEI!", "DREI!"} <= {r["loud"] for r in content(second)["rows"]}


@weft.pipeline
def vectors(source: str, out: str, index: str = "") -> Any:
    rows = weft.read(Files(source, kind="text")).apply(as_vector)
    return rows.select("as_vector").write(Lance(out, index=(index,) if index else ()))


@weft.operator(version="1")
def as_vector(content: weft.Encoded) -> weft.Embedding(2):  # type: ignore[valid-type]
    SEEN.append("")
    return np.array([len(content), 1], np.float32)


def test_an_index_that_is_asked_for_later_is_made_without_the_rows(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.pipelines.indexes.INDEX_FROM_ROWS", 1)
    monkeypatch.setattr("weft.pipelines.indexes._TYPE", "IVF_FLAT")
    out = tmp_path / "o.lance"
    run(vectors(source=f"{folder}/*", out=str(out)))
    result, _ = run(vectors(source=f"{folder}/*", out=str(out), index="as_vector"))
    assert (SEEN, result.rows) == ([], 0)
    dataset = lance.dataset(str(out), version="latest")
    assert [i.name for i in dataset.describe_indices()] == ["as_vector_idx"]
    assert dataset.count_rows() == 5
    assert run(vectors(source=f"{folder}/*", out=str(out), index="as_vector"))[0].in_sync


def test_a_retry_with_nothing_failed_is_in_sync(folder: Path, tmp_path: Path) -> None:
    pipeline = vectors(source=f"{folder}/*", out=str(tmp_path / "o.lance"))
    run(pipeline)
    assert run(pipeline, retry_failed=True)[0].in_sync


@weft.pipeline
def numbers(source: str, out: str) -> Any:
    return weft.read(Parquet(source)).where(pl.col("n") % 2 == 0).write(Lance(out))


def test_parquet_files_are_read_incrementally(tmp_path: Path) -> None:
    folder, out = tmp_path / "parquet", tmp_path / "o.lance"
    folder.mkdir()
    for name in "ab":
        pq.write_table(pa.table({"n": range(10)}), folder / f"{name}.parquet", row_group_size=4)
    run(numbers(source=str(folder), out=str(out)))
    pq.write_table(pa.table({"n": range(100, 104)}), folder / "b.parquet")
    pq.write_table(pa.table({"n": range(200, 203)}), folder / "c.parquet")
    result, _ = run(numbers(source=str(folder), out=str(out)))
    assert result.increment == {"new": 3, "changed": 4, "deleted": 6, "retried": 0, "unchanged": 10}
    found = sorted(r["n"] for r in content(out)["rows"])
    assert found == [0, 2, 4, 6, 8, 100, 102, 200, 202]


TEXT = st.lists(
    st.sampled_from(["one two", "skip", "bad", "mute x", "drop", "broken", "", "w"]), max_size=3
).map("\n".join)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.dictionaries(st.sampled_from("abcdef"), TEXT, min_size=1),
    edits=st.lists(
        st.dictionaries(st.sampled_from("abcdefgh"), st.none() | TEXT, min_size=1),
        min_size=1,
        max_size=3,
    ),
    retry=st.booleans(),
)
def test_incremental_is_full(
    start: dict[str, str],
    edits: list[dict[str, str | None]],
    retry: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("edits")
    folder, out = home / "texts", home / "o.lance"
    folder.mkdir()
    (folder / "always.txt").write_text("here")
    clock = iter(range(10**9, 2 * 10**9))
    pipeline = nested(source=f"{folder}/*", out=str(out))
    for edit in [start, *edits]:
        for name, text in edit.items():
            path = folder / f"{name}.txt"
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)
                os.utime(path, (0, next(clock)))
        run(pipeline, retry_failed=retry)
    assert content(out) == full(folder, out)
