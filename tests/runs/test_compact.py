"""Fewer files, the same rows; readers, runs and indices do not notice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pyarrow as pa
import pytest

import weft
from weft.connectors import Lance
from weft.errors import BooksError, Busy, Interrupted, Refused
from weft.pipelines import compaction, indexes, tables
from weft.pipelines.fields import arrow_field
from weft.pipelines.runs.compact import compact
from weft.pipelines.runs.lease import hold
from weft.pipelines.types import Encoded

sys.path.insert(0, str(Path(__file__).parent))

from timed import Heard, content, full, run, shouts, texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return texts(tmp_path / "texts")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "o.lance"


def squeeze(out: Path, **more: Any) -> list[compaction.Compaction]:
    return compact(str(out), f"{out}.weft", **more)


def many_runs(folder: Path, out: Path) -> Any:
    """A dataset of several increments, each a small file, with deleted rows in the first."""
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    run(pipeline)
    for number in range(4):
        (folder / f"n{number}.txt").write_text(f"new {number}\nmute\ndrop")
        if number == 2:
            (folder / "a.txt").write_text("uno\ntwo")
        run(pipeline)
    return pipeline


def stored(out: Path | str, version: int | str | None = None) -> list[dict[str, Any]]:
    """All rows as they are stored, by their ids: with what tells whether they have changed."""
    dataset = tables.open_table(str(out), version)
    columns = [*dataset.schema.names, "_row_last_updated_at_version", "_row_created_at_version"]
    scan = dataset.scanner(columns, with_row_id=True, blob_handling="all_binary")
    return scan.to_table().sort_by("_rowid").to_pylist()


def test_rows_stay_what_they_are(folder: Path, out: Path) -> None:
    many_runs(folder, out)
    uris = [str(out), f"{out}.weft/ledger.lance", f"{out}.weft/errors.lance"]
    before, seen = [stored(uri) for uri in uris], content(out)
    version, properties = tables.latest(str(out))
    done = squeeze(out)
    assert [one.after for one in done] == [1, 1, 1]
    assert done[0].rewritten == done[0].before > 4
    assert [stored(uri) for uri in uris] == before
    assert content(out) == seen
    assert tables.latest(str(out)) == (done[0].version, properties)
    assert stored(out, version) == before[0]  # what readers had open is there
    (fragment,) = tables.open_table(str(out)).get_fragments()
    assert fragment.num_deletions == 0
    again = squeeze(out)
    assert [one.rewritten for one in again] == [0, 0, 0]
    assert again[0].version == done[0].version


def test_runs_go_on_from_it(folder: Path, out: Path) -> None:
    pipeline = many_runs(folder, out)
    squeeze(out)
    assert run(pipeline)[0].in_sync
    (folder / "a.txt").write_text("uno\ndos")
    (folder / "b.txt").unlink()
    (folder / "z.txt").write_text("last")
    result, notices = run(pipeline)
    assert notices[0].endswith(": 1 new, 1 changed, 1 deleted, 6 unchanged.")
    assert result.rows == 2
    assert content(out) == full(folder, out)
    assert run(pipeline, retry_failed=True)[0].increment["retried"] == 6
    squeeze(out)
    assert content(out) == full(folder, out)


def test_what_is_made_of_it_is_not_made_again(folder: Path, out: Path) -> None:
    @weft.pipeline
    def copy() -> Any:
        return weft.read(Lance(out)).select("loud").write(Lance(f"{out}.copy"))

    pipeline = many_runs(folder, out)
    run(copy())
    squeeze(out)
    assert run(copy())[0].rows == 0
    (folder / "z.txt").write_text("last")
    run(pipeline)
    result, _ = run(copy())
    assert (result.increment["new"], result.increment["changed"]) == (1, 0)


def test_looking_writes_nothing(folder: Path, out: Path) -> None:
    many_runs(folder, out)
    before = sorted(p for p in out.rglob("*"))
    with hold(f"{out}.weft", "somebody"):
        found = squeeze(out, dry_run=True)
    assert (found[0].rewritten, found[0].after) == (found[0].before, 1)
    assert found[0].bytes > 0
    assert sorted(p for p in out.rglob("*")) == before


def test_it_is_refused(folder: Path, out: Path) -> None:
    pipeline = many_runs(folder, out)
    with hold(f"{out}.weft", "somebody"), pytest.raises(Busy, match="somebody is working on"):
        squeeze(out)

    class Stop(Heard):
        def advanced(self, rows_done: int, *_: Any) -> None:
            raise KeyboardInterrupt

    for number in range(9):
        (folder / f"m{number}.txt").write_text("more")
    with pytest.raises(Interrupted):
        pipeline.run(engine="local", listener=Stop())
    with pytest.raises(Refused, match="is not finished, and began with the files"):
        squeeze(out)
    run(pipeline)
    lance.dataset(str(out)).delete("loud = 'UNO!'")
    with pytest.raises(Refused, match="has other rows than tag 'latest' names"):
        squeeze(out)


def test_media_of_all_kinds(tmp_path: Path) -> None:
    """Null, empty, inside of the file, packed with others, in a file of its own: lance#7955."""
    noise = np.random.default_rng(0)
    sizes = [None, 0, 1, 60_000, 70_000, 5_000_000, 0, None]

    def table(first: int) -> pa.Table:
        media = [None if s is None else noise.bytes(s) for s in sizes]
        keys = [f"k{first + i}" for i in range(len(sizes))]
        fields = [pa.field("k", pa.string()), pa.field("media", pa.large_binary())]
        return pa.table({"k": keys, "media": media}, schema=pa.schema(fields))

    schema = pa.schema([
        pa.field("_key", pa.string(), nullable=False), arrow_field("media", Encoded(nullable=True)),
    ])  # fmt: skip
    uri = str(tmp_path / "m.lance")
    for number in range(4):
        token = tables.ensure(uri, schema)
        rows = table(number * 10).rename_columns(["_key", "media"])
        removed = [f"k{(number - 1) * 10 + i}" for i in (0, 3, 6)] if number else []
        version = tables.commit(token, tables.stage(token, rows), f"r{number}", {}, removed=removed)
        tables.tag(uri, version, f"r{number}", {})
    before = stored(uri)
    assert len(before) == 4 * 8 - 3 * 3
    done = compaction.compact(uri, ("latest",))
    assert (done.before, done.after) == (4, 1)
    assert stored(uri) == before
    assert done.bytes > 4 * 5_000_000


