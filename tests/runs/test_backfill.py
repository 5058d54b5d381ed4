"""What a run computes again when the pipeline changed, and what it leaves alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import polars as pl
import pytest

import weft
from weft.connectors import Files, Lance
from weft.errors import DefinitionError, OverBudget, Refused
from weft.pipelines import tables
from weft.pipelines.compile import plain_plan
from weft.pipelines.runs.accepting import accept_change
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.increment import Increment, find_increment
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.result import Listener

CALLS: Counter[str] = Counter()
"""How often each operator was asked; the local engine runs in this process."""

ROWS = 20
BLOB = 100_000


class Told(Listener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def op(name: str, version: str = "1", answer: Callable[[int], Any] = lambda n: n + 1) -> Any:
    return _Counted(name, version, answer)


class _Counted:
    """A map from one column to another, made anew with a name, a version and what it does."""

    def __init__(self, name: str, version: str, answer: Callable[[int], Any]) -> None:
        self.name, self.version, self.answer = name, version, answer

    def on(self, rows: Any, column: str, made: str, **options: Any) -> Any:
        name, answer = self.name, self.answer

        class Counted(weft.Map):
            """A counted operator."""

            version = self.version
            reads = weft.fields(value=weft.Int64())
            writes = weft.fields(result=weft.Int64())

            def map_row(self, row: Any, loaded: Any) -> Any:
                CALLS[name] += 1
                found = answer(row["value"])
                if found is None:
                    raise ValueError(f"{name} does not like {row['value']}")
                return int(found)

        Counted.__qualname__ = Counted.__name__ = name
        return rows.apply(Counted(), value=column, result=made, **options)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files of 100 KB, the first byte of which is their number."""
    CALLS.clear()
    source = tmp_path / "in"
    source.mkdir()
    for i in range(ROWS):
        (source / f"{i:02}.bin").write_bytes(bytes([i]) + os.urandom(BLOB))
    return source


@weft.operator(version="1")
def first(content: weft.Encoded) -> int:
    CALLS["first"] += 1
    return content[0]


def pipeline(folder: Path, body: Callable[[Any], Any], out: str = "o.lance") -> Any:
    """Files and their first byte, `n`, then `body`, written beside the folder."""

    @weft.pipeline
    def made() -> Any:
        rows = weft.read(Files(f"{folder}/*", kind="binary")).apply(first, first="n")
        return body(rows.select("content", "n")).write(Lance(folder.parent / out))

    return made()


def run(pipeline: Any, **options: Any) -> tuple[Any, list[str]]:
    told = Told()
    options = {"budget": Budget(rows=10**6), **options}
    result = pipeline.run(engine="local", listener=told, **options)
    return result, told.notices


