"""Streams of a random graph: rows as weft has them beside rows as they must be.

A row is a dict of its columns and of the envelope. See `dags`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pyarrow as pa

import weft

Row = dict[str, Any]

FAMILY = ("_parent", "_index", "_count")
OWN = ("_key", "_source", *FAMILY)


def hates(value: int, bad: int) -> int:
    if value % 7 == bad:
        raise ValueError(f"{value} is not to my liking")
    return value


@dataclass(frozen=True)
class Add(weft.Map):
    amount: int
    bad: int
    version = "1"
    reads = weft.fields(x=int)
    writes = weft.fields(y=int)

    def map_row(self, row: Any, loaded: Any) -> int:
        return hates(row["x"], self.bad) + self.amount


@dataclass(frozen=True)
class Under(weft.Filter):
    """Raises on whole batches, in a worker of its own."""

    limit: int
    bad: int
    version = "1"
    reads = weft.fields(x=int)
    resources = weft.Resources(cpus=0.25, workers=1)

    def keep(self, batch: Any, loaded: Any) -> Any:
        return [hates(int(x), self.bad) < self.limit for x in batch["x"]]


@dataclass(frozen=True)
class Parts(weft.Expand):
    bad: int
    version = "1"
    reads = weft.fields(x=int)
    writes = weft.fields(part=int)
    early = ("part",)

    def expand_row(self, row: Any, loaded: Any) -> Iterator[int]:
        yield from range(hates(row["x"], self.bad) % 4)


@dataclass(frozen=True)
class Total(weft.Group):
    bad: int
    version = "1"
    reads = weft.fields(x=int)
    writes = weft.fields(total=int)

    def group(self, rows: Any, loaded: Any) -> int:
        return hates(int(sum(rows["x"])), self.bad)


@dataclass(frozen=True)
class Listed(weft.Group):
    """The values in the order in which they come."""

    version = "1"
    reads = weft.fields(x=weft.Int64(nullable=True))
    writes = weft.fields(text=str, rows=int)

    def group(self, rows: Any, loaded: Any) -> dict[str, Any]:
        values = [None if v is None else int(v) for v in rows["x"]]
        return {"text": json.dumps(values), "rows": len(values)}


@dataclass(frozen=True)
class Largest(weft.Pick):
    """The rows that have the largest value."""

    bad: int
    version = "1"
    reads = weft.fields(x=int)

    def pick(self, rows: Any, loaded: Any) -> list[bool]:
        most = hates(int(max(rows["x"])), self.bad)
        return [bool(x == most) for x in rows["x"]]


@dataclass
class Stream:
    """Rows as weft has them, and as they must be.

    `ordered`: weft promises their order. `sorted_by`: the columns of a sort, where equal rows may
    come in any order because those before it could.
    """

    rows: Any
    expected: list[Row]
    ordered: bool
    sorted_by: tuple[str, ...] = ()
    used: bool = False

    def columns(self, *tests: Callable[[pa.DataType], bool]) -> list[str]:
        kinds = self.rows.columns
        return [c for c in kinds if any(test(kinds[c].storage) for test in tests)]

    @property
    def numbers(self) -> list[str]:
        return self.columns(pa.types.is_integer)

    @property
    def keyable(self) -> list[str]:
        tests = (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean)
        return self.columns(*tests, pa.types.is_timestamp)


@dataclass
class Dag:
    """The graph as far as it is drawn."""

    chance: Random
    streams: list[Stream] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)

    def some(self) -> Stream:
        return self.chance.choice(self.streams[-4:])

    def children(self) -> Stream:
        """Rows that can be brought back to their parents, often."""
        found = [s for s in self.streams if has_parents(s)]
        return self.chance.choice(found) if found and self.chance.random() < 0.4 else self.some()

    def add(
        self, rows: Any, expected: list[Row], *above: Stream, ordered: bool,
        dropped: int = 0, failed: int = 0, sorted_by: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        for stream in above:
            stream.used = True
        self.dropped[rows._node.id], self.failed[rows._node.id] = dropped, failed
        self.streams.append(Stream(rows, expected, ordered, sorted_by))

    def each(
        self, stream: Stream, rows: Any, answer: Callable[[Row], list[Row]], *, drops: bool = True
    ) -> None:
        """The rows that `answer` makes of each row; a `ValueError` fails the row."""
        made: list[Row] = []
        dropped = failed = 0
        for row in stream.expected:
            try:
                found = answer(row)
            except ValueError:
                failed += 1
                continue
            made += found
            dropped += drops and not found
        self.add(rows, made, stream, ordered=stream.ordered, dropped=dropped, failed=failed)


def has_parents(stream: Stream) -> bool:
    """Whether the rows are children, and a key names one parent only."""
    rows = stream.rows
    if not rows._recorder.depth(rows._node):
        return False
    origins: dict[str, set[int]] = {}
    for row in stream.expected:
        origins.setdefault(row["_parent"], set()).add(row.get("_origin", 0))
    return all(len(found) == 1 for found in origins.values())


def bad_value(dag: Dag) -> int:
    return dag.chance.choice([*range(7), 7, 7, 7, 7])  # with 7 nobody fails


def known(rows: Iterable[Row], x: str) -> list[Any]:
    return [r[x] for r in rows if r[x] is not None]


def values_of(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[n] for n in names)


def equal(left: Row, right: Row, on: Sequence[tuple[str, str]]) -> bool:
    return all(left[a] is not None and left[a] == right[b] for a, b in on)


def only(row: Row, columns: Iterable[str]) -> Row:
    return {c: row[c] for c in (*columns, *OWN, "_origin", "_above") if c in row}


def storage_of(stream: Stream, column: str) -> pa.DataType:
    kinds = stream.rows.columns
    return kinds[column].storage if column in kinds else pa.string()


def family_of(storage: pa.DataType) -> str:
    for test in (pa.types.is_signed_integer, pa.types.is_unsigned_integer):
        if test(storage):
            return test.__name__
    return str(storage)
