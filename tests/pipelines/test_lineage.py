"""`why` names the rows and versions that a row came from, as a naive reference does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import lance
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Files, Lance, Parquet
from weft.errors import DefinitionError
from weft.pipelines import tables
from weft.pipelines.batch import ENVELOPE, MET, Batch, Column
from weft.pipelines.engines.runners import Work
from weft.pipelines.observe import columns, record
from weft.pipelines.observe.lineage import Origin, Row, why
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.places import errors_uri, ledger_uri


@weft.operator(version="1")
def lines(content: weft.Encoded) -> Iterator[weft.fields(line=str)]:  # type: ignore[valid-type]
    text = content.decode()
    if "broken" in text:
        raise ValueError("a broken file")
    return ({"line": line} for line in text.splitlines())


@weft.operator(version="1")
def words(line: str) -> Iterator[weft.fields(word=str)]:  # type: ignore[valid-type]
    return ({"word": word} for word in line.split())


@weft.operator(version="1")
def shout(word: str) -> str:
    if word == "mute":
        raise ValueError("it cannot shout")
    return word.upper()


@weft.pipeline
def to_lines(source: str, out: str) -> Any:
    rows = weft.read(Files(source, kind="text")).where(pl.col("size") > 0).apply(lines)
    return rows.where(pl.col("line") != "skip").select("key", "line").write(Lance(out))


@weft.pipeline
def to_words(source: str, out: str) -> Any:
    rows = weft.read(Lance(source)).apply(words).where(pl.col("word") != "drop")
    return rows.select("key", "word").write(Lance(out))


@weft.pipeline
def to_shouts(source: str, out: str, on_error: str = "quarantine") -> Any:
    rows = weft.read(Lance(source)).apply(shout, on_error=on_error)
    return rows.select("word", "shout").write(Lance(out))


def run(pipeline: Any) -> Any:
    return pipeline.run(engine="local", budget=Budget(rows=1000))


class Chain:
    """Files to lines to words to shouts: three datasets, each made of the one before."""

    def __init__(self, folder: Path) -> None:
        self.files = folder / "texts"
        self.files.mkdir()
        self.runs: list[Any] = []
        self.lines, self.words, self.shouts = (
            str(folder / f"{name}.lance") for name in ("lines", "words", "shouts")
        )

    def write(self, **texts: str) -> None:
        for name, text in texts.items():
            (self.files / name).write_text(text)

    def run(self) -> list[Any]:
        self.runs = [
            run(to_lines(source=str(self.files), out=self.lines)),
            run(to_words(source=self.lines, out=self.words)),
            run(to_shouts(source=self.words, out=self.shouts)),
        ]
        return self.runs


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path)
    made.write(a="one two\nthree", b="four\nskip\nfive drop six", c="broken", d="mute seven", e="")
    made.run()
    return made


def the(rows: Sequence[Row]) -> Row:
    (row,) = rows
    return row


def origin(row: Row) -> Origin:
    (found,) = row.origins
    return found


def path(row: Row) -> list[tuple[str, str]]:
    """The way back where there is one: of each step how, and the key."""
    found = []
    while row.origins:
        step = origin(row)
        found.append((step.how, step.key))
        if not step.rows:
            break
        row = the(step.rows)
    return found


def roots(row: Row) -> list[tuple[str, str, str]]:
    """The rows of files and of other tables that a row came from: name, key and version."""
    found = []
    for step in row.origins:
        if step.how == "read" and not step.rows:
            found.append((step.source["name"], step.key, step.version))
        for other in step.rows:
            found += roots(other)
    return found


def test_a_chain_of_three_datasets(chain: Chain) -> None:
    row = the(why(chain.shouts, "b#2#2"))
    assert (row.outcome, row.step, row.version) == ("kept", "write", 2)
    assert path(row) == [
        ("read", "b#2#2"),
        ("child", "b#2"),
        ("read", "b#2"),
        ("child", "b"),
        ("read", "b"),
    ]
    word = the(origin(row).rows)
    assert (word.dataset, word.run) == (chain.words, chain.runs[1].run)
    child = origin(word)
    assert (child.step, child.count, child.says) == ("words", 3, "words  line -> word")
    file = chain.files / "b"
    stat = file.stat()
    assert roots(row) == [("Files", "b", f"{stat.st_size}-{stat.st_mtime_ns}")]
    (read,) = the(origin(the(origin(the(child.rows)).rows)).rows).origins
    assert read.source["paths"] == [str(chain.files)]


def test_rows_that_are_not_in_the_dataset(chain: Chain) -> None:
    failed = the(why(chain.lines, "c"))
    (fault,) = failed.faults
    assert (failed.outcome, fault.step, fault.error) == ("failed", "lines", "ValueError")
    assert fault.message == "a broken file"
    empty = the(why(chain.lines, "e"))
    assert (empty.outcome, empty.step, empty.says) == ("dropped", "where", 'col("size") > 0')
    assert path(empty) == [("read", "e")]
    skipped = the(why(chain.lines, "b#1"))
    assert (skipped.step, skipped.says) == ("where_2", 'col("line") != "skip"')
    assert path(skipped) == [("child", "b"), ("read", "b")]
    parent = the(why(chain.lines, "b"))
    assert (parent.outcome, parent.step, parent.children) == ("expanded", "lines", 3)
    mute = the(why(chain.shouts, "d#0#0"))
    assert (mute.outcome, mute.faults[0].message) == ("failed", "it cannot shout")
    assert path(mute)[-1] == ("read", "d")


def test_nulls_say_why(chain: Chain, tmp_path: Path) -> None:
    out = str(tmp_path / "nulls.lance")
    run(to_shouts(source=chain.words, out=out, on_error="null"))
    row = the(why(out, "d#0#0"))
    (fault,) = row.faults
    assert (row.outcome, fault.outcome, fault.step) == ("kept", "nulled", "shout")
    assert the(why(out, "d#0#1")).faults == ()


def test_rows_name_the_versions_that_wrote_them(chain: Chain) -> None:
    """Of one version of a dataset, one row came from one version of its source, another from
    another; and an older version has the rows that it had."""
    first = chain.runs
    chain.write(a="uno")
    second = chain.run()
    new, old = the(why(chain.shouts, "a#0#0")), the(why(chain.shouts, "d#0#1"))
    assert [the(origin(r).rows).version for r in (new, old)] == [3, 2]
    assert new.written is None
    assert (old.version, old.run, old.written) == (3, second[2].run, first[2].run)
    before = the(why(chain.shouts, "a#0#0", 2))
    assert (before.version, before.written) == (2, None)
    assert the(origin(before).rows).version == 2
    assert roots(before)[0][2].startswith("13-")
    assert roots(new)[0][2].startswith("3-")
    assert why(chain.shouts, "a#0#0", f"run-{before.run}") == (before,)


def test_a_row_that_is_gone(chain: Chain) -> None:
    first = chain.runs[0].run
    chain.write(a="uno")
    chain.run()
    with pytest.raises(DefinitionError, match=rf"saw no row 'a#1'. Run {first} did: --version 2"):
        why(chain.lines, "a#1")
    assert the(why(chain.lines, "a#1", 2)).outcome == "kept"


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("texts/B", "Did you mean 'b' or 'b#0' or 'b#1'"),
        ("a#00", "Did you mean 'a#0'"),
        ("nothing", "'nothing'.$"),
    ],
)
def test_a_key_that_was_never_seen(chain: Chain, key: str, hint: str) -> None:
    with pytest.raises(DefinitionError, match=rf"made version 2, saw no row .*{hint}"):
        why(chain.lines, key)


def test_datasets_that_cannot_say(chain: Chain, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="There is no Lance table at"):
        why(str(tmp_path / "no.lance"), "a")
    with pytest.raises(DefinitionError, match="has no version 9"):
        why(chain.lines, "a", 9)
    with pytest.raises(DefinitionError, match="No run of weft made version 1 of"):
        why(chain.lines, "a", 1)
    foreign = str(tmp_path / "foreign.lance")
    lance.write_dataset(pa.table({"x": [1]}), foreign)
    with pytest.raises(DefinitionError, match=r"foreign.lance has no published version"):
        why(foreign, "a")


def test_a_run_that_noted_nothing(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "old.lance")
    with monkeypatch.context() as patch:
        patch.setattr(record, "properties", lambda plan: {})
        run(to_lines(source=str(chain.files), out=out))
    with pytest.raises(DefinitionError, match="did not note where rows came from"):
        why(out, "a#0")
    run(to_words(source=out, out=chain.words))
    read = origin(the(origin(the(why(chain.words, "a#0#0"))).rows))
    assert read.rows == ()
    assert "did not note where rows came from" in read.note


def test_the_way_ends_where_a_dataset_is_gone(chain: Chain) -> None:
    shutil.rmtree(chain.lines)
    read = origin(the(origin(the(why(chain.words, "a#0#1"))).rows))
    assert read.note == f"There is no Lance table at {chain.lines}. Check the path."
    shutil.rmtree(f"{chain.lines}.weft")
    run(to_lines(source=str(chain.files), out=chain.lines))
    read = origin(the(origin(the(why(chain.words, "a#0#1"))).rows))
    assert read.note == f"Another dataset is at {chain.lines} now."


def test_a_version_that_no_run_made(chain: Chain, tmp_path: Path) -> None:
    """Somebody else appends a row: rows of weft go on to be found, that one ends the way."""
    added = tables.read(chain.lines, "latest").slice(0, 1).set_column(0, "_key", [["x"]])
    lance.write_dataset(added, chain.lines, mode="append")
    out = str(tmp_path / "of_newest.lance")

    @weft.pipeline
    def newest(out: str) -> Any:
        return weft.read(Lance(chain.lines, version=3)).select("line").write(Lance(out))

    run(newest(out=out))
    assert "or no run of weft made it" in origin(the(why(out, "x"))).note
    assert path(the(why(out, "a#0")))[-1] == ("read", "a")


def test_keys_of_a_column(chain: Chain, tmp_path: Path) -> None:
    """A dataset of weft may be read by another key than its own; the way is found all the same."""
    named, numbered, out, other = (str(tmp_path / f"{n}.lance") for n in ("n", "m", "o", "p"))
    table = pa.table({"name": ["it's", "b"], "number": [7, 8]})

    @weft.pipeline
    def first(out: str, key: str) -> Any:
        return weft.read(Arrow(table, key=key)).write(Lance(out))

    @weft.pipeline
    def again(source: str, out: str, key: str) -> Any:
        return weft.read(Lance(source, key=key)).select("name").write(Lance(out))

    run(first(out=named, key="name"))
    run(again(source=named, out=out, key="number"))
    assert path(the(why(out, "7"))) == [("read", "7"), ("read", "it's")]
    run(first(out=numbered, key="number"))
    run(again(source=numbered, out=other, key="name"))
    assert path(the(why(other, "it's"))) == [("read", "it's"), ("read", "7")]
    assert roots(the(why(other, "it's")))[0][:2] == ("Arrow", "7")


def test_tables_of_others(tmp_path: Path) -> None:
    plain, file = str(tmp_path / "plain.lance"), tmp_path / "rows.parquet"
    table = pa.table({"name": ["a", "b"]})
    lance.write_dataset(table, plain, enable_stable_row_ids=True)
    pq.write_table(table, file)

    @weft.pipeline
    def copies(parquet: str, out: str) -> Any:
        rows = weft.read(Lance(plain, key="name")), weft.read(Parquet(parquet))
        return rows[0].write(Lance(f"{out}/a.lance")), rows[1].write(Lance(f"{out}/b.lance"))

    run(copies(parquet=str(file), out=str(tmp_path)))
    read = origin(the(why(f"{tmp_path}/a.lance", "b")))
    assert (read.source["path"], read.version, read.rows, read.note) == (plain, "1", (), "")
    read = origin(the(why(f"{tmp_path}/b.lance", "rows.parquet#1")))
    assert (read.step, read.source["paths"]) == ("read_2", [str(file)])


def test_an_index_is_a_version_with_the_rows_of_the_run_before(
    chain: Chain, tmp_path: Path
) -> None:
    lance.dataset(chain.lines).create_scalar_index("key", "BTREE")
    out = str(tmp_path / "out.lance")

    @weft.pipeline
    def copies(out: str) -> Any:
        return weft.read(Lance(chain.lines, version=3)).select("line").write(Lance(out))

    run(copies(out=out))
    assert the(origin(the(why(out, "a#0"))).rows).version == 2
    row = the(why(chain.lines, "a#0", 3))
    assert (row.version, row.run, row.written) == (3, chain.runs[0].run, None)


def test_many_keys_are_several_filters(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "_FILTER_KEYS", 2)
    found = record.record_of(chain.lines, None).ends(["a#0", "a#1", "b", "c", "no"])
    assert {e.key for e in found} == {"a#0", "a#1", "b", "c"}


def test_where_a_column_came_from(chain: Chain) -> None:
    row = the(why(chain.shouts, "b#2#2"))

    def way(made: Sequence[columns.Made]) -> list[tuple[str, str, str]]:
        (one,) = made
        rest = way(one.of) if one.of else []
        return [(Path(one.dataset).stem, one.step, one.column), *rest]

    assert way(columns.made(row, "shout")) == [
        ("shouts", "shout", "shout"),
        ("shouts", "read", "word"),
        ("words", "words", "word"),
        ("words", "read", "line"),
        ("lines", "lines", "line"),
        ("lines", "read", "content"),
    ]
    with pytest.raises(
        DefinitionError, match=r"has no column 'shot'. It has: word, shout. Did you"
    ):
        columns.made(row, "shot")
    assert columns.made(the(why(chain.lines, "c")), "line") == ()


def test_expressions_copy_and_compute(tmp_path: Path) -> None:
    table = pa.table({"id": ["a"], "x": [1], "y": [2]})
    out = str(tmp_path / "o.lance")

    @weft.pipeline
    def sums(out: str) -> Any:
        rows = weft.read(Arrow(table, key="id"))
        rows = rows.with_columns((pl.col("x") + pl.col("y")).alias("z"), pl.col("x").alias("w"))
        return rows.select("z", "w", "y").write(Lance(out))

    run(sums(out=out))
    row = the(why(out, "a"))
    (z,), (y,) = columns.made(row, "z"), columns.made(row, "y")
    assert (z.step, [m.column for m in z.of]) == ("with_columns", ["x", "y"])
    assert (y.kind, y.step, y.source["source"]) == ("read", "read", "Arrow")


# Rows that meet, on ledgers that are written by hand.

LEDGER = pa.schema(
    [
        *(pa.field(name, pa.string(), False) for name in ("_key", "_source", "outcome", "step")),
        pa.field("_parent", pa.string()),
        pa.field("children", pa.int32()),
        *(pa.field(name, pa.string()) for name in ("read", "into")),
        pa.field("joined", pa.list_(pa.struct([("step", pa.string()), ("key", pa.string())]))),
    ]
)


def step(kind: str, *inputs: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "says": kind, "inputs": list(inputs), **more}


def files(name: str) -> dict[str, Any]:
    return step("read", source={"name": name, "uri": None, "source": "Files", "paths": [name]})


def by_hand(
    path: Path,
    steps: Mapping[str, Any],
    *ended: Mapping[str, Any],
    errors: Sequence[Mapping[str, str]] = (),
) -> str:
    """A dataset with a ledger of these lines: what a run of `steps` might have left."""
    properties = {record.PROPERTY: json.dumps(steps)}
    lines = [{"_source": "1-1", "outcome": "kept", "step": "write", **line} for line in ended]
    keys = pa.schema([pa.field(name, pa.string(), False) for name in ("_key", "_source")])
    ledger = pa.Table.from_pylist(lines, schema=LEDGER)
    kept = ledger.filter(pc.field("outcome") == "kept").select(["_key", "_source"]).cast(keys)
    for uri, table in (
        (ledger_uri(f"{path}.weft"), ledger),
        (errors_uri(f"{path}.weft"), pa.Table.from_pylist([*errors], schema=ERRORS)),
        (str(path), kept),
    ):
        token = tables.ensure(uri, table.schema)
        version = tables.commit(token, tables.stage(token, table), "r", properties)
        tables.tag(uri, version, "r", properties)
    return str(path)


ERRORS = pa.schema(
    [
        pa.field(name, pa.string(), False)
        for name in ("_key", "_source", "outcome", "step", "operator", "error", "message")
    ]
)


def test_the_rows_of_a_group(tmp_path: Path) -> None:
    steps = {"read": files("f"), "group": step("group", "read"), "write": step("write", "group")}
    rows = [
        {"_key": f"m{i}", "outcome": "grouped", "step": "group", "into": "cat", "read": "read"}
        for i in range(7)
    ]
    uri = by_hand(tmp_path / "g.lance", steps, *rows, {"_key": "cat"}, {"_key": "dog"})
    group = origin(the(why(uri, "cat")))
    assert (group.how, group.step, group.count, len(group.rows)) == ("group", "group", 7, 5)
    assert {len(roots(row)) for row in group.rows} == {1}
    assert len(roots(the(why(uri, "cat", most=None)))) == 7
    member = the(why(uri, "m3"))
    assert (member.outcome, member.into, path(member)) == ("grouped", "cat", [("read", "m3")])


def test_a_group_of_its_own_key(tmp_path: Path) -> None:
    """Grouped by ``_key`` twice: three rows of one key follow one another."""
    steps = {
        "read": files("f"),
        "group": step("group", "read"),
        "group_2": step("group", "group"),
        "write": step("write", "group_2"),
    }
    grouped = {"_key": "a", "outcome": "grouped", "into": "a"}
    uri = by_hand(
        tmp_path / "g.lance",
        steps,
        {**grouped, "step": "group", "read": "read"},
        {**grouped, "step": "group_2"},
        {"_key": "a"},
    )
    found = why(uri, "a")
    assert path(found[0]) == [("group", "a"), ("group", "a"), ("read", "a")]
    assert [row.step for row in found] == ["write", "group", "group_2"]


def test_children_brought_back_to_their_parents(tmp_path: Path) -> None:
    """The group's row has the key of the parent and of a line of its own."""
    steps = {
        "read": files("f"),
        "pages": step("apply", "read"),
        "crop": step("apply", "pages"),
        "group": step("group", "crop"),
        "write": step("write", "group"),
    }
    child = {"outcome": "grouped", "step": "group", "into": "a#1", "_parent": "a#1", "read": "read"}
    uri = by_hand(
        tmp_path / "p.lance",
        steps,
        {"_key": "a", "outcome": "expanded", "step": "pages", "children": 2, "read": "read"},
        {
            "_key": "a#1", "outcome": "expanded", "step": "crop", "children": 2, "_parent": "a",
            "read": "read",
        },
        {"_key": "a#1#0", **child},
        {"_key": "a#1#1", **child},
        {"_key": "a#1", "_parent": "a", "read": "read"},
    )  # fmt: skip
    group = origin(why(uri, "a#1")[0])
    assert (group.how, [row.key for row in group.rows]) == ("group", ["a#1#0", "a#1#1"])
    assert path(group.rows[0]) == [("child", "a#1"), ("child", "a"), ("read", "a")]


