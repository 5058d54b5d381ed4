"""Garbage goes, and nothing else: whatever somebody reads, writes or may go on with stays."""

from __future__ import annotations

import gc as collector
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pytest

import weft
from weft.connectors import Files, Lance
from weft.errors import Busy, Interrupted, OverBudget, Refused
from weft.pipelines import cleaning, tables
from weft.pipelines.runs import garbage
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.garbage import Retention, collect
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.lease import hold

sys.path.insert(0, str(Path(__file__).parent))

from timed import Heard, content, full, run, shouts, texts


class Stop(Heard):
    """Stops a run when its first unit ends."""

    def advanced(self, rows_done: int, *_: Any) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return texts(tmp_path / "texts")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "o.lance"


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an hour had passed since any version was replaced."""
    monkeypatch.setattr(garbage, "REPLACED", timedelta(0))


def files(out: Path) -> set[Path]:
    """Data files of the dataset and of what is beside it."""
    homes = (out, Path(f"{out}.weft"))
    return {p for home in homes for p in home.rglob("data/**/*") if p.is_file()}


def gc(out: Path, **more: Any) -> garbage.Collected:
    retention = Retention(more.pop("keep", None), more.pop("younger", None))
    return collect(str(out), f"{out}.weft", retention, **more)


def age(out: Path, seconds: float = 2 * garbage.UNNAMED_SECONDS) -> None:
    """Make every file look as if it had been written long ago."""
    for path in files(out):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def stray(out: Path) -> Path:
    """A data file, with media beside it, of a worker whose receipt is not there yet."""
    before = files(out)
    seen = tables.ensure(str(out), tables.open_table(str(out)).schema)
    schema = pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(seen["schema"])))
    from weft.pipelines import blobs

    plain = blobs.plain_schema(schema)
    token = {**seen, "schema": plain.serialize().to_pybytes().hex()}
    row = {"_key": "x", "_source": "1", "key": "x", "line": "x", "loud": "X"}
    table = pa.Table.from_pylist([{**row, "content": os.urandom(200_000)}], schema=plain)
    tables.stage(token, table)
    (data,) = (p for p in files(out) - before if p.suffix == ".lance")
    return data


def many(folder: Path, count: int = 12) -> None:
    for number in range(count):
        (folder / f"m{number:02}.txt").write_text(f"more {number}")


def interrupted(folder: Path, out: Path) -> Any:
    """An unfinished run, of which at least one unit is done; the pipeline."""
    many(folder)
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    stopped(pipeline)
    assert journals(f"{out}.weft")[0].state()["state"] == "interrupted"
    return pipeline


def stopped(pipeline: Any) -> None:
    """Run until a unit is done, and until what the engine had begun by then has ended."""
    with suppress(Interrupted):
        pipeline.run(engine="local", listener=Stop())
    collector.collect()  # the engine ends what it had begun when nobody refers to it any more
    for thread in threading.enumerate():
        if thread.name.startswith(("weft-task", "weft-stage")):
            thread.join(30)


def test_nothing_is_garbage_after_a_run(folder: Path, out: Path) -> None:
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    run(pipeline)
    before, seen = files(out), content(out)
    found = gc(out)
    assert (found.total_bytes, found.orphans, found.waiting) == (0, 0, 0)
    assert (files(out), content(out)) == (before, seen)


def test_what_an_abandoned_run_staged_goes(folder: Path, out: Path) -> None:
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    before = files(out)
    pipeline = interrupted(folder, out)
    staged = files(out) - before
    assert staged
    kept = gc(out)  # the run may be gone on with
    assert (kept.orphans, kept.waiting) == (0, len(staged))
    assert kept.unfinished == [journals(f"{out}.weft")[0].run]
    run(pipeline, fresh=True)  # abandons it
    size = sum(p.stat().st_size for p in staged)
    looked = gc(out, dry_run=True)
    assert (looked.orphans, looked.orphan_bytes) == (len(staged), size)
    assert staged <= files(out)
    found = gc(out)
    assert (found.orphans, found.orphan_bytes) == (len(staged), size)
    assert not staged & files(out)
    assert found.journals == 1
    assert not any(p.is_dir() and not any(p.iterdir()) for p in (out / "data").iterdir())
    assert content(out) == full(folder, out)
    assert gc(out).total_bytes == 0


def test_an_unfinished_run_goes_on_after_it(folder: Path, out: Path) -> None:
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    pipeline = interrupted(folder, out)
    age(out)
    gc(out)
    _, notices = run(pipeline)
    assert notices[0].startswith("Going on with run")
    assert content(out) == full(folder, out)


def test_an_unfinished_run_can_be_given_up(folder: Path, out: Path) -> None:
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    before, seen = files(out), content(out)
    pipeline = interrupted(folder, out)
    found = gc(out, abandon=True)
    assert found.orphans > 0
    assert files(out) == before
    assert content(out) == seen
    state = journals(f"{out}.weft")[0].state()
    assert (state["state"], state["reason"]) == ("abandoned", "weft gc --abandon")
    run(pipeline)
    assert content(out) == full(folder, out)


def test_a_file_that_no_receipt_names_stays_for_a_day(folder: Path, out: Path) -> None:
    run(shouts(source=f"{folder}/*", out=str(out)))
    before = files(out)
    named = stray(out)
    assert named.with_suffix("").is_dir()
    assert gc(out).waiting == 2
    age(out, garbage.UNNAMED_SECONDS - 60)
    assert gc(out).waiting == 2
    age(out, garbage.UNNAMED_SECONDS + 60)
    assert gc(out).orphans == 2
    assert files(out) == before
    assert not named.with_suffix("").exists()


def test_a_file_that_is_younger_than_an_unfinished_run_stays(folder: Path, out: Path) -> None:
    """Its workers may live longer than its driver."""
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    interrupted(folder, out)
    named = stray(out)
    begun = journals(f"{out}.weft")[0].path / "run.json"
    long_ago = time.time() - 3 * garbage.UNNAMED_SECONDS
    os.utime(begun, (long_ago, long_ago))
    age(out)
    gc(out)
    assert named.exists()
    age(out, 4 * garbage.UNNAMED_SECONDS)
    gc(out)
    assert not named.exists()


def test_what_a_killed_writer_leaves_half_written_goes(folder: Path, out: Path) -> None:
    """Lance writes to a hidden file first, and forgets it when it is killed."""
    run(shouts(source=f"{folder}/*", out=str(out)))
    before = files(out)
    program = f"""
