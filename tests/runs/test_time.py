"""What goes to and fro in time, with all that a run can leave: gates, backfills, indices, why."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Files, Lance
from weft.errors import GateFailed, Refused
from weft.gates import RowCount
from weft.pipelines import tables
from weft.pipelines.gates.accepting import promote, reject
from weft.pipelines.observe.diff import diff
from weft.pipelines.observe.lineage import why
from weft.pipelines.runs import garbage
from weft.pipelines.runs.compact import compact
from weft.pipelines.runs.garbage import Retention, collect
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.rollback import rollback

sys.path.insert(0, str(Path(__file__).parent))

from timed import SEEN, content, full, run, shouts, texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return texts(tmp_path / "texts")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "o.lance"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if an hour had passed since any version was replaced."""
    monkeypatch.setattr(garbage, "REPLACED", timedelta(0))


def squeeze(out: Path) -> None:
    compact(str(out), f"{out}.weft")


def gc(out: Path, keep: int | None = None) -> garbage.Collected:
    return collect(str(out), f"{out}.weft", Retention(keep))


def sized(folder: Path, out: Path, version: str) -> Any:
    """Files with their bytes, and a number that is computed of them."""

    @weft.operator(version=version)
    def length(content: weft.Encoded) -> int:
        return len(content) * int(version)

    @weft.pipeline
    def lengths() -> Any:
        rows = weft.read(Files(f"{folder}/*", kind="text")).apply(length)
        return rows.select("key", "content", "length").write(Lance(out))

    return lengths()


