"""``weft why DATASET KEY``: where a row came from, across datasets."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import dataset_argument

if TYPE_CHECKING:
    from weft.pipelines.observe.columns import Made
    from weft.pipelines.observe.lineage import Origin, Row

_WIDTH = 100

_FILE_VERSION = re.compile(r"(\d+)-(-?\d+)")
"""``_source`` of rows of files: ``<size>-<modified in ns>``."""


@click.command("why", cls=Command)
@dataset_argument
@click.argument("key", metavar="KEY")
@click.argument("column", metavar="[FIELD]", required=False)
@click.option("--version", help="A tag or a version number.  [default: latest]")
@click.option("--all", "whole", is_flag=True, help="Follow every row of a group, not the first 5.")
def command(
    dataset: str, key: str, column: str | None, *, version: str | None, whole: bool
) -> None:
    """Say what became of a row and where it came from, across datasets.

    KEY is a row's `_key`, whether it was kept, dropped, failed or made into others. It is
    followed to the rows and versions that it was made of, through datasets of weft to files and
    other tables. With FIELD, a column, the steps that made its value are told as well.
    """
    from weft.cli.datasets import find_dataset
    from weft.pipelines.observe import columns, lineage

    path = find_dataset(dataset).path
    at = int(version) if version is not None and version.isdigit() else version
    rows = lineage.why(path, key, at, most=None if whole else lineage.FIRST)
    made = [columns.made(row, column) if column else () for row in rows]
    document = {
        "dataset": path,
        "rows": [
            asdict(row) | ({"made": [asdict(m) for m in of]} if column else {})
            for row, of in zip(rows, made, strict=True)
        ],
    }
    told = (_text(row, of) for row, of in zip(rows, made, strict=True))
    emit(document, "\n\n".join(told))


@dataclass
class _Node:
    """A line of a tree, what is said below it, and the branches."""

    text: str
    notes: list[str] = field(default_factory=list)
    branches: list[_Node] = field(default_factory=list)


def _text(row: Row, made: Sequence[Made]) -> str:
    head = _Node(f"{_key(row.key)}: {_end(row)} in {_dataset(row)}", _notes(row), _branches(row))
    if row.written:
        head.notes.append(f"written by run {row.written}, unchanged since")
    return "\n".join(line for node in (head, *map(_column, made)) for line in _drawn(node))


def _drawn(node: _Node, first: str = "", rest: str = "") -> Iterator[str]:
    """The lines of a tree: as wide as a terminal, but for a key or a path that is wider."""
    below = rest + ("│  " if node.branches else "   ")
    yield from _wrapped(node.text, first, below)
    for note in node.notes:
        yield from _wrapped(note, below, below)
    for branch in node.branches[:-1]:
        yield from _drawn(branch, f"{rest}├─ ", f"{rest}│  ")
    for branch in node.branches[-1:]:
        yield from _drawn(branch, f"{rest}└─ ", f"{rest}   ")


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text,
        max(_WIDTH, len(rest) + 40),
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _branches(row: Row) -> list[_Node]:
    return [_TOLD[origin.how](row, origin) for origin in row.origins]


def _read(row: Row, origin: Origin) -> _Node:
    notes = [origin.note] if origin.note else []
    if origin.rows:
        (there, *_) = origin.rows
        name = "" if there.key == row.key else f" {_key(there.key)}"
        return _Node(f"read{name} from {_dataset(there)}", notes, _below(origin))
    if not origin.source:
        return _Node("read by one of several reads; the run did not note by which")
    name = "" if origin.key == row.key else f" {_key(origin.key)}"
    where = _source(origin.source, origin.says)
    return _Node(f"read{name} from {where}{_version(origin.version)}", notes)


def _child(row: Row, origin: Origin) -> _Node:
    number = re.match(r"#(\d+)", row.key.removeprefix(origin.key))
    which = f"child {number[1]} of" if number else "one of"
    text = f"{which} the {origin.count:,} that {origin.step} made of {_key(origin.key)}"
    return _Node(text, [], _below(origin))


def _join(row: Row, origin: Origin) -> _Node:
    with_ = f"joined with {_key(origin.key)} by {origin.step}: {origin.says}"
    return _Node(with_, [] if origin.rows else ["which the ledger does not have"], _below(origin))


def _group(row: Row, origin: Origin) -> _Node:
    rows = "1 row" if origin.count == 1 else f"{origin.count:,} rows"
    node = _Node(f"made of {rows} by {origin.step}: {origin.says}")
    node.branches = [_member(r) for r in origin.rows]
    left = origin.count - len(origin.rows)
    node.branches += [_Node(f"and {left:,} more: --all")] if left else []
    return node


_TOLD = {"read": _read, "child": _child, "join": _join, "group": _group}


def _member(row: Row) -> _Node:
    """A row among others; where it was read from a file, on the same line."""
    node = _Node(_key(row.key), _notes(row), _branches(row))
    if [len(b.branches) for b in node.branches] == [0]:
        (only,) = node.branches
        return _Node(f"{node.text}, {only.text}", node.notes + only.notes)
    return node


def _below(origin: Origin) -> list[_Node]:
    """What is behind the rows of an origin; of one row, which its line has named, no line more."""
    if len(origin.rows) == 1:
        notes = [_Node(note) for note in _notes(origin.rows[0])]
        return notes + _branches(origin.rows[0])
    return [_member(row) for row in origin.rows]


def _end(row: Row) -> str:
    """What became of a row, in words."""
    match row.outcome:
        case "dropped":
            return f"dropped by {row.step}"
        case "failed":
            return f"failed at {row.step}"
        case "expanded":
            return f"made into {row.children or 0:,} rows by {row.step}"
        case "grouped":
            return f"gone into {_key(row.into or '')} by {row.step}"
        case "joined":
            return f"offered to the left by {row.step}"
    return row.outcome


def _notes(row: Row) -> list[str]:
    notes = [row.says] if row.outcome == "dropped" else []
    for fault in row.faults:
        what = f"{fault.error}: {' '.join(fault.message.split())}"
        notes.append(
            what if fault.outcome == "failed" else f"null, for {fault.step} failed: {what}"
        )
    return notes


def _column(made: Made) -> _Node:
    """How a column was made."""
    node = _Node(f"{made.column}, by {made.step}: {made.says}", [], [_column(m) for m in made.of])
    if made.kind == "read":
        where = _path(made.of[0].dataset) if made.of else _source(made.source, made.says)
        version = f" version {made.of[0].version}" if made.of else ""
        node.text = f"{made.column}, read from {where}{version}"
    return node


def _dataset(row: Row) -> str:
    return f"{_path(row.dataset)} version {row.version} (run {row.run})"


def _source(source: Mapping[str, Any], says: str) -> str:
    """A source by the paths of its identity; one without, as it is written."""
    paths = source.get("paths") or ([source["path"]] if "path" in source else [])
    return ", ".join(map(_path, paths)) if paths else says


def _version(source: str) -> str:
    """The version of a row of a file, in words; others are digests and say nothing to people."""
    found = _FILE_VERSION.fullmatch(source)
    if found is None:
        return ""
    moment = datetime.fromtimestamp(int(found[2]) // 10**9, UTC)
    return f": {int(found[1]):,} bytes, modified {moment:%Y-%m-%d %H:%M:%S} UTC"


def _path(path: str) -> str:
    """A path, as it is from here if it is below."""
    return path.removeprefix(os.path.join(os.getcwd(), ""))


def _key(key: str) -> str:
    return key if key.isprintable() and key.strip() else repr(key)
