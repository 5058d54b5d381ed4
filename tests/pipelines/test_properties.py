"""Random pipelines, planned with random passes, against a reference written in plain Python.

Whatever passes a plan went through and however its rows are cut into units and batches, the
rows it keeps are those of the reference, and its books balance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.compile import PASSES, compile_plan
from weft.pipelines.engines import local
from weft.pipelines.engines.books import balance, sum_books
from weft.pipelines.engines.worker import Context, Target, dataset_schema, units_of
from weft.pipelines.resources import Cluster, Machine

Row = dict[str, Any]

CLUSTER = Cluster((Machine(cpus=4),))


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
class AddBatch(Add):
    resources = weft.Resources(cpus=0.5)

    def map(self, batch: Any, loaded: Any) -> Any:
        return {"y": [hates(int(x), self.bad) + self.amount for x in batch["x"]]}

    map_row = weft.Map.map_row


@dataclass(frozen=True)
class Shift(weft.Map):
    """Takes over the shifts that follow it."""

    amount: int
    version = "1"
    reads = weft.fields(x=int)
    writes = weft.fields(x=int)

    def absorb(self, following: Any, port: str) -> Any:
        return Shift(self.amount + following.amount) if isinstance(following, Shift) else None

    def map_row(self, row: Any, loaded: Any) -> int:
        return row["x"] + self.amount


@dataclass(frozen=True)
class Under(weft.Filter):
    limit: int
    bad: int
    version = "1"
    reads = weft.fields(x=int)

    def keep_row(self, row: Any, loaded: Any) -> bool:
        return hates(row["x"], self.bad) < self.limit


@dataclass(frozen=True)
class UnderBatch(Under):
    resources = weft.Resources(workers=1)

    def keep(self, batch: Any, loaded: Any) -> Any:
        return [hates(int(x), self.bad) < self.limit for x in batch["x"]]

    keep_row = weft.Filter.keep_row


@dataclass(frozen=True)
class Parts(weft.Expand):
    bad: int
    version = "1"
    reads = weft.fields(x=int)
    writes = weft.fields(part=int)

    def expand_row(self, row: Any, loaded: Any) -> Iterator[int]:
        yield from range(hates(row["x"], self.bad) % 3)


@dataclass(frozen=True)
class LateParts(weft.Expand):
    """Children with a value that is made later."""

    version = "1"
    reads = weft.fields(x=int)
    writes = weft.fields(part=int, value=int)
    early = ("part",)

    def expand_row(self, row: Any, loaded: Any) -> Iterator[dict[str, Any]]:
        x = row["x"]
        for part in range(x % 4):
            yield {"part": part, "value": weft.Later(lambda part=part: x + part)}


@dataclass
class Reference:
    """Rows of one stream in plain Python, and how many failed at the step that made it."""

    rows: list[Row]
    failed: int = 0

    def each(self, answer: Callable[[Row], list[Row]]) -> Reference:
        """The rows that `answer` makes of each row; a `ValueError` fails the row."""
        made = Reference([])
        for row in self.rows:
            try:
                made.rows += answer(row)
            except ValueError:
                made.failed += 1
        return made


@dataclass
class Stream:
    """The same rows as weft has them, and as they must be."""

    rows: Any
    expected: Reference
    used: bool = False
    counts: dict[str, int] = field(default_factory=dict)


def applied(
    stream: Stream, operator: Any, x: str, name: str, on_error: str
) -> tuple[Any, Reference]:
    nulls = on_error == "null"

    def mapped(row: Row) -> list[Row]:
        if row[x] is None:
            return [{**row, name: None}]
        try:
            return [{**row, name: hates(row[x], operator.bad) + operator.amount}]
        except ValueError:
            if nulls:
                return [{**row, name: None}]
            raise

    def shifted(row: Row) -> list[Row]:
        return [{**row, x: None if row[x] is None else row[x] + operator.amount}]

    def kept(row: Row) -> list[Row]:
        return [row] if row[x] is not None and hates(row[x], operator.bad) < operator.limit else []

    def children(row: Row) -> list[Row]:
        count = 0 if row[x] is None else hates(row[x], operator.bad) % 3
        family = {"_parent": row["_key"], "_count": count}
        return [
            {**row, **family, "_key": f"{row['_key']}#{i}", "_index": i, name: i}
            for i in range(count)
        ]

    def late(row: Row) -> list[Row]:
        count = 0 if row[x] is None else row[x] % 4
        family = {"_parent": row["_key"], "_count": count}
        return [
            {
                **row,
                **family,
                "_key": f"{row['_key']}#{i}",
                "_index": i,
                name: i,
                f"{name}v": row[x] + i,
            }
            for i in range(count)
        ]

    match operator:
        case LateParts():
            made = stream.rows.apply(operator, x=x, part=name, value=f"{name}v")
            return made, stream.expected.each(late)
        case Shift():
            return stream.rows.apply(operator, x=x), stream.expected.each(shifted)
        case Add():
            made = stream.rows.apply(operator, x=x, y=name, on_error=on_error)
            return made, stream.expected.each(mapped)
        case Under():
            return stream.rows.apply(operator, x=x), stream.expected.each(kept)
        case _:
            return stream.rows.apply(operator, x=x, part=name), stream.expected.each(children)


def grown(draw: Any, stream: Stream, name: str) -> tuple[Any, Reference]:
    """One more verb on `stream`; what it makes is called `name`."""
    columns = list(stream.rows.columns)
    numbers = [c for c in columns if stream.rows.columns[c].storage == pa.int64()]
    texts = [c for c in columns if stream.rows.columns[c].storage == pa.string()]
    verbs = ["select"] + [*["apply"] * 5, "where", "with_columns"] * bool(numbers)
    verbs += ["where_cast", "with_cast"] * bool(texts)
    verb = draw(st.sampled_from(verbs))
    number = draw(st.integers(0, 9))
    if verb == "select":
        chosen = draw(st.lists(st.sampled_from(columns), min_size=1, unique=True))
        keep = [*chosen, "_key", "_parent", "_index", "_count"]
        return stream.rows.select(*chosen), stream.expected.each(
            lambda row: [{c: row[c] for c in keep if c in row}]
        )
    if verb in ("where_cast", "with_cast"):  # a cast that fails on text that is no number
        s = draw(st.sampled_from(texts))
        cast = pl.col(s).cast(pl.Int64)
        if verb == "with_cast":
            return stream.rows.with_columns(cast.alias(name)), stream.expected.each(
                lambda row: [{**row, name: None if row[s] is None else int(row[s])}]
            )
        return stream.rows.where(cast > number), stream.expected.each(
            lambda row: [row] if row[s] is not None and int(row[s]) > number else []
        )
    x = draw(st.sampled_from(numbers))
    if verb == "where":
        return stream.rows.where(pl.col(x) > number), stream.expected.each(
            lambda row: [row] if row[x] is not None and row[x] > number else []
        )
    if verb == "with_columns":
        name = draw(st.sampled_from([name, x]))
        return stream.rows.with_columns((pl.col(x) * 2).alias(name)), stream.expected.each(
            lambda row: [{**row, name: None if row[x] is None else row[x] * 2}]
        )
    bad = draw(st.integers(0, 7))  # with 7 nobody fails
    operator = draw(
        st.sampled_from(
            [Add(number, bad), AddBatch(number, bad), Shift(number), Shift(1), Under(number, bad),
             UnderBatch(number, bad), Parts(bad), LateParts()]
        )
    )  # fmt: skip
    on_error = draw(st.sampled_from(["quarantine", "null"]))
    if isinstance(operator, Add):
        name = draw(st.sampled_from([name, x]))
    return applied(stream, operator, x, name, on_error)


def source(draw: Any, name: str) -> tuple[Arrow, Reference]:
    numbers = st.integers(0, 20)
    texts = st.sampled_from(["1", "5", "12", "x"])
    values = draw(
        st.lists(
            st.tuples(numbers, st.none() | numbers, st.none() | texts), min_size=1, max_size=12
        )
    )
    rows = [{"id": f"{name}{i}", "n": n, "m": m, "s": s} for i, (n, m, s) in enumerate(values)]
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("n", pa.int64(), nullable=False),
            pa.field("m", pa.int64()),
            pa.field("s", pa.string()),
        ]
    )
    table = pa.Table.from_pylist(rows, schema=schema)
    return Arrow(table, key="id"), Reference([{**row, "_key": row["id"]} for row in rows])


_numbers = itertools.count()


@st.composite
def pipelines(draw: Any) -> tuple[Any, dict[str, Reference], dict[str, int]]:
    """A pipeline, the rows that each of its sinks must get, and the failures of each step."""
    expected: dict[str, Reference] = {}
    failed: dict[str, int] = {}
    example = next(_numbers)

    @weft.pipeline
    def made() -> Any:
        streams = []
        for index in range(draw(st.sampled_from([1, 1, 1, 2]))):
            table, rows = source(draw, "ab"[index])
            streams.append(Stream(weft.read(table), rows))
        for index in range(draw(st.integers(1, 7))):
            below = draw(st.sampled_from(streams[-3:]))
            rows, reference = grown(draw, below, f"c{index}")
            below.used = True
            failed[rows._node.id] = reference.failed
            streams.append(Stream(rows, reference))
        writes = []
        leaves = [s for s in streams if not s.used]
        also = draw(st.sampled_from(streams))  # a stream with readers and a sink of its own
        for stream in leaves if also in leaves or not draw(st.booleans()) else [*leaves, also]:
            sink = Memory(f"property-{example}-{len(writes)}")
            expected[sink.name] = stream.expected
            writes.append(stream.rows.write(sink))
        return writes

    return made(), expected, failed


subsets = st.lists(st.sampled_from(PASSES), unique=True).map(
    lambda chosen: tuple(p for p in PASSES if p in chosen)
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pipelines(), subsets, st.integers(1, 8), st.integers(1, 12), st.booleans())
def test_every_plan_keeps_the_rows_of_the_reference(
    made: Any, passes: Any, batch_rows: int, unit_rows: int, sized: bool
) -> None:
    pipeline, expected, failed = made
    plan = compile_plan(pipeline.graph, CLUSTER, passes)
    if not sized:  # smaller than any source, so that every boundary is met
        stages = tuple(replace(s, batch_rows=batch_rows) for s in plan.stages)
        plan = replace(plan, stages=stages)
    targets = {s.id: Target(s.action.sink.prepare(dataset_schema(plan, s))) for s in plan.writes()}
    units = list(units_of(plan, unit_rows))
    receipts = list(local.execute(plan, units, Context("run", None, targets), CLUSTER))
    books = sum_books(plan, (r["books"] for r in receipts))
    staged = {s.id: sum(r["writes"][s.id]["rows"] for r in receipts) for s in plan.writes()}
    balance(plan, books, sum(u.split.rows for u in units), staged)
    for step in plan.writes():
        sink, parts = (
            step.action.sink,
            [p for r in receipts for p in r["writes"][step.id]["staged"]],
        )
        found = sink.table(sink.commit(targets[step.id].token, parts, "run", {})).to_pylist()
        sink.clear()
        sources = {row.pop("_source") for row in found}
        assert len(sources) <= 1
        assert by_key(found) == by_key(expected[sink.name].rows)
    moved = {p.__name__ for p in passes} & {"order_filters", "push_into_source"}
    absorbed = set(failed) - set(books)
    assert not absorbed or "push_into_decode" in {p.__name__ for p in passes}
    if not moved:  # with them a row may be dropped where it would have failed
        assert {n: books[n].failed for n in failed if n in books} == {
            n: count for n, count in failed.items() if n in books
        }


def by_key(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row["_key"])
