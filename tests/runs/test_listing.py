"""A source's listing compared with the ledger: as one looks at it row by row, in any buckets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.pipelines import tables
from weft.pipelines.engines.ledger import LEDGER_SCHEMA
from weft.pipelines.runs import listing as module
from weft.pipelines.runs.listing import (
    COUNTS,
    Difference,
    Lines,
    above,
    compare,
    lines_of,
    staying,
)

KEYS = st.sampled_from(["a", "b", "c", "it's", "é", "a#0", "a#1", "[", "long " * 9])
VERSIONS = st.sampled_from(["1", "2", "3"])
LISTED = st.lists(st.tuples(KEYS, VERSIONS), max_size=12, unique_by=lambda row: row[0])
LINE = st.fixed_dictionaries(
    {
        "_key": KEYS,
        "_source": VERSIONS,
        "_parent": st.none() | KEYS,
        "outcome": st.sampled_from(["kept", "dropped", "expanded"]),
        "read": st.sampled_from(["read", "read", "read_2"]),
    }
)
LEDGER = st.lists(LINE, max_size=14)
Line = dict[str, Any]


def listed(rows: Sequence[tuple[str, str]]) -> pa.Table:
    keys, versions = ([row[at] for row in rows] for at in (0, 1))
    table = {"_key": pa.array(keys, pa.string()), "_source": pa.array(versions, pa.string())}
    return pa.table(table)


def in_memory(ledger: Sequence[Line], batch: int) -> Lines:
    def lines(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        for at in range(0, len(ledger), batch):
            part = [{c: line[c] for c in columns} for line in ledger[at : at + batch]]
            yield pl.DataFrame(part, schema=dict.fromkeys(columns, pl.String))

    return lines


def naive(
    rows: Sequence[tuple[str, str]], ledgers: Sequence[Sequence[Line]], again: set[str]
) -> tuple[list[str], set[str], dict[str, int]] | None:
    """The same, by hand."""
    for ledger in ledgers:
        kept = Counter(line["_key"] for line in ledger if line["outcome"] == "kept")
        named = {(n["_key"], n["_source"], n["_parent"], n["read"]) for n in ledger}
        if max(kept.values(), default=0) > 1 or len({name[0] for name in named}) < len(named):
            return None
    done = {
        line["_key"]: line["_source"]
        for line in ledgers[0]
        if line["_parent"] is None and line["read"] == "read"
    }
    kinds = {}
    for key, version in rows:
        if key not in done:
            kinds[key] = "new"
        elif done[key] != version:
            kinds[key] = "changed"
        else:
            kinds[key] = "retried" if key in again else "unchanged"
    kinds |= {key: "deleted" for key in done if key not in dict(rows)}
    counts = dict.fromkeys(COUNTS, 0) | Counter(kinds.values())
    todo = [key for key, _ in rows if kinds[key] in ("new", "changed", "retried")]
    gone = {key for key, kind in kinds.items() if kind in ("changed", "deleted", "retried")}
    return todo, gone, dict(counts)


def plain(found: Difference | None) -> Any:
    if found is None:
        return None
    assert len(found.gone.unique()) == len(found.gone)
    return found.todo.to_pylist(), set(found.gone), dict(found.counts)


@settings(max_examples=60)
@given(
    rows=LISTED,
    ledgers=st.lists(LEDGER, min_size=1, max_size=2),
    again=st.sets(KEYS),
    buckets=st.integers(1, 7),
    batch=st.integers(1, 5),
)
def test_it_is_what_one_finds_by_hand(
    rows: list[tuple[str, str]],
    ledgers: list[list[Line]],
    again: set[str],
    buckets: int,
    batch: int,
) -> None:
    lines = [in_memory(ledger, batch) for ledger in ledgers]
    retry = pl.Series(sorted(again), dtype=pl.String)
    found = compare(listed(rows), lines, "read", retry, buckets=buckets)
    assert plain(found) == naive(rows, ledgers, again)


@settings(max_examples=60)
@given(
    rows=LISTED,
    ledger=st.lists(LINE, max_size=9, unique_by=lambda line: line["_key"]),
    again=st.sets(KEYS),
    buckets=st.integers(1, 7),
)
def test_keys_that_tell_rows_apart_are_compared(
    rows: list[tuple[str, str]], ledger: list[Line], again: set[str], buckets: int
) -> None:
    lines = [in_memory(ledger, 3)]
    retry = pl.Series(sorted(again), dtype=pl.String)
    found = compare(listed(rows), lines, "read", retry, buckets=buckets)
    assert found is not None
    assert plain(found) == naive(rows, [ledger], again)


@pytest.mark.parametrize("buckets", [1, 3])
def test_a_source_that_lists_a_key_twice(buckets: int) -> None:
    rows = listed([("a", "1"), ("a", "2")])
    assert compare(rows, [in_memory([], 1)], "read", pl.Series([]), buckets=buckets) is None


@pytest.mark.parametrize("buckets", [None, 3])
def test_a_row_that_got_its_children_back_is_there_twice(
    tmp_path: Path, buckets: int | None
) -> None:
    """From a ledger on storage."""
    own = {"_source": "1", "step": "", "read": "read"}
    lines = [
        {**own, "_key": "a", "_parent": None, "outcome": "expanded"},
        {**own, "_key": "a#0", "_parent": "a", "outcome": "grouped"},
        {**own, "_key": "a", "_parent": None, "outcome": "kept"},
        {**own, "_key": "b", "_parent": None, "outcome": "failed"},
    ]
    token = tables.ensure(str(tmp_path / "ledger.lance"), LEDGER_SCHEMA)
    staged = tables.stage(token, pa.Table.from_pylist(lines, schema=LEDGER_SCHEMA))
    version = tables.commit(token, staged, "20260101-000000-0000000", {})
    tables.tag(token["uri"], version, "20260101-000000-0000000", {})
    ledger = lines_of(token["uri"], "20260101-000000-0000000")
    rows = listed([("c", "1"), ("b", "1"), ("a", "1")])
    found = compare(rows, [ledger], "read", pl.Series(["b"]), buckets=buckets)
    assert found is not None
    counts = {"new": 1, "changed": 0, "deleted": 0, "retried": 1, "unchanged": 1}
    assert (found.todo.to_pylist(), found.gone.to_list(), found.counts) == (
        ["c", "b"], ["b"], counts,
    )  # fmt: skip


def test_what_does_not_fit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = listed([(f"row {n}", "1") for n in range(1000)])
    lines = [in_memory([], 1)]
    assert module._buckets(rows, lines) == 1
    monkeypatch.setattr(module, "FITS", 5000)
    assert 3 <= module._buckets(rows, lines) <= 6
    found = compare(rows, lines, "read", pl.Series([]))
    assert found is not None
    assert found.todo.to_pylist() == rows["_key"].to_pylist()


def test_the_rows_of_the_source_that_others_were_made_of() -> None:
    parents = {"a": None, "a#0": "a", "a#0#1": "a#0", "b": None, "b#0": "b", "c": None}
    ledger = [{"_key": key, "_parent": parent} for key, parent in parents.items()]
    found = pl.DataFrame([ledger[2], ledger[5]], schema=dict.fromkeys(ledger[0], pl.String))
    assert sorted(above(in_memory(ledger, 2), found)) == ["a", "c"]
    assert above(in_memory(ledger, 2), found.clear()).to_list() == []


def test_the_rows_that_stay() -> None:
    own = {"_source": "1", "_parent": None, "read": "read"}
    ledger = [
        {**own, "_key": "a", "outcome": "kept"},
        {**own, "_key": "b", "outcome": "expanded"},
        {**own, "_key": "b#0", "outcome": "kept", "_parent": "b"},
        {**own, "_key": "b", "outcome": "kept"},
        {**own, "_key": "c", "outcome": "dropped"},
        {**own, "_key": "d", "outcome": "kept"},
        {**own, "_key": "e", "outcome": "kept", "read": "read_2"},
    ]
    found = staying(in_memory(ledger, 2), "read", pl.Series(["d"]))
    assert sorted(found) == ["a", "b"]