def content(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The dataset, its ledger and its errors, in one order."""
    state = f"{out}.weft"
    rows = tables.read(str(out), "latest").to_pylist()
    ledger = tables.read(ledger_uri(state)).to_pylist()
    errors = tables.read(errors_uri(state)).to_pylist()
    names = [r["_key"] for r in rows]
    assert len(set(names)) == len(names)
    return {
        "rows": sorted(rows, key=lambda r: r["_key"]),
        "ledger": sorted(ledger, key=lambda r: (r["_key"], r["outcome"])),
        "errors": sorted(errors, key=lambda r: (r["_key"], r["step"])),
    }


def same_as_full(folder: Path, body: Callable[[Any], Any]) -> None:
    """Whether the dataset is what a run into an empty folder makes."""
    before = dict(CALLS)
    run(pipeline(folder, body, "full.lance"), fresh=True)
    CALLS.clear()
    CALLS.update(before)
    assert content(folder.parent / "o.lance") == content(folder.parent / "full.lance")


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def chain(a: _Counted, b: _Counted, c: _Counted) -> Callable[[Any], Any]:
    """a reads n, b reads a's answer, c reads n."""

    def body(rows: Any) -> Any:
        rows = a.on(rows, "n", "a")
        rows = b.on(rows, "a", "b")
        return c.on(rows, "n", "c")

    return body


def test_a_new_field_is_computed_from_what_is_there_and_no_media_is_written(folder: Path) -> None:
    out = folder.parent / "o.lance"
    run(pipeline(folder, lambda rows: rows))
    before, CALLS["first"] = size(out), 0
    body = op("a").on
    result, notices = run(pipeline(folder, lambda rows: body(rows, "n", "a")))
    assert CALLS == {"first": 0, "a": ROWS}
    assert size(out) - before < 0.01 * before
    assert notices == [
        f"Since run {journals(f'{out}.weft')[1].run}: {ROWS} unchanged; a is new.",
        f"Computing anew: a of {ROWS} rows, as the dataset has them.",
    ]
    (done,) = result.recomputed.values()
    assert (done.fields, done.rows, done.written, done.stored) == (("a",), ROWS, ROWS, True)
    same_as_full(folder, lambda rows: body(rows, "n", "a"))


def test_a_version_concerns_what_reads_it_and_nothing_else(folder: Path) -> None:
    old = chain(op("a"), op("b"), op("c"))
    run(pipeline(folder, old))
    CALLS.clear()
    new = chain(op("a"), op("b", "2", lambda n: n * 3), op("c"))
    run(pipeline(folder, new))
    assert CALLS == {"b": ROWS}
    same_as_full(folder, new)
    CALLS.clear()
    newer = chain(op("a", "2", lambda n: n + 2), op("b", "2", lambda n: n * 3), op("c"))
    run(pipeline(folder, newer))
    assert CALLS == {"a": ROWS, "b": ROWS}
    same_as_full(folder, newer)


def test_a_version_that_stays_does_not_speak_for_another_type(folder: Path) -> None:
    class Half(weft.Map):
        """Half of a number, as whatever type it is declared at present."""

        version = "1"
        reads = weft.fields(n=weft.Int64())

        def map_row(self, row: Any, loaded: Any) -> Any:
            CALLS["half"] += 1
            return type(self).kind(row["n"] / 2)

    def body(kind: type) -> Callable[[Any], Any]:
        half = type("Half", (Half,), {"kind": kind, "writes": weft.fields(half=kind)})
        return lambda rows: op("a").on(rows, "n", "a").apply(half())

    run(pipeline(folder, body(int)))
    CALLS.clear()
    result, _ = run(pipeline(folder, body(float)))
    assert not result.in_sync
    assert CALLS == {"half": ROWS}
    table = tables.read(str(folder.parent / "o.lance"), "latest")
    assert sorted(table["half"].to_pylist()) == [n / 2 for n in range(ROWS)]
    same_as_full(folder, body(float))


def test_an_equal_answer_ends_it_early(folder: Path) -> None:
    """a answers otherwise for one row in ten: b is asked for those alone."""
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    out = str(folder.parent / "o.lance")
    files = [f.metadata.files for f in lance.dataset(out).get_fragments()]
    CALLS.clear()
    new = chain(op("a", "2", lambda n: n + 1 + (n % 10 == 3)), op("b"), op("c"))
    result, _ = run(pipeline(folder, new))
    assert CALLS == {"a": ROWS, "b": 2}
    (done,) = result.recomputed.values()
    assert done.written == 2
    again = [f.metadata.files for f in lance.dataset(out).get_fragments()]
    same = sum(
        [f.path for f in x] == [f.path for f in y] for x, y in zip(files, again, strict=True)
    )
    assert same >= len(files) - 2, "fragments without one of the two rows have no new file"
    same_as_full(folder, new)


def test_an_equal_answer_of_what_is_read_again_ends_it_early_too(folder: Path) -> None:
    """a reads the source again, for the dataset has no n; b is asked where a says otherwise."""

    def body(a: _Counted) -> Callable[[Any], Any]:
        return lambda rows: chain(a, op("b"), op("c"))(rows).select("a", "b", "c")

    run(pipeline(folder, body(op("a"))))
    (folder / "05.bin").unlink()
    run(pipeline(folder, body(op("a"))))  # the places of rows are not those of the source
    (folder / "06.bin").write_bytes(bytes([106]) + os.urandom(BLOB))
    (folder / "11.bin").unlink()
    CALLS.clear()
    newer = body(op("a", "2", lambda n: n + 1 + (n % 10 in (3, 6))))
    result, _ = run(pipeline(folder, newer))
    assert CALLS == {"first": ROWS - 2, "a": ROWS - 2, "b": 3 + 1, "c": 1}, (
        "06 is as if it were new"
    )
    (done,) = result.recomputed.values()
    assert (done.rows, done.written, done.stored) == (ROWS - 3, 3, False)
    same_as_full(folder, newer)


def test_a_killed_backfill_with_an_early_end_goes_on(folder: Path) -> None:
    from weft.errors import Interrupted

    def body(a: _Counted, b: _Counted) -> Callable[[Any], Any]:
        return lambda rows: b.on(a.on(rows, "n", "a"), "a", "b").select("a", "b")

    def stop(n: int) -> int:
        if CALLS["b"] == 4 and not CALLS["stopped"]:
            CALLS["stopped"] += 1
            raise KeyboardInterrupt
        return n + 1

    CALLS["stopped"] = 1  # not yet
    run(pipeline(folder, body(op("a"), op("b", answer=stop))))
    CALLS.clear()
    new = body(op("a", "2", lambda n: n + 1 + n % 2), op("b", answer=stop))
    with pytest.raises(Interrupted):
        run(pipeline(folder, new))
    assert CALLS["stopped"]
    run(pipeline(folder, new))
    assert CALLS["b"] <= ROWS, "half of the rows, and those at most twice"
    same_as_full(folder, new)


def test_where_all_answers_are_equal_nothing_is_written(folder: Path) -> None:
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    out = str(folder.parent / "o.lance")
    files = [[d.path for d in f.metadata.files] for f in lance.dataset(out).get_fragments()]
    new = chain(op("a", "2"), op("b"), op("c"))
    CALLS.clear()
    run(pipeline(folder, new))
    assert CALLS == {"a": ROWS}
    assert [[d.path for d in f.metadata.files] for f in lance.dataset(out).get_fragments()] == files
    assert run(pipeline(folder, new))[0].in_sync
    same_as_full(folder, new)


def test_a_filter_that_flips_asks_its_own_rows(folder: Path) -> None:
    """Rows that it dropped come from the source; of those it kept only the column is read."""

    def body(limit: int) -> Callable[[Any], Any]:
        return lambda rows: op("a").on(rows.where(pl.col("n") < limit), "n", "a")

    run(pipeline(folder, body(10)))
    CALLS.clear()
    run(pipeline(folder, body(12)))
    assert CALLS == {"first": 10, "a": 2}, "the ten that were dropped are asked again"
    same_as_full(folder, body(12))
    CALLS.clear()
    run(pipeline(folder, body(5)))
    assert CALLS["a"] == 0
    same_as_full(folder, body(5))


def test_a_changed_operator_fails_on_others(folder: Path) -> None:
    old = chain(op("a", "1", lambda n: None if n == 4 else n), op("b"), op("c"))
    run(pipeline(folder, old))
    CALLS.clear()
    new = chain(op("a", "2", lambda n: None if n in {7, 8} else n), op("b"), op("c"))
    result, _ = run(pipeline(folder, new))
    assert result.failed == 2
    assert CALLS == {"first": 1, "a": ROWS, "b": 1, "c": 1}, "the row that had failed is read again"
    same_as_full(folder, new)


def test_nulls_for_what_failed_come_and_go(folder: Path) -> None:
    def body(version: str, bad: set[int]) -> Callable[[Any], Any]:
        a = op("a", version, lambda n: None if n in bad else n)
        return lambda rows: op("b").on(a.on(rows, "n", "a", on_error="null"), "a", "b")

    run(pipeline(folder, body("1", {4, 5})))
    run(pipeline(folder, body("2", {5, 6})))
    same_as_full(folder, body("2", {5, 6}))


def test_fields_go_and_change_places_without_any_work(folder: Path) -> None:
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    CALLS.clear()

    def body(rows: Any) -> Any:
        return chain(op("a"), op("b"), op("c"))(rows).select("c", "n", "b", "content")

    before = size(folder.parent / "o.lance" / "data")
    run(pipeline(folder, body))
    assert CALLS == {}
    assert size(folder.parent / "o.lance" / "data") == before
    same_as_full(folder, body)


def test_a_field_can_be_called_otherwise(folder: Path) -> None:
    run(pipeline(folder, lambda rows: op("a").on(rows, "n", "a")))
    CALLS.clear()

    def body(rows: Any) -> Any:
        rows = op("a").on(rows, "n", "a").with_columns(better=pl.col("a"))
        return rows.select("content", "n", "better")

    run(pipeline(folder, body))
    assert CALLS == {}, "its values are in the dataset"
    same_as_full(folder, body)


def test_what_is_not_stored_is_read_again(folder: Path) -> None:
    """b reads a column that the dataset does not have: a and the source are asked, and c is not."""

    def body(version: str) -> Callable[[Any], Any]:
        b = op("b", version, lambda n: n * int(version))
        return lambda rows: chain(op("a"), b, op("c"))(rows).select("b", "c")

    run(pipeline(folder, body("1")))
    CALLS.clear()
    result, _ = run(pipeline(folder, body("2")))
    assert CALLS == {"first": ROWS, "a": ROWS, "b": ROWS}
    assert not next(iter(result.recomputed.values())).stored
    same_as_full(folder, body("2"))


def test_source_and_pipeline_may_change_at_once(folder: Path) -> None:
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    (folder / "00.bin").unlink()
    (folder / "01.bin").write_bytes(bytes([99]) + os.urandom(BLOB))
    (folder / "77.bin").write_bytes(bytes([77]) + os.urandom(BLOB))
    CALLS.clear()
    new = chain(op("a"), op("b", "2", lambda n: -n), op("c", "2", lambda n: n * n))
    result, _ = run(pipeline(folder, new))
    assert CALLS["first"] == 2
    assert CALLS["a"] == 2
    assert result.increment["deleted"] == 1
    same_as_full(folder, new)


def test_a_filter_stays_behind_what_fails_before_it(folder: Path) -> None:
    """It is behind a fork; a backfill of its branch alone has none, and there it could go up."""

    def made(version: int, out: Path) -> Any:
        @weft.pipeline
        def two() -> Any:
            rows = weft.read(Files(f"{folder}/*", kind="binary")).apply(first, first="n")
            rows = op("a", str(version), lambda n: n * version).on(rows, "n", "a")
            rows = op("b", answer=lambda a: a if a < 20 else None).on(rows, "a", "b")
            some = rows.where(pl.col("a") < 15).select("a")
            return rows.select("b").write(Lance(out / "one")), some.write(Lance(out / "two"))

        return two()

    for version in (1, 2, 3):
        run(made(version, folder.parent / "now"))
        run(made(version, folder.parent / str(version)))
        for name in ("one", "two"):
            now, full = (content(folder.parent / f / name) for f in ("now", str(version)))
            assert now == full, (version, name)


def test_rows_that_leave_are_not_asked(folder: Path) -> None:
    """Of files that changed or are gone, no operator sees what the dataset has of them."""
    body, newer = op("a").on, op("a", "2", lambda n: n + 2).on
    run(pipeline(folder, lambda rows: body(rows, "n", "a")))
    for i in range(ROWS - 3):
        (folder / f"{i:02}.bin").write_bytes(bytes([i + 100]) + os.urandom(BLOB + 1))
    (folder / f"{ROWS - 1:02}.bin").unlink()
    CALLS.clear()
    result, _ = run(pipeline(folder, lambda rows: newer(rows, "n", "a")))
    assert CALLS == {"first": ROWS - 3, "a": ROWS - 1}
    (done,) = result.recomputed.values()
    assert (done.rows, done.written, done.stored) == (2, 2, True)
    same_as_full(folder, lambda rows: newer(rows, "n", "a"))


@pytest.mark.parametrize("policy", ["keep", "new-rows-only"])
def test_rows_that_are_there_may_keep_their_values(folder: Path, policy: str) -> None:
    def body(version: str, policy: str | None) -> Callable[[Any], Any]:
        a = op("a", version, lambda n: n + int(version) * 100)
        return lambda rows: op("b").on(a.on(rows, "n", "a", on_change=policy), "a", "b")

    out = folder.parent / "o.lance"
    run(pipeline(folder, body("1", None)))
    CALLS.clear()
    (folder / "50.bin").write_bytes(bytes([50]) + os.urandom(BLOB))
    run(pipeline(folder, body("2", policy)))
    assert CALLS == {"first": 1, "a": 1, "b": 1}
    rows = {r["_key"]: r["a"] for r in content(out)["rows"]}
    assert Counter(v // 100 for v in rows.values()) == {1: ROWS, 2: 1}
    assert run(pipeline(folder, body("2", policy)))[0].in_sync
    CALLS.clear()
    run(pipeline(folder, lambda rows: op("d").on(body("2", policy)(rows), "b", "d")))
    assert CALLS == {"d": ROWS + 1}, "a field that reads it takes the values that are there"
    run(pipeline(folder, body("2", policy)))
    CALLS.clear()
    run(pipeline(folder, body("2", "recompute")))
    if policy == "keep":
        assert CALLS == {}, "they were taken for as good as new ones"
    else:
        assert CALLS == {"a": ROWS + 1, "b": ROWS + 1}, "it knows that some are of an older make"
        same_as_full(folder, body("2", "recompute"))
    run(pipeline(folder, body("3", None)))
    same_as_full(folder, body("3", None))


def test_a_policy_is_for_code_and_not_for_parameters(folder: Path) -> None:
    @weft.operator(version="1")
    def plus(n: int, by: int = 1) -> int:
        CALLS["plus"] += 1
        return n + by

    def body(by: int) -> Callable[[Any], Any]:
        return lambda rows: rows.apply(plus.replace(by=by), plus="m", on_change="keep")

    run(pipeline(folder, body(1)))
    run(pipeline(folder, body(2)))
    assert CALLS["plus"] == 2 * ROWS
    same_as_full(folder, body(2))
    with pytest.raises(DefinitionError, match=r"on_change='never'; expected one of 'recompute'"):
        pipeline(folder, lambda rows: rows.apply(plus, plus="m", on_change="never"))


def test_an_accepted_change_is_none(folder: Path) -> None:
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    new = pipeline(folder, chain(op("a", "2"), op("b", "9"), op("c")))
    plan = plain_plan(new.graph.afresh())
    with pytest.raises(DefinitionError, match=r"c@1: no such operator .*These have: a@2, b@9"):
        accept_change(plan, "c", "1")
    (done,) = accept_change(plan, "a", "2")
    assert done == (str(folder.parent / "o.lance"), ("a", "1", "2"))
    CALLS.clear()
    run(new)
    assert CALLS == {"b": ROWS}
    accept_change(
        plain_plan(pipeline(folder, chain(op("a", "3"), op("b", "9"), op("c"))).graph), "a", None
    )
    CALLS.clear()
    newer = chain(op("a", "3"), op("b", "9"), op("c"))
    run(pipeline(folder, newer))
    assert CALLS == {}
    assert run(pipeline(folder, newer))[0].in_sync
    CALLS.clear()
    run(pipeline(folder, chain(op("a", "4"), op("b", "9"), op("c"))))
    assert CALLS["a"] == ROWS


def test_too_much_is_refused_and_nothing_is_done(folder: Path) -> None:
    body = chain(op("a"), op("b"), op("c"))
    assert run(pipeline(folder, body), max_recompute=0)[0].state == "published", "a first run"
    (folder / "50.bin").write_bytes(bytes([50]) + os.urandom(BLOB))
    assert run(pipeline(folder, body), max_recompute=0)[0].rows == 1, "a new row is none"
    new = chain(op("a"), op("b", "2", lambda n: -n), op("c"))
    CALLS.clear()
    told = rf"{ROWS + 1} rows whose source did not .* more than {ROWS}: b is of version 2, was of 1"
    with pytest.raises(Refused, match=told):
        run(pipeline(folder, new), max_recompute=ROWS)
    assert CALLS == {}
    run(pipeline(folder, new), max_recompute=ROWS + 1)
    assert CALLS == {"b": ROWS + 1}
    with pytest.raises(Refused, match=r"21 rows whose source did not"):
        run(pipeline(folder, lambda rows: rows.where(pl.col("n") > 3)), max_recompute=20)


def test_a_budget_holds_for_what_is_computed_again(folder: Path) -> None:
    out = folder.parent / "o.lance"
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    before = content(out)["rows"]
    bad = chain(op("a"), op("b", "2", lambda n: None), op("c"))
    with pytest.raises(OverBudget):
        run(pipeline(folder, bad), budget=Budget(rows=3, share=0.1))
    assert content(out)["rows"] == before
    good = chain(op("a"), op("b", "3", lambda n: n), op("c"))
    run(pipeline(folder, good))
    same_as_full(folder, good)


def test_a_killed_backfill_goes_on(folder: Path, monkeypatch: Any) -> None:
    """Interrupted between two units of a backfill, and then in the middle of publishing."""
    from weft.errors import Interrupted

    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))

    def stop(n: int) -> int:
        if CALLS["b"] >= 9 and not CALLS["stopped"]:
            CALLS["stopped"] += 1
            raise KeyboardInterrupt
        return n * 5

    new = chain(op("a"), op("b", "2", stop), op("c"))
    CALLS.clear()
    with pytest.raises(Interrupted, match="units are done and kept"):
        run(pipeline(folder, new))
    asked = CALLS["b"]
    real = tables.commit
    monkeypatch.setattr(tables, "commit", _dying(real, 3))
    with pytest.raises(MemoryError):
        run(pipeline(folder, new))
    monkeypatch.setattr(tables, "commit", real)
    assert asked < CALLS["b"] < 2 * ROWS, "finished units were not run again"
    asked = CALLS["b"]
    run(pipeline(folder, new))
    assert CALLS["b"] == asked
    CALLS["b"] = 0
    same_as_full(folder, chain(op("a"), op("b", "2", lambda n: n * 5), op("c")))


