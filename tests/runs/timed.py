"""A pipeline over small files, and all that a run of it leaves: for tests of what comes after."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.pipelines import tables
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.result import Listener

SEEN: list[str] = []
"""Texts that the operator saw."""

BUDGET = Budget(rows=1000)


@weft.operator(version="1")
def lines(content: weft.Encoded) -> Iterator[weft.fields(line=str)]:  # type: ignore[valid-type]
    text = content.decode()
    SEEN.append(text)
    if "broken" in text:
        raise ValueError("a broken file")
    return ({"line": line} for line in text.splitlines())


@weft.operator(version="1")
def loud(line: str, mark: str = "!") -> str:
    if line == "mute":
        raise ValueError("it cannot shout")
    return line.upper() + mark


@weft.pipeline
def shouts(source: str, out: str, on_error: str = "quarantine") -> Any:
    """Files to lines, some of which fail or are dropped; with the file's bytes beside each."""
    rows = weft.read(Files(source, kind="text")).apply(lines).where(pl.col("line") != "drop")
    rows = rows.apply(loud, on_error=on_error)
    return rows.select("key", "line", "loud", "content").write(Lance(out))


class Heard(Listener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def run(pipeline: Any, **more: Any) -> tuple[Any, list[str]]:
    SEEN.clear()
    heard = Heard()
    result = pipeline.run(engine="local", listener=heard, budget=BUDGET, **more)
    return result, heard.notices


def content(out: Path | str) -> dict[str, list[dict[str, Any]]]:
    """All that readers see of a dataset, in an order that does not depend on how it came about."""
    state = f"{out}.weft"
    found = {"rows": str(out), "ledger": ledger_uri(state), "errors": errors_uri(state)}
    return {
        name: tables.read(uri, "latest").sort_by([("_key", "ascending")]).to_pylist()
        for name, uri in found.items()
    }


def texts(folder: Path) -> Path:
    folder.mkdir()
    for name, text in {
        "a.txt": "one\ntwo\nthree",
        "b.txt": "four\ndrop\nfive",
        "c.txt": "broken",
        "d.txt": "mute\nseven",
    }.items():
        (folder / name).write_text(text)
    return folder


def full(folder: Path, out: Path, **parameters: Any) -> dict[str, list[dict[str, Any]]]:
    """What one run makes of a source, from nothing."""
    other = out.with_name("full.lance")
    run(shouts(source=f"{folder}/*", out=str(other), **parameters))
    found = content(other)
    shutil.rmtree(other)
    shutil.rmtree(f"{other}.weft")
    return found
