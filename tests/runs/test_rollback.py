"""Readers see again what a run published, and runs go on from there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.connectors import Files, Lance
from weft.errors import Busy, DefinitionError, Interrupted, Refused
from weft.pipelines import tables
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.rollback import rollback, run_at

sys.path.insert(0, str(Path(__file__).parent))

from timed import SEEN, Heard, content, full, run, shouts, texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return texts(tmp_path / "texts")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "o.lance"


def two_runs(folder: Path, out: Path) -> tuple[str, str, dict[str, Any]]:
    """The runs, and all that the first one left."""
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    first = run(pipeline)[0].run
    before = content(out)
    (folder / "a.txt").write_text("uno")
    (folder / "b.txt").unlink()
    (folder / "n.txt").write_text("new")
    return first, run(pipeline)[0].run, before


def test_all_that_a_run_left_is_there_again(folder: Path, out: Path) -> None:
    first, second, before = two_runs(folder, out)
    after = content(out)
    assert before != after
    (done,) = rollback(str(out), first)
    assert content(out) == before
    assert (done.before, done.run_before, done.run) == (3, second, first)
    assert (done.rows_before, done.rows) == (3, 6)
    assert (done.after, tables.latest(str(out))[0]) == (4, 4)
    assert [v.number for v in tables.history(str(out))] == [4, 3, 2, 1]
    rollback(str(out), second)  # and forward again
    assert content(out) == after
    assert tables.latest(str(out))[1]["weft.run"] == second


def test_a_run_goes_on_from_there(folder: Path, out: Path) -> None:
    first, *_ = two_runs(folder, out)
    rollback(str(out), first)
    (folder / "z.txt").write_text("last")
    result, notices = run(shouts(source=f"{folder}/*", out=str(out)))
    assert notices == [f"Since run {first}: 2 new, 1 changed, 1 deleted, 2 unchanged."]
    assert sorted(SEEN) == ["last", "new", "uno"]
    assert content(out) == full(folder, out)
    assert run(shouts(source=f"{folder}/*", out=str(out)))[0].in_sync
    assert result.versions == {"write": 5}


def test_the_source_as_it_was_is_in_sync(folder: Path, out: Path) -> None:
    first, *_ = two_runs(folder, out)
    rollback(str(out), first)
    assert run(shouts(source=f"{folder}/*", out=str(out)))[0].increment["changed"] == 1
    rollback(str(out), first)
    rollback(str(out), first)
    assert run(shouts(source=f"{folder}/*", out=str(out)))[0].increment["changed"] == 1


def test_looking_changes_nothing(folder: Path, out: Path) -> None:
    first, second, _ = two_runs(folder, out)
    after = content(out)
    with hold(f"{out}.weft", "somebody"):
        (found,) = rollback(str(out), first, dry_run=True)
    assert (found.before, found.after, found.run_before, found.run) == (3, 2, second, first)
    assert content(out) == after


def test_it_is_refused(folder: Path, out: Path) -> None:
    first, second, _ = two_runs(folder, out)
    after = content(out)
    with hold(f"{out}.weft", "somebody"), pytest.raises(Busy, match="somebody is working on"):
        rollback(str(out), first)
    with pytest.raises(DefinitionError, match="has no version of run 'r9'"):
        rollback(str(out), "r9")

    class Stop(Heard):
        def advanced(self, rows_done: int, *_: Any) -> None:
            raise KeyboardInterrupt

    for number in range(9):
        (folder / f"m{number}.txt").write_text("more")
    with pytest.raises(Interrupted):
        shouts(source=f"{folder}/*", out=str(out)).run(engine="local", listener=Stop())
    with pytest.raises(Refused, match=r"is not finished. Go on with it, `weft resume`, or give it"):
        rollback(str(out), first)
    assert content(out) == after
    assert tables.latest(str(out))[1]["weft.run"] == second


def test_a_run_whose_ledger_is_gone(folder: Path, out: Path) -> None:
    """All three tables are looked at before the first one goes back."""
    first, *_ = two_runs(folder, out)
    after = content(out)
    ledger = tables.open_table(f"{out}.weft/ledger.lance")
    ledger.tags.delete(f"run-{first}")
    ledger.cleanup_old_versions(versions=[1, 2], error_if_tagged_old_versions=False)
    with pytest.raises(DefinitionError, match=r"ledger.lance has no version of run"):
        rollback(str(out), first)
    assert content(out) == after


@pytest.mark.parametrize("die_at", ["errors.lance", "ledger.lance", "o.lance", "show"])
def test_a_process_that_dies_is_completed(
    folder: Path, out: Path, die_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weft.pipelines import restoring

    first, _, before = two_runs(folder, out)
    whole, shown = content(out), restoring.show

    def dying_restore(uri: str, version: int) -> int:
        done = restore(uri, version)
        if Path(uri).name == die_at:
            raise OSError("it dies")
        return done

    def dying_show(uri: str, version: int, run: str) -> None:
        shown(uri, version, run)
        if die_at == "show":
            raise OSError("it dies")

    restore = restoring.restore
    with monkeypatch.context() as patch:
        patch.setattr(restoring, "restore", dying_restore)
        patch.setattr(restoring, "show", dying_show)
        with pytest.raises(OSError, match="it dies"):
            rollback(str(out), first)
    assert content(out)["rows"] == whole["rows"]  # readers see whole runs
    rollback(str(out), first)
    assert content(out) == before
    run(shouts(source=f"{folder}/*", out=str(out)))
    assert content(out) == full(folder, out)


def test_datasets_that_were_written_together_go_back_together(folder: Path, tmp_path: Path) -> None:
    @weft.pipeline
    def two() -> Any:
        rows = weft.read(Files(f"{folder}/[abd]*", kind="text"))
        sizes = rows.select("key", "size").write(Lance(tmp_path / "sizes.lance"))
        return sizes, rows.select("key").write(Lance(tmp_path / "keys.lance"))

    first = run(two())[0].run
    (folder / "b2.txt").write_text("more")
    run(two())
    done = rollback(str(tmp_path / "keys.lance"), first)
    assert {Path(d.dataset).name: d.rows for d in done} == {"sizes.lance": 3, "keys.lance": 3}
    assert len(content(tmp_path / "sizes.lance")["rows"]) == 3
    result, notices = run(two())
    assert notices == [f"Since run {first}: 1 new, 3 unchanged."]
    assert result.rows == 1


def test_the_run_of_a_version(folder: Path, out: Path) -> None:
    first, second, _ = two_runs(folder, out)
    assert (run_at(str(out), 2), run_at(str(out), 3)) == (first, second)
    rollback(str(out), first)
    assert run_at(str(out), 4) == first
    with pytest.raises(DefinitionError, match=r"Version 1 of .* is not what a run left"):
        run_at(str(out), 1)
