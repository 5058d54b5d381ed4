"""`weft why`: what became of a row and where it came from, as people read it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

RUN = ("run", "--engine", "local")

MORE = """

from collections.abc import Iterator

import pyarrow as pa
from weft.connectors import Arrow


@weft.operator(version="1")
def halves(uri: str) -> Iterator[weft.fields(half=str)]:
    return ({"half": side} for side in ("left", "right"))


@weft.pipeline
def halved(source: str = "small.lance", out: str = "halves.lance"):
    return weft.read(Lance(source)).apply(halves).select("width", "half").write(Lance(out))


@weft.pipeline
def wide(source: str = "halves.lance", out: str = "wide.lance", on_error: str = "null"):
    rows = weft.read(Lance(source)).with_columns((pl.col("width") + 15).alias("width"))
    return rows.apply(picky, on_error=on_error).write(Lance(out))


@weft.pipeline
def bands(source: str = "halves.lance", out: str = "bands.lance"):
    names = pa.table({"name": ["wide", "none"], "width": pa.array([27, 99], pa.int32())})
    rows = weft.read(Lance(source)).group("width", n=pl.len())
    return rows.join(weft.read(Arrow(names, key="name")), on="width").write(Lance(out))


@weft.pipeline
def sides(source: str = "halves.lance", out: str = "sides.lance"):
    return weft.read(Lance(source)).group("half", n=pl.len()).write(Lance(out))
