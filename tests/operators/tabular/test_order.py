"""Truth: Python's stable sort, and Polars'."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.operators.tabular import Limit, Sort
from weft.pipelines.operator import digest

RNG = np.random.default_rng(0)
FRAME = pl.DataFrame(
    {
        "label": [None if n == 5 else f"label {n}" for n in RNG.integers(0, 20, 500)],
        "score": RNG.integers(0, 100, 500),
        "place": range(500),
    }
)


@weft.pipeline
def ordered(operator: Any) -> Any:
    rows = weft.read(Arrow(FRAME.to_arrow())).apply(operator)
    return rows.write(Memory("ordered"))


def places(operator: Any) -> list[int]:
    result = ordered(operator=operator).run(engine="local")
    table = Memory("ordered").table()
    dropped = sum(line.dropped for line in result.books.values())
    assert dropped == len(FRAME) - table.num_rows
    found: list[int] = table.column("place").to_pylist()
    return found


@pytest.mark.parametrize("limit", [None, 7, 1000])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("by", [("score",), ("label", "score")])
def test_sorts_as_polars(by: tuple[str, ...], descending: bool, limit: int | None) -> None:
    truth = FRAME.sort(by, descending=descending, nulls_last=True, maintain_order=True)
    found = places(Sort(*by, descending=descending, limit=limit))
    assert found == truth["place"].to_list()[:limit]


def test_the_first_rows() -> None:
    assert places(Limit(10)) == list(range(10))
    assert places(Limit(1000)) == list(range(500))


def test_they_are_values() -> None:
    one = Sort("label", "score", descending=True)
    assert one == Sort("label", "score", descending=True) != Sort("score", "label", descending=True)
    assert one.by == ("label", "score")
    assert pickle.loads(pickle.dumps(one)) == one
    assert digest(one.identity()) != digest(Sort("label", descending=True).identity())
    assert str(Sort("score")) == "tabular.Sort(by=['score'])"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Sort, r"tabular\.Sort: given \(\); expected names of columns"),
        (lambda: Sort(["a", "b"]), r"given \(\['a', 'b'\],\); expected names of columns"),
        (lambda: Sort("a", limit=0), r"tabular\.Sort: limit=0; expected a number of rows"),
        (lambda: Limit(-1), r"tabular\.Limit: limit=-1; expected a number of rows"),
        (lambda: Limit(2.0), r"limit=2\.0; expected a number of rows"),
    ],
)
def test_wrong_parameters(make: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        make()


def test_columns_that_are_not_there_or_have_no_order() -> None:
    table = pa.table({"label": ["a"], "tags": [["x"]]})

    @weft.pipeline
    def sorts(by: str) -> Any:
        return weft.read(Arrow(table)).apply(Sort(by)).write(Memory())

    with pytest.raises(DefinitionError, match="There is no column 'lable'"):
        sorts(by="lable")
    with pytest.raises(DefinitionError, match=r"tabular\.Sort: column 'tags'.*has no order"):
        sorts(by="tags")