def test_the_right_of_a_join(tmp_path: Path) -> None:
    """Left rows that meet one row keep their key; of several, each has both in its key."""
    steps = {
        "read": files("left"),
        "read_2": files("right"),
        "pages": step("apply", "read_2"),
        "join": step("join", "read", "pages"),
        "split": step("apply", "join"),
        "write": step("write", "split"),
    }
    met = {"joined": [{"step": "join", "key": "r#0"}]}
    split = {"outcome": "expanded", "step": "split", "children": 1, "read": "read"}
    uri = by_hand(
        tmp_path / "j.lance",
        steps,
        {"_key": "r", "outcome": "expanded", "step": "pages", "children": 2, "read": "read_2"},
        {
            "_key": "r#0", "outcome": "joined", "step": "join", "_parent": "r", "read": "read_2",
        },
        {"_key": "l", "outcome": "expanded", "step": "join", "children": 2, "read": "read"},
        {"_key": "l*r#0", **split, **met},
        {"_key": "l*r#0#0", "_parent": "l*r#0", "read": "read", **met},
        {"_key": "x*r#0", **split, **met},
        {"_key": "x*r#0#0", "_parent": "x*r#0", "read": "read", **met},
    )  # fmt: skip
    row = the(origin(the(why(uri, "l*r#0#0"))).rows)
    left, right = row.origins
    assert (row.key, left.how, left.step, left.key, left.count) == (
        "l*r#0",
        "child",
        "join",
        "l",
        2,
    )
    assert path(the(left.rows)) == [("read", "l")]
    assert origin(the(left.rows)).source["paths"] == ["left"]
    assert (right.how, right.step) == ("join", "join")
    assert path(the(right.rows)) == [("child", "r"), ("read", "r")]
    read, right = the(origin(the(why(uri, "x*r#0#0"))).rows).origins
    assert (read.how, read.key, right.key) == ("read", "x*r#0", "r#0")  # a name with a star
    assert sorted(key for _, key, _ in roots(the(why(uri, "l*r#0#0")))) == ["l", "r"]


