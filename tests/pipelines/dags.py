"""Random graphs of all verbs, and the rows they must give, in plain Python.

`make` draws a pipeline from a `random.Random` and computes beside every verb what it must do, by
lists of dicts and nested loops. A row is a dict of its columns and of the envelope. Where weft
promises an order, the list has it; where it promises none, verbs whose answer depends on the
order are not drawn.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa

import weft
from weft.connectors import Arrow, Memory
from weft.operators import tabular
from weft.pipelines.dsl import Pipeline

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
class Made:
    """A pipeline, the stream of each sink, and what each step dropped and failed."""

    pipeline: Pipeline
    sinks: dict[str, Stream]
    dropped: dict[str, int]
    failed: dict[str, int]


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
        found = [s for s in self.streams if _parents(s)]
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


def read(dag: Dag, name: str) -> None:
    chance = dag.chance
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    number = chance.choice([pa.int32(), pa.int64()])
    rows = [
        {
            "id": chance.choice([f"{name}{i}", f"[{name}*{i}", f"é#{name}{i}"]),
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


def applied(dag: Dag, name: str) -> bool:
    stream = dag.some()
    if not stream.numbers:
        return False
    x, amount, bad = dag.chance.choice(stream.numbers), dag.chance.randint(0, 9), _bad(dag)
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
    x, bad = dag.chance.choice(wide), _bad(dag)

    def children(row: Row) -> list[Row]:
        count = 0 if row[x] is None else hates(row[x], bad) % 4
        own = {"_parent": row["_key"], "_count": count, "_origin": id(row)}
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
    dag.each(stream, stream.rows.select(*chosen), lambda row: [_only(row, chosen)])
    return True


def sample(dag: Dag, name: str) -> bool:
    stream, fraction, seed = dag.some(), dag.chance.choice([0.3, 0.8]), dag.chance.randint(-1, 2)

    def kept(row: Row) -> list[Row]:
        salt = seed.to_bytes(8, "little", signed=True)
        found = hashlib.blake2b(row["_key"].encode(), digest_size=8, key=salt).digest()
        return [row] if int.from_bytes(found, "little") < fraction * 2**64 else []

    dag.each(stream, stream.rows.apply(tabular.Sample(fraction, seed)), kept)
    return True


def union(dag: Dag, name: str) -> bool:
    streams = [dag.some() for _ in range(dag.chance.choice([2, 2, 3]))]
    kinds = [s.rows.columns for s in streams]
    if sum(len(s.expected) for s in streams) > 120:
        return False
    names = list(dict.fromkeys(c for columns in kinds for c in columns))
    fit = [c for c in names if len({_family(k[c].storage) for k in kinds if c in k}) == 1]
    fill = dag.chance.random() < 0.5
    wanted = fit if fill else [c for c in fit if all(c in columns for columns in kinds)]
    chosen = [[c for c in columns if c in wanted] for columns in kinds]
    if not all(chosen):
        return False
    sides = [
        s.rows if list(s.rows.columns) == c else s.rows.select(*c)
        for s, c in zip(streams, chosen, strict=True)
    ]
    made = weft.union(*sides, missing="null" if fill else "refuse")
    nothing = dict.fromkeys(wanted)
    expected = [
        {**nothing, **_only(row, c)}
        for s, c in zip(streams, chosen, strict=True)
        for row in s.expected
    ]
    dag.add(made, expected, *streams, ordered=False)
    return True


def join(dag: Dag, name: str) -> bool:
    left, right = dag.some(), dag.some()
    pairs = [
        (a, b)
        for a in [*left.keyable, "_key"]
        for b in [*right.keyable, "_key"]
        if _family(_storage(left, a)) == _family(_storage(right, b))
    ]
    if dag.chance.random() < 0.5:  # keys of the same meaning meet more often
        pairs = [(a, b) for a, b in pairs if a == b or "_key" in (a, b)] or pairs
    on = dag.chance.sample(pairs, min(len(pairs), dag.chance.choice([1, 1, 2])))
    how = dag.chance.choice(["inner", "inner", "left", "left", "semi", "anti"])
    meets = [[r for r in right.expected if _equal(row, r, on)] for row in left.expected]
    if sum(map(len, meets)) > 150:
        return False
    double = [_values(r, [a for a, _ in on]) for r, met in zip(left.expected, meets, strict=True)
              if len(met) > 1]  # fmt: skip
    many = len(set(double)) < len(double) if how in ("inner", "left") else False
    suffix = f"_{name}"
    made = left.rows.join(
        right.rows, left_on=[a for a, _ in on], right_on=[b for _, b in on],
        how=how, suffix=suffix, many=many or dag.chance.random() < 0.2,
    )  # fmt: skip
    brought = [c for c in right.rows.columns if c not in {b for _, b in on}]
    return _joined(dag, left, right, made, how, meets, brought, suffix)


def asof(dag: Dag, name: str) -> bool:
    left, right = dag.some(), dag.some()
    times = [
        (a, b)
        for a in left.columns(pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
        for b in right.columns(pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
        if _storage(left, a) == _storage(right, b)
    ]
    if not times:
        return False
    one, other = dag.chance.choice(times)
    pairs = [(a, a) for a in left.keyable if a in right.keyable and a not in (one, other)
             and _family(_storage(left, a)) == _family(_storage(right, a))]  # fmt: skip
    on = dag.chance.sample(pairs, min(len(pairs), dag.chance.choice([0, 1, 1])))
    places = [_values(r, [*(b for _, b in on), other]) for r in right.expected]
    if not right.ordered and len(set(places)) < len(places):
        return False  # which of the equal ones is the last is not promised
    strategy = dag.chance.choice(["backward", "forward", "nearest"])
    how = dag.chance.choice(["inner", "left"])
    within = dag.chance.choice([None, 1, 2])
    moments = pa.types.is_timestamp(_storage(left, one))
    tolerance = timedelta(seconds=within) if within and moments else within
    found = [
        _nearest(row[one], [r for r in right.expected if _equal(row, r, on)], other, strategy,
                 tolerance)
        for row in left.expected
    ]  # fmt: skip
    made = left.rows.join(
        right.rows, on=[a for a, _ in on], how=how, asof=(one, other), strategy=strategy,
        tolerance=tolerance, suffix=f"_{name}",
    )  # fmt: skip
    keys = {b for _, b in on} | ({other} if one == other else set())
    brought = [c for c in right.rows.columns if c not in keys]
    return _joined(dag, left, right, made, how, found, brought, f"_{name}")


def _joined(
    dag: Dag, left: Stream, right: Stream, made: Any, how: str, meets: list[list[Row]],
    brought: list[str], suffix: str,
) -> bool:  # fmt: skip
    names = {c: f"{c}{suffix}" if c in left.rows.columns else c for c in brought}
    expected: list[Row] = []
    dropped = 0
    for row, met in zip(left.expected, meets, strict=True):
        if how in ("semi", "anti"):
            rows = [row] if bool(met) == (how == "semi") else []
        else:
            rows = [
                {
                    **row,
                    **{new: r[c] for c, new in names.items()},
                    "_key": f"{row['_key']}*{r['_key']}" if len(met) > 1 else row["_key"],
                }
                for r in met
            ]
            if not met and how == "left":
                rows = [{**row, **dict.fromkeys(names.values())}]
        expected += rows
        dropped += not rows
    dag.add(made, expected, left, right, ordered=False, dropped=dropped)
    return True


def _nearest(time: Any, rows: list[Row], other: str, strategy: str, tolerance: Any) -> list[Row]:
    rows = [r for r in rows if r[other] is not None]
    if time is None:
        return []
    before = [r for r in rows if r[other] <= time]
    after = [r for r in rows if r[other] >= time]
    last = max(before, key=lambda r: r[other])[other] if before else None
    first = min(after, key=lambda r: r[other])[other] if after else None
    last_row = [r for r in before if r[other] == last][-1:]
    first_row = [r for r in after if r[other] == first][:1]
    found = {"backward": last_row, "forward": first_row}.get(strategy)
    if found is None:
        nearer = last_row and first_row and first - time < time - last
        found = first_row if nearer or not last_row else last_row
    near = [r for r in found if tolerance is None or abs(r[other] - time) <= tolerance]
    return near


Groups = dict[tuple[Any, ...], list[Row]]


def _groups(stream: Stream, by: Sequence[str]) -> Groups:
    found: Groups = {}
    for row in stream.expected:
        found.setdefault(_values(row, by), []).append(row)
    return found


def _key_of(values: tuple[Any, ...], by: Sequence[str]) -> str:
    """The key of a group's row."""
    texts = [v.isoformat(timespec="microseconds") if isinstance(v, datetime) else v for v in values]
    if list(by) == ["_parent"] and texts[0] is not None:
        return str(texts[0])
    if len(texts) == 1 and texts[0] is not None and not str(texts[0]).startswith("["):
        return str(texts[0]).lower() if isinstance(texts[0], bool) else str(texts[0])
    return json.dumps(texts, separators=(",", ":"))