"""


@pytest.fixture
def chain(weft, photos: Path, work: Path) -> Path:
    """Photographs, halves of them, and halves with nulls: each dataset made of the one before."""
    tiny = work / "tiny.py"
    tiny.write_text(tiny.read_text() + MORE)
    for name in ("small", "halved", "wide"):
        weft(*RUN, f"tiny.py:{name}")
    return work


def without_runs(text: str) -> str:
    return re.sub(r"\d{8}-\d{6}-[0-9a-f]{7}", "RUN", text)


def moment(file: Path) -> str:
    return f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d %H:%M:%S} UTC"


def test_a_row_across_three_datasets(weft, chain: Path) -> None:
    photo = chain / "photos" / "p007.jpg"
    told = weft("why", "wide.lance", "p007.jpg#1").stdout
    assert without_runs(told) == (
        "p007.jpg#1: kept in wide.lance version 2 (run RUN)\n"
        "│  null, for picky failed: ValueError: 42 is too wide\n"
        "└─ read from halves.lance version 2 (run RUN)\n"
        "   └─ child 1 of the 2 that halves made of p007.jpg\n"
        "      └─ read from small.lance version 2 (run RUN)\n"
        f"         └─ read from photos/*.jpg: {photo.stat().st_size:,} bytes, "
        f"modified {moment(photo)}\n"
    )


def test_rows_that_failed_or_were_dropped(weft, chain: Path) -> None:
    told = without_runs(weft("why", "small.lance", "x0.jpg").stdout)
    head, error, *_, root = told.splitlines()
    assert head == "x0.jpg: failed at probe in small.lance version 2 (run RUN)"
    assert error.startswith("│  RowError: ")
    assert root.startswith("└─ read from photos/*.jpg: 10 bytes, modified ")
    told = without_runs(weft("why", "small.lance", "p001.jpg").stdout)
    assert told.splitlines()[:2] == [
        "p001.jpg: dropped by where in small.lance version 2 (run RUN)",
        '│  col("width") >= 25',
    ]
    told = weft("why", "halves.lance", "p007.jpg").stdout
    assert told.startswith("p007.jpg: made into 2 rows by halves in halves.lance version 2")


def test_groups_and_joins(weft, answer, chain: Path) -> None:
    weft(*RUN, "tiny.py:bands")
    told = without_runs(weft("why", "bands.lance", "27").stdout).splitlines()
    assert told[:2] == [
        "27: kept in bands.lance version 2 (run RUN)",
        '├─ made of 2 rows by group: by width -> len().alias("n")',
    ]
    assert told[2] == "│  ├─ p007.jpg#0"
    assert told[3] == "│  │  └─ read from halves.lance version 2 (run RUN)"
    assert told[-2] == "└─ joined with wide by join: inner on width -> name"
    assert told[-1].startswith("   └─ read from Arrow(")
    name = weft("why", "bands.lance", "27", "name").stdout.splitlines()[-2:]
    assert name[0] == "name, by join: inner on width -> name"
    assert name[1].startswith("└─ name, read from Arrow(")
    n = weft("why", "bands.lance", "27", "n").stdout.splitlines()[-1]
    assert n == 'n, by group: by width -> len().alias("n")'
    width = weft("why", "bands.lance", "27", "width").stdout
    assert "\nwidth, read from halves.lance version 2\n└─ width, read from small" in width
    gone = weft("why", "bands.lance", "p007.jpg#1").stdout
    assert gone.startswith("p007.jpg#1: gone into 27 by group in bands.lance")
    offered = weft("why", "bands.lance", "none").stdout
    assert offered.startswith("none: offered to the left by join in bands.lance")


def test_the_first_rows_of_a_group(weft, answer, chain: Path) -> None:
    weft(*RUN, "tiny.py:small", "--set", "least=20")
    weft(*RUN, "tiny.py:halved")
    weft(*RUN, "tiny.py:sides")
    told = weft("why", "sides.lance", "left").stdout.splitlines()
    assert told[1].startswith("└─ made of 10 rows by group: by half")
    assert told[-1] == "   └─ and 5 more: --all"
    assert sum("photos/*.jpg" in line for line in told) == 5
    told = weft("why", "sides.lance", "left", "--all").stdout
    assert told.count("photos/*.jpg") == 10
    for more, rows in ((), 5), (("--all",), 10):
        (row,) = answer("why", "sides.lance", "left", *more)["rows"]
        (group,) = row["origins"]
        assert (group["count"], len(group["rows"])) == (10, rows)


def test_older_versions_and_rows_that_stayed(weft, answer, chain: Path) -> None:
    (chain / "photos" / "p007.jpg").write_bytes((chain / "photos" / "p008.jpg").read_bytes())
    second = answer(*RUN, "tiny.py:small")["run"]
    stayed, made = (answer("why", "small.lance", f"p00{i}.jpg")["rows"][0] for i in (9, 7))
    assert (made["run"], made["version"], made["written"]) == (second, 3, None)
    assert (stayed["run"], stayed["version"]) == (second, 3)
    assert stayed["written"] not in (None, second)
    text = weft("why", "small.lance", "p009.jpg").stdout
    assert f"│  written by run {stayed['written']}, unchanged since\n" in text
    for version in ("2", f"run-{stayed['written']}"):
        (old,) = answer("why", "small.lance", "p007.jpg", "--version", version)["rows"]
        assert (old["version"], old["run"]) == (2, stayed["written"])
        assert old["origins"][0]["version"] != made["origins"][0]["version"]


def test_the_steps_that_made_a_column(weft, answer, chain: Path) -> None:
    told = weft("why", "wide.lance", "p007.jpg#1", "picky").stdout
    tree = told[told.index("picky, by") :].splitlines()
    assert tree[:4] == [
        "picky, by picky: picky  width -> picky  on_error=null",
        '└─ width, by with_columns: (col("width") + 15).alias("width")',
        "   └─ width, read from halves.lance version 2",
        "      └─ width, read from small.lance version 2",
    ]
    assert tree[4].startswith("         └─ width, by probe: image.Probe  content -> format, width")
    assert tree[-1] == "            └─ content, read from photos/*.jpg"
    (row,) = answer("why", "wide.lance", "p007.jpg#1", "half")["rows"]
    (half,) = row["made"]
    assert (half["kind"], half["of"][0]["step"]) == ("read", "halves")
    wrong = weft("why", "wide.lance", "p007.jpg#1", "haf", code=2).stderr
    assert "wide.lance has no column 'haf'" in wrong
    assert "Did you mean 'half'?" in wrong


def test_json_names_every_row(answer, chain: Path) -> None:
    found = answer("why", "wide.lance", "p007.jpg#1")
    assert found["dataset"] == str(chain / "wide.lance")
    (row,) = found["rows"]
    assert row["faults"][0]["message"] == "42 is too wide"
    ways, versions = [], []
    while row is not None:
        (origin,) = row["origins"]
        ways.append((origin["how"], origin["key"]))
        versions.append(row["version"])
        row = next(iter(origin["rows"]), None)
    read = ("read", "p007.jpg")
    assert ways == [("read", "p007.jpg#1"), ("child", "p007.jpg"), read, read]
    assert versions == [2, 2, 2, 2]
    assert origin["source"]["paths"] == [str(chain / "photos" / "*.jpg")]


def test_keys_and_datasets_that_are_not_there(weft, chain: Path) -> None:
    wrong = weft("why", "small.lance", "photos/p007.jpeg", code=2).stderr
    assert "which made version 2, saw no row 'photos/p007.jpeg'." in wrong
    assert weft("why", "smal.lance", "a", code=2).stderr == (
        f"error: There is no dataset {chain}/smal.lance. Did you mean 'small.lance'?\n"
    )
    assert "has no version 7" in weft("why", "small.lance", "a", "--version", 7, code=2).stderr
    assert "has no tag 'run-1'" in weft("why", "small.lance", "a", "--version=run-1", code=2).stderr


def test_long_lines_are_folded_and_keys_are_not(weft, work: Path, photos: Path) -> None:
    name = f"{'long' * 30}.jpg"
    (photos / "p009.jpg").rename(photos / name)
    (photos / "two\nlines.jpg").write_bytes(b"no picture")
    weft(*RUN, "tiny.py:small")
    lines = weft("why", "small.lance", name).stdout.splitlines()
    assert lines[0] == f"{name}:"
    assert all(len(line) <= 100 for line in lines[1:])
    assert weft("why", "small.lance", "two\nlines.jpg").stdout.startswith(
        r"'two\nlines.jpg': failed"
    )
