"""Changes of a pipeline after which rows, ledger and errors must be those of a full run: moved and
removed steps, rows that fail on the way, names that mean something to a backfill itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import weft
from weft.errors import Interrupted
from weft.pipelines import tables
from weft.pipelines.runs.journal import journals

sys.path.insert(0, str(Path(__file__).parent))

import test_backfill
from test_backfill import CALLS, chain, op, pipeline, run, same_as_full

folder = test_backfill.folder


def nulled(name: str, version: str = "1", bad: set[int] | None = None) -> Callable[..., Any]:
    """An operator on a column whose failures are nulls."""
    a = op(name, version, lambda n: None if n in (bad or {3, 9}) else n * int(version))
    return lambda rows, column, made: a.on(rows, column, made, on_error="null")


def follows(folder: Path, *bodies: Callable[[Any], Any]) -> None:
    """Whether the dataset is what a full run makes, after a run of each body."""
    for body in bodies:
        run(pipeline(folder, body))
        same_as_full(folder, body)


@weft.operator(version="1")
def halves(n: int) -> Iterator[int]:
    yield from range(n % 3 * 2)


def test_errors_of_rows_that_are_not_asked_again_stay(folder: Path) -> None:
    """Row 9 has a null of a, and is dropped: a runs again for what the dataset has, not for 9."""

    def dropped(by: int) -> Callable[[Any], Any]:
        def body(rows: Any) -> Any:
            rows = nulled("a")(rows, "n", "a")
            rows = rows.where(pl.col("a").is_not_null() | (pl.col("n") < 8))
            return rows.with_columns(c=pl.col("a").fill_null(0) + by).select("n", "c")

        return body

    follows(folder, dropped(1), dropped(2))


def test_errors_before_the_end_of_a_row_stay(folder: Path) -> None:
    def body(version: str) -> Callable[[Any], Any]:
        b = op("b", version, lambda n: None if (version, n) == ("2", 9) else n)
        return lambda rows: b.on(nulled("a")(rows, "n", "a"), "n", "b")

    follows(folder, body("1"), body("2"))


def test_errors_of_steps_that_are_gone_go(folder: Path) -> None:
    def body(steps: int, version: str) -> Callable[[Any], Any]:
        def rows(rows: Any) -> Any:
            for number in range(steps):
                rows = op("a").on(rows, "n", f"p{number}")
            return nulled("a", version)(rows, "n", "q").select("n", "q")

        return rows

    follows(folder, body(2, "7"), body(1, "8"), body(0, "9"), lambda rows: rows)


def test_errors_of_children_that_are_not_there_are_not_told(folder: Path) -> None:
    """d fails on a child; what is below d is asked for it, since d itself is left out."""

    def body(version: str) -> Callable[[Any], Any]:
        def rows(rows: Any) -> Any:
            rows = rows.apply(halves, halves="h")
            rows = op("d", "1", lambda n: None if n == 3 else n).on(rows, "h", "d")
            rows = rows.with_columns(t=pl.col("h") * 1)
            return nulled("e", version, {1, 3})(rows, "t", "e").select("n", "d", "e")

        return rows

    follows(folder, body("1"), body("2"))


def test_a_step_may_move_across_an_expand(folder: Path) -> None:
    """Then other rows are dropped there, fail there, and have other keys."""

    def body(above: bool) -> Callable[[Any], Any]:
        def each(rows: Any) -> Any:
            rows = nulled("a")(rows.where(pl.col("n") < 15), "n", "a")
            return rows.with_columns(k=pl.col("_key"))

        def rows(rows: Any) -> Any:
            rows = each(rows) if above else rows
            rows = rows.apply(halves, halves="h")
            return (rows if above else each(rows)).select("n", "h", "a", "k")

        return rows

    follows(folder, body(above=True), body(above=False), body(above=True))


def test_steps_may_be_called_like_those_of_a_backfill(folder: Path) -> None:
    def body(version: str) -> Callable[[Any], Any]:
        def rows(rows: Any) -> Any:
            rows = rows.with_columns(a__before=pl.col("n") * 100)
            for name in ("stored", "differs", "fields"):
                rows = op(name, version, lambda n: n + int(version)).on(rows, "n", name)
            return rows.with_columns(sum=pl.col("stored") + pl.col("a__before"))

        return rows

    follows(folder, body("1"), body("2"))


def test_two_steps_that_do_the_same_are_two(folder: Path) -> None:
    def body(rows: Any) -> Any:
        rows = op("a").on(rows, "n", "a").where(pl.col("a") < 8)
        return op("b").on(rows, "a", "b").where(pl.col("a") < 8)

    run(pipeline(folder, body))
    (folder / "77.bin").write_bytes(bytes([77]))
    result, _ = run(pipeline(folder, body))
    assert result.rows == 1
    same_as_full(folder, body)


@pytest.mark.parametrize("stored", [True, False])
def test_rows_of_an_older_make_are_asked_again_everywhere(folder: Path, stored: bool) -> None:
    """Filters on what they have, and those that had failed or were dropped, too."""

    def body(version: str, policy: str | None) -> Callable[[Any], Any]:
        a = op("a", version, lambda n: None if n % 7 == int(version) else n + int(version))

        def rows(rows: Any) -> Any:
            rows = a.on(rows, "n", "a", on_change=policy).where(pl.col("a") % 2 == 0)
            return rows.select("n", *(["a"] if stored else []))

        return rows

    run(pipeline(folder, body("1", None)))
    CALLS.clear()
    run(pipeline(folder, body("2", "new-rows-only")))
    assert run(pipeline(folder, body("2", "new-rows-only")))[0].in_sync
    assert not CALLS
    run(pipeline(folder, body("2", "recompute")))
    same_as_full(folder, body("2", "recompute"))
    assert run(pipeline(folder, body("2", "recompute")))[0].in_sync


def test_a_backfill_whose_values_are_gone_begins_anew(folder: Path) -> None:
    run(pipeline(folder, chain(op("a"), op("b"), op("c"))))

    def stop(n: int) -> int:
        if CALLS["b"] == 9:
            CALLS["stopped"] += 1
            raise KeyboardInterrupt
        return n * 5

    new = chain(op("a"), op("b", "2", stop), op("c"))
    CALLS.clear()
    with pytest.raises(Interrupted):
        run(pipeline(folder, new))
    journal = journals(f"{folder.parent / 'o.lance'}.weft")[0]
    next(journal.kept_path.iterdir()).unlink()
    _, notices = run(pipeline(folder, new))
    assert "rows that its units kept are gone" in notices[0]
    same_as_full(folder, new)


def test_zero_has_a_sign(folder: Path) -> None:
    def body(version: str) -> Callable[[Any], Any]:
        @weft.operator(version=version)
        def zero(n: int) -> float:
            return 0.0 if version == "1" else -0.0

        return lambda rows: rows.apply(zero, zero="z")

    run(pipeline(folder, body("1")))
    run(pipeline(folder, body("2")))
    rows = tables.read(str(folder.parent / "o.lance"), "latest", ["z"])["z"]
    assert {str(z) for z in rows.to_pylist()} == {"-0.0"}


def test_errors_of_rows_that_are_dropped_earlier_now_go(folder: Path) -> None:
    """Without the filter on a, the one on n moves before a, which row 2 does not reach then."""

    def body(both: bool) -> Callable[[Any], Any]:
        def rows(rows: Any) -> Any:
            rows = nulled("a", "1", {2, 3})(rows, "n", "a")
            if both:
                rows = rows.where((pl.col("a") != 17).fill_null(True))
            return rows.where(pl.col("n") != 2)

        return rows

    follows(folder, body(both=True), body(both=False))


def test_a_column_that_changes_its_type_where_nobody_needs_it(folder: Path) -> None:
    def body(version: str) -> Callable[[Any], Any]:
        def rows(rows: Any) -> Any:
            rows = rows.apply(halves, halves="h")
            rows = op("c", version, lambda n: n * int(version)).on(rows, "h", "c")
            rows = nulled("b")(rows, "n", "b").with_columns(n=pl.col("b"), b=pl.col("n"))
            return rows.select("n", "b", "c").select("c", "n")

        return rows

    follows(folder, body("1"), body("2"))


def test_back_to_the_code_of_the_oldest_rows(folder: Path) -> None:
    def body(version: str, policy: str) -> Callable[[Any], Any]:
        a = op("a", version, lambda n: n + int(version))
        return lambda rows: a.on(rows, "n", "a", on_change=policy).where(pl.col("a") % 3 != 0)

    run(pipeline(folder, body("1", "recompute")))
    (folder / "50.bin").write_bytes(bytes([50]))
    run(pipeline(folder, body("2", "new-rows-only")))
    _, notices = run(pipeline(folder, body("1", "recompute")))
    assert "a is again as it was, but some rows were made with other code of it" in notices[0]
    same_as_full(folder, body("1", "recompute"))
