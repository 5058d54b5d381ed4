"""Running an operator on rows in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.fields import arrow_schema
from weft.pipelines.grouping import Compose
from weft.pipelines.types import Type

Columns = Mapping[str, tuple[Type, Sequence[Any]]]
"""Columns by name: their type and their values."""


@dataclass(frozen=True)
class Kept:
    """What a run wrote, by key, and its result."""

    rows: dict[str, dict[str, Any]]
    result: Any

    @property
    def keys(self) -> set[str]:
        return set(self.rows)


def source(columns: Columns, keys: Sequence[str]) -> Arrow:
    """Columns as a source whose rows have these keys."""
    schema = arrow_schema({name: kind for name, (kind, _) in columns.items()})
    table = pa.table([kind.to_arrow(values) for kind, values in columns.values()], schema=schema)
    return Arrow(table.append_column("key", pa.array(keys, pa.string())), key="key")


@pytest.fixture(scope="session")
def deduplicate() -> Callable[..., Kept]:
    """Run an operator on columns whose rows have `keys`.

    `make` makes it, given the rows that are held, which are `held`, columns and keys, or None.
    """

    def run(
        make: Callable[[Any], Compose],
        columns: Columns,
        keys: Sequence[str],
        *,
        held: tuple[Columns, Sequence[str]] | None = None,
        engine: Any = "local",
        **ports: str,
    ) -> Kept:
        @weft.pipeline
        def deduplicated() -> Any:
            others = None if held is None else weft.read(source(*held))
            rows = weft.read(source(columns, keys))
            return rows.apply(make(others), **ports).write(Memory("deduplicated"))

        Memory("deduplicated").clear()
        result = deduplicated().run(engine=engine)
        rows = Memory("deduplicated").table().to_pylist()
        assert len({row["_key"] for row in rows}) == len(rows)
        return Kept({row["_key"]: row for row in rows}, result)

    return run