def test_a_field_that_was_computed_anew(
    folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backfill leaves files of single columns; media were not written again."""
    from weft.pipelines.observe import diff as module

    (folder / "wide.txt").write_text("wide " * 40_000)
    first = run(sized(folder, out, "1"))[0].run
    (folder / "n.txt").write_text("new")
    run(sized(folder, out, "1"))
    before = content(out)
    second, _ = run(sized(folder, out, "2"))
    asked: list[int] = []
    media = module._Side.media
    monkeypatch.setattr(
        module._Side,
        "media",
        lambda self, *some: (asked.append(len(some[1])), media(self, *some))[1],
    )
    found = diff(str(out), 3, second.versions["write"])
    assert found.fields["length"] == 6
    assert "content" not in found.fields
    assert asked == []
    seen = content(out)
    squeeze(out)
    assert content(out) == seen
    assert run(sized(folder, out, "2"))[0].in_sync
    (folder / "m.txt").write_text("more")
    run(sized(folder, out, "3"))
    assert {r["key"]: r["length"] for r in content(out)["rows"]} == {
        p.name: p.stat().st_size * 3 for p in folder.iterdir()
    }
    rollback(str(out), second.run)
    assert content(out) == seen
    gc(out, keep=1)
    assert content(out) == seen
    assert f"run-{first}" not in tables.open_table(str(out)).tags.list()
    run(sized(folder, out, "2"))
    assert len(content(out)["rows"]) == len(before["rows"]) + 1


def test_why_has_its_answer_after_it(folder: Path, out: Path) -> None:
    first = run(sized(folder, out, "1"))[0].run
    (folder / "n.txt").write_text("new")
    second = run(sized(folder, out, "1"))[0].run
    (row,) = why(str(out), "a.txt")
    assert (row.run, row.written) == (second, first)
    squeeze(out)
    (row,) = why(str(out), "a.txt")
    assert (row.run, row.written, row.outcome) == (second, first, "kept")
    rollback(str(out), first)
    assert why(str(out), "a.txt")[0].run == first
    rollback(str(out), second)
    gc(out, keep=1)
    (row,) = why(str(out), "a.txt")
    assert (row.run, row.outcome) == (second, "kept")


def test_rows_that_became_null_are_tried_again(folder: Path, out: Path) -> None:
    """A child too: the row of the source that it was made of is read again."""
    pipeline = shouts(source=f"{folder}/*", out=str(out), on_error="null")
    run(pipeline)
    before = content(out)
    assert [r["outcome"] for r in before["errors"]] == ["failed", "nulled"]
    result, _ = run(pipeline, retry_failed=True)
    assert sorted(SEEN) == ["broken", "mute\nseven"]
    assert (result.increment["retried"], result.increment["unchanged"]) == (2, 2)
    assert content(out) == before


STEP = st.one_of(
    st.tuples(st.sampled_from(["write", "delete"]), st.integers(0, 5)),
    st.tuples(st.sampled_from(["run", "run", "compact", "gc", "rollback"]), st.integers(0, 3)),
)


@settings(max_examples=40 if os.environ.get("WEFT_FAULTS") == "all" else 4)
@given(steps=st.lists(STEP, min_size=3, max_size=12))
@example(steps=[("write", 1), ("run", 0), ("compact", 0), ("rollback", 1), ("gc", 0), ("write", 2)])
def test_it_makes_no_difference_to_what_runs_make(
    steps: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("law")
    folder, out = texts(home / "texts"), home / "o.lance"
    pipeline = shouts(source=f"{folder}/*", out=str(out))
    runs = [run(pipeline)[0].run]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(garbage, "REPLACED", timedelta(0))
        for number, (what, at) in enumerate(steps):
            seen = content(out)
            match what:
                case "write":
                    (folder / f"{at}.txt").write_text(f"text {number}\nmute\nmore")
                case "delete":
                    (folder / f"{at}.txt").unlink(missing_ok=True)
                case "run":
                    result = run(pipeline)[0]
                    runs += [] if result.in_sync else [result.run]
                case "compact":
                    squeeze(out)
                case "gc":
                    gc(out, keep=at + 1)
                    tags = tables.open_table(str(out)).tags.list()
                    runs = [r for r in runs if f"run-{r}" in tags]
                case "rollback":
                    rollback(str(out), runs[at % len(runs)])
            if what in ("compact", "gc"):
                assert content(out) == seen
    run(pipeline)
    assert content(out) == full(folder, out)
    squeeze(out)
    assert content(out) == full(folder, out)


def few(folder: Path, out: Path, most: int) -> Any:
    """A dataset that must not have more rows than that."""

    @weft.pipeline
    def some() -> Any:
        rows = weft.read(Files(f"{folder}/*", kind="text"))
        return rows.select("key").write(Lance(out), gates=[RowCount(max=most)])

    return some()


def refused(folder: Path, out: Path, most: int) -> str:
    """A run that its gate refuses."""
    with pytest.raises(GateFailed):
        run(few(folder, out, most))
    return journals(f"{out}.weft")[0].run


def test_a_run_that_gates_refused_waits_for_a_decision(folder: Path, out: Path) -> None:
    runs = [run(few(folder, out, 5))[0].run]
    (folder / "m.txt").write_text("more")
    runs.append(run(few(folder, out, 5))[0].run)
    (folder / "n.txt").write_text("new")
    waits = refused(folder, out, 5)
    seen = content(out)
    with pytest.raises(Refused, match="did not pass its gates, so readers have never seen it"):
        rollback(str(out), waits)
    squeeze(out)
    found = gc(out, keep=1)
    assert found.runs == [runs[0]]
    assert content(out) == seen
    assert tables.read(str(out), f"run-{waits}").num_rows == 6
    assert diff(str(out), "latest", f"run-{waits}").rows["added"] == 1
    promote(journals(f"{out}.weft")[0])
    assert len(content(out)["rows"]) == 6
    rollback(str(out), runs[1])
    assert content(out) == seen


def test_a_run_that_was_given_up_is_not_kept(folder: Path, out: Path) -> None:
    first = run(few(folder, out, 4))[0].run
    (folder / "n.txt").write_text("new")
    refused(folder, out, 4)
    reject(journals(f"{out}.weft")[0])
    seen = content(out)
    gc(out, keep=1)
    assert content(out) == seen
    tags = tables.open_table(str(out)).tags.list()
    assert set(tags) == {"latest", f"run-{first}"}
    assert run(few(folder, out, 5))[0].increment["new"] == 1


def test_readers_of_an_index_do_not_notice(folder: Path, out: Path) -> None:
    pipeline = sized(folder, out, "1")
    first = run(pipeline)[0].run
    tables.open_table(str(out)).create_scalar_index("length", "BTREE")
    (folder / "n.txt").write_text("0123456789abcdef")
    run(pipeline)

    def found() -> list[str]:
        rows = tables.read(str(out), "latest", ["key"], where="length = 16")
        return sorted(rows["key"].to_pylist())

    assert found() == ["n.txt"]
    squeeze(out)
    assert found() == ["n.txt"]
    assert [i.name for i in tables.open_table(str(out)).describe_indices()] == ["length_idx"]
    rollback(str(out), first)
    assert found() == []
    gc(out, keep=1)
    assert found() == []
    run(pipeline)
    assert found() == ["n.txt"]