@pytest.mark.parametrize("die_at", ["_rewrite", "_move", "_merge_indices"])
def test_a_process_that_dies_is_completed(
    folder: Path, out: Path, die_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = many_runs(folder, out)
    seen, do = content(out), getattr(compaction, die_at)
    died: list[str] = []

    def dying(uri: str, *arguments: Any) -> None:
        if die_at == "_move" and tables.open_table(uri).version == tables.latest(uri)[0]:
            return
        if die_at == "_move":
            raise OSError("it dies")
        do(uri, *arguments)
        raise OSError("it dies")

    with monkeypatch.context() as patch:
        patch.setattr(compaction, die_at, dying)
        with pytest.raises(OSError, match="it dies"):
            squeeze(out)
        died.append(die_at)
    assert content(out) == seen
    done = squeeze(out)
    assert [len(tables.open_table(one.uri).get_fragments()) for one in done] == [1, 1, 1]
    assert content(out) == seen
    assert run(pipeline)[0].in_sync
    (folder / "z.txt").write_text("last")
    assert run(pipeline)[1][0].endswith(": 1 new, 8 unchanged.")
    assert content(out) == full(folder, out)


def test_rows_that_lance_spoils_are_never_shown(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_runs(folder, out)
    seen, rows = content(out), compaction._rows
    calls: Iterator[int] = iter(range(9))

    def spoiled(dataset: Any, fragments: Any = None) -> Any:
        found = rows(dataset, fragments)
        return found.head(3) if next(calls) == 1 else found

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "_rows", spoiled)
        with pytest.raises(BooksError, match="What was there is restored"):
            squeeze(out)
    assert content(out) == seen
    squeeze(out)
    assert content(out) == seen


def table_of(uri: str, parts: list[int], *, runs: bool, width: int = 1000) -> None:
    """A table with a fragment for each of `parts`, of so many rows; in one run, or one each."""
    schema = pa.schema([pa.field("_key", pa.string(), nullable=False), ("v", pa.binary())])
    noise, first, staged = np.random.default_rng(0), 0, []
    for number, rows in enumerate(parts):
        if runs or not staged:
            token = tables.ensure(uri, schema)
        keys = [f"{i:06}" for i in range(first, first + rows)]
        first += rows
        values = [noise.bytes(width) for _ in range(rows)]
        staged += tables.stage(token, pa.table({"_key": keys, "v": values}, schema=schema))
        if runs or number == len(parts) - 1:
            version = tables.commit(token, staged, f"r{number}", {}, removed=[])
            tables.tag(uri, version, f"r{number}", {})
            staged = []


def rows_of(uri: str) -> list[int]:
    return [f.count_rows() for f in tables.open_table(uri).get_fragments()]


def keys_of(uri: str) -> list[str]:
    return tables.read(uri, columns=["_key"])["_key"].to_pylist()


def test_files_that_are_large_enough_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "TARGET_BYTES", 1_000_000)
    uri = str(tmp_path / "t.lance")
    table_of(uri, [600, 100, 100, 700, 50, 50, 50], runs=True)
    before = sorted(keys_of(uri))
    looked = compaction.compact(uri, ("latest",), dry_run=True)
    assert (looked.rewritten, looked.after, looked.order_kept) == (5, 4, False)
    done = compaction.compact(uri, ("latest",))
    assert rows_of(uri) == [600, 700, 200, 150]
    assert (done.after, done.bytes) == (4, looked.bytes)
    assert sorted(keys_of(uri)) == before
    tables.open_table(uri).delete("_key < '000050'")  # less than a tenth of the first
    tables.open_table(uri).tags.update("latest", tables.open_table(uri).version)
    assert compaction.compact(uri, ("latest",)).rewritten == 2  # the two that were merged
    tables.open_table(uri).delete("_key < '000100'")
    tables.open_table(uri).tags.update("latest", tables.open_table(uri).version)
    compaction.compact(uri, ("latest",))
    assert rows_of(uri) == [700, 350, 500]


