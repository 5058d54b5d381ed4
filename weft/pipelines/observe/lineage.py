"""Where a row came from: back through ledgers, from dataset to dataset, to files and other tables.

A row that was read from a dataset of weft says in its ``_source`` which version of that dataset
wrote it. So the way goes on there at just that version, whatever has been published since.

All rows of a dataset that are as many steps back are looked up together: what `why` costs grows
with the number of steps and of versions, and hardly with the number of rows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any, Literal, TypeVar

import pyarrow as pa

from weft.errors import DefinitionError
from weft.pipelines import tables
from weft.pipelines.batch import KEY
from weft.pipelines.observe.record import (
    End,
    Fault,
    Record,
    not_seen,
    record_at,
    record_of,
    sql_text,
)

FIRST = 5
"""Rows of a group that are followed, unless more are asked for."""

_OF_WEFT = re.compile(r"([0-9a-f]{16})-(\d+)")
"""``_source`` of a row of a dataset of weft: the name of the table, and the version that wrote
the row. See `weft.connectors.lance`."""

How = Literal["read", "child", "group", "join"]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Origin:
    """What a row came from.

    ``read``: the row `key` of `source`, at its `version` there. If that is a dataset of weft,
    `rows` has the row as that dataset's run left it. ``child``: `rows` has the row `key`, of
    which the step made `count` rows, this one among them. ``group``: `rows` has the first of
    the `count` rows that went into the row. ``join``: `rows` has the row of the right. `note`
    says why the way ends, if it does not end in a file or in a table of others.
    """

    how: How
    step: str
    says: str
    key: str
    rows: tuple[Row, ...] = ()
    count: int = 1
    source: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """A row, what became of it in a run, and what it came from.

    `version` is the one that was asked for, and `written` is the run that wrote the row, if an
    earlier one did. Further back, `version` and `run` are those that wrote it.
    """

    dataset: str
    version: int
    run: str
    key: str
    outcome: str
    step: str
    says: str
    children: int | None = None
    into: str | None = None
    written: str | None = None
    faults: tuple[Fault, ...] = ()
    origins: tuple[Origin, ...] = ()


def why(
    uri: str, key: str, version: int | str | None = None, *, most: int | None = FIRST
) -> tuple[Row, ...]:
    """What became of the rows `key` of a dataset, and where they came from.

    Usually that is one row. There are several where rows share a key, and where a pipeline
    branches and meets again. `version` is a number or a tag; without it, what readers see. Of a
    group the first `most` rows are followed; all for ``None``.

    Raises:
        DefinitionError: there is no such dataset or version, no run of weft made it, or the run
            did not see that key; names the nearest.
    """
    record = record_of(uri, version)
    ends = record.ends([key])
    if not ends:
        raise not_seen(record, key)
    first = sorted(ends, key=lambda end: end.outcome != "kept")
    return tuple(
        replace(row, written=record.written(row.key)) if row.outcome == "kept" else row
        for row in _Search(most).rows(record, first)
    )


@dataclass(frozen=True)
class _Step:
    """One way in which a row came about, and the rows `of` its dataset that it came from."""

    how: How
    step: str
    key: str
    of: tuple[End, ...] = ()
    count: int = 1


@dataclass(frozen=True)
class _Place:
    """A version of a dataset of weft; `column` has the keys under which its rows were read."""

    path: str
    table: str
    version: int
    column: str | None


class _Search:
    """A search through the records of many runs; each is opened once."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._records: dict[tuple[str, str, int], Record] = {}

    def rows(self, record: Record, ends: Sequence[End]) -> list[Row]:
        """The rows that ended so, one for each, with all that is behind them."""
        if not ends:
            return []
        back = self._back(record, ends)
        inside = iter(self.rows(record, [e for steps in back for s in steps for e in s.of]))
        reads = [
            (e, s) for e, steps in zip(ends, back, strict=True) for s in steps if s.how == "read"
        ]
        sources = iter(self._read(record, reads))
        faults = record.faults(end.key for end in ends)
        return [
            Row(
                dataset=record.uri,
                version=record.version,
                run=record.run,
                key=end.key,
                outcome=end.outcome,
                step=end.step,
                says=record.step(end.step)["says"],
                children=end.children,
                into=end.into,
                faults=tuple(f for f in faults.get(end.key, ()) if _is_of(record, end, f)),
                origins=tuple(
                    next(sources) if s.how == "read" else _inside(record, s, inside) for s in steps
                ),
            )
            for end, steps in zip(ends, back, strict=True)
        ]

    def _back(self, record: Record, ends: Sequence[End]) -> list[list[_Step]]:
        """The steps back from each of the rows: to what it was made of, and to what it met."""
        asked = {n for e in ends for n in (e.parent, *_lefts(e), *(k for _, k in e.joined)) if n}
        others = _by((e.key, e) for e in record.ends(asked))
        members = _by((e.into or "", e) for e in record.members(e.key for e in ends))
        return [[*self._steps(record, end, others, members)] for end in ends]

    def _steps(
        self,
        record: Record,
        end: End,
        others: Mapping[str, Sequence[End]],
        members: Mapping[str, Sequence[End]],
    ) -> Iterator[_Step]:
        made = [e for name in (end.parent, *_lefts(end)) for e in others.get(name or "", ())]
        of = [e for e in made if e.outcome == "expanded"]
        of += [e for e in members.get(end.key, ()) if e.step != end.step]
        of = [e for e in of if end.read in (None, e.read)]  # keys of two reads may be the same
        way = record.way(end)
        born = _last(record, end, [e for e in of if e.step in way])
        before = {met for ends in born.values() for e in ends for met in e.joined}
        if not born:
            yield _Step("read", _read_by(record, end, way), end.key)
        for name, ends in born.items():
            if ends[0].into is not None:
                yield _Step("group", name, end.key, tuple(ends[: self._most]), len(ends))
            else:
                yield _Step("child", name, ends[0].key, tuple(ends), ends[0].children or 0)
        for join, key in end.joined:
            if (join, key) not in before:
                right = [e for e in others.get(key, ()) if (e.outcome, e.step) == ("joined", join)]
                yield _Step("join", join, key, tuple(right))

    def _read(self, record: Record, reads: Sequence[tuple[End, _Step]]) -> Iterator[Origin]:
        """What was read; of datasets of weft, with the rows there, looked up by version."""
        places = [_place(record, end, step) for end, step in reads]
        keys = _by((p, s.key) for p, (_, s) in zip(places, reads, strict=True) if p is not None)
        there = {place: self._there(place, wanted) for place, wanted in keys.items()}
        for place, (end, step) in zip(places, reads, strict=True):
            rows, note = there[place] if place is not None else ({}, "")
            if place is not None and not note and step.key not in rows:
                note = f"The run that made version {place.version} kept no such row."
            noted = record.step(step.step)
            yield Origin(
                how="read",
                step=step.step,
                says=noted["says"],
                key=step.key,
                rows=tuple(rows.get(step.key, ())),
                source=noted.get("source", {}),
                version=end.source,
                note=note,
            )

    def _there(self, place: _Place, keys: Sequence[str]) -> tuple[dict[str, list[Row]], str]:
        """The rows at a place, by the keys under which they were read; or why there are none."""
        at = (place.path, place.table, place.version)
        try:
            if at not in self._records:
                self._records[at] = record_at(*at)
            names = {key: key for key in keys} if place.column is None else _named(place, keys)
        except DefinitionError as error:
            return {}, str(error)
        ends = [e for e in self._records[at].ends(names) if e.outcome == "kept"]
        rows = self.rows(self._records[at], ends)
        return _by((names[row.key], row) for row in rows), ""


