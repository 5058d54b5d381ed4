"""Every refusal of a union, a join, a group and an order, with the line it is on and what to do.

A case is a line of a pipeline: what it does with rows, and what it is refused with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.operators import tabular
from weft.pipelines.fields import Fields, arrow_schema
from weft.pipelines.types import Embedding, Encoded, Image, Timestamp, Type

Case = tuple[Callable[..., Any], str]

VALUES: dict[str, tuple[Type, Any]] = {
    "id": (weft.Text(), ["a"]),
    "n": (weft.Int64(), [1]),
    "small": (weft.Int32(), np.array([1], np.int32)),
    "score": (weft.Float64(), [1.0]),
    "day": (Timestamp(), [datetime(2026, 1, 1, tzinfo=UTC)]),
    "vector": (Embedding(4), np.zeros((1, 4), np.float32)),
    "photo": (Image(64, 64), np.zeros((1, 64, 64, 3), np.uint8)),
    "content": (Encoded("image"), [b""]),
}


def source(*names: str) -> Arrow:
    kinds = Fields({n: VALUES[n][0] for n in names or VALUES})
    arrays = [kind.to_arrow(VALUES[n][1]) for n, kind in kinds.items()]
    return Arrow(pa.table(arrays, schema=arrow_schema(kinds)))


OTHER = Arrow(
    {"id": ["a"], "m": [1], "text": ["t"], "when": [2.0], "clock": [datetime(2026, 1, 1)]}
)

A = (
    "id: Text, n: Int64, small: Int32, score: Float64, day: Timestamp, vector: Embedding(4), "
    "photo: Image(64x64), content: Encoded('image')"
)
B = "id: Text, m: Int64, text: Text, when: Float64, clock: timestamp[us]"
NAMES = "id, n, small, score, day, vector, photo, content"


@weft.operator(version="1")
def length(n: int) -> int:
    return n


@weft.operator(version="1")
def letters(n: int) -> list[str]:
    return ["x"] * n


@dataclass(frozen=True)
class Total(weft.Group):
    version = "1"
    reads = weft.fields(n=int)
    writes = weft.fields(total=int)

    def group(self, rows: Any, loaded: Any) -> int:
        return int(sum(rows["n"]))


@dataclass(frozen=True)
class Best(weft.Pick):
    version = "1"
    reads = weft.fields(n=int)

    def pick(self, rows: Any, loaded: Any) -> list[bool]:
        return [True] * len(rows["n"])


@dataclass(frozen=True)
class Unfinished(weft.Group):
    version = "1"
    reads = weft.fields(n=int)
    writes = weft.fields(total=int)


class Heavy(Total):
    resources = weft.Resources(gpus=1)


@dataclass(frozen=True)
class Backwards(weft.Order):
    by: tuple[str, ...] = ()
    limit: int | None = None
    version = "1"


@dataclass(frozen=True)
class Lost(weft.Compose):
    version = "1"

    def compose(self, rows: Any, **columns: str) -> Any:
        return len(columns)


def refused(verb: Callable[..., Any]) -> str:
    """What a pipeline is refused with that ends in `verb`, after the line, which must be its."""

    @weft.pipeline
    def made() -> Any:
        return verb(weft.read(source()), weft.read(OTHER)).write(Memory("x"))

    with pytest.raises(DefinitionError) as error:
        made()
    place, _, *message = str(error.value).split("\n")
    lines = {line for _, _, line in verb.__code__.co_lines() if line is not None}
    assert place in {f"{__file__}:{line}" for line in lines}
    return "\n".join(message)


def each(*cases: Case) -> Any:
    return pytest.mark.parametrize(("verb", "message"), cases, ids=[c[1][:40] for c in cases])


@each(
    (lambda a, b: a.union(), "union() needs at least two streams of rows."),
    (lambda a, b: a.union("b"), "union() takes rows; given 'b'."),
    (lambda a, b: weft.union("a", b), "union() takes rows; given 'a'."),
    (lambda a, b: a.union(a, missing="fill"), "missing='fill'; expected 'refuse' or 'null'."),
    (
        lambda a, b: a.select("id", "n").union(b.select("id")),
        "union(): stream 2 has no column 'n'; it has id: Text. select() the same columns of each, "
        'or fill in null: missing="null"',
    ),
    (
        lambda a, b: a.select("id").union(a.select("id"), b.select("id", "m")),
        "union(): stream 1 has no column 'm'; it has id: Text. select() the same columns of each, "
        'or fill in null: missing="null"',
    ),
    (
        lambda a, b: a.select("n").union(b.with_columns(n=pl.col("text")).select("n")),
        "union(): column 'n' is Int64 in one stream and Text in another. Make them one type "
        'before: with_columns(pl.col("n").cast(…)), or name one of them otherwise.',
    ),
    (
        lambda a, b: a.select("n").union(a.with_columns(n=pl.col("score")).select("n")),
        "union(): column 'n' is Int64 in one stream and Float64 in another. Make them one type "
        'before: with_columns(pl.col("n").cast(…)), or name one of them otherwise.',
    ),
    (
        lambda a, b: a.select("vector").union(
            a.with_columns(vector=pl.col("photo")).select("vector")
        ),
        "union(): column 'vector' is Embedding(4) in one stream and Image(64x64) in another. Make "
        "them one type before, or name one of them otherwise.",
    ),
)  # fmt: skip
def test_union(verb: Callable[..., Any], message: str) -> None:
    assert refused(verb) == message


@each(
    (
        lambda a, b: a.join(OTHER, on="id"),
        "join() takes rows; given Arrow(<1 rows: id, m, text, when, clock>).",
    ),
    (lambda a, b: a.join(b), 'join() needs columns to join on: on="id", or on="_key".'),
    (
        lambda a, b: a.join(b, on="id", left_on="n", right_on="m"),
        "join() takes on=…, or left_on=… and right_on=…; given both.",
    ),
    (
        lambda a, b: a.join(b, left_on="n"),
        "join(): left_on and right_on name pairs of columns; given 1 and 0.",
    ),
    (
        lambda a, b: a.join(b, on="idd"),
        f"join(): the left has no column 'idd'; it has {A}. Did you mean 'id'?",
    ),
    (
        lambda a, b: a.join(b, on="n"),
        f"join(): the right has no column 'n'; it has {B}. If the names differ, say left_on=…, "
        "right_on=….",
    ),
    (
        lambda a, b: a.join(b, on="_source"),
        "There is no column '_source'. Of the engine's own, _key, _parent, _index, _count can be "
        "used.",
    ),
    (
        lambda a, b: a.join(b, on=["id", "id"]),
        "join(): 'id' is named twice. Leave one of them out.",
    ),
    (
        lambda a, b: a.join(b, left_on="score", right_on="when"),
        "Column 'score' is Float64, which cannot be a key: expected text, integers, booleans, "
        "dates or timestamps. Round or cast it with with_columns() before.",
    ),
    (
        lambda a, b: a.join(a, on="vector", suffix="_right"),
        "Column 'vector' is Embedding(4), which cannot be a key: expected text, integers, "
        "booleans, dates or timestamps. Round or cast it with with_columns() before.",
    ),
    (
        lambda a, b: a.join(b, left_on="n", right_on="id"),
        "join(): 'n' is Int64 on the left and 'id' is Text on the right. Cast one of them before.",
    ),
    (
        lambda a, b: a.join(b, left_on="_key", right_on="m"),
        "join(): '_key' is Text on the left and 'm' is Int64 on the right. Cast one of them "
        "before.",
    ),
    (
        lambda a, b: a.join(b, left_on="day", right_on="clock"),
        "join(): 'day' is Timestamp on the left and 'clock' is timestamp[us] on the right. Cast "
        "one of them before.",
    ),
    (
        lambda a, b: a.select("id", "n").join(a.select("id", "n"), on="id"),
        "join(): both sides have 'n'. Name those of the right apart with suffix=\"_right\", or "
        "select() what you need of it before.",
    ),
    (
        lambda a, b: a.with_columns(n_r=pl.col("n")).join(a, on="id", suffix="_r"),
        "join(): with suffix='_r' there would be two columns 'n_r'. Choose another suffix.",
    ),
    (
        lambda a, b: a.join(a, on="id", suffix=""),
        "join(): suffix=''; expected text such as \"_right\".",
    ),
    (
        lambda a, b: a.join(a, on="id", suffix=1),
        'join(): suffix=1; expected text such as "_right".',
    ),
    (
        lambda a, b: a.join(a, on="id", how="semi", suffix="_r"),
        "join(): how='semi' brings no column, so nothing needs a suffix; given '_r'.",
    ),
    (
        lambda a, b: a.group("id", best="count"),
        "group() takes Polars aggregates such as best=pl.len() or "
        "best=pl.col(\"x\").max(); given best='count'.",
    ),
    (
        lambda a, b: a.union([b.select("m")]),
        "union() takes rows; given [<rows of select: m: Int64>]. Give them one by one: "
        "union(*rows).",
    ),
    (
        lambda a, b: a.apply(tabular.Sort("id"), on_error="raise"),
        "on_error='raise' is for operators that work on rows; tabular.Sort has no row that could "
        "fail in it.",
    ),
    (
        lambda a, b: a.group("id", operator=tabular.Sort("id")),
        "group() takes a Group or a Pick operator; given Sort(by=('id',), descending=False, "
        "limit=None). It works on all rows, and goes into apply().",
    ),
    (
        lambda a, b: a.join(b, on="id", how="iner"),
        "join(): how='iner'; expected 'inner', 'left', 'semi', 'anti'. Did you mean 'inner'?",
    ),
    (
        lambda a, b: a.join(b, on="id", how="outer"),
        "join(): how='outer'; expected 'inner', 'left', 'semi', 'anti'.",
    ),
)  # fmt: skip
def test_join(verb: Callable[..., Any], message: str) -> None:
    assert refused(verb) == message


@pytest.mark.parametrize(
    "verb",
    [
        lambda a, b: a.join(b, on=pl.col("id")),
        lambda a, b: a.join(b, on=[pl.col("id")]),
        lambda a, b: a.join(b, left_on="id", right_on=[pl.col("id")]),
        lambda a, b: a.join(b, on="id", asof=pl.col("score")),
    ],
)
def test_join_on_what_is_no_name(verb: Callable[..., Any]) -> None:
    message = refused(verb)
    assert " takes names of columns; given <Expr ['col(\"" in message
    assert message.endswith("What is computed must be a column first: with_columns(…)")


@each(
    (
        lambda a, b: a.join(b, on="id", asof=("score", "when"), how="semi"),
        "join(): with asof it is 'inner' or 'left'; given how='semi'.",
    ),
    (
        lambda a, b: a.join(b, on="id", asof="score"),
        f"join(): the right has no column 'score'; it has {B}. If the names differ, say "
        "asof=(…, …).",
    ),
    (
        lambda a, b: a.join(b, asof=("score", "m")),
        "join(): asof needs one type of times or numbers on both sides; 'score' is Float64 and "
        "'m' is Int64.",
    ),
    (
        lambda a, b: a.join(b, asof="id"),
        "join(): asof needs one type of times or numbers on both sides; 'id' is Text and 'id' is "
        "Text.",
    ),
    (
        lambda a, b: a.join(b, asof=("score", "when", "m")),
        "join(): asof=('score', 'when', 'm'); expected a column, or a pair of one of the left and "
        "one of the right.",
    ),
    (
        lambda a, b: a.join(a, on="n", asof="n", suffix="_right"),
        "join(): 'n' is named twice. Leave one of them out.",
    ),
    (
        lambda a, b: a.join(b, asof=("score", "when"), strategy="nearst"),
        "join(): strategy='nearst'; expected 'backward', 'forward', 'nearest'. Did you mean "
        "'nearest'?",
    ),
    (
        lambda a, b: a.join(b, on="id", strategy="nearest"),
        'join(): strategy is for asof="column", which is not given.',
    ),
    (
        lambda a, b: a.join(b, on="id", tolerance=3),
        'join(): tolerance is for asof="column", which is not given.',
    ),
    (
        lambda a, b: a.join(b, asof=("score", "when"), tolerance=timedelta(seconds=1)),
        "join(): tolerance=datetime.timedelta(seconds=1); for 'score', which is Float64, expected "
        "a number.",
    ),
    (
        lambda a, b: a.join(b, asof=("score", "when"), tolerance="1s"),
        "join(): tolerance='1s'; for 'score', which is Float64, expected a number.",
    ),
    (
        lambda a, b: a.join(a, asof="day", tolerance=1, suffix="_right"),
        "join(): tolerance=1; for 'day', which is Timestamp, expected a datetime.timedelta.",
    ),
    (
        lambda a, b: a.join(b, asof=("score", "when"), tolerance=-1),
        "join(): tolerance=-1; expected at least 0.",
    ),
    (
        lambda a, b: a.join(b, asof=("score", "when"), tolerance=float("nan")),
        "join(): tolerance=nan; expected at least 0.",
    ),
)
def test_asof(verb: Callable[..., Any], message: str) -> None:
    assert refused(verb) == message


NO_AGGREGATES = "group() needs aggregates, such as n=pl.len(), or an operator: operator=Top(3)."
NO_PARENTS = (
    "group('_parent') brings children back to their parents, and these rows have none: no operator "
    "before makes several rows of one."
)


@each(
    (lambda a, b: a.group("n"), NO_AGGREGATES),
    (lambda a, b: a.group(), NO_AGGREGATES),
    (
        lambda a, b: a.group(["n", "id"], rows=pl.len()),
        "group() takes names of columns; given ['n', 'id']. Give each for itself: "
        "group('n', 'id', …)",
    ),
    (
        lambda a, b: a.group("n", Total()),
        "group() takes names of columns; given Total(). An operator is given by name: "
        "operator=Total(…)",
    ),
    (
        lambda a, b: a.group("nn", rows=pl.len()),
        f"There is no column 'nn'. Given: {NAMES}. Did you mean 'n'?",
    ),
    (
        lambda a, b: a.group("score", rows=pl.len()),
        "Column 'score' is Float64, which cannot be a key: expected text, integers, booleans, "
        "dates or timestamps. Round or cast it with with_columns() before.",
    ),
    (lambda a, b: a.group("n", "n", rows=pl.len()), "group(): a column is named twice: n, n."),
    (
        lambda a, b: a.group("n", best=pl.col("scor").max()),
        f"There is no column 'scor'. Given: {NAMES}. Did you mean 'score'?",
    ),
    (
        lambda a, b: a.group("n", n=pl.len()),
        "group(): aggregate 'n' has the name of a column of the key. Name it otherwise.",
    ),
    (
        lambda a, b: a.group("n", best=pl.col("score").max().over("id")),
        'col("score").max().over([col("id")]).alias("best") has a window, over(), which looks at '
        "rows of other groups. Aggregate with group() and join() the result to the rows.",
    ),
    (lambda a, b: a.group("_parent", rows=pl.len()), NO_PARENTS),
    (lambda a, b: a.apply(tabular.Collect("n")), NO_PARENTS),
    (
        lambda a, b: a.apply(letters).group("n", rows=pl.len()).group("_parent", m=pl.len()),
        NO_PARENTS,
    ),
    (lambda a, b: b.join(a.apply(letters), on="id").group("_parent", m=pl.len()), NO_PARENTS),
    (
        lambda a, b: a.apply(letters).group("_parent", "n", rows=pl.len()),
        "group('_parent') stands alone: children of one parent are a group.",
    ),
    (
        lambda a, b: a.group("_read", rows=pl.len()),
        "There is no column '_read'. Of the engine's own, _key, _parent, _index, _count can be "
        "used.",
    ),
)  # fmt: skip
def test_group(verb: Callable[..., Any], message: str) -> None:
    assert refused(verb) == message


def test_group_by_what_is_no_name() -> None:
    message = refused(lambda a, b: a.group("n", pl.len()))
    assert message.startswith("group() takes names of columns; given <Expr ['len()']")
    assert message.endswith(">. Aggregates have names: n=pl.len()")


@each(
    (
        lambda a, b: a.group("id", operator=length),
        "group() takes a Group or a Pick operator; given <operator length>. What works row by row "
        "goes into apply().",
    ),
    (
        lambda a, b: a.group("id", operator=Total),
        "group() takes a Group or a Pick operator; given Total. Make one: Total()",
    ),
    (
        lambda a, b: a.group("id", operator=Unfinished()),
        "Operator Unfinished must define group(rows, loaded); it does not.",
    ),
    (
        lambda a, b: a.group("id", operator=Heavy()),
        "Heavy asks for cpus=1 gpus=1; what works on groups runs as a plain task on one CPU. Let a "
        "Map do the model's work before.",
    ),
    (
        lambda a, b: a.group("id", operator=Total(), on_error="null"),
        "on_error='null'; expected 'quarantine' or 'raise'.",
    ),
    (
        lambda a, b: a.apply(Total()),
        "apply() takes an operator; given Total(). It works on rows that share a key: "
        'rows.group("column", operator=Total())',
    ),
    (
        lambda a, b: a.apply(Best()),
        "apply() takes an operator; given Best(). It works on rows that share a key: "
        'rows.group("column", operator=Best())',
    ),
)
def test_operators_on_groups(verb: Callable[..., Any], message: str) -> None:
    assert refused(verb) == message


@pytest.mark.parametrize(
    ("verb", "start"),
    [
        (
            lambda a, b: a.group("id", operator=Total(), m="n"),
            "Total has no port 'm'. It reads (n: Int64) and writes (total: Int64).",
        ),
        (
            lambda a, b: a.group("id", operator=Total(), n="photo"),
            "Total reads port 'n' as Int64; column 'photo' is Image(64x64). ",
        ),
        (
            lambda a, b: a.select("id").group("id", operator=Best()),
            "Best reads port 'n' (Int64) from column 'n', and there is no such column. ",
        ),
        (
            lambda a, b: a.group("id", operator=Total(), total="id"),
            "Total would overwrite column 'id'. ",
        ),
        (
            lambda a, b: a.group("n", operator=Total(), total="n"),
            "Total would overwrite 'n', a column of the key. Name its output.",
        ),
    ],
)
def test_ports_of_operators_on_groups(verb: Callable[..., Any], start: str) -> None:
    assert refused(verb).startswith(start)


@each(
    (
        lambda a, b: a.apply(tabular.Sort("nn")),
        f"There is no column 'nn'. Given: {NAMES}. Did you mean 'n'?",
    ),
    (
        lambda a, b: a.apply(tabular.Sort("id", "photo")),
        "tabular.Sort: column 'photo' is Image(64x64), which has no order. Expected text, numbers, "
        "booleans, dates or timestamps.",
    ),
    (
        lambda a, b: a.apply(tabular.Sort),
        "apply() takes an operator; given Sort. Make one: Sort()",
    ),
    (lambda a, b: a.apply(Backwards()), "Backwards needs columns to sort by, or a limit."),
    (
        lambda a, b: a.apply(Backwards(("n",), -1)),
        "Backwards: limit=-1; expected at least 0.",
    ),
    (
        lambda a, b: a.apply(Lost()),
        "Lost.compose() must return rows; given 0.",
    ),
    (
        lambda a, b: a.apply(letters).apply(tabular.Collect("nn")),
        f"There is no column 'nn'. Given: {NAMES}, letters. Did you mean 'n'?",
    ),
)
def test_order_and_compose(verb: Callable[..., Any], message: str) -> None:
    assert refused(verb) == message


def test_rows_of_another_pipeline() -> None:
    escaped: list[Any] = []

    @weft.pipeline
    def first() -> Any:
        escaped.append(weft.read(source()))
        return escaped[0].write(Memory("x"))

    first()
    assert refused(lambda a, b: a.union(escaped[0])) == "union() takes rows of the same pipeline."
    assert refused(lambda a, b: a.join(escaped[0], on="id")) == (
        "join() takes rows of the same pipeline."
    )


def columns(verb: Callable[..., Any]) -> str:
    """The columns after `verb`."""
    found: list[str] = []

    @weft.pipeline
    def made() -> Any:
        a, b = weft.read(source("id", "n", "small", "score")), weft.read(OTHER)
        rows = verb(a, b)
        found.append(str(rows.columns))
        return a.write(Memory("a")), b.write(Memory("b")), rows.write(Memory("x"))

    made()
    return found[0]


@pytest.mark.parametrize(
    ("verb", "after"),
    [
        (lambda a, b: a.select("id", "n").union(a.select("n", "id")), "id: Text, n: Int64"),
        (
            lambda a, b: a.select("n").union(a.with_columns(n=pl.col("small")).select("n")),
            "n: Int64",
        ),
        (
            lambda a, b: a.select("id").union(b.select("id", "m"), missing="null"),
            "id: Text, m: Int64?",
        ),
        (
            lambda a, b: a.join(b.select("id", "m"), on="id"),
            "id: Text, n: Int64, small: Int32, score: Float64, m: Int64",
        ),
        (
            lambda a, b: a.select("id").join(b.select("id", "m"), on="id", how="left"),
            "id: Text, m: Int64?",
        ),
        (lambda a, b: a.select("id").join(b, on="_key", how="semi"), "id: Text"),
        (lambda a, b: a.select("id").join(b, on="id", how="anti"), "id: Text"),
        (
            lambda a, b: a.select("id", "small").join(
                b.select("id", "m"), left_on="small", right_on="m", suffix="_r"
            ),
            "id: Text, small: Int32, id_r: Text",
        ),
        (
            lambda a, b: a.select("score").join(b.select("m", "when"), asof=("score", "when")),
            "score: Float64, m: Int64, when: Float64",
        ),
        (
            lambda a, b: a.group("id", rows=pl.len(), best=pl.col("score").max()),
            "id: Text, rows: UInt32, best: Float64",
        ),
        (lambda a, b: a.group("_key", first=pl.col("id").first()), "first: Text"),
        (lambda a, b: a.group("id", operator=Total()), "id: Text, total: Int64"),
        (lambda a, b: a.select("id", "n").group("id", operator=Best()), "id: Text, n: Int64"),
        (
            lambda a, b: a.apply(letters).apply(tabular.Collect("n", keep="id")),
            "id: Text, n: list<item: int64>?, count: UInt32",
        ),
        (lambda a, b: b.select("m").apply(tabular.Sort("m", limit=1)), "m: Int64"),
    ],
)
def test_columns_after(verb: Callable[..., Any], after: str) -> None:
    assert columns(verb) == after