def _group_row(key: tuple[Any, ...], by: Sequence[str], rows: list[Row]) -> Row:
    """What a group's row has apart from what is made of the group."""
    name = _key_of(key, by)
    own = {**dict.fromkeys(FAMILY), "_key": name}
    members = sorted(f"{len(r['_key'].encode())}:{r['_key']}{r['_source']}\n" for r in rows)
    own["_source"] = hashlib.blake2b("".join(members).encode(), digest_size=16).hexdigest()
    if list(by) == ["_parent"]:
        if key[0] is not None:
            own["_source"] = rows[0]["_source"]
        if child := re.fullmatch(r"(.*)#(\d{1,9})", name, re.DOTALL):
            own |= {"_parent": child[1], "_index": int(child[2])}
        return own
    return own | {c: v for c, v in zip(by, key, strict=True) if not c.startswith("_")}


def _by(dag: Dag, stream: Stream) -> list[str]:
    if _parents(stream) and dag.chance.random() < 0.7:
        return ["_parent"]
    fields = [*stream.keyable, "_key"]
    return dag.chance.sample(fields, min(len(fields), dag.chance.choice([0, 1, 1, 2, 2])))


def _parents(stream: Stream) -> bool:
    """Whether the rows are children, and a key names one parent only."""
    rows = stream.rows
    if not rows._recorder.depth(rows._node):
        return False
    origins: dict[str, set[int]] = {}
    for row in stream.expected:
        origins.setdefault(row["_parent"], set()).add(row.get("_origin", 0))
    return all(len(found) == 1 for found in origins.values())