def test_a_join_with_the_same_rows(tmp_path: Path) -> None:
    """A stream is both sides; the right's line of a row does not hide that the left has it."""
    steps = {
        "read": files("f"),
        "group": step("group", "read"),
        "join": step("join", "read", "group"),
        "write": step("write", "join"),
    }
    uri = by_hand(
        tmp_path / "s.lance",
        steps,
        {"_key": "a", "outcome": "grouped", "step": "group", "into": "a", "read": "read"},
        {"_key": "a", "outcome": "joined", "step": "join"},
        {"_key": "a", "read": "read", "joined": [{"step": "join", "key": "a"}]},
    )
    read, right = why(uri, "a")[0].origins
    assert (read.how, right.how) == ("read", "join")
    assert path(the(right.rows)) == [("group", "a"), ("read", "a")]


def test_a_union_of_rows_of_one_key(tmp_path: Path) -> None:
    """Two folders have a file of one name, and each its children."""
    steps = {
        "read": files("one"),
        "read_2": files("two"),
        "union": step("union", "read", "read_2"),
        "pages": step("apply", "union"),
        "write": step("write", "pages"),
    }
    ended = [
        line
        for read in ("read", "read_2")
        for line in (
            {"_key": "a", "outcome": "expanded", "step": "pages", "children": 1, "read": read},
            {"_key": "a#0", "_parent": "a", "read": read},
        )
    ]
    uri = by_hand(tmp_path / "u.lance", steps, *ended)
    one, two = why(uri, "a#0")
    assert [roots(row)[0][0] for row in (one, two)] == ["one", "two"]
    lost = by_hand(tmp_path / "v.lance", steps, {"_key": "a"})
    assert origin(the(why(lost, "a"))).step == ""