import os, pyarrow as pa
from lance.fragment import write_fragments
def batches():
    for number in range(10_000):
        yield pa.record_batch({{"v": pa.array([os.urandom(1 << 20)] * 8)}})
        print("one", flush=True)
reader = pa.RecordBatchReader.from_batches(pa.schema({{"v": pa.binary()}}), batches())
write_fragments(reader, {str(out)!r}, mode="overwrite")
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert writer.stdout
    until = time.monotonic() + 60
    while sum(p.stat().st_size for p in files(out) - before) < 1 << 20:
        assert writer.stdout.readline()
        assert time.monotonic() < until
    gc(out)  # it is alive, and takes no lease
    assert files(out) - before
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    age(out)
    assert gc(out).orphan_bytes >= 1 << 20
    assert files(out) == before


def test_a_run_at_work_is_not_disturbed(folder: Path, out: Path) -> None:
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    many(folder)
    refused: list[str] = []

    class During(Heard):
        def advanced(self, rows_done: int, *_: Any) -> None:
            with pytest.raises(Busy, match="is working on this dataset") as found:
                gc(out, keep=1)
            refused.append(str(found.value))

    shouts(source=f"{folder}/*", out=str(out)).run(engine="local", listener=During())
    assert refused
    assert content(out) == full(folder, out)
    with hold(f"{out}.weft", "somebody"):
        gc(out, dry_run=True)


def test_old_versions_go_with_ledger_and_errors(folder: Path, out: Path, at_once: None) -> None:
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    runs = []
    for text in ("uno", "dos", "tres", "cuatro"):
        (folder / "a.txt").write_text(text)
        runs.append(run(pipeline)[0].run)
    seen = content(out)
    tables.open_table(str(out)).tags.create("golden", tables.version_of(str(out), runs[1]))
    looked = gc(out, keep=1, dry_run=True)
    before = sum(p.stat().st_size for p in files(out))
    found = gc(out, keep=1)
    assert found.runs == looked.runs == runs[2::-1]
    gone = before - sum(p.stat().st_size for p in files(out))
    assert gone == looked.version_bytes > 0
    assert gone <= found.version_bytes < gone + 100_000  # manifests and deletion files too
    for uri in (str(out), f"{out}.weft/ledger.lance", f"{out}.weft/errors.lance"):
        tags = set(tables.open_table(uri).tags.list())
        assert tags == {"latest", f"run-{runs[3]}"} | ({"golden"} if uri == str(out) else set())
    assert content(out) == seen
    assert tables.read(str(out), "golden", ["loud"])["loud"].to_pylist()[-1] == "DOS!"
    assert [v.number for v in tables.history(str(out))] == [5, 3]
    assert {p.name for p in Path(f"{out}.weft", "runs").iterdir()} == set(runs)
    assert [j.receipts_path.is_dir() for j in journals(f"{out}.weft")] == [True, *[False] * 3]
    assert gc(out, keep=1).total_bytes == 0
    (folder / "n.txt").write_text("new")
    _, notices = run(pipeline)
    assert notices == [f"Since run {runs[3]}: 1 new, 4 unchanged."]
    assert content(out) == full(folder, out)


def test_the_newest_runs_and_the_young_are_kept(folder: Path, out: Path, at_once: None) -> None:
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    runs = []
    for text in ("uno", "dos", "tres"):
        (folder / "a.txt").write_text(text)
        runs.append(run(pipeline)[0].run)
    assert gc(out, keep=3).runs == []
    assert gc(out, keep=1, younger=timedelta(days=1)).runs == []
    assert gc(out, keep=2).runs == [runs[0]]
    assert gc(out, younger=timedelta(0)).runs == [runs[1]]