def aggregated(dag: Dag, name: str) -> bool:
    stream = dag.children()
    by = _by(dag, stream)
    x = dag.chance.choice([*stream.numbers, None])
    made: dict[str, tuple[pl.Expr, Callable[[list[Any]], Any]]] = {
        "n": (pl.len(), len),
        "keys": (pl.col("_key").sort(), lambda rows: sorted(r["_key"] for r in rows)),
    }
    if x is not None:
        made |= {
            "sum": (pl.col(x).sum(), lambda rows: sum(r[x] for r in rows if r[x] is not None)),
            "top": (pl.col(x).max(), lambda rows: max(_known(rows, x), default=None)),
            "many": (pl.col(x).n_unique(), lambda rows: len({r[x] for r in rows})),
        }
    if stream.ordered and x is not None:
        made |= {
            "first": (pl.col(x).first(), lambda rows: rows[0][x]),
            "all": (pl.col(x), lambda rows: [r[x] for r in rows]),
        }
    if "s" in stream.rows.columns and dag.chance.random() < 0.3:  # fails on what is no number
        made["fussy"] = (
            pl.col("s").cast(pl.Int64).sum(),
            lambda rows: sum(int(r["s"]) for r in rows if r["s"] is not None),
        )
    chosen = dag.chance.sample(sorted(made), dag.chance.randint(1, len(made)))
    rows = stream.rows.group(*by, **{f"{name}{a}": made[a][0] for a in chosen})
    return _per_group(
        dag, stream, by, rows, lambda group: {f"{name}{a}": made[a][1](group) for a in chosen}
    )


def grouped(dag: Dag, name: str) -> bool:
    stream = dag.children()
    wide = [c for c in stream.numbers if stream.rows.columns[c].storage == pa.int64()]
    if not wide:
        return False
    by, x, bad = _by(dag, stream), dag.chance.choice(wide), _bad(dag)
    kind = dag.chance.choice(["total", "listed", "pick", "top"])
    if kind == "total":

        def total(group: list[Row]) -> Row | None:
            values = _known(group, x)
            return {name: hates(sum(values), bad)} if values else None

        rows = stream.rows.group(*by, operator=Total(bad), x=x, total=name)
        return _per_group(dag, stream, by, rows, total)
    if kind == "listed":
        if not stream.ordered:
            return False
        rows = stream.rows.group(*by, operator=Listed(), x=x, text=name, rows=f"{name}rows")
        return _per_group(
            dag, stream, by, rows,
            lambda group: {name: json.dumps([r[x] for r in group]), f"{name}rows": len(group)},
        )  # fmt: skip
    return _picked(dag, stream, by, x, bad if kind == "pick" else None)


