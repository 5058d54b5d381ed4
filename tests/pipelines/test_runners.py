"""Batches through single steps: failures, nulls, lineage, and the books of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import BooksError, ContractError, RowError
from weft.pipelines.batch import Batch
from weft.pipelines.engines.books import Outcomes, balance, new_books
from weft.pipelines.engines.runners import Work
from weft.pipelines.engines.worker import runner
from weft.pipelines.lowering import lower
from weft.pipelines.plan import Plan

N, OUT = weft.fields(n=int), weft.fields(out=int)


@dataclass(frozen=True, eq=False)
class Mapped(weft.Map):
    """A batch-wise map of any function, that counts its calls."""

    call: Callable[[Any], Any]
    calls: list[int] = field(default_factory=list)
    reads = N
    writes = OUT

    def identity(self) -> Any:
        return {}

    def map(self, batch: Any, loaded: Any) -> Any:
        self.calls.append(len(batch["n"]))
        return self.call(list(batch["n"]))


@dataclass(frozen=True, eq=False)
class Kept(weft.Filter):
    call: Callable[[Any], Any]
    reads = N

    def identity(self) -> Any:
        return {}

    def keep(self, batch: Any, loaded: Any) -> Any:
        return self.call(list(batch["n"]))


@dataclass(frozen=True, eq=False)
class Expanded(weft.Expand):
    call: Callable[[Any], Any]
    reads = N
    writes = OUT

    def identity(self) -> Any:
        return {}

    def expand(self, batch: Any, loaded: Any) -> Any:
        return self.call(list(batch["n"]))


@dataclass(frozen=True, eq=False)
class EachRow(weft.Map):
    call: Callable[[Any], Any]
    reads = N
    writes = OUT

    def identity(self) -> Any:
        return {}

    def map_row(self, row: Any, loaded: Any) -> Any:
        return self.call(row["n"])


def run(
    values: list[int | None], change: Callable[[Any], Any]
) -> tuple[Batch, list[Outcomes], Plan, Work]:
    """One batch of column `n` through the step that `change` adds to the rows."""

    @weft.pipeline
    def made() -> Any:
        return change(weft.read(Arrow({"n": values}))).write(Memory("out"))

    plan = lower(made().graph)
    source, step = plan.steps[0].action.source, plan.steps[1]  # type: ignore[union-attr]
    [split] = source.splits(1000)
    [chunk] = source.read(split, ["n"], [], 1000)
    work = Work(new_books(plan))
    out = runner(plan, step, "cpu", {})(chunk.batch, work)
    return out, work.outcomes, plan, work


def apply(operator: Any, **more: Any) -> Callable[[Any], Any]:
    return lambda rows: rows.apply(operator, **more)


def values(batch: Batch, name: str = "out") -> list[Any]:
    return list(batch.columns[name].values)


def line(work: Work, step: str) -> tuple[int, ...]:
    b = work.books[step]
    return b.taken, b.passed, b.dropped, b.failed, b.nulled, b.emitted


def refuse(below: int) -> Callable[[Any], Any]:
    def call(n: list[int]) -> Any:
        for value in n:
            if value < below:
                raise ValueError(f"{value} is too small")
        return {"out": n}

    return call


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (
            Mapped(lambda n: {"out": n[1:]}),
            "Mapped.out has 1 values for a batch of 2 rows. Return one for each row; drop rows "
            "with a Filter, make more of them with an Expand.",
        ),
        (
            Mapped(lambda n: {"out": np.array([0.5, 1.5])}),
            "Mapped.out is declared Int64; the operator returned float64, which does not fit. "
            "Return int64 values.",
        ),
        (Mapped(lambda n: {"other": n}), "Mapped writes out; it returned other."),
        (Mapped(lambda n: {}), "Mapped writes out; it returned nothing."),
        (Mapped(lambda n: None), "Mapped writes out; it returned NoneType."),
        (
            Kept(lambda n: [True]),
            "Kept.keep() must return 2 booleans, one for each row; it returned bool of shape (1,).",
        ),
        (
            Kept(lambda n: n),
            "Kept.keep() must return 2 booleans, one for each row; it returned int64 of shape "
            "(2,).",
        ),
        (
            Expanded(lambda n: [[]]),
            "Expanded.expand() must return 2 lists of children, one for each row; it returned 1.",
        ),
        (
            Expanded(lambda n: None),
            "Expanded.expand() must return 2 lists of children, one for each row; it returned "
            "NoneType.",
        ),
    ],
)
def test_what_an_operator_may_not_return(operator: Any, message: str) -> None:
    with pytest.raises(ContractError) as error:
        run([1, 2], apply(operator))
    assert str(error.value) == message


def test_a_row_that_does_not_fit_fails_alone() -> None:
    out, outcomes, _, work = run([1, 2, 3], apply(Mapped(lambda n: {"out": [1, None, "x"]})))
    assert values(out) == [1]
    assert line(work, "mapped") == (3, 1, 0, 2, 0, 1)
    [failed] = outcomes
    assert (failed.node, failed.kind, failed.keys) == ("mapped", "failed", ["1", "2"])
    assert failed.errors[0] == (
        "ContractError",
        "Mapped.out: null where Int64 is not nullable",
    )
    assert failed.errors[1][1].startswith("Mapped.out: declared Int64; the operator returned a str")


def test_an_exception_fails_its_row() -> None:
    def call(n: int) -> int:
        if n == 2:
            raise KeyError("label")
        return -n

    out, outcomes, _, work = run([1, 2, 3], apply(EachRow(call)))
    assert values(out) == [-1, -3]
    assert outcomes[0].keys == ["1"]
    assert outcomes[0].errors == [("KeyError", "'label'")]
    assert line(work, "each_row") == (3, 2, 0, 1, 0, 2)


def test_a_dict_of_other_ports_fails_its_row() -> None:
    _, outcomes, _, _ = run([1], apply(EachRow(lambda n: {"a": 1, "b": 2})))
    assert outcomes[0].errors[0][1].startswith("EachRow.out: declared Int64; the operator returned")


def test_a_batch_that_raises_is_bisected() -> None:
    bad, rows = {3, 500, 511}, 512

    def call(n: list[int]) -> Any:
        if bad & set(n):
            raise ValueError("somewhere in here")
        return {"out": n}

    operator = Mapped(call)
    out, outcomes, _, work = run(list(range(rows)), apply(operator))
    assert values(out) == [n for n in range(rows) if n not in bad]
    assert outcomes[0].keys == ["3", "500", "511"]
    assert line(work, "mapped") == (512, 509, 0, 3, 0, 509)
    assert len(operator.calls) <= 2 * len(bad) * 9 + 1  # log2(512) = 9 halvings for each


def test_policies() -> None:
    out, outcomes, _, work = run([5, 1], apply(Mapped(refuse(3)), on_error="null"))
    assert values(out) == [5, None]
    assert outcomes[0].kind == "nulled"
    assert outcomes[0].errors == [("ValueError", "1 is too small")]
    assert line(work, "mapped") == (2, 2, 0, 0, 1, 2)
    with pytest.raises(RowError) as error:
        run([5, 1], apply(Mapped(refuse(3)), on_error="raise"))
    assert str(error.value) == "mapped: row '1': ValueError: 1 is too small"


def test_nulls_never_reach_an_operator() -> None:
    out, outcomes, _, _ = run([1, None], apply(Mapped(refuse(0))))
    assert values(out) == [1, None]
    assert outcomes == []
    out, outcomes, _, work = run([1, None], apply(Kept(lambda n: [v > 0 for v in n])))
    assert values(out, "n") == [1]
    assert (outcomes[0].kind, outcomes[0].keys) == ("dropped", ["1"])
    out, outcomes, _, work = run([1, None], apply(Expanded(lambda n: [[7, 8] for _ in n])))
    assert values(out) == [7, 8]
    assert outcomes[0].rows["children"].to_pylist() == [2, 0]
    assert line(work, "expanded") == (2, 2, 0, 0, 0, 2)


def test_an_operator_that_takes_null_is_given_null() -> None:
    @weft.operator(version="1")
    def filled(n: int | None) -> int:
        return -1 if n is None else n

    out, _, _, _ = run([1, None], apply(filled))
    assert values(out, "filled") == [1, -1]


def test_rows_are_given_python_values() -> None:
    seen: list[Any] = []
    run([1, 2], apply(EachRow(lambda n: seen.append(n) or 0)))
    assert [type(n) for n in seen] == [int, int]


def test_families() -> None:
    out, outcomes, _, work = run([2, 0, 1], apply(Expanded(lambda n: [list(range(v)) for v in n])))
    envelope = {name: list(column.values) for name, column in out.envelope.items()}
    assert envelope.pop("_source")
    assert envelope == {
        "_key": ["0#0", "0#1", "2#0"],
        "_parent": ["0", "0", "2"],
        "_index": [0, 1, 0],
        "_count": [2, 2, 1],
    }
    assert values(out) == [0, 1, 0]
    assert values(out, "n") == [2, 2, 1]
    [ended] = outcomes
    assert (ended.kind, ended.keys) == ("expanded", ["0", "1", "2"])
    assert ended.rows["children"].to_pylist() == [2, 0, 1]
    assert line(work, "expanded") == (3, 3, 0, 0, 0, 3)


def test_one_bad_child_fails_the_family() -> None:
    out, outcomes, _, work = run([1, 2], apply(Expanded(lambda n: [[1, "x"], [2, 3]])))
    assert values(out) == [2, 3]
    assert [(o.kind, o.keys) for o in outcomes] == [("failed", ["0"]), ("expanded", ["1"])]
    assert line(work, "expanded") == (2, 1, 0, 1, 0, 2)


def test_expressions_fail_rows_too() -> None:
    cast = pl.col("n").cast(pl.Int8)
    out, outcomes, _, _ = run([1, 300], lambda rows: rows.with_columns(small=cast))
    assert values(out, "small") == [1]
    assert (outcomes[0].kind, outcomes[0].keys) == ("failed", ["1"])
    out, outcomes, _, work = run([1, 300, -1], lambda rows: rows.where(cast > 0))
    assert values(out, "n") == [1]
    assert [(o.kind, o.keys) for o in outcomes] == [("failed", ["1"]), ("dropped", ["2"])]
    assert line(work, "where") == (3, 1, 1, 1, 0, 1)


def test_secrets_do_not_reach_the_books() -> None:
    def call(n: int) -> int:
        raise OSError("GET https://me:pw@host/a?sig=abc failed with token=xyz")

    _, outcomes, _, _ = run([1], apply(EachRow(call)))
    assert outcomes[0].errors == [("OSError", "GET https://***@host/a?*** failed with token=***")]
    with pytest.raises(RowError) as error:
        run([1], apply(EachRow(call), on_error="raise"))
    assert "xyz" not in str(error.value)
    assert "me:pw" not in str(error.value)


def test_setup_that_fails() -> None:
    class Broken(EachRow):
        def setup(self, device: str) -> Any:
            raise OSError(f"no weights on {device}, password: hunter2")

    with pytest.raises(ContractError) as error:
        run([1], apply(Broken(abs)))
    assert str(error.value).endswith(
        "Broken.setup('cpu'): OSError: no weights on cpu, password: ***"
    )


@weft.pipeline
def two_reads() -> Any:
    low = weft.read(Arrow({"n": [1, 2]})).where(pl.col("n") > 1).write(Memory("low"))
    return low, weft.read(Arrow({"n": [3]})).write(Memory("high"))


@pytest.mark.parametrize(
    ("step", "change", "message"),
    [
        (None, {}, None),
        (
            "where", {"dropped": 0},
            "Step 'where' took 2 rows, but passed 1, dropped 0 and failed 0. Nothing was "
            "published.",
        ),
        (
            "where", {"emitted": 2},
            "Step 'where' passed on 2 rows, but 'write' took 1. Nothing was published.",
        ),
        (
            "write_2", {"taken": 2, "passed": 2},
            "Step 'read_2' passed on 1 rows, but 'write_2' took 2. Nothing was published.",
        ),
        (
            "read", {"taken": 1, "passed": 1},
            "3 rows were listed, but 2 were read. Nothing was published.",
        ),
        (
            "read", {"emitted": 1},
            "Read 'read' passed 2 rows, but emitted 1 and its filters dropped 0. Nothing was "
            "published.",
        ),
    ],
)  # fmt: skip
def test_books_that_do_not_balance(
    step: str | None, change: dict[str, int], message: str | None
) -> None:
    plan = lower(two_reads().graph)
    books = new_books(plan)
    for name, taken, passed, dropped in (
        ("read", 2, 2, 0), ("where", 2, 1, 1), ("write", 1, 1, 0), ("read_2", 1, 1, 0),
        ("write_2", 1, 1, 0),
    ):  # fmt: skip
        books[name].taken, books[name].passed, books[name].dropped = taken, passed, dropped
        books[name].emitted = passed
    for name, value in change.items():
        setattr(books[step or ""], name, value)
    if message is None:
        balance(plan, books, 3, {"write": 1, "write_2": 1})
        with pytest.raises(BooksError) as error:
            balance(plan, books, 3, {"write": 0, "write_2": 1})
        message = "Write 'write' took 1 rows, but 0 were staged. Nothing was published."
    else:
        with pytest.raises(BooksError) as error:
            balance(plan, books, 3, {"write": 1, "write_2": 1})
    assert str(error.value) == message
