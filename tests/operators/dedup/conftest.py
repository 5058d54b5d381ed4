"""Running an operator on rows in memory, and what a slow program would make of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.grouping import Compose
from weft.pipelines.types import Type

Make = Callable[[Any], Compose]
"""An operator, given the rows that are held, or ``None``."""


class Kept:
    """What a run of an operator wrote, by key, and what became of its rows."""

    def __init__(self, rows: list[dict[str, Any]], result: Any) -> None:
        self.rows = {row["_key"]: row for row in rows}
        self.keys = set(self.rows)
        self.result = result


def table(columns: dict[str, tuple[Type, Sequence[Any]]], keys: Sequence[str]) -> pa.Table:
    """Columns with their types, and keys."""
    from weft.pipelines.fields import arrow_schema

    schema = arrow_schema({name: kind for name, (kind, _) in columns.items()})
    arrays = [kind.to_arrow(values) for kind, values in columns.values()]
    made = pa.table(arrays, schema=schema)
    return made.append_column(pa.field("key", pa.string(), nullable=False), pa.array(keys))


def deduplicate(
    make: Make, rows: pa.Table, held: pa.Table | None = None, engine: Any = "local", **ports: str
) -> Kept:
    """The rows that an operator keeps; `held` is what it is told to compare with."""

    @weft.pipeline
    def deduplicated() -> Any:
        others = None if held is None else weft.read(Arrow(held, key="key"))
        kept = weft.read(Arrow(rows, key="key")).apply(make(others), **ports)
        return kept.write(Memory("deduplicated"))

    Memory("deduplicated").clear()
    result = deduplicated().run(engine=engine)
    return Kept(Memory("deduplicated").table().to_pylist(), result)


def clusters(count: int, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """For each of `count` things the smallest that pairs connect it to: by spreading, slowly."""
    beside: dict[int, set[int]] = {n: set() for n in range(count)}
    for a, b in pairs:
        beside[a].add(b)
        beside[b].add(a)
    first = [-1] * count
    for start in range(count):
        waiting = [start] if first[start] < 0 else []
        while waiting:
            one = waiting.pop()
            if first[one] < 0:
                first[one] = start
                waiting += beside[one]
    return first


def near(count: int, judge: Callable[[int, int], bool]) -> list[tuple[int, int]]:
    """All pairs that are near, by looking at every one."""
    return [(a, b) for a, b in itertools.combinations(range(count), 2) if judge(a, b)]


@pytest.fixture
def helpers() -> Any:
    """This module, for tests, which pytest imports each on its own."""
    import sys

    return sys.modules[__name__]
