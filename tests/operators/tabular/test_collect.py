"""Children back at their parents, against the lists they were made from."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.operators.tabular import Collect

TEXTS = ["b c a", "", "d", "e x f", "x", "x g"]


@weft.operator(version="1")
def words(text: str) -> Iterator[weft.fields(word=str, size=weft.Int64 | None)]:  # type: ignore[valid-type]
    for word in text.split():
        yield {"word": word, "size": None if word == "d" else len(word)}


@weft.operator(version="1")
def letters(word: str) -> Iterator[weft.fields(letter=str)]:  # type: ignore[valid-type]
    yield from [{"letter": word}, {"letter": word.upper()}]


def rows() -> Any:
    table = pa.table({"text": TEXTS, "name": [f"n{i}" for i in range(len(TEXTS))]})
    return weft.read(Arrow(table)).apply(words)


@weft.pipeline
def collected() -> Any:
    found = rows().where(pl.col("word") != "x")
    return found.apply(Collect("word", "size", keep="name")).write(Memory("collected"))


def test_lists_of_the_children_that_are_left() -> None:
    result = collected().run(engine="local")
    found = Memory("collected").table().to_pylist()
    expected = [
        {
            "_key": str(i),
            "name": f"n{i}",
            "word": left,
            "size": [None if w == "d" else 1 for w in left],
            "count": len(left),
        }
        for i, text in enumerate(TEXTS)
        if (left := [w for w in text.split() if w != "x"])
    ]
    assert [{n: row[n] for n in expected[0]} for row in found] == expected
    parent = result.books["words"]
    assert (parent.taken, parent.emitted) == (len(TEXTS), 10)


def test_the_order_is_that_of_the_children_also_after_a_sort() -> None:
    from weft.operators.tabular import Sort

    @weft.pipeline
    def again() -> Any:
        found = rows().apply(Sort("word", descending=True)).apply(Collect("word"))
        return found.write(Memory("again"))

    again().run(engine="local")
    made = {row["_key"]: row["word"] for row in Memory("again").table().to_pylist()}
    assert made == {str(i): text.split() for i, text in enumerate(TEXTS) if text}


def test_children_of_children() -> None:
    @weft.pipeline
    def nested() -> Any:
        inner = rows().apply(letters).apply(Collect("letter", keep="name"))
        return inner.apply(Collect("letter", keep=["name"])).write(Memory("nested"))

    nested().run(engine="local")
    found = {row["name"]: row["letter"] for row in Memory("nested").table().to_pylist()}
    assert found == {
        f"n{i}": [[w, w.upper()] for w in text.split()] for i, text in enumerate(TEXTS) if text
    }


def test_it_is_a_value() -> None:
    one = Collect("a", "b", keep="c")
    assert one == Collect("a", "b", keep=("c",)) != Collect("b", "a", keep="c")
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    ("columns", "keep", "message"),
    [
        ((), (), "expected names of columns"),
        ((1,), (), "expected names of columns"),
        (("a", "a"), (), "two columns 'a'"),
        (("a", "b"), "b", "two columns 'b'"),
        (("count",), (), "two columns 'count'.*number of children"),
    ],
)
def test_wrong_parameters(columns: Any, keep: Any, message: str) -> None:
    with pytest.raises(DefinitionError, match=rf"tabular\.Collect: .*{message}"):
        Collect(*columns, keep=keep)


def test_what_cannot_be_collected() -> None:
    @weft.operator(version="1")
    def picture(text: str) -> Iterator[weft.fields(image=weft.Image)]:  # type: ignore[valid-type]
        yield {"image": np.zeros((2, 2, 3), np.uint8)}

    @weft.pipeline
    def pictures(operator: Any, *, below: bool) -> Any:
        start = weft.read(Arrow(pa.table({"text": TEXTS})))
        return (start.apply(picture) if below else start).apply(operator).write(Memory())

    with pytest.raises(DefinitionError, match=r"makes lists of Image.*video\.Stack"):
        pictures(operator=Collect("image"), below=True)
    with pytest.raises(DefinitionError, match="There is no column 'imag'"):
        pictures(operator=Collect("imag"), below=True)
    with pytest.raises(DefinitionError, match="brings children back to their parents"):
        pictures(operator=Collect("text"), below=False)
