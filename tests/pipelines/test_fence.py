"""Everything that changes what others see asks the fence first."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from weft.pipelines import (
    cleaning,
    compaction,
    erasing,
    indexes,
    restoring,
    tables,
)
from weft.pipelines.fence import check_fence, fenced
from weft.pipelines.gates import accepting, judging
from weft.pipelines.runs import forgotten

CHANGES = {
    "commit", "create_index", "create_scalar_index", "drop_index", "optimize_indices",
    "compact_files", "cleanup_old_versions", "restore", "execute",
}  # fmt: skip
"""Methods of Lance that change a table."""

TAGS = {"create", "update", "delete", "replace_metadata"}
"""Those of its tags."""

UNASKED = {
    "tables._create": "an empty table, which takes nothing from anybody",
    "erasing._create": "`_reindex` has asked",
}


class LostError(Exception):
    pass


def lost() -> None:
    raise LostError


@pytest.fixture
def table(tmp_path: Path) -> str:
    uri = str(tmp_path / "t.lance")
    token = tables.ensure(uri, pa.schema([pa.field("_key", pa.string()), ("n", pa.int64())]))
    rows = pa.table({"_key": ["a", "b"], "n": [1, 2]}, schema=token_schema(uri))
    version = tables.commit(token, tables.stage(token, rows), "r1", {})
    tables.tag(uri, version, "r1", {})
    return uri


def token_schema(uri: str) -> pa.Schema:
    return tables.open_table(uri).schema


def commits(uri: str) -> None:
    schema = token_schema(uri)
    token = tables.ensure(uri, schema)
    staged = tables.stage(token, pa.table({"_key": ["c"], "n": [3]}, schema=schema))
    tables.commit(token, staged, "r2", {})


DEEDS: dict[str, Callable[[str], Any]] = {
    "commit": commits,
    "tag": lambda uri: tables.tag(uri, 2, "r1", {}),
    "untag": lambda uri: cleaning.untag(uri, ["run-r1"]),
    "remove": lambda uri: cleaning.remove([]),
    "drop_versions": lambda uri: cleaning.drop_versions(uri, [1]),
    "tidy": erasing.tidy,
    "erase": lambda uri: erasing.erase(uri, [0], {}),
    "restore": lambda uri: restoring.restore(uri, 1),
    "show": lambda uri: restoring.show(uri, 2, "r1"),
    "tag of a refused version": lambda uri: judging._tag(uri, 1, "r2", {}),
    "bar": lambda uri: forgotten.bar(f"{uri}.weft", ["a"]),
    "index": lambda uri: indexes._build(tables.open_table(uri), "n"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_who_lost_the_lease_does_nothing(table: str, deed: str) -> None:
    unseen = {"data", "_deletions"}  # of no version yet

    def state() -> Any:
        dataset = tables.open_table(table)
        files = sorted(p for p in Path(table).rglob("*") if not unseen & {*p.parts})
        return dataset.version, dataset.tags.list(), files

    before = state()
    with fenced(lost), pytest.raises(LostError):
        DEEDS[deed](table)
    assert state() == before


def test_all_leases_are_asked() -> None:
    asked = []
    with fenced(lambda: asked.append(1)), fenced(lambda: asked.append(2)):
        check_fence()
    assert asked == [1, 2]
    check_fence()
    assert asked == [1, 2]


def calls_of(function: ast.FunctionDef) -> set[str]:
    """Lance's methods that change a table, called in a function."""
    found = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = ast.unparse(node.func.value)
            tags = node.func.attr in TAGS and of.endswith("tags")
            if tags or (node.func.attr in CHANGES and not of.startswith(("tables", "sink"))):
                found.add(node.func.attr)
    return found


@pytest.mark.parametrize(
    "module",
    [accepting, cleaning, compaction, erasing, indexes, judging, restoring, tables],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_no_change_of_a_table_goes_unasked(module: Any) -> None:
    """Read from the source: whoever calls Lance to change a table asks the fence."""
    source, name = ast.parse(inspect.getsource(module)), module.__name__.rpartition(".")[2]
    for function in ast.walk(source):
        if isinstance(function, ast.FunctionDef) and (changes := calls_of(function)):
            asks = "check_fence()" in ast.unparse(function)
            assert asks or f"{name}.{function.name}" in UNASKED, (function.name, changes)