def test_what_a_reader_may_be_at_stays(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    first = run(pipeline)[0].run
    reader = lance.dataset(str(out), version="latest")
    (folder / "a.txt").write_text("uno")
    run(pipeline)
    found = gc(out, keep=1)  # replaced a moment ago
    assert (found.runs, found.replaced, found.total_bytes) == ([], [first], 0)
    assert reader.scanner(blob_handling="all_binary").to_table().num_rows == 6
    reader.tags.create("training", reader.version)  # who reads for longer
    monkeypatch.setattr(garbage, "REPLACED", timedelta(0))
    found = gc(out, keep=1)
    assert (found.runs, found.versions) == ([first], 1)
    assert reader.scanner(blob_handling="all_binary").to_table().num_rows == 6
    reader.tags.delete("training")
    gc(out, keep=1)
    with pytest.raises((OSError, ValueError), match=r"[Nn]ot found"):
        lance.dataset(str(out), version=reader.version)


def test_the_run_that_readers_see_stays_after_a_rollback(
    folder: Path, out: Path, at_once: None
) -> None:
    from weft.pipelines.runs.rollback import rollback

    pipeline = shouts(source=f"{folder}/*", out=str(out))
    first = run(pipeline)[0].run
    for text in ("uno", "dos"):
        (folder / "a.txt").write_text(text)
        last = run(pipeline)[0].run
    rollback(str(out), first)
    seen = content(out)
    gc(out, keep=1)
    tags = set(tables.open_table(str(out)).tags.list())
    assert tags == {"latest", f"run-{first}", f"run-{last}"}
    assert content(out) == seen
    _, notices = run(pipeline)
    assert notices == [f"Since run {first}: 1 changed, 3 unchanged."]
    assert content(out) == full(folder, out)


def test_a_run_of_two_datasets_is_one(folder: Path, tmp_path: Path) -> None:
    """The receipts are beside the first; a run that one of them calls finished may not be."""
    first, second = tmp_path / "a.lance", tmp_path / "b.lance"

    @weft.pipeline
    def two() -> Any:
        rows = weft.read(Files(f"{folder}/*", kind="text"))
        sizes = rows.select("key", "size").write(Lance(first))
        return sizes, rows.select("key").write(Lance(second))

    many(folder)
    stopped(two())
    staged = files(second)
    (journal,) = journals(f"{second}.weft")
    age(second)
    assert gc(second).orphans == 0
    journal.set_state("published")
    assert gc(second).orphans == 0
    assert gc(second, abandon=True).orphans == len(staged) > 0
    assert journals(f"{first}.weft")[0].state()["state"] == "abandoned"
    assert gc(first).orphans > 0
    assert run(two())[0].kept == {"write": 16, "write_2": 16}


def test_versions_stay_while_a_run_is_not_finished(folder: Path, out: Path, at_once: None) -> None:
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    (folder / "a.txt").write_text("uno")
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    interrupted(folder, out)
    with pytest.raises(Refused, match="is not finished, and may need versions"):
        gc(out, keep=1)
    assert gc(out, keep=1, abandon=True).versions == 2


def test_a_run_over_its_budget_leaves_its_errors(folder: Path, out: Path) -> None:
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    with pytest.raises(OverBudget):
        pipeline.run(engine="local", budget=Budget(rows=0, share=0.0))
    failed = tables.read(f"{out}.weft/errors.lance").num_rows
    assert failed
    gc(out)
    assert tables.read(f"{out}.weft/errors.lance").num_rows == failed
    run(pipeline)
    gc(out)
    assert content(out) == full(folder, out)


@pytest.mark.parametrize("die_at", ["untag", "drop_versions", "remove"])
def test_a_process_that_dies_leaves_the_rest_for_the_next_time(
    folder: Path, out: Path, at_once: None, die_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    (folder / "a.txt").write_text("uno")
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    interrupted(folder, out)
    do = getattr(cleaning, die_at)

    def dying(*arguments: Any) -> None:
        do(*arguments)
        raise OSError("it dies")

    with monkeypatch.context() as patch:
        patch.setattr(cleaning, die_at, dying)
        with pytest.raises(OSError, match="it dies"):
            gc(out, keep=1, abandon=True)
    before = content(out)
    gc(out, keep=1)
    assert content(out) == before
    assert [v.number for v in tables.history(str(out))] == [3]
    assert gc(out, keep=1).total_bytes == 0


def test_a_path_with_signs_in_it(folder: Path, tmp_path: Path) -> None:
    """Lance gives the names of files as it has them, from the root."""
    out = tmp_path / "a data#b %25 ü" / "data" / "o.lance"
    out.parent.mkdir(parents=True)
    run(shouts(source=f"{folder}/[ab]*", out=str(out)))
    before = files(out)
    named = stray(out)
    age(out)
    assert [o.path for o in cleaning.orphans(str(out)) if o.path.suffix == ".lance"] == [named]
    gc(out)
    assert files(out) == before


def test_a_dataset_that_was_never_written(folder: Path, out: Path) -> None:
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    with pytest.raises(Interrupted):
        pipeline.run(engine="local", listener=Stop())
    shutil.rmtree(out)
    found = gc(out, abandon=True)
    assert found.orphans > 0
    assert not out.exists()