def _inside(record: Record, step: _Step, rows: Iterator[Row]) -> Origin:
    """What a row came from in its own dataset; `rows` has the next ones first."""
    return Origin(
        how=step.how,
        step=step.step,
        says=record.step(step.step)["says"],
        key=step.key,
        rows=tuple(next(rows) for _ in step.of),
        count=step.count,
    )


def _is_of(record: Record, end: End, fault: Fault) -> bool:
    """Whether it is this row that met a fault, and not another of its key."""
    if fault.outcome == "failed":
        return (fault.outcome, fault.step) == (end.outcome, end.step)
    return fault.step in record.way(end)


def _lefts(end: End) -> list[str]:
    """What the row may have been called before a join: one of the left that meets several of the
    right ends there, and goes on as ``left*right`` for each."""
    return [end.key.removesuffix(f"*{k}") for _, k in end.joined if end.key.endswith(f"*{k}")]


def _last(record: Record, end: End, of: Sequence[End]) -> dict[str, list[End]]:
    """The step that made a row and the rows it made it of: that which no other follows.

    Where branches of a pipeline meet, several may have made a row of that key. What it and they
    had met and the ``_source`` tell them apart, but for rows that two steps made of one.
    """
    made = {
        name: e for name, e in _by((e.step, e) for e in of).items() if _met(record, end, name, e)
    }
    followed = {name for other in made for name in record.through(other) - {other}}
    last = {name: ends for name, ends in made.items() if name not in followed}
    if len(last) == 1:
        return last
    alike = {
        name: [e for e in ends if e.into is not None or e.joined == _before(record, end, name)]
        for name, ends in last.items()
    }
    fits = {name: ends for name, ends in alike.items() if _version_of(ends) & {end.source}}
    return {name: ends for name, ends in fits.items() if ends} or last