def test_a_key_on_several_branches(tmp_path: Path) -> None:
    """A row is kept as it is, has a child, fails and is dropped: each end has its own story."""
    steps = {
        "read": files("f"),
        "pages": step("apply", "read"),
        "bad": step("apply", "read"),
        "where": step("where", "read"),
        "union": step("union", "read", "pages", "bad", "where"),
        "write": step("write", "union"),
    }
    error = {"_source": "1-1", "operator": "o", "error": "ValueError"}
    uri = by_hand(
        tmp_path / "b.lance",
        steps,
        {"_key": "a", "read": "read"},
        {"_key": "a", "outcome": "expanded", "step": "pages", "children": 1, "read": "read"},
        {"_key": "a", "outcome": "failed", "step": "bad", "read": "read"},
        {"_key": "a", "outcome": "dropped", "step": "where", "read": "read"},
        {"_key": "a#0", "_parent": "a", "read": "read"},
        errors=[
            {"_key": "a", "outcome": "failed", "step": "bad", "message": "no", **error},
            {"_key": "a", "outcome": "nulled", "step": "pages", "message": "null", **error},
        ],
    )
    found = {row.outcome: [f.message for f in row.faults] for row in why(uri, "a")}
    assert found == {"kept": ["null"], "expanded": ["null"], "failed": ["no"], "dropped": []}
    assert path(the(why(uri, "a#0"))) == [("child", "a"), ("read", "a")]
    table = tables.open_table(uri).schema.metadata[tables.TABLE_ID].decode()
    source = {"name": "Lance", "uri": uri, "type": "Lance", "path": uri, "key": None}
    below = by_hand(
        tmp_path / "c.lance",
        {"read": step("read", source=source), "write": step("write", "read")},
        {"_key": "a", "_source": f"{table}-2", "read": "read"},
        {"_key": "gone", "_source": f"{table}-2", "read": "read"},
    )
    assert the(origin(the(why(below, "a"))).rows).outcome == "kept"
    gone = origin(the(why(below, "gone")))
    assert (gone.rows, gone.note) == ((), "The run that made version 2 kept no such row.")