def _picked(dag: Dag, stream: Stream, by: list[str], x: str, bad: int | None) -> bool:
    kept: list[int] = []
    failed = 0
    for group in _groups(stream, by).values():
        values = _known(group, x)
        if bad is None:
            if not stream.ordered:
                return False  # which of the equal ones is kept is not promised
            best = sorted(group, key=lambda r: (r[x] is None, -(r[x] or 0)))
            kept += [id(r) for r in best[:2]]
        elif values and max(values) % 7 == bad:
            failed += len(values)
        else:
            kept += [id(r) for r in group if values and r[x] == max(values)]
    if bad is None:
        rows = stream.rows.group(*by, operator=tabular.Top(2), value=x)
    else:
        rows = stream.rows.group(*by, operator=Largest(bad), x=x)
    expected = [r for r in stream.expected if id(r) in set(kept)]
    dropped = len(stream.expected) - len(expected) - failed
    dag.add(rows, expected, stream, ordered=False, dropped=dropped, failed=failed)
    return True


def _per_group(
    dag: Dag, stream: Stream, by: Sequence[str], rows: Any,
    answer: Callable[[list[Row]], Row | None],
) -> bool:  # fmt: skip
    expected: list[Row] = []
    dropped = failed = 0
    for key, group in _groups(stream, by).items():
        try:
            made = answer(group)
        except ValueError:
            failed += len(group)
            continue
        if made is None:
            dropped += len(group)
        else:
            expected.append({**_group_row(key, by, group), **made})
    dag.add(rows, expected, stream, ordered=False, dropped=dropped, failed=failed)
    return True


def collected(dag: Dag, name: str) -> bool:
    found = [s for s in dag.streams if _parents(s) and "n" in s.rows.columns]
    if not found:
        return False
    stream = dag.chance.choice(found)
    if any(r["_parent"] is None for r in stream.expected) and not stream.ordered:
        return False
    rows = stream.rows.apply(tabular.Collect("n"))

    def lists(group: list[Row]) -> Row:
        group = sorted(group, key=lambda r: (r["_index"] is not None, r["_index"] or 0))
        return {"n": [r["n"] for r in group], "count": len(group)}

    return _per_group(dag, stream, ["_parent"], rows, lists)


def ordered(dag: Dag, name: str) -> bool:
    stream = dag.some()
    limit = dag.chance.choice([None, 1, 3, 8])
    fields = [*stream.keyable, *stream.columns(pa.types.is_floating), "_key"]
    by = dag.chance.sample(fields, min(len(fields), dag.chance.choice([0, 1, 1, 2])))
    down = dag.chance.random() < 0.5
    if not by and (limit is None or not stream.ordered):
        return False
    expected = stream.expected
    for column in reversed(by):
        known = [r for r in expected if r[column] is not None]
        known.sort(key=lambda r: r[column], reverse=down)
        expected = known + [r for r in expected if r[column] is None]
    if limit is not None and limit < len(expected) and not stream.ordered:
        places = [_values(r, by) for r in expected]
        if places[limit - 1] == places[limit]:
            return False  # which of the equal ones is kept is not promised
    operator = tabular.Sort(*by, descending=down, limit=limit) if by else tabular.Limit(limit or 1)
    rows = stream.rows.apply(operator)
    dag.add(
        rows, expected[:limit], stream, ordered=stream.ordered,
        sorted_by=() if stream.ordered else tuple(by),
    )  # fmt: skip
    del dag.dropped[rows._node.id]  # a part of them was dropped before the phase ended
    return True


def _bad(dag: Dag) -> int:
    return dag.chance.choice([*range(7), 7, 7, 7, 7])  # with 7 nobody fails


def _known(rows: Iterable[Row], x: str) -> list[Any]:
    return [r[x] for r in rows if r[x] is not None]


def _values(row: Row, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[n] for n in names)


def _equal(left: Row, right: Row, on: Sequence[tuple[str, str]]) -> bool:
    return all(left[a] is not None and left[a] == right[b] for a, b in on)


def _only(row: Row, columns: Iterable[str]) -> Row:
    return {c: row[c] for c in (*columns, *OWN, "_origin") if c in row}


def _storage(stream: Stream, column: str) -> pa.DataType:
    kinds = stream.rows.columns
    return kinds[column].storage if column in kinds else pa.string()


def _family(storage: pa.DataType) -> str:
    for test in (pa.types.is_signed_integer, pa.types.is_unsigned_integer):
        if test(storage):
            return test.__name__
    return str(storage)


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
            assert [_values(r, places) for r in found] == [_values(r, places) for r in expected]


def _sorted(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["_key"], repr(row)))