def _met(record: Record, end: End, name: str, of: Sequence[End]) -> bool:
    """Whether a row that a step made can have met what this one met: what it was made of met it
    before, unless that is a group, or the row met it later."""
    grouped = of[0].into is not None
    through = frozenset[str]() if grouped else record.through(name)
    return all(join in through or name in record.through(join) for join, _ in end.joined)


def _before(record: Record, end: End, name: str) -> tuple[tuple[str, str], ...]:
    """What joins had brought to the row before the step that made it."""
    before = record.through(name) - {name}
    return tuple(met for met in end.joined if met[0] in before)


def _version_of(ends: Sequence[End]) -> set[str]:
    """What the ``_source`` of a row that was made of these may be: that of its parent, or of all
    members of its group. See `weft.pipelines.engines.grouping`."""
    lines = sorted(f"{len(e.key.encode())}:{e.key}{e.source}\n" for e in ends)
    return {e.source for e in ends} | {blake2b("".join(lines).encode(), digest_size=16).hexdigest()}


def _read_by(record: Record, end: End, way: Collection[str]) -> str:
    """The read that a row came by; nothing, if it could be one of several."""
    reads = [name for name in way if record.step(name)["kind"] == "read"]
    return end.read or (reads[0] if len(reads) == 1 else "")


def _place(record: Record, end: End, step: _Step) -> _Place | None:
    """Where a row was read from, if that is a dataset of weft."""
    source = record.step(step.step).get("source", {})
    found = _OF_WEFT.fullmatch(end.source)
    if source.get("type") != "Lance" or found is None:
        return None
    return _Place(source["path"], found[1], int(found[2]), source["key"])


def _named(place: _Place, keys: Iterable[str]) -> dict[str, str]:
    """The values of a column under which rows were read, by the rows' own keys.

    Raises:
        DefinitionError: the version is not there any more.
    """
    dataset = tables.open_table(place.path, place.version)
    assert place.column is not None
    text = pa.types.is_string(dataset.schema.field(place.column).type)
    values = ", ".join(sql_text(key) if text else key for key in keys)
    rows = dataset.to_table([KEY, place.column], filter=f"`{place.column}` IN ({values})")
    return {row[KEY]: str(row[place.column]) for row in rows.to_pylist()}


def _by(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found