def test_a_join_of_two_groups(tmp_path: Path) -> None:
    """Both sides have a row of one key; each is made of its own rows."""
    steps = {
        "read": files("left"),
        "read_2": files("right"),
        "group": step("group", "read"),
        "group_2": step("group", "read_2"),
        "join": step("join", "group", "group_2"),
        "write": step("write", "join"),
    }
    grouped = {"outcome": "grouped", "into": "cat"}
    uri = by_hand(
        tmp_path / "j.lance",
        steps,
        {"_key": "a", "step": "group", "read": "read", **grouped},
        {"_key": "b", "step": "group_2", "read": "read_2", **grouped},
        {"_key": "cat", "outcome": "joined", "step": "join"},
        {"_key": "cat", "joined": [{"step": "join", "key": "cat"}]},
    )
    kept, joined = why(uri, "cat")
    left, right = kept.origins
    assert [row.key for row in left.rows] == ["a"]
    assert the(right.rows) == joined
    assert [row.key for row in origin(joined).rows] == ["b"]


def test_children_of_one_key_of_two_steps(tmp_path: Path) -> None:
    """Branches expand one row, one of them after a join; what the children met tells them apart."""
    steps = {
        "read": files("f"),
        "read_2": files("right"),
        "join": step("join", "read", "read_2"),
        "pages": step("apply", "read"),
        "crop": step("apply", "join"),
        "group": step("group", "crop"),
        "union": step("union", "pages", "crop", "join", "group"),
        "write": step("write", "union"),
    }
    met = {"joined": [{"step": "join", "key": "r"}]}
    parent = {"_key": "a", "outcome": "expanded", "children": 1, "read": "read"}
    child = {"_key": "a#0", "_parent": "a", "read": "read"}
    uri = by_hand(
        tmp_path / "c.lance",
        steps,
        {**parent, "step": "pages"},
        {**parent, "step": "crop", **met},
        child,
        {**child, **met},
        {**child, **met, "outcome": "grouped", "step": "group", "into": "a"},
        {"_key": "r", "outcome": "joined", "step": "join", "read": "read_2"},
        {"_key": "a", "read": "read", **met},
    )
    found = [[o.step for o in row.origins] for row in why(uri, "a#0")]
    assert found == [["pages"], ["crop"], ["crop"]]
    kept = why(uri, "a")[0]
    assert [o.step for o in kept.origins] == ["read", "join"]  # the group's row has met nothing