def _dying(real: Any, at: int) -> Any:
    calls = Counter[str]()

    def commit(*given: Any, **more: Any) -> Any:
        calls["commit"] += 1
        if calls["commit"] == at:
            raise MemoryError("the driver dies here")
        return real(*given, **more)

    return commit


def test_steps_may_be_called_otherwise(folder: Path) -> None:
    """The second `where` was the first: its rows are not asked again, and the ledger follows."""

    def body(*limits: int) -> Callable[[Any], Any]:
        def rows(rows: Any) -> Any:
            for limit in limits:
                rows = rows.where(pl.col("n") < limit)
            return op("a").on(rows, "n", "a")

        return rows

    run(pipeline(folder, body(15)))
    CALLS.clear()
    run(pipeline(folder, body(18, 15)))
    assert CALLS["a"] == 0
    same_as_full(folder, body(18, 15))


def test_what_decides_which_rows_there_are_makes_everything_anew(folder: Path) -> None:
    @weft.operator(version="1")
    def pieces(n: int, many: int = 2) -> Iterator[int]:
        yield from range(n % 3 * many)

    def body(many: int) -> Callable[[Any], Any]:
        return lambda rows: rows.apply(pieces.replace(many=many), pieces="piece")

    run(pipeline(folder, body(2)))
    _, notices = run(pipeline(folder, body(3)))
    assert notices[0].startswith("All rows are processed: pieces, which decides which rows")
    same_as_full(folder, body(3))


def test_the_plan_says_what_and_why(folder: Path) -> None:
    from weft.pipelines.observe.todo import recomputation, recomputation_words

    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))
    new = pipeline(folder, chain(op("a", "2"), op("b"), op("c")))
    plan = plain_plan(new.graph.afresh())
    found = find_increment(plan)
    assert isinstance(found, Increment)
    (work,) = recomputation(plan, found)
    assert (work["fields"], work["rows"], work["reads"]) == (["a", "b"], ROWS, "dataset")
    a, b = work["steps"]
    assert (a["step"], a["why"], a["where_equal"]) == ("a", "is of version 2, was of 1", "run")
    assert (b["step"], b["why"], b["where_equal"]) == ("b", "reads what changed", "skipped")
    assert a["seconds"] > 0
    text = recomputation_words([work])
    assert f"For {ROWS} rows that stay in {folder.parent / 'o.lance'}: a, b." in text
    assert "a  is of version 2, was of 1, about" in text
    assert "not for rows where that comes out as it was" in text
