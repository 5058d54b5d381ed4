"""Incremental runs of pipelines with several sources: unions, and children brought back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lance
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Files, Lance
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.result import Listener

SEEN: list[str] = []


@weft.operator(version="1")
def words(content: weft.Encoded) -> Iterator[weft.fields(word=str)]:  # type: ignore[valid-type]
    text = content.decode()
    SEEN.append(text)
    if "broken" in text:
        raise ValueError("a broken file")
    return ({"word": word} for word in text.split())


@weft.pipeline
def counted(folder: str, out: str) -> Any:
    """Two folders as one stream; words, and their number, by file."""
    left = weft.read(Files(f"{folder}/a/*", kind="text"))
    right = weft.read(Files(f"{folder}/b/*", kind="text")).where(pl.col("size") > 1)
    rows = left.union(right).apply(words).where(pl.col("word") != "skip")
    back = rows.group("_parent", n=pl.len(), last=pl.col("word").last())
    return rows.select("word").write(Lance(f"{out}/words")), back.write(Lance(f"{out}/files"))


class Heard(Listener):
    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def run(folder: Path, out: Path) -> list[str]:
    SEEN.clear()
    heard = Heard()
    counted(folder=str(folder), out=str(out)).run(
        engine="local", listener=heard, budget=Budget(rows=100)
    )
    return heard.notices


def content(out: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        name: lance.dataset(out / name, version="latest").to_table().sort_by("_key").to_pylist()
        for name in ("words", "files")
    }


def edit(folder: Path, texts: dict[str, str | None]) -> None:
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "in"
    edit(made, {"a/1": "one two", "a/2": "three", "b/3": "four five six", "b/4": "broken"})
    return made


def test_a_changed_row_of_either_source_is_all_that_is_processed(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(folder, out)
    edit(folder, {"b/3": "seven eight"})
    assert run(folder, out)[0].endswith("1 changed, 3 unchanged.")
    assert SEEN == ["seven eight"]
    assert [(r["n"], r["last"]) for r in content(out)["files"]] == [
        (2, "two"), (1, "three"), (2, "eight"),
    ]  # fmt: skip
    run(folder, tmp_path / "anew")
    assert content(out) == content(tmp_path / "anew")


def test_a_deleted_row_takes_its_children_and_what_they_brought_back(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(folder, out)
    edit(folder, {"a/1": None})
    assert run(folder, out)[0].endswith("1 deleted, 3 unchanged.")
    assert SEEN == []
    assert [r["word"] for r in content(out)["words"]] == ["three", "four", "five", "six"]
    assert len(content(out)["files"]) == 2


TEXTS = st.sampled_from(["", "x", "one", "one two", "skip", "skip three", "broken", None])
EDITS = st.dictionaries(st.sampled_from(["a/1", "a/2", "a/3", "b/1", "b/4"]), TEXTS, min_size=1)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(EDITS, min_size=1, max_size=4))
def test_incremental_is_full(tmp_path_factory: pytest.TempPathFactory, edits: list[Any]) -> None:
    base = tmp_path_factory.mktemp("unions")
    edit(base / "in", {"a/0": "zero", "b/5": "null nought"})  # a source is never empty
    for texts in edits:
        edit(base / "in", texts)
        run(base / "in", base / "out")
    run(base / "in", base / "anew")
    assert content(base / "out") == content(base / "anew")