def test_a_step_that_the_plan_did_without(tmp_path: Path) -> None:
    """Rows stay that an earlier run left at a step which this run's plan has put elsewhere."""
    uri = by_hand(
        tmp_path / "s.lance",
        {"read": files("f"), "pages": step("apply", "read"), "write": step("write", "pages")},
        {"_key": "a", "outcome": "expanded", "step": "pages", "children": 1, "read": "read"},
        {"_key": "a#0", "outcome": "dropped", "step": "order.rows", "_parent": "a", "read": "read"},
    )
    row = the(why(uri, "a#0"))
    assert (row.step, row.says, path(row)) == ("order.rows", "", [("child", "a"), ("read", "a")])


def test_groups_of_one_key(tmp_path: Path) -> None:
    """Two groups have a row of one key; the version of each is that of its own members."""
    one, two = (
        pa.table({"id": ids, "k": [1] * len(ids)}) for ids in (["a", "b", "é"], ["c", "it's"])
    )
    out = str(tmp_path / "o.lance")

    @weft.pipeline
    def groups(out: str) -> Any:
        made = [weft.read(Arrow(t, key="id")).group("k", n=pl.len()) for t in (one, two)]
        return made[0].union(made[1]).write(Lance(out))

    run(groups(out=out))
    found = {tuple(sorted(key for _, key, _ in roots(row))) for row in why(out, "1")}
    assert found == {("a", "b", "é"), ("c", "it's")}


