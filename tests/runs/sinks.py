"""Pipelines of several datasets, and a process that dies where it is told to.

`main` takes lines of JSON, ``{"source", "out", "dies"}``, and answers each with how the process
that ran `three` ended. Each is a fork of this one, which has only imported things: so it costs
no start of Python, and it is killed as any other is.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import polars as pl
from lance.dataset import Tags

import weft
from weft.connectors import Files, Lance
from weft.pipelines.runs import journal

NAMES = ("lines", "words", "sizes")
"""The datasets of `three`, in the order in which it writes them."""


@weft.operator(version="1")
def text(content: weft.Encoded) -> str:
    return content.decode()


@weft.operator(version="1")
def lines(text: str) -> Iterator[weft.fields(line=str)]:  # type: ignore[valid-type]
    return ({"line": line} for line in text.splitlines())


@weft.operator(version="1")
def words(text: str) -> Iterator[weft.fields(word=str)]:  # type: ignore[valid-type]
    return ({"word": word} for word in text.split())


@weft.pipeline
def three(source: str, out: str) -> Any:
    """One source, read once: its lines, its words and its sizes."""
    rows = weft.read(Files(source, kind="text")).apply(text)
    return (
        rows.apply(lines).select("uri", "line").write(Lance(f"{out}/lines.lance")),
        rows.apply(words).select("uri", "word").write(Lance(f"{out}/words.lance")),
        rows.select("uri", "size").write(Lance(f"{out}/sizes.lance")),
    )


@weft.pipeline
def apart(left: str, right: str, out: str) -> Any:
    """Two sources and two datasets that have nothing in common but the run."""
    upper = weft.read(Files(left, kind="text")).apply(text).apply(lines)
    large = weft.read(Files(right, kind="text")).where(pl.col("size") > 4)
    return (
        upper.select("line").write(Lance(f"{out}/left.lance")),
        large.select("key", "size").write(Lance(f"{out}/right.lance")),
    )


def die_before(point: str) -> None:
    """Kill this process right before it does what `point` names: see `points`."""
    for owner, name, what in (
        (lance.LanceDataset, "commit", "commit"),
        (Tags, "create", "tag"),
        (Tags, "update", "latest"),
        (Tags, "replace_metadata", "metadata"),
        (journal, "write_whole", "note"),
    ):
        setattr(owner, name, _mortal(getattr(owner, name), what, point))


def points() -> list[str]:
    """The durable steps from the last receipt to the end of a run of `three`, in order."""
    beside = [f"{kind} {name}" for name in NAMES for kind in ("errors", "ledger")]
    return [
        f"note publishing {NAMES[0]}",
        *(f"commit {kind} {name}" for name in NAMES for kind in ("errors", "ledger", "dataset")),
        *(f"latest {table}" for table in beside),
        *(f"{step} dataset {name}" for name in NAMES for step in ("tag", "latest", "metadata")),
        *(f"note published {name}" for name in NAMES),
    ]


def _mortal(act: Callable[..., Any], what: str, point: str) -> Callable[..., Any]:
    def call(first: Any, *more: Any, **options: Any) -> Any:
        if point == _name(what, first, more):
            os.kill(os.getpid(), signal.SIGKILL)
        return act(first, *more, **options)

    return call


def _name(what: str, first: Any, more: tuple[Any, ...]) -> str:
    if what == "note":  # a file of a journal
        state = json.loads(more[0])["state"] if first.name == "state.json" else first.name
        return f"note {state} {first.parents[2].name.removesuffix('.lance.weft')}"
    if what == "commit" and not more[0].read_version:
        what = "create"  # an empty table
    if what == "metadata" and more[0] != "latest":
        what = "metadata of the run's tag"
    path = Path(first if isinstance(first, str) else first._ds.uri)
    if path.parent.suffix == ".weft":
        return f"{what} {path.stem} {path.parent.name.removesuffix('.lance.weft')}"
    return f"{what} dataset {path.stem}"


def main() -> None:
    """Answer lines of JSON until there are no more."""
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # nothing of it has run here
    for module in ("weft.pipelines.runs.run", "weft.pipelines.engines.local"):
        importlib.import_module(module)  # here, and not in every child
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            die_before(asked.pop("dies"))
            three(**asked).run(engine="local", target="sinks:three")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
