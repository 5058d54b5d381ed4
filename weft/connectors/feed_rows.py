"""Rows of one version of a Lance dataset by their place in it: what a training feed reads."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.connectors.permutation import Indices
from weft.connectors.predicates import columns_read, pushable, sift
from weft.connectors.sql_filter import to_sql
from weft.errors import ContractError, DefinitionError, redact
from weft.pipelines import blobs, tables
from weft.pipelines.fields import Fields, fields_of

_SCAN_ROWS = 65_536
"""Rows of the filter's columns that are in memory at a time while the filter is judged."""


class PinnedRows:
    """The rows of a dataset that pass a filter, pinned to a version number when it is made.

    `where` is judged once, on the columns that it names, and costs 8 bytes for each row that
    passes. Without it nothing is listed and nothing is kept.

    Raises:
        DefinitionError: there is no such dataset, version, tag or column, or `where` is not a
            predicate over its columns.
    """

    def __init__(
        self,
        path: str,
        version: int | str,
        columns: Sequence[str] | None,
        where: pl.Expr | str | None,
    ) -> None:
        self.path = tables.local_path(path)
        self._open = _resolve(self.path, version)
        self.version = int(self._open.version)
        visible = fields_of(blobs.plain_schema(self._open.schema))
        self.types = visible if columns is None else visible.only(list(columns))
        self.content = _content(self._open)
        self.filter, self._places = _plan(self._open, visible, where)

    def __len__(self) -> int:
        return int(self._open.count_rows()) if self._places is None else len(self._places)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": None}  # a handle is of one process, and knows secrets

    def take(self, numbers: Indices) -> pa.Table:
        """The rows numbered `numbers` in the order of the dataset, in the order given.

        Each row is read once, and neighbours together, however often and where they are asked
        for. Media come as bytes.

        Raises:
            ContractError: Lance answered with another number of rows.
            OSError: the storage failed.
        """
        places = numbers if self._places is None else self._places[numbers]
        wanted, back = np.unique(places, return_inverse=True)
        dataset = self._dataset()
        media = [n for n in self.types if blobs.is_blob(dataset.schema.field(n))]
        plain = [n for n in self.types if n not in media]
        found: dict[str, Any] = {}
        if plain:
            table = dataset.take(pa.array(wanted), columns=plain)
            found = dict(zip(plain, table.columns, strict=True))
        for name in media:
            values = [value for _, value in dataset.read_blobs(name, indices=wanted.tolist())]
            found[name] = pa.array(values, self.types[name].storage)
        for name, column in found.items():
            if len(column) != len(wanted):
                raise ContractError(
                    f"{self.path} version {self.version}: asked for {len(wanted)} values of "
                    f"{name!r}, Lance gave {len(column)}. Report it with the version of pylance."
                )
        table = pa.table({name: found[name] for name in self.types})
        if len(back) == len(wanted) and (np.diff(back) > 0).all():
            return table
        return table.take(pa.array(back))

    def _dataset(self) -> Any:
        if self._open is None:
            self._open = tables.open_table(self.path, self.version)
        return self._open


def _resolve(path: str, version: int | str) -> Any:
    """The dataset at `version`; ``latest`` is the newest version where nothing is published."""
    if version != tables.LATEST:
        return tables.open_table(path, version)
    published = tables.latest(path)
    return tables.open_table(path, published[0] if published else None)


def _content(dataset: Any) -> str:
    """A digest of what the rows are: columns, and files, whose names Lance never gives twice."""
    fragments = [f.metadata.to_json() for f in dataset.get_fragments()]
    files = [([d["path"] for d in f["files"]], f["deletion_file"]) for f in fragments]
    columns = [(f.name, str(f.type)) for f in dataset.schema]
    return _digest(json.dumps([columns, files]))


def _plan(
    dataset: Any, visible: Fields, where: pl.Expr | str | None
) -> tuple[str | None, Indices | None]:
    """The filter as text that tells it from all others, and the places of the rows that pass."""
    if where is None:
        return None, None
    plain = blobs.plain_schema(dataset.schema)
    schema = pa.schema([f for f in plain if f.name in visible])
    sql = where if isinstance(where, str) else to_sql(where, schema)
    if sql is not None:
        return _named(sql), _places_by_sql(dataset, sql)
    assert isinstance(where, pl.Expr)
    for name in columns_read([where]):
        visible.require(name)
    if not pushable(where, visible):
        raise DefinitionError(
            f"where={where}: expected a predicate that answers for each row by itself, over "
            "columns that Polars can read: numbers, text, times, Booleans."
        )
    return _named(where.meta.serialize(format="json")), _places_by_polars(dataset, where)


def _places_by_sql(dataset: Any, sql: str) -> Indices:
    # Given as a column and not as a filter, because what is wanted is the place among all rows.
    try:
        scanner = dataset.scanner(columns={"passes": sql}, batch_size=_SCAN_ROWS)
        masks = [batch.column(0) for batch in scanner.to_batches()]
    except (ValueError, OSError) as error:
        raise DefinitionError(
            f"where={sql!r}: Lance cannot judge it: {redact(str(error), 300)}. Expected SQL over "
            'the columns of the dataset, such as "width > 640", or a Polars expression.'
        ) from error
    if masks and not pa.types.is_boolean(masks[0].type):
        raise DefinitionError(f"where={sql!r} is {masks[0].type}; a predicate must be Boolean.")
    kept = [pc.fill_null(mask, fill_value=False).to_numpy(zero_copy_only=False) for mask in masks]
    return np.flatnonzero(np.concatenate(kept)) if kept else np.empty(0, np.int64)


def _places_by_polars(dataset: Any, where: pl.Expr) -> Indices:
    start, found = 0, []
    scanner = dataset.scanner(columns=columns_read([where]), batch_size=_SCAN_ROWS)
    for batch in scanner.to_batches():
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        sifted = sift(columns, batch.num_rows, [where])
        if sifted.failed:
            number, message = sifted.failed[0]
            raise DefinitionError(f"where: row {start + number}: {message}")
        kept = np.arange(batch.num_rows) if sifted.kept is None else sifted.kept
        found.append(kept + start)
        start += batch.num_rows
    return np.concatenate(found) if found else np.empty(0, np.int64)


def _named(text: str) -> str:
    return f"{text if len(text) <= 200 else text[:199] + '…'} (sha256 {_digest(text)})"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
