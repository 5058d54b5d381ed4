"""F17: the columns of a source, or of the dataset, are not what they were.

`NAMED` and `WHOLE` are the table in docs/reliability.md: what a run does about each change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lance
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import ALL

import weft
from weft.connectors import Lance, Parquet
from weft.errors import DefinitionError, Interrupted
from weft.pipelines import tables
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.result import Listener

ROWS = 40
SUFFIXES = [".parquet", ".lance"] if ALL else [".parquet"]
ONE = Cluster((Machine(cpus=1),))


@weft.operator(version="1")
def halved(mass: weft.Float64) -> weft.Float64:
    return mass / 2


def read(source: str) -> Any:
    if source.endswith(".lance"):
        return weft.read(Lance(source, key="id"))
    return weft.read(Parquet(source))


@weft.pipeline
def named(source: str, out: str) -> Any:
    """Takes three columns by their names."""
    rows = read(source).apply(halved).with_columns(more=pl.col("count") + 1)
    return rows.select("id", "halved", "count", "more").write(Lance(out))


@weft.pipeline
def whole(source: str, out: str) -> Any:
    """Takes what there is."""
    return read(source).write(Lance(out))


def table(**columns: Any) -> pa.Table:
    """The source's rows; ``name=None`` leaves a column out."""
    numbers = range(ROWS)
    own = {
        "id": pa.array([f"k{i:02d}" for i in numbers]),
        "mass": pa.array([float(i) for i in numbers]),
        "count": pa.array(numbers, pa.int32()),
    }
    return pa.table({k: v for k, v in {**own, **columns}.items() if v is not None})


def not_null(given: pa.Table, *names: str) -> pa.Table:
    fields = [f.with_nullable(f.name not in names) for f in given.schema]
    return given.cast(pa.schema(fields))


LONG = pa.array(range(ROWS), pa.int64())
DRIFTS = {
    "the same": table(),
    "int32 to int64": table(count=LONG),
    "int32 to text": table(count=LONG.cast(pa.string())),
    "double to float": table(mass=pa.array([float(i) for i in range(ROWS)], pa.float32())),
    "text to int64": table(id=LONG),
    "string to large_string": table(id=table()["id"].cast(pa.large_string())),
    "a column is missing": table(count=None),
    "another column": table(extra=pa.array(["x"] * ROWS)),
    "other order": table().select(["count", "mass", "id"]),
    "nulls": table(count=pa.array([None, *range(1, ROWS)], pa.int32())),
    "no nulls allowed": not_null(table(), "id", "count"),
}


@dataclass(frozen=True)
class Refused:
    """A `DefinitionError` before anything starts, that says so."""

    says: str


@dataclass(frozen=True)
class Evolves:
    """A new version with these columns; the old one stays as it was."""

    types: dict[str, pa.DataType]


class Stays:
    """A new version with the columns of the old one."""


OWN = {"id": pa.string(), "halved": pa.float64(), "count": pa.int32(), "more": pa.int32()}
NAMED: dict[str, Refused | Evolves | Stays] = {
    "the same": Stays(),
    "int32 to int64": Evolves({**OWN, "count": pa.int64(), "more": pa.int64()}),
    "int32 to text": Refused(r"Polars refuses \(col\(\"count\"\) \+ 1\).*str"),
    "double to float": Refused(r"halved.*mass.*Float32"),
    "text to int64": Evolves({**OWN, "id": pa.int64()}),
    "string to large_string": Stays(),
    "a column is missing": Refused(r"no column 'count'.*Given: id, mass"),
    "another column": Stays(),
    "other order": Stays(),
    "nulls": Stays(),
    "no nulls allowed": Evolves(OWN),
}
FULL = {"id": pa.string(), "mass": pa.float64(), "count": pa.int32()}
WHOLE: dict[str, Refused | Evolves | Stays] = {
    "the same": Stays(),
    "int32 to int64": Evolves({**FULL, "count": pa.int64()}),
    "int32 to text": Evolves({**FULL, "count": pa.string()}),
    "double to float": Evolves({**FULL, "mass": pa.float32()}),
    "text to int64": Evolves({**FULL, "id": pa.int64()}),
    "string to large_string": Stays(),
    "a column is missing": Evolves({"id": pa.string(), "mass": pa.float64()}),
    "another column": Evolves({**FULL, "extra": pa.string()}),
    "other order": Evolves({name: FULL[name] for name in ("count", "mass", "id")}),
    "nulls": Stays(),
    "no nulls allowed": Evolves(FULL),
}


class Notices(Listener):
    """What a run says; Ctrl-C after some units."""

    def __init__(self, after: int = -1) -> None:
        self.after = after
        self.heard: list[str] = []

    def notice(self, text: str) -> None:
        self.heard.append(text)

    def advanced(self, *_: object) -> None:
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt


def write(path: Path, rows: pa.Table) -> None:
    if path.suffix == ".lance":
        mode = "overwrite" if path.exists() else "create"
        lance.write_dataset(rows, str(path), mode=mode, enable_stable_row_ids=True)
    else:
        pq.write_table(rows, path)


def run(pipeline: Any, source: Path, out: Path, **options: Any) -> Any:
    made = pipeline(source=str(source), out=str(out))
    return made.run(engine="local", cluster=ONE, **options)


def contents(out: Path, version: str = "latest") -> pa.Table:
    """The user's columns, in the order of the ids."""
    found = tables.read(str(out), version).sort_by("id")
    return found.select([n for n in found.column_names if not n.startswith("_")])


