"""Children that are listed first and made later, and the filters asked in between."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import ContractError, RowError
from weft.pipelines.compile import compile_plan
from weft.pipelines.engines import local
from weft.pipelines.engines.books import Books, balance, sum_books
from weft.pipelines.engines.worker import Context, Target, dataset_schema, units_of
from weft.pipelines.lowering import lower
from weft.pipelines.resources import Cluster, Machine

CLUSTER = Cluster((Machine(cpus=2),))

MADE: list[tuple[str, int]] = []
"""What was made later, in order."""


@dataclass(frozen=True)
class Pages(weft.Expand):
    """Pages of a document of ``n`` pages; page 13 of each is torn."""

    version = "1"
    reads = weft.fields(n=int)
    writes = weft.fields(page=int, text=str, picture=str)
    early = ("page",)

    def expand_row(self, row: Any, loaded: Any) -> Iterator[dict[str, Any]]:
        def made(kind: str, page: int) -> weft.Later:
            def make() -> Any:
                if page == 13:
                    raise ValueError("page 13 is torn")
                MADE.append((kind, page))
                return None if page == 11 else f"{kind} {page}"

            return weft.Later(make)

        for page in range(row["n"]):
            yield {"page": page, "text": made("text", page), "picture": made("picture", page)}


def run(change: Any, values: list[int], *, passes: Any = None) -> tuple[list[Any], Books, Any]:
    """The rows that come out, the books, and the receipts."""
    MADE.clear()
    sink = Memory("expand")

    @weft.pipeline
    def made() -> Any:
        return change(weft.read(Arrow({"n": values}))).write(sink)

    graph = made().graph
    plan = lower(graph) if passes == () else compile_plan(graph, CLUSTER)
    [write] = plan.writes()
    targets = {write.id: Target(sink.prepare(dataset_schema(plan, write)))}
    units = list(units_of(plan, 100))
    receipts = list(local.execute(plan, units, Context("run", None, targets), CLUSTER))
    books = sum_books(plan, (r["books"] for r in receipts))
    staged = [p for r in receipts for p in r["writes"][write.id]["staged"]]
    rows = sink.table(sink.commit(targets[write.id].token, staged, "run", {})).to_pylist()
    sink.clear()
    balance(plan, books, sum(u.split.rows for u in units), {write.id: len(rows)})
    return rows, books, receipts


def test_a_filter_on_what_is_early_is_asked_before_the_rest_is_made() -> None:
    rows, books, _ = run(lambda r: r.apply(Pages()).where(pl.col("page") < 2), [5, 1])
    assert [(r["_key"], r["_count"], r["text"], r["picture"]) for r in rows] == [
        ("0#0", 5, "text 0", "picture 0"),
        ("0#1", 5, "text 1", "picture 1"),
        ("1#0", 1, "text 0", "picture 0"),
    ]
    assert sorted(MADE) == [("picture", 0)] * 2 + [("picture", 1), ("text", 0), ("text", 0),
                                                   ("text", 1)]  # fmt: skip
    where, pages = books["where"], books["pages"]
    assert (where.taken, where.dropped, where.emitted) == (6, 3, 3)
    assert (pages.taken, pages.passed, pages.emitted) == (2, 2, 3)


def test_rows_and_keys_are_the_same_without_any_pass() -> None:
    change = lambda r: r.apply(Pages()).where((pl.col("page") % 2 == 0) & (pl.col("n") > 1))  # noqa: E731
    assert run(change, [5, 1, 0, 3])[0] == run(change, [5, 1, 0, 3], passes=())[0]


def test_what_nobody_reads_is_not_made() -> None:
    rows, _, _ = run(lambda r: r.apply(Pages()).select("text"), [2])
    assert [r["text"] for r in rows] == ["text 0", "text 1"]
    assert {kind for kind, _ in MADE} == {"text"}


def test_what_nobody_reads_is_not_made_even_if_nothing_is_pruned() -> None:
    rows, _, _ = run(lambda r: r.apply(Pages()).select("text"), [2], passes=())
    assert [r["text"] for r in rows] == ["text 0", "text 1"]
    assert {kind for kind, _ in MADE} == {"text"}


def test_a_child_that_cannot_be_made_fails_alone() -> None:
    rows, books, receipts = run(lambda r: r.apply(Pages()).select("page", "text"), [15])
    assert [r["page"] for r in rows] == [*range(11), 12, 14]
    assert {r["_count"] for r in rows} == {15}
    assert (books["pages"].failed, books["pages"].children_failed) == (0, 2)
    assert books["pages"].failures == 2
    failed = {(s["key"], s["error"]): s["message"] for s in receipts[0]["samples"]}
    assert set(failed) == {("0#11", "ContractError"), ("0#13", "ValueError")}
    assert failed["0#13", "ValueError"] == "page 13 is torn"
    assert "Pages.text" in failed["0#11", "ContractError"]


def test_a_child_that_the_filter_drops_does_not_fail() -> None:
    _, books, _ = run(lambda r: r.apply(Pages()).where(pl.col("page") > 13), [15])
    assert (books["where"].dropped, books["pages"].failures) == (14, 0)


def test_a_filter_that_fails_on_a_child() -> None:
    inverse = pl.col("n") // pl.when(pl.col("page") == 1).then(None).otherwise(1)
    broken = pl.col("page").cast(pl.String).replace("1", "x").cast(pl.Int64) >= 0
    rows, books, receipts = run(lambda r: r.apply(Pages()).where(broken & (inverse > 0)), [3])
    assert [r["page"] for r in rows] == [0, 2]
    assert (books["where"].failed, books["pages"].failures) == (1, 0)
    assert [(s["key"], s["step"]) for s in receipts[0]["samples"]] == [("0#1", "where")]


def test_a_child_is_let_go_when_it_is_made() -> None:
    alive: list[weakref.ref[Any]] = []
    most = 0

    class Heavy:
        """What a child holds until it is made, such as an open page."""

    class Books(Pages):
        def expand_row(self, row: Any, loaded: Any) -> Iterator[dict[str, Any]]:
            def later(page: int, heavy: Any) -> weft.Later:
                def make() -> str:
                    nonlocal most
                    most = max(most, page + sum(ref() is not None for ref in alive))
                    return f"made by {heavy}"

                return weft.Later(make)

            for page in range(row["n"]):
                heavy = Heavy()
                alive.append(weakref.ref(heavy))
                yield {"page": page, "text": later(page, heavy), "picture": later(page, heavy)}

    rows, _, _ = run(lambda r: r.apply(Books()).where(pl.col("page") < 5).select("text"), [8])
    assert len(rows) == 5
    assert most == 5  # of the wanted ones; each is gone before the next is made


def test_raise_names_the_child() -> None:
    with pytest.raises(RowError, match=r"pages: row '0#11': ContractError: Pages.picture: null"):
        run(lambda r: r.apply(Pages(), on_error="raise"), [14])


def test_a_plain_call_makes_everything() -> None:
    assert Pages()(2)[1] == {"page": 1, "text": "text 1", "picture": "picture 1"}


def test_what_is_declared_early_must_be() -> None:
    @dataclass(frozen=True)
    class Liar(Pages):
        early = ("page", "text")

    _, books, receipts = run(lambda r: r.apply(Liar()), [2])
    assert books["liar"].failed == 1
    assert receipts[0]["samples"][0]["error"] == ContractError.__name__
    assert "Liar.text is a Later, but is declared early" in receipts[0]["samples"][0]["message"]
