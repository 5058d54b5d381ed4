"""Truth: Jaccard similarity of every pair of sets, datasketch's index, SciPy's components."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import datasketch
import numpy as np
import polars as pl
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Lance, Memory
from weft.errors import DefinitionError
from weft.operators import dedup, text
from weft.operators.dedup.bands import best_bands, meeting_probability
from weft.operators.dedup.components import components
from weft.operators.dedup.near_text import TextBuckets, TextLink
from weft.operators.dedup.steps import Losers, Merge, Name, key_of
from weft.pipelines import tables
from weft.pipelines.runs.places import ledger_uri
from weft.pipelines.types import Float64, Tensor, Text

PLACES = 128
MINHASH = Tensor("uint32", (PLACES,))


def planted(count: int, seed: int) -> list[set[int]]:
    """Sets of 40 to 120 things; some are others with some things replaced."""
    chance = np.random.default_rng(seed)
    made: list[set[int]] = []
    while len(made) < count:
        if len(made) < 5 or chance.random() < 0.5:
            made.append(set(chance.integers(0, 2**40, chance.integers(40, 120)).tolist()))
            continue
        members = list(made[chance.integers(len(made))])
        for place in np.flatnonzero(chance.random(len(members)) < chance.uniform(0, 0.2)):
            members[place] = int(chance.integers(0, 2**40))
        made.append(set(members))
    return made


def sketch(members: set[int]) -> datasketch.MinHash:
    made = datasketch.MinHash(PLACES)
    made.update_batch([str(m).encode() for m in members])
    return made


def sketches(sets: list[set[int]]) -> tuple[list[datasketch.MinHash], np.ndarray]:
    made = [sketch(s) for s in sets]
    return made, np.stack([m.hashvalues for m in made]).astype(np.uint32)


@pytest.mark.parametrize(("threshold", "weight"), [(0.8, 0.5), (0.8, 0.9), (0.5, 0.9)])
def test_the_candidates_of_datasketch(threshold: float, weight: float) -> None:
    """Who shares a bucket, pair by pair; and who is near of those."""
    made, minhashes = sketches(planted(600, 1))
    bands, width = best_bands(threshold, PLACES, weight)
    index = datasketch.MinHashLSH(threshold, PLACES, weights=(1 - weight, weight))
    for number, one in enumerate(made):
        index.insert(number, one)
    theirs = {(n, m) for n, one in enumerate(made) for m in index.query(one) if n != m}
    buckets = TextBuckets(bands, width).buckets(minhashes, None)
    ours = {
        (n, int(m))
        for n in range(600)
        for m in np.flatnonzero((buckets == buckets[n]).any(axis=1))
        if n != m
    }
    assert ours == theirs
    for n, m in theirs:
        near = TextLink(threshold).near(minhashes[[n]], minhashes[[m]])[0, 0]
        assert near == (made[n].jaccard(made[m]) >= threshold)


def test_exactly_at_the_threshold() -> None:
    """0.55 of 100 places is 55, although 0.55 * 100 is more in floating point."""
    one = np.zeros((1, 100), np.uint32)
    others = (np.arange(100) >= np.arange(101)[:, None]).astype(np.uint32)  # 0 to 100 are equal
    for hundredths in range(1, 101):
        near = TextLink(hundredths / 100).near(one, others)[0]
        assert near.tolist() == [equal >= hundredths for equal in range(101)]


def test_every_pair(deduplicate: Callable[..., Any]) -> None:
    """Against brute force on signatures: nobody goes in vain, nearly all go who should.

    Pairs of similarity 0.8 share a bucket with probability 0.87, and closer ones more often.
    """
    sets = planted(500, 2)
    _, minhashes = sketches(sets)
    keys = [f"{n:03}" for n in range(500)]
    kept = deduplicate(lambda _: dedup.NearText(), {"minhash": (MINHASH, minhashes)}, keys)
    agree = (minhashes[:, None] == minhashes[None]).sum(axis=2)
    _, labels = scipy.sparse.csgraph.connected_components(agree >= 0.8 * PLACES)
    expected = {f"{np.flatnonzero(labels == n)[0]:03}" for n in set(labels)}
    assert expected <= kept.keys
    assert len(kept.keys) - len(expected) <= 0.02 * (500 - len(expected))

    # And against the sets themselves: rows that go are near, but for the error of signatures.
    gone = sorted(set(keys) - kept.keys)
    closest = [
        max(len(sets[int(g)] & s) / len(sets[int(g)] | s)
            for n, s in enumerate(sets) if n != int(g))
        for g in gone
    ]  # fmt: skip
    assert np.mean([c >= 0.8 for c in closest]) > 0.9
    assert min(closest) > 0.8 - 4 * (0.8 * 0.2 / PLACES) ** 0.5


SMALL = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), max_size=14)


@settings(max_examples=60, deadline=None)
@given(SMALL, st.randoms(), st.integers(1, 5))
def test_any_order_and_any_pieces(rows: list[Any], chance: Any, pieces: int) -> None:
    """The steps without an engine, on small signatures, cells merged in any pieces: the rows
    that go are those that brute force names, whichever order the rows are in."""
    signatures = np.array(rows, np.uint32).reshape(-1, 3)
    names = [Name(Tensor("uint32", (None,)))(f"k{n:02}", s) for n, s in enumerate(signatures)]
    cells: dict[int, list[tuple[str, int, Any]]] = {}
    order = list(range(len(rows)))
    chance.shuffle(order)
    for n in order:
        for child in TextBuckets(3, 1)(signatures[n]):
            cells.setdefault(child["cell"], []).append((names[n], child["bucket"], signatures[n]))
    linked = [TextLink(2 / 3)(*map(list, zip(*c, strict=True))) for c in cells.values()]
    chance.shuffle(linked)
    parts = [linked[i::pieces] for i in range(pieces)]
    halves = [Merge()([f["members"] for f in p], [f["roots"] for f in p]) for p in parts if p]
    gone: dict[str, str] = {}
    if halves:
        whole = Merge()([f["members"] for f in halves], [f["roots"] for f in halves])
        gone = {key_of(c["loser"]): c["survivor"] for c in Losers()(**whole)}

    pairs = [(a, b) for a, b in itertools.combinations(range(len(rows)), 2)
             if (signatures[a] == signatures[b]).sum() >= 2]  # fmt: skip
    first = components(len(rows), *np.array(pairs, np.int64).reshape(-1, 2).T)
    assert gone == {f"k{n:02}": f"k{f:02}" for n, f in enumerate(first.tolist()) if n != f}


def test_orders_units_and_engines(deduplicate: Callable[..., Any], ray_engine: Any) -> None:
    _, minhashes = sketches(planted(150, 4))
    keys = [f"{n}" for n in range(150)]
    chance = np.random.default_rng(0)
    found = []
    for engine in ("local", "local", "ray"):
        order = chance.permutation(150)
        columns = {"minhash": (MINHASH, minhashes[order])}
        made = deduplicate(
            lambda _: dedup.NearText(cluster="same"),
            columns,
            [keys[i] for i in order],
            engine=engine,
        )
        found.append({key: row["same"] for key, row in made.rows.items()})
    assert found[0] == found[1] == found[2]
    assert len(set(found[0].values())) < 120


def test_again(deduplicate: Callable[..., Any]) -> None:
    """What stayed stays."""
    _, minhashes = sketches(planted(300, 5))
    keys = [f"{n}" for n in range(300)]
    once = deduplicate(lambda _: dedup.NearText(0.6), {"minhash": (MINHASH, minhashes)}, keys)
    left = [i for i in range(300) if keys[i] in once.keys]
    columns = {"minhash": (MINHASH, minhashes[left])}
    again = deduplicate(lambda _: dedup.NearText(0.6), columns, [keys[i] for i in left])
    assert again.keys == once.keys
    assert len(left) < 250


def test_names_sort_as_rows_are_preferred() -> None:
    """Held first, then larger ranks, then smaller keys; none and NaN are last."""
    ranks = [np.inf, 1e300, 2.0, 1.0, 5e-324, 0.0, -5e-324, -1.0, -np.inf]
    kind = Tensor("uint32", (None,))
    zero = np.zeros(2, np.uint32)
    held = Name(kind, held=True)("z", zero)
    names = [Name(kind, ranked=True)("k", zero, r) for r in ranks]
    last = [Name(kind, ranked=True)(key, zero, r) for key, r in (("a", None), ("b", np.nan))]
    assert sorted([*last, *names, held]) == [held, *names, *last]
    assert Name(kind, ranked=True)("k", zero, -0.0) == names[5]
    keys = ["", "a", "a!", "a\0", "aa", "b", "é", "\U0001f600"]
    named = [Name(kind)(key, zero) for key in keys]
    assert sorted(map(key_of, sorted(named))) == sorted(keys)
    assert len({Name(kind)("a", np.array([n], np.uint32)) for n in range(99)}) == 99


def signed(*texts: str) -> dict[str, Any]:
    operator = text.MinHash()
    return {"minhash": (MINHASH, np.stack([operator(t) for t in texts]))}


ONE = " ".join(f"one{n}" for n in range(100))
ONE_TOO = ONE.replace("one99", "else")
TWO = " ".join(f"two{n}" for n in range(100))


def test_against(deduplicate: Callable[..., Any]) -> None:
    """Rows near to what is held go, whatever their keys and ranks; nothing held is written."""
    kept = deduplicate(
        lambda held: dedup.NearText(against=held, prefer="score"),
        signed(ONE_TOO, TWO, TWO) | {"score": (Float64(), [9.0, 1.0, 2.0])},
        ["a", "b", "c"],
        held=(signed(ONE, ONE, "something else"), ["a", "y", "c"]),
    )
    assert kept.keys == {"c"}


def test_what_is_held_stays_whatever_its_key(deduplicate: Callable[..., Any]) -> None:
    held = (signed(ONE, TWO), ["z", "0"])
    make = {name: (lambda rows, name=name: dedup.NearText(against=rows, cluster=name))
            for name in (None, "like")}  # fmt: skip
    given = signed(ONE_TOO, TWO, "new"), ["a", "b", "c"]
    assert deduplicate(make[None], *given, held=held).keys == {"c"}
    marked = deduplicate(make["like"], *given, held=held)
    assert {k: row["like"] for k, row in marked.rows.items()} == {"a": "z", "b": "0", "c": "c"}


def test_against_a_dataset(tmp_path: Any) -> None:
    """A corpus in Lance with its signatures, and texts that arrive."""
    corpus = str(tmp_path / "corpus.lance")

    @weft.pipeline
    def first(out: str) -> Any:
        rows = weft.read(Arrow({"text": [ONE, TWO]})).apply(text.MinHash())
        return rows.write(Lance(out))

    @weft.pipeline
    def more() -> Any:
        held = weft.read(Lance(corpus))
        rows = weft.read(Arrow({"text": [ONE_TOO, "quite new", "quite new", ""]}))
        rows = rows.apply(text.MinHash()).apply(dedup.NearText(against=held))
        return rows.select("text").write(Memory("more"))

    first(out=corpus).run(engine="local")
    more().run(engine="local")
    assert sorted(Memory("more").table()["text"].to_pylist()) == ["", "quite new"]


def test_the_books(tmp_path: Any) -> None:
    """Every row that goes is in the ledger as dropped, by its key, and no other row is."""
    out = str(tmp_path / "out.lance")
    texts = {"id": ["a", "b", "c", "d"], "text": [ONE, ONE_TOO, TWO, ONE]}

    @weft.pipeline
    def booked() -> Any:
        rows = weft.read(Arrow(texts, key="id")).apply(text.MinHash())
        return rows.apply(dedup.NearText()).write(Lance(out))

    result = booked().run(engine="local")
    ledger = tables.read(ledger_uri(f"{out}.weft"), "latest").to_pylist()
    ends = {
        kind: {r["_key"] for r in ledger if r["outcome"] == kind} for kind in ("kept", "dropped")
    }
    assert ends == {"kept": {"a", "c"}, "dropped": {"b", "d"}}
    assert [r["step"] for r in ledger if r["outcome"] == "dropped"] == ["join", "join"]
    assert (result.rows, result.failed, result.kept) == (4, 0, {"write": 2})


def test_children() -> None:
    """Chunks of texts, some of which are in several: they stay children of their texts."""
    two = TWO.capitalize()
    texts = {"id": ["a", "b"], "text": [f"{ONE}. {two}. Some more.", f"{two}. Other words."]}

    @weft.pipeline
    def chunked() -> Any:
        rows = weft.read(Arrow(texts, key="id")).apply(text.Chunk(1, overlap=0, unit="sentences"))
        rows = rows.apply(text.MinHash(), text="chunk").apply(dedup.NearText())
        return rows.select("chunk").write(Memory("chunked"))

    chunked().run(engine="local")
    rows = Memory("chunked").table().sort_by("_key").to_pylist()
    assert [(r["_key"], r["_parent"], r["_index"], r["_count"]) for r in rows] == [
        ("a#0", "a", 0, 3), ("a#1", "a", 1, 3), ("a#2", "a", 2, 3), ("b#1", "b", 1, 2),
    ]  # fmt: skip


def test_rows_of_one_key_that_differ_are_two() -> None:
    """Of a key that two sources have, the row that is near goes and the other one stays."""
    one, other = {"id": ["x"], "text": [ONE_TOO]}, {"id": ["a", "x"], "text": [ONE, TWO]}

    @weft.pipeline
    def united() -> Any:
        rows = weft.union(*(weft.read(Arrow(t, key="id")) for t in (one, other)))
        rows = rows.apply(text.MinHash()).apply(dedup.NearText())
        return rows.select("text").write(Memory("one_key"))

    united().run(engine="local")
    assert sorted(Memory("one_key").table()["text"].to_pylist()) == sorted([ONE, TWO])


def test_nothing_and_null(deduplicate: Callable[..., Any]) -> None:
    columns = {"minhash": (MINHASH | None, [None, None, *signed(ONE, ONE)["minhash"][1]])}
    assert deduplicate(lambda _: dedup.NearText(), columns, list("abcd")).keys == set("abc")
    alone = deduplicate(lambda _: dedup.NearText(), signed(ONE, TWO), ["a", "b"])
    assert alone.keys == {"a", "b"}

    @weft.pipeline
    def empty() -> Any:
        rows = weft.read(Arrow({"text": [ONE, ONE]})).where(pl.col("text") == "")
        return rows.apply(text.MinHash()).apply(dedup.NearText()).write(Memory("empty"))

    assert empty().run(engine="local").kept == {"write": 0}


def test_what_the_documentation_says() -> None:
    assert best_bands(0.8, 128, 0.9) == (14, 9)
    assert [round(meeting_probability(s, 14, 9), 3) for s in (0.8, 0.85, 0.9)] == [
        0.867,
        0.975,
        0.999,
    ]
    assert [round(meeting_probability(s, 9, 13), 2) for s in (0.8, 0.85, 0.9)] == [0.4, 0.69, 0.93]


def test_refusals(deduplicate: Callable[..., Any]) -> None:
    for name, value in (("threshold", 0), ("threshold", 1.1), ("miss_weight", -1)):
        with pytest.raises(DefinitionError, match=f"{name}={value}: expected above 0"):
            dedup.NearText(**{name: value})
    unknown = {"minhash": (Tensor("uint32", (None,)), [np.zeros(4, np.uint32)])}
    with pytest.raises(DefinitionError, match="signatures of unknown length"):
        deduplicate(lambda _: dedup.NearText(), unknown, ["a"])
    with pytest.raises(DefinitionError, match=r"NearText: prefer='name' is Text; expected numbers"):
        deduplicate(
            lambda _: dedup.NearText(prefer="name"),
            signed(ONE) | {"name": (Text(), ["x"])},
            ["a"],
        )
    with pytest.raises(DefinitionError, match="cluster='minhash' would overwrite a column"):
        deduplicate(lambda _: dedup.NearText(cluster="minhash"), signed(ONE), ["a"])
    with pytest.raises(DefinitionError, match="NearText: the rows in `against` have no column"):
        deduplicate(
            lambda held: dedup.NearText(against=held),
            signed(ONE),
            ["a"],
            held=({"text": (Text(), [ONE])}, ["h"]),
        )
    with pytest.raises(DefinitionError, match=r"'minhash' is Tensor\('uint32', \(128,\)\) in one"):
        deduplicate(
            lambda held: dedup.NearText(against=held),
            signed(ONE),
            ["a"],
            held=({"minhash": (Tensor("uint32", (4,)), np.zeros((1, 4), np.uint32))}, ["h"]),
        )