def types(rows: pa.Table) -> dict[str, pa.DataType]:
    return {field.name: field.type for field in rows.schema}


def hold(
    pipeline: Any, policy: Refused | Evolves | Stays, source: Path, out: Path, drift: pa.Table
) -> None:
    """Run before and after the source has drifted, and hold the second run to its policy."""
    write(source, table())
    first = run(pipeline, source, out)
    before = contents(out)
    write(source, drift)
    match policy:
        case Refused(says):
            with pytest.raises(DefinitionError, match=says):
                run(pipeline, source, out)
            assert contents(out).equals(before)
            return
        case Evolves(expected):
            heard = Notices()
            run(pipeline, source, out, listener=heard)
            assert list(types(contents(out)).items()) == list(expected.items())
            assert heard.heard  # nobody is surprised by it
        case Stays():
            run(pipeline, source, out)
            assert types(contents(out)) == types(before)
    assert contents(out, f"run-{first.run}").equals(before)
    run(pipeline, source, anew := out.with_name("anew.lance"))
    assert contents(out).equals(contents(anew))  # as if it had always been so


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("drift", DRIFTS)
def test_columns_taken_by_name(tmp_path: Path, drift: str, suffix: str) -> None:
    source = tmp_path / f"source{suffix}"
    hold(named, NAMED[drift], source, tmp_path / "o.lance", DRIFTS[drift])


@pytest.mark.parametrize("drift", DRIFTS)
def test_rows_taken_whole(tmp_path: Path, drift: str) -> None:
    source = tmp_path / "source.parquet"
    hold(whole, WHOLE[drift], source, tmp_path / "o.lance", DRIFTS[drift])


DISAGREE = {
    "int32 to int64": "'count': Int32[?] in .*a.parquet, Int64[?] in .*b.parquet",
    "int32 to text": "'count': Int32[?] in .*a.parquet, Text[?] in .*b.parquet",
    "double to float": "'mass': Float64[?] in .*a.parquet, Float32[?] in .*b.parquet",
    "text to int64": "'id': Text[?] in .*a.parquet, Int64[?] in .*b.parquet",
    "a column is missing": "'count': Int32[?] in .*a.parquet, none in .*b.parquet",
    "another column": "'extra': none in .*a.parquet, Text[?] in .*b.parquet",
    "no nulls allowed": "'id': Text[?] in .*a.parquet, Text in .*b.parquet",
}
"""What is said where files of one source disagree; the other drifts are none to them."""


@pytest.mark.parametrize("drift", DRIFTS)
def test_files_of_one_source(tmp_path: Path, drift: str) -> None:
    pq.write_table(table(), tmp_path / "a.parquet")
    pq.write_table(DRIFTS[drift], tmp_path / "b.parquet")
    source, out = tmp_path / "*.parquet", tmp_path / "o.lance"
    if drift in DISAGREE:
        with pytest.raises(DefinitionError, match=f"files disagree on column {DISAGREE[drift]}"):
            run(whole, source, out)
        assert not out.exists()
    else:
        assert run(whole, source, out).kept == {"write": 2 * ROWS}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("drift", ["int32 to int64", "text to int64"])
def test_between_two_attempts_of_a_run(tmp_path: Path, drift: str, suffix: str) -> None:
    source, out = tmp_path / f"source{suffix}", tmp_path / "o.lance"
    write(source, table())
    with pytest.raises(Interrupted):
        run(named, source, out, listener=Notices(after=1))
    write(source, DRIFTS[drift])
    heard = Notices()
    run(named, source, out, listener=heard)
    assert any("is abandoned: the source has other columns now" in line for line in heard.heard)
    policy = NAMED[drift]
    assert isinstance(policy, Evolves)
    assert types(contents(out)) == policy.types


def test_nulls_go_past_operators_that_take_none(tmp_path: Path) -> None:
    source, out = tmp_path / "source.parquet", tmp_path / "o.lance"
    write(source, table())
    run(named, source, out)
    write(source, table(mass=pa.array([None, *map(float, range(1, ROWS))])))
    result = run(named, source, out)
    assert (result.failed, result.kept) == (0, {"write": ROWS})
    assert contents(out)["halved"].to_pylist() == [None, *(i / 2 for i in range(1, ROWS))]


def test_a_column_that_somebody_added_to_the_dataset(tmp_path: Path) -> None:
    source, out = tmp_path / "source.parquet", tmp_path / "o.lance"
    write(source, table())
    run(named, source, out)
    published = contents(out)
    lance.dataset(str(out)).add_columns({"mine": "count * 2"})
    assert run(named, source, out).in_sync  # readers at `latest` do not see it
    assert contents(out).equals(published)
    write(source, table(mass=pa.array([float(i + 1) for i in range(ROWS)])))
    by_hand = lance.dataset(str(out)).version
    heard = Notices()
    run(named, source, out, listener=heard)
    assert any("were changed by something else than a run" in line for line in heard.heard)
    assert types(contents(out)) == types(published)
    assert "mine" in lance.dataset(str(out), version=by_hand).schema.names  # it is not lost


def test_a_missing_column_is_never_filled_with_null(tmp_path: Path) -> None:
    path = str(tmp_path / "t.lance")
    lance.write_dataset(table(), path)
    lance.write_dataset(table(count=None), path, mode="append")
    assert lance.dataset(path).to_table()["count"].null_count == ROWS  # what Lance does alone
    token = tables.ensure(str(tmp_path / "o.lance"), table().schema)
    with pytest.raises(KeyError, match="count"):
        tables.stage(token, table(count=None))
