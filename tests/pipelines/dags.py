"""Random graphs of all verbs, and the rows they must give, in plain Python.

`make` draws a pipeline from a `random.Random` and computes beside every verb what it must do, by
lists of dicts and nested loops; `check` compares. Where weft promises an order of rows, the
reference has it.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa

import weft
from weft.connectors import Arrow, Memory
from weft.operators import tabular
from weft.pipelines.dsl import Pipeline

sys.path.insert(0, str(Path(__file__).parent))

from dag_meetings import aggregated, asof, collected, grouped, join, ordered, union
from dag_streams import (
    FAMILY,
    Add,
    Dag,
    Parts,
    Row,
    Stream,
    Under,
    bad_value,
    hates,
    only,
    values_of,
)


@dataclass
class Made:
    """A pipeline, the stream of each sink, and what each step dropped and failed."""

    pipeline: Pipeline
    sinks: dict[str, Stream]
    dropped: dict[str, int]
    failed: dict[str, int]


def make(chance: Random, name: str, verbs: int = 6) -> Made:
    """A pipeline of one to three reads and at most `verbs` verbs; its sinks begin with `name`."""
    sinks: dict[str, Stream] = {}
    dag = Dag(chance)

    @weft.pipeline
    def made() -> Any:
        for index in range(chance.choice([1, 1, 2, 2, 3])):
            read(dag, "abc"[index])
        for index in range(chance.randint(1, verbs)):
            grow(dag, f"c{index}")
        leaves = [s for s in dag.streams if not s.used]
        also = dag.some()  # a stream with readers and a sink of its own
        if chance.random() < 0.3 and also not in leaves:
            leaves.append(also)
        writes = []
        for stream in leaves:
            sink = Memory(f"{name}-{len(writes)}")
            sinks[sink.name] = stream
            writes.append(stream.rows.write(sink))
        return writes

    return Made(made(), sinks, dag.dropped, dag.failed)


def grow(dag: Dag, name: str) -> None:
    """One more verb; what it makes is called `name`."""
    verbs = [
        applied, applied, where, with_columns, select, union, union, join, join, join, asof,
        aggregated, aggregated, grouped, grouped, collected, ordered, ordered, sample,
        expanded, expanded,
    ]  # fmt: skip
    for _ in range(8):
        if dag.chance.choice(verbs)(dag, name):
            return
    select(dag, name)


def read(dag: Dag, name: str) -> None:
    chance = dag.chance
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    number = chance.choice([pa.int32(), pa.int64()])
    rows = [
        {
            "id": chance.choice([f"{name}{i}", f"[{name}*{i}", f"é {name}#{i}"]),
            "n": chance.randint(0, 20),
            "m": chance.choice([None, *range(4)]),
            "s": chance.choice(["1", "5", "12", "x", "[", "", None]),
            "b": chance.choice([True, False, None]),
            "f": chance.choice([None, *(i / 2 for i in range(8))]),
            "t": chance.choice([None, *(moment + timedelta(seconds=i) for i in range(5))]),
        }
        for i in range(chance.randint(1, 9))
    ]
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False), pa.field("n", pa.int64(), nullable=False),
            pa.field("m", number), pa.field("s", pa.string()), pa.field("b", pa.bool_()),
            pa.field("f", pa.float64()), pa.field("t", pa.timestamp("us", tz="UTC")),
        ]
    )  # fmt: skip
    source = Arrow(pa.Table.from_pylist(rows, schema=schema), key="id")
    own = {"_source": source._digest, **dict.fromkeys(FAMILY)}
    expected = [{**row, **own, "_key": row["id"]} for row in rows]
    dag.add(weft.read(source), expected, ordered=True)


def applied(dag: Dag, name: str) -> bool:
    stream = dag.some()
    if not stream.numbers:
        return False
    x, amount, bad = dag.chance.choice(stream.numbers), dag.chance.randint(0, 9), bad_value(dag)
    if stream.rows.columns[x].storage != pa.int64():
        return False
    if dag.chance.random() < 0.4:
        dag.each(
            stream,
            stream.rows.apply(Under(amount, bad), x=x),
            lambda row: [row] if row[x] is not None and hates(row[x], bad) < amount else [],
        )
        return True
    on_error = dag.chance.choice(["quarantine", "null"])

    def added(row: Row) -> list[Row]:
        if row[x] is None or (on_error == "null" and row[x] % 7 == bad):
            return [{**row, name: None}]
        return [{**row, name: hates(row[x], bad) + amount}]

    dag.each(stream, stream.rows.apply(Add(amount, bad), x=x, y=name, on_error=on_error), added)
    return True


def expanded(dag: Dag, name: str) -> bool:
    stream = dag.some()
    wide = [c for c in stream.numbers if stream.rows.columns[c].storage == pa.int64()]
    if not wide or len(stream.expected) > 40:
        return False
    x, bad = dag.chance.choice(wide), bad_value(dag)

    def children(row: Row) -> list[Row]:
        count = 0 if row[x] is None else hates(row[x], bad) % 4
        own = {"_parent": row["_key"], "_count": count, "_origin": id(row)}
        own["_above"] = row.get("_count")
        return [
            {**row, **own, "_key": f"{row['_key']}#{i}", "_index": i, name: i} for i in range(count)
        ]

    dag.each(stream, stream.rows.apply(Parts(bad), x=x, part=name), children, drops=False)
    return True


def where(dag: Dag, name: str) -> bool:
    stream = dag.some()
    x, limit = dag.chance.choice([*stream.numbers, "_index", "_key"]), dag.chance.randint(0, 9)
    if x == "_key":
        text = dag.chance.choice(["a", "b", "5"])
        made = stream.rows.where(pl.col("_key").str.contains(text, literal=True))
        dag.each(stream, made, lambda row: [row] if text in row["_key"] else [])
    else:
        made = stream.rows.where(pl.col(x) >= limit)
        dag.each(stream, made, lambda row: [row] if row[x] is not None and row[x] >= limit else [])
    return True


def with_columns(dag: Dag, name: str) -> bool:
    stream = dag.some()
    if "s" in stream.rows.columns and dag.chance.random() < 0.3:  # fails on what is no number
        made = stream.rows.with_columns(pl.col("s").cast(pl.Int64).alias(name))
        dag.each(
            stream, made, lambda row: [{**row, name: None if row["s"] is None else int(row["s"])}]
        )
        return True
    x = dag.chance.choice([*stream.numbers, "_key", "_parent", "_index"])
    if x in ("_key", "_parent", "_index"):
        made = stream.rows.with_columns(pl.col(x).alias(name))
        dag.each(stream, made, lambda row: [{**row, name: row[x]}])
        return True
    name = dag.chance.choice([name, x])
    made = stream.rows.with_columns((pl.col(x) * 2).alias(name))
    dag.each(stream, made, lambda row: [{**row, name: None if row[x] is None else row[x] * 2}])
    return True


def select(dag: Dag, name: str) -> bool:
    stream = dag.some()
    columns = list(stream.rows.columns)
    if len(columns) < 2:
        return False
    chosen = dag.chance.sample(columns, dag.chance.randint(1, len(columns)))
    dag.each(stream, stream.rows.select(*chosen), lambda row: [only(row, chosen)])
    return True


def sample(dag: Dag, name: str) -> bool:
    stream, fraction, seed = dag.some(), dag.chance.choice([0.3, 0.8]), dag.chance.randint(-1, 2)

    def kept(row: Row) -> list[Row]:
        salt = seed.to_bytes(8, "little", signed=True)
        found = hashlib.blake2b(row["_key"].encode(), digest_size=8, key=salt).digest()
        return [row] if int.from_bytes(found, "little") < fraction * 2**64 else []

    dag.each(stream, stream.rows.apply(tabular.Sample(fraction, seed)), kept)
    return True


def check(made: Made) -> None:
    """Compare what the sinks of a pipeline have with what they must have."""
    for name, stream in made.sinks.items():
        table = Memory(name).table()
        family = [c for c in FAMILY if c in table.column_names]
        columns = [*stream.rows.columns, "_key", "_source", *family]
        assert set(table.column_names) == set(columns), name
        found = table.select(columns).to_pylist()
        expected = [{c: row[c] for c in columns} for row in stream.expected]
        if stream.ordered:
            assert found == expected, name
        assert _sorted(found) == _sorted(expected), name
        places = stream.sorted_by
        if all(c in columns for c in places):
            assert [values_of(r, places) for r in found] == [values_of(r, places) for r in expected]


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["_key"], repr(row)))
