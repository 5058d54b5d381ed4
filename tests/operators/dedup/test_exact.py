"""Truth: sets of contents in Python, hashlib, sha256sum's published vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.operators.dedup import ContentHash, Exact
from weft.operators.dedup.exact import First
from weft.pipelines.types import Binary, Encoded, Float64, Int64, Text, Type

NIST = {
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq":
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}  # fmt: skip
"""Examples of NIST for SHA-256 (FIPS 180-4)."""


@pytest.mark.parametrize("content", NIST)
def test_hash_of_nist(content: bytes) -> None:
    assert ContentHash()(content) == ContentHash()(content.decode()) == NIST[content]


@pytest.mark.parametrize("kind", [Binary(), Encoded("image"), Text()])
def test_contents(kind: Type, deduplicate: Callable[..., Any]) -> None:
    values = [b"a", b"b", b"a", b"", b"c", b"", b"a"]
    given = [v.decode() for v in values] if kind == Text() else values
    kept = deduplicate(lambda _: Exact(), {"content": (kind, given)}, list("gfedcba"))
    assert kept.keys == {"a", "b", "c", "f"}
    assert kept.result.books["group"].dropped == 3
    assert kept.result.kept == {"write": 4}


ROWS = st.lists(
    st.tuples(st.sampled_from(["x", "y", "z", None]), st.sampled_from([1.0, 2.0, math.nan, None])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=8, deadline=None)
@given(ROWS, st.randoms())
def test_any_order_and_again(
    deduplicate: Callable[..., Any], rows: list[tuple[Any, Any]], chance: Any
) -> None:
    """The same rows stay in every order, and all of them when it is done again."""
    keyed = [(f"k{n}", *row) for n, row in enumerate(rows)]
    chance.shuffle(keyed)

    def kept(some: list[tuple[Any, ...]]) -> set[str]:
        columns = {
            "text": (Text() | None, [r[1] for r in some]),
            "score": (Float64(nan=True, nullable=True), [r[2] for r in some]),
        }
        keys = [r[0] for r in some]
        made: set[str] = deduplicate(
            lambda _: Exact(prefer="score"), columns, keys, content="text"
        ).keys
        return made

    def order(row: tuple[Any, ...]) -> tuple[float, str]:
        none = row[2] is None or math.isnan(row[2])
        return (math.inf if none else -row[2]), row[0]

    best = {text: min((r for r in keyed if r[1] == text), key=order) for text in "xyz"
            if any(r[1] == text for r in keyed)}  # fmt: skip
    expected = {r[0] for r in best.values()} | {r[0] for r in keyed if r[1] is None}
    assert kept(keyed) == expected
    assert kept([r for r in keyed if r[0] in expected]) == expected


def test_many_groups_are_as_one_by_one() -> None:
    rows = {
        "key": ["b", "a", "c", "a", "d", "e"],
        "hash": ["1", "1", "2", "2", None, None],
        "rank": [1.0, 1.0, None, math.nan, 0.0, 0.0],
    }
    groups = np.array([0, 0, 1, 1, 2, 2])
    together = First(ranked=True).pick_all(rows, groups, None)
    assert together.tolist() == [False, True, False, True, True, True]
    for group in range(3):
        part = {port: [v for v, g in zip(values, groups, strict=True) if g == group]
                for port, values in rows.items()}  # fmt: skip
        assert First(ranked=True)(**part) == together[groups == group].tolist()


def test_against(deduplicate: Callable[..., Any]) -> None:
    """What is held is dropped, and not written; keys of both may be the same."""
    kept = deduplicate(
        lambda held: Exact(against=held),
        {"text": (Text(), ["old", "new", "new", "other"])},
        ["1", "2", "3", "4"],
        held=({"text": (Text(), ["old", "old", "gone"])}, ["2", "4", "9"]),
        content="text",
    )
    assert {k: row["text"] for k, row in kept.rows.items()} == {"2": "new", "4": "other"}


def test_rows_of_one_key() -> None:
    """Two sources may have the same rows under the same keys."""
    table = {"name": ["a", "b"], "text": ["one", "two"]}
    other = {"name": ["b", "c"], "text": ["two", "three"]}

    @weft.pipeline
    def united() -> Any:
        rows = weft.union(*(weft.read(Arrow(t, key="name")) for t in (table, other)))
        return rows.apply(Exact(), content="text").write(Memory("united"))

    united().run(engine="local")
    assert sorted(Memory("united").table()["text"].to_pylist()) == ["one", "three", "two"]


def test_refusals(deduplicate: Callable[..., Any]) -> None:
    numbers = {"n": (Int64(), [1])}
    with pytest.raises(DefinitionError, match=r"reads port 'content' as text or bytes; column 'n'"):
        deduplicate(lambda _: Exact(), numbers, ["a"], content="n")
    texts = {"text": (Text(), ["x"])}
    with pytest.raises(DefinitionError, match="There is no column 'quality'"):
        deduplicate(lambda _: Exact(prefer="quality"), texts, ["a"], content="text")
    with pytest.raises(DefinitionError, match=r"Exact: prefer='text' is Text; expected numbers"):
        deduplicate(lambda _: Exact(prefer="text"), texts, ["a"], content="text")
    with pytest.raises(
        DefinitionError, match=r"Exact: against=Memory.*expected rows, such as weft"
    ):
        deduplicate(lambda _: Exact(against=Memory("m")), texts, ["a"], content="text")
    with pytest.raises(
        DefinitionError, match=r"Exact: the rows in `against` have no column 'text'"
    ):
        deduplicate(
            lambda held: Exact(against=held), texts, ["a"], held=(numbers, ["b"]), content="text"
        )