# Random chains against a reference that follows every row by hand.

TEXTS = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(
        st.lists(st.sampled_from(["x", "yy", "drop", "mute"]), max_size=3).map(" ".join), max_size=3
    ).map("\n".join),
    min_size=1,
)

Known = dict[str, list[tuple[str, int]]]
"""By key of a dataset, the datasets and versions that a row came through, the nearest last."""


def stamp(
    name: str, result: Any, before: Known, made: Mapping[str, list[tuple[str, int]]]
) -> Known:
    """`made` with the version that wrote each row: the new one, unless it came from the same."""
    if result.in_sync:
        return before
    (version,) = result.versions.values()
    return {
        key: before[key] if key in before and before[key][:-1] == way else [*way, (name, version)]
        for key, way in made.items()
    }


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(TEXTS, min_size=1, max_size=3))
def test_the_roots_are_those_of_a_reference(
    tmp_path_factory: pytest.TempPathFactory, scripts: list[dict[str, str]]
) -> None:
    chain = Chain(tmp_path_factory.mktemp("random"))
    known: list[Known] = [{}, {}, {}]
    texts: dict[str, str] = {}
    for script in scripts:
        for name in set(texts) - set(script):
            (chain.files / name).unlink()
        for name, text in script.items():
            if texts.get(name) != text:
                (chain.files / name).write_text(text)
        texts = script
        known = follow(chain, known, chain.run(), texts)
    for uri, rows in zip((chain.lines, chain.words, chain.shouts), known, strict=True):
        assert set(tables.read(uri, "latest", ["_key"])["_key"].to_pylist()) == set(rows)
        for key, way in rows.items():
            assert trail(the(why(uri, key))) == way


def follow(
    chain: Chain, known: list[Known], results: list[Any], texts: dict[str, str]
) -> list[Known]:
    """The reference: what each dataset should have, and by which way."""
    made: Known = {}
    for file, text in texts.items():
        stat = (chain.files / file).stat()
        for i, line in enumerate(text.splitlines() if text else ()):
            if line != "skip":
                made[f"{file}#{i}"] = [(f"{file} {stat.st_size}-{stat.st_mtime_ns}", 0)]
    lines = stamp("lines", results[0], known[0], made)
    made = {}
    said = {}
    for key, way in lines.items():
        file, _, number = key.partition("#")
        for i, word in enumerate(texts[file].splitlines()[int(number)].split()):
            if word != "drop":
                made[f"{key}#{i}"], said[f"{key}#{i}"] = way, word
    heard = stamp("words", results[1], known[1], made)
    loud = {key: way for key, way in heard.items() if said[key] != "mute"}
    return [lines, heard, stamp("shouts", results[2], known[2], loud)]