def test_rows_that_one_run_put_in_order_stay_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "TARGET_BYTES", 1_000_000)
    uri = str(tmp_path / "t.lance")
    table_of(uri, [600, 100, 100, 700, 50, 50, 50], runs=False)
    before = keys_of(uri)
    done = compaction.compact(uri, ("latest",))
    assert (done.rewritten, done.order_kept) == (3, True)
    assert rows_of(uri) == [600, 100, 100, 700, 150]
    assert keys_of(uri) == before


def test_an_index_covers_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run adds a part to the index; they are merged, or Lance keeps their files apart."""
    monkeypatch.setattr(indexes, "INDEX_FROM_ROWS", 100)
    source, out = tmp_path / "s.lance", tmp_path / "o.lance"
    noise = np.random.default_rng(0)

    def rows(first: int, count: int) -> pa.Table:
        vectors = pa.array(noise.random(count * 8, np.float32))
        return pa.table({
            "k": [f"k{first + i}" for i in range(count)],
            "v": pa.FixedSizeListArray.from_arrays(vectors, 8),
        })  # fmt: skip

    @weft.pipeline
    def indexed() -> Any:
        vectors = weft.read(Lance(source, key="k"))
        return vectors.select("v").write(Lance(out, index="v"))

    lance.write_dataset(rows(0, 300), source, enable_stable_row_ids=True)
    run(indexed())
    for number in range(1, 4):
        lance.write_dataset(rows(1000 * number, 20), source, mode="append")
        run(indexed())
    before = stored(out)
    query = np.ones(8, np.float32)
    nearest = indexes.nearest(str(out), "latest", "v", query, 5).to_pylist()
    done = squeeze(out)
    assert done[0].before > done[0].after == 1
    assert stored(out) == before
    assert indexes.built(str(out), done[0].version, ("v",))
    assert indexes.coverage(str(out), "latest", "v").indexed == 360
    found = indexes.nearest(str(out), "latest", "v", query, 5)
    assert found["_distance"].to_pylist() == pytest.approx([r["_distance"] for r in nearest])
    assert run(indexed())[0].in_sync


KILLS = 12 if os.environ.get("WEFT_FAULTS") == "all" else 2

SQUEEZE = """
import sys
from weft.pipelines import compaction
from weft.pipelines.runs.compact import compact
compaction.TARGET_BYTES = 1_000_000
print("begun", flush=True)
compact(sys.argv[1], sys.argv[1] + ".weft")
"""


def test_it_is_killed_at_any_moment(folder: Path, out: Path) -> None:
    pipeline = many_runs(folder, out)
    for number in range(6):
        (folder / f"wide{number}.txt").write_text("wide " * 50_000)
        run(pipeline)
    seen, moments = content(out), random.Random(0)
    for _ in range(KILLS):
        arguments = [sys.executable, "-c", SQUEEZE, str(out)]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE)
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        process.wait()
        assert content(out) == seen
    squeeze(out)
    assert content(out) == seen
    assert run(pipeline)[0].in_sync
    (folder / "z.txt").write_text("last")
    assert run(pipeline)[1][0].endswith(": 1 new, 14 unchanged.")
    assert content(out) == full(folder, out)


WIDE = """
import os, resource, sys
import pyarrow as pa
from weft.pipelines import compaction, tables
from weft.pipelines.fields import arrow_field
from weft.pipelines.types import Encoded
schema = pa.schema([pa.field("_key", pa.string(), nullable=False), arrow_field("m", Encoded())])
compaction._BATCH_BYTES = 4 << 20
plain, uri = pa.schema([schema.field(0), pa.field("m", pa.large_binary())]), sys.argv[1]
for run in ("r0", "r1"):
    token = tables.ensure(uri, schema)
    rows = {"_key": [f"{run}-{i}" for i in range(60)], "m": [os.urandom(1 << 20)] * 60}
    staged = tables.stage(token, pa.table(rows, schema=plain))
    tables.tag(uri, tables.commit(token, staged, run, {}, removed=[]), run, {})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
done = compaction.compact(uri, ("latest",))
assert done.after == 1, done
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_wide_rows_do_not_fill_memory(tmp_path: Path) -> None:
    """Two fragments of 60 MiB, in batches of 4 MiB, take 44 MiB, and 101 MiB in batches of rows."""
    uri = str(tmp_path / "t.lance")
    ran = subprocess.run([sys.executable, "-c", WIDE, uri], check=True, stdout=subprocess.PIPE)
    assert int(ran.stdout) < 75