def trail(row: Row) -> list[tuple[str, int]]:
    """The datasets and versions that a row came through, as the reference has them."""
    found: list[tuple[str, int]] = []
    numbers = {v.run: v.number for v in tables.history(row.dataset)}
    row = replace(row, version=numbers[row.written or row.run])
    while True:
        found.insert(0, (Path(row.dataset).stem, row.version))
        while (step := origin(row)).how == "child":
            row = the(step.rows)
        if not step.rows:
            return [(f"{step.key} {step.version}", 0), *found]
        row = the(step.rows)


# Random graphs of rows that meet: each row carries the names of its roots as data.


@weft.operator(version="1")
def parts(k: int) -> Iterator[weft.fields(part=int)]:  # type: ignore[valid-type]
    return ({"part": i} for i in range(k % 3 + 1))


Stream = tuple[Any, set[str], bool]
"""Rows, the sources of their keys, and whether children have come back to their parents."""


def drawn(chance: Random, streams: list[Stream]) -> Stream:
    """One more verb on some of the streams; all have the columns ``k`` and ``ids``.

    Children that are back at their parent have its key. The ledger cannot tell such a row from
    the parent itself where both are in one stream, so these do not meet in a union.
    """
    rows, reads, back = chance.choice(streams)
    other, more, also = chance.choice(streams)
    ids = pl.col("ids")
    match chance.choice(["union", "join", "group", "expand", "parent", "where"]):
        case "union" if not (reads & more and (back or also)):
            return rows.union(other), reads | more, back or also
        case "join":
            how = chance.choice(["inner", "left", "semi", "anti"])
            suffix = "_right" if how in ("inner", "left") else None
            met = rows.join(other, on="k", how=how, many=True, suffix=suffix)
            if how in ("semi", "anti"):
                return met, reads, back
            both = pl.concat_str("ids", "ids_right", separator=",", ignore_nulls=True)
            return met.with_columns(both.alias("ids")).select("k", "ids"), reads, back
        case "group":
            return rows.group("k", ids=ids.str.join(",")), {*"AB"}, True
        case "expand":
            return rows.apply(parts).select("k", "ids"), reads, back
        case "parent":
            children = rows.apply(parts).where(pl.col("part") < 2)
            made = children.group("_parent", k=pl.col("k").first(), ids=ids.str.join(","))
            return made, reads, True
    return rows.where(pl.col("k") != chance.randrange(4)), reads, back


def table_of(name: str, chance: Random) -> pa.Table:
    ids = [f"{name}{i}" for i in range(chance.randrange(1, 5))]
    return pa.table({"id": ids, "k": [chance.randrange(4) for _ in ids], "ids": ids})


def ledger_says_what_was_met() -> bool:
    """Whether rows that do not get to the end leave a note of what joins had brought them."""
    kinds = {"_key": pa.array(["a"]), "_source": pa.array(["1"]), "_joined": pa.nulls(1, MET)}
    work = Work({})
    batch = Batch({}, {name: Column(ENVELOPE[name], array=a) for name, a in kinds.items()})
    work.note("where", "dropped", batch, np.array([0]))
    return "joined" in work.outcomes[0].rows.column_names


@pytest.mark.skipif(
    not ledger_says_what_was_met(), reason="the ledger says of kept rows alone what joins brought"
)
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 2**32 - 1))
def test_rows_that_meet_name_the_roots_that_they_carry(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = Random(seed)
    out = str(tmp_path_factory.mktemp("dag") / "o")
    given = [table_of(name, chance) for name in "AB"]

    @weft.pipeline
    def random(out: str) -> Any:
        a, b = (weft.read(Arrow(table, key="id")).select("k", "ids") for table in given)
        streams: list[Stream] = [(a.union(b), {*"AB"}, False), (a, {"A"}, False), (b, {"B"}, False)]
        for _ in range(chance.randrange(1, 6)):
            streams.append(drawn(chance, streams))
        return tuple(rows.write(Lance(f"{out}/{i}")) for i, (rows, *_) in enumerate(streams))

    run(random(out=out))
    for path in sorted(Path(out).glob("?")):
        carried: dict[str, set[frozenset[str]]] = {}
        for line in tables.read(str(path), "latest", ["_key", "ids"]).to_pylist():
            carried.setdefault(line["_key"], set()).add(frozenset(line["ids"].split(",")))
        for key, sets in carried.items():
            kept = [row for row in why(str(path), key, most=None) if row.outcome == "kept"]
            assert {frozenset(name for _, name, _ in roots(row)) for row in kept} == sets, key
