"""Lance datasets: where rows are published, and where they are read from again.

Reading is pinned: a tag is resolved to a version number once, when a run first looks, and it
reads that version to its end whatever is published meanwhile. Media columns come as bytes, and
only where they are asked for. A predicate that SQL can say is answered on the columns that it
names; the rest of a row, media above all, is then read for the rows that are left.

A row's ``_source`` says when it last changed: the version of the table that wrote it, where the
table has stable row ids, as those that weft makes have. Those have a name of their own as well,
so that a table that is deleted and made anew has no row that was seen. In other tables it is a
digest of the row's data files, which an appended row leaves alone and a compaction changes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.connectors.slices import ranges
from weft.connectors.sql_filter import quoted, to_sql
from weft.errors import ContractError, DefinitionError, PlanError, nearest
from weft.pipelines import blobs, indexes, tables
from weft.pipelines.batch import KEY, SOURCE, Batch, Column
from weft.pipelines.connector import Chunk, DroppedRows, Replacement, Sink, Source, Split
from weft.pipelines.fields import Fields, fields_of
from weft.pipelines.types import Embedding, Text, from_arrow

_ROW_ID = "_rowid"
_CHANGED = "_row_last_updated_at_version"

_LISTED_ROWS = 65_536
"""Rows read at a time to list keys and versions, which are small."""

_READAHEAD = 2
"""Batches that Lance reads before they are asked for; its 16 would be 16 batches of media."""


@dataclass(frozen=True)
class Lance(Source, Sink):
    """A Lance dataset at `path`, read at a version or a tag, or written as a whole.

    `version` is a number or a tag. The default is the tag ``latest``; a dataset without it,
    which weft did not publish, is read at its newest version. `key` is the column whose values
    name the rows; without it that is ``_key``, which datasets written by weft have, and then
    Lance's stable row id. Its values must be unique and not null.

    `index` names columns of a write, `Embedding`s, that are searched for the nearest: each
    version is shown to readers with a vector index on them, or without where there are so few
    rows that an exact search is as fast. See `weft.pipelines.indexes`.

    >>> Lance("/data/photos.lance", version="run-42").identity()["version"]
    'run-42'

    Raises:
        PlanError: `path` is on a storage that is not supported.
    """

    path: str
    version: int | str = tables.LATEST
    key: str | None = None
    index: str | tuple[str, ...] = ()

    incremental = True
    columnar = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", _names(self.index))
        # Made absolute here, because a worker has another working directory.
        object.__setattr__(self, "path", tables.local_path(str(self.path)))

    @property
    def uri(self) -> str:
        """The dataset's absolute path."""
        return self.path

    @property
    def state(self) -> str:
        """``<path>.weft``, beside the dataset."""
        return f"{self.path}.weft"

    def identity(self) -> dict[str, Any]:
        """Path, version as given and key column; an index changes no row."""
        return {"type": "Lance", "path": self.path, "version": self.version, "key": self.key}

    @property
    def columns(self) -> Fields:
        """The dataset's columns at that version, without the engine's own.

        Raises:
            DefinitionError: there is no such dataset, version or tag, or `index` is given.
        """
        if self.index:
            raise DefinitionError(
                f"Lance({self.path!r}, index={self.index!r}) cannot be read: an index is made by "
                "a write. Leave out `index`."
            )
        return fields_of(blobs.plain_schema(self._open().schema))

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        """Whether `predicate` has SQL that keeps the same rows: see `weft.connectors.sql_filter`.

        Raises:
            DefinitionError: there is no such dataset, version or tag.
        """
        return to_sql(predicate, self._visible(self._open())) is not None

    def count(self) -> int:
        """The rows of that version, as its metadata says."""
        chosen = self.__dict__.get("_chosen")  # of `only`
        return int(self._open().count_rows() if chosen is None else chosen.sum())

    def listing(self) -> pa.Table:
        """The keys of all rows, and when each last changed. Reads these two columns."""
        dataset = self._open()
        key = self._key_column(dataset)
        parts = [_Reader(dataset, f, key, []).listing() for f in _fragments(dataset)]
        empty = pa.schema({KEY: pa.string(), SOURCE: pa.string()}).empty_table()
        return pa.concat_tables([empty, *parts])

    def only(self, keys: pa.Array) -> Lance:
        """The same version, with splits of these rows only."""
        other = dataclasses.replace(self)
        chosen = pc.is_in(self.listing()[KEY], keys).to_numpy()  # once: hashing `keys` costs most
        other.__dict__.update(_pinned=self._open().version, _chosen=chosen)
        return other

    def splits(self, rows: int) -> Iterator[Split]:
        """Ranges of rows of one fragment each, by fragment and position.

        A split's id is a digest of the names of the fragment's files, which Lance never writes
        twice, and of the range: it is the same in each version that has these rows.

        Raises:
            DefinitionError: there is no such dataset, version or tag, or nothing names its rows.
        """
        dataset = self._open()
        key = self._key_column(dataset)
        chosen = self.__dict__.get("_chosen")  # of `only`, in the order of the listing
        first = 0
        for fragment in _fragments(dataset):
            files = _files(fragment)
            size = sum(f["file_size_bytes"] or 0 for f in files["data"])
            count = fragment.count_rows()
            here = np.ones(count, bool) if chosen is None else chosen[first : first + count]
            first += count
            for start, length in ranges(here, rows):
                where = {"fragment": fragment.fragment_id, "start": start, "rows": length}
                yield Split(
                    id=_digest({"key": key, "files": files, "start": start, "rows": length}),
                    rows=length,
                    payload=json.dumps({"version": dataset.version, **where}).encode(),
                    content_bytes=size * length // max(1, fragment.physical_rows),
                )

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        """The rows of `split` that pass all `predicates`; media come as bytes.

        Raises:
            DefinitionError: the version is not there any more.
            PlanError: a predicate is not one that `accepts_predicate` accepts.
            OSError: the storage failed.
        """
        where = json.loads(split.payload)
        dataset = tables.open_table(self.path, where["version"])
        fragment = dataset.get_fragment(where["fragment"])
        reader = _Reader(dataset, fragment, self._key_column(dataset), columns)
        if not predicates:
            scanner = reader.scanner(batch_rows, offset=where["start"], limit=where["rows"])
            yield from (Chunk(reader.batch(b)) for b in scanner.to_batches())
            return
        clauses = [self._sql(p, dataset) for p in predicates]
        kept, dropped = reader.judge(clauses, where["start"], where["rows"])
        for batch in reader.only(kept, batch_rows):
            yield Chunk(batch, dropped)
            dropped = []
        if dropped:
            yield Chunk(reader.empty(), dropped)

    def check(self, schema: pa.Schema) -> None:
        """Look at what is at the path; write nothing.

        Raises:
            PlanError: Lance cannot store or index a column, or something else than a weft
                dataset with rows in it is there.
        """
        from lance.schema import LanceSchema

        if self.version != tables.LATEST:
            raise PlanError(
                f"Lance({self.path!r}, version={self.version!r}) cannot be written: a run makes "
                "a new version. Leave out `version` to write, and keep it to read."
            )
        for field in blobs.stored_schema(schema):
            try:
                LanceSchema.from_pyarrow(pa.schema([field]))
            except ValueError as error:
                raise PlanError(
                    f"Lance cannot store column {field.name!r} of type {field.type}: write it as "
                    "another type, or leave it out with `select`."
                ) from error
        for name in self.index:
            self._check_index(schema, name)
        self._check_there()

    def prepare(self, schema: pa.Schema) -> dict[str, Any]:
        """See `weft.pipelines.tables.ensure`."""
        return tables.ensure(self.path, schema)

    def stage(self, token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
        """See `weft.pipelines.tables.stage`."""
        return tables.stage(token, table)

    def commit(
        self,
        token: Mapping[str, Any],
        staged: Sequence[Mapping[str, Any]],
        run: str,
        properties: Mapping[str, str],
        *,
        removed: Collection[str] | None = None,
        replacement: Replacement | None = None,
    ) -> int:
        """See `weft.pipelines.tables.commit`; the version with its indexes built."""
        version = tables.commit(
            token, staged, run, properties, removed=removed, replacement=replacement
        )
        return indexes.build(self.path, version, self.index) if self.index else version

    def complete(self, version: int) -> bool:
        """Whether a version has the indexes that are asked for."""
        return indexes.built(self.path, version, self.index)

    def publish(self, version: int, run: str, properties: Mapping[str, str]) -> None:
        """See `weft.pipelines.tables.tag`."""
        tables.tag(self.path, version, run, properties)

    def _open(self) -> Any:
        """The dataset at the version that `version` named when it was first asked for."""
        if "_pinned" not in self.__dict__:
            self.__dict__["_pinned"] = self._resolve().version
        return tables.open_table(self.path, self.__dict__["_pinned"])

    def _resolve(self) -> Any:
        if self.version != tables.LATEST:
            return tables.open_table(self.path, self.version)
        dataset = tables.open_table(self.path)
        tag = dataset.tags.list().get(tables.LATEST)
        return dataset if tag is None else tables.open_table(self.path, tag["version"])

    def __getstate__(self) -> dict[str, Any]:
        return {n: v for n, v in self.__dict__.items() if n not in ("_pinned", "_chosen")}

    def _visible(self, dataset: Any) -> pa.Schema:
        schema = blobs.plain_schema(dataset.schema)
        return pa.schema([f for f in schema if not f.name.startswith("_")])

    def _sql(self, predicate: pl.Expr, dataset: Any) -> str:
        sql = to_sql(predicate, self._visible(dataset))
        if sql is None:
            raise PlanError(
                f"Lance({self.path!r}) cannot apply {predicate}: `accepts_predicate` refuses it, "
                "so it must be applied after the read."
            )
        return sql

    def _key_column(self, dataset: Any) -> str:
        """The column that names the rows.

        Raises:
            DefinitionError: `key` is not a column or has nulls, or nothing else names the rows.
        """
        if self.key is None:
            if KEY in dataset.schema.names:
                return KEY
            if dataset.has_stable_row_ids:
                return _ROW_ID
            raise DefinitionError(
                f"Nothing names the rows of {self.path}: it has no `_key` column and its row ids "
                "change when it is compacted. Give the column that does: Lance(…, key='…')."
            )
        kind = fields_of(self._visible(dataset)).require(self.key).storage
        if not (pa.types.is_string(kind) or pa.types.is_integer(kind)):
            raise DefinitionError(
                f"Lance({self.path!r}, key={self.key!r}): a key is text or an integer, and this "
                f"column is {kind}."
            )
        if nulls := dataset.count_rows(f"{quoted(self.key)} IS NULL"):
            raise DefinitionError(
                f"Lance({self.path!r}, key={self.key!r}): {nulls} rows have no key. Give a "
                "column that is never null."
            )
        return self.key

    def _check_index(self, schema: pa.Schema, name: str) -> None:
        have = fields_of(schema)
        if name not in have:
            raise PlanError(
                f"Lance({self.path!r}, index={self.index!r}): no column {name!r} is written. "
                f"Written: {', '.join(have)}. {nearest(name, have)}".rstrip()
            )
        kind = from_arrow(schema.field(name))
        if not isinstance(kind, Embedding) or kind.dim is None:
            raise PlanError(
                f"Lance({self.path!r}, index={self.index!r}): column {name!r} is {kind}; a vector "
                "index is on an Embedding of a fixed length."
            )

    def _check_there(self) -> None:
        if not tables.exists(self.path):
            path = Path(self.path)
            if path.exists() and (not path.is_dir() or any(path.iterdir())):
                raise PlanError(
                    f"{self.path} is there and is not a Lance table; weft would write into it. "
                    "Write to another path, or move away what is there."
                )
            return
        dataset = tables.open_table(self.path)
        if KEY not in dataset.schema.names and dataset.count_rows():
            raise PlanError(
                f"{self.path} is a Lance table that weft did not write: {dataset.count_rows()} "
                f"rows, columns {', '.join(dataset.schema.names)}, no `_key`. A run would replace "
                "its rows. Write to another path, or move the table away."
            )


class _Reader:
    """One fragment of one version, read with a set of columns."""

    def __init__(self, dataset: Any, fragment: Any, key: str, columns: Sequence[str]) -> None:
        self._dataset = dataset
        self._fragment = fragment
        self._key = key
        self._types = fields_of(blobs.plain_schema(dataset.schema)).only(list(columns))
        self._stable = dataset.has_stable_row_ids
        self._version = "" if self._stable else _digest(_files(fragment)["data"])
        name = (dataset.schema.metadata or {}).get(tables.TABLE_ID)
        self._table = f"{name.decode()}-" if name else ""
        self._engine = [key] if key != _ROW_ID else []  # the row id is an option of the scan
        self._engine += [_CHANGED] if self._stable else []
        self._names = list(dict.fromkeys([*self._types, *self._engine]))

    def scanner(self, batch_rows: int, **where: Any) -> Any:
        """A scan of a range of the fragment's rows."""
        return self._fragment.scanner(
            columns=self._names, with_row_id=True, **where, **_scan_options(batch_rows)
        )

    def listing(self) -> pa.Table:
        """Keys and versions, in the order of positions."""
        table = self.scanner(_LISTED_ROWS).to_table()
        keys, sources = self._envelope(table)
        return pa.table({KEY: keys, SOURCE: sources})

    def judge(
        self, clauses: Sequence[str], start: int, rows: int
    ) -> tuple[list[int], list[DroppedRows]]:
        """Row ids that pass all clauses, and the others by the first clause that drops them.

        Null is a no. Reads the key and the columns in the clauses, nothing else.
        """
        wanted = {f"_clause{i}": clause for i, clause in enumerate(clauses)}
        wanted |= {name: quoted(name) for name in self._engine}
        scan = self._fragment.scanner(columns=wanted, offset=start, limit=rows, with_row_id=True)
        table = scan.to_table()
        alive = pa.chunked_array([pa.repeat(pa.scalar(value=True), table.num_rows)])
        dropped = []
        for i in range(len(clauses)):
            passes = pc.fill_null(table[f"_clause{i}"], fill_value=False)
            out = table.filter(pc.and_not(alive, passes))
            if out.num_rows:
                keys, sources = self._envelope(out)
                dropped.append(DroppedRows(i, keys.to_pylist(), sources.to_pylist()))
            alive = pc.and_(alive, passes)
        return table.filter(alive)[_ROW_ID].to_pylist(), dropped

    def only(self, row_ids: Sequence[int], batch_rows: int) -> Iterator[Batch]:
        """The rows of these ids, in the fragment's order; the others are not read.

        Raises:
            ContractError: Lance answered with other rows than it was asked for.
        """
        from lance.dataset import serialize_row_addrs

        if not row_ids:
            return
        scanner = self._dataset.scanner(
            columns=self._names,
            fragments=[self._fragment],
            row_addr_allowlist=serialize_row_addrs(row_ids),  # row ids, where those are stable
            with_row_id=True,
            scan_in_order=True,
            **_scan_options(batch_rows),
        )
        done = 0
        for found in scanner.to_batches():
            self._same(found.column(_ROW_ID).to_pylist(), row_ids[done : done + found.num_rows])
            done += found.num_rows
            yield self.batch(found)
        self._same([], row_ids[done:])

    def _same(self, found: Sequence[int], expected: Sequence[int]) -> None:
        if found != expected:
            raise ContractError(
                f"{self._dataset.uri}, fragment {self._fragment.fragment_id}: a scan of the rows "
                f"{expected[:3]}… answered with {found[:3]}…. This is a fault in Lance or weft: "
                "report it with the version of pylance."
            )

    def batch(self, found: pa.RecordBatch) -> Batch:
        """Scanned rows, with their envelope."""
        keys, sources = self._envelope(found)
        envelope = {KEY: Column(Text(), array=keys), SOURCE: Column(Text(), array=sources)}
        columns = {n: Column(kind, array=found.column(n)) for n, kind in self._types.items()}
        return Batch(columns, envelope, found.num_rows)

    def empty(self) -> Batch:
        """A batch without rows, to carry the dropped ones."""
        nothing = {KEY: Column(Text(), values=[]), SOURCE: Column(Text(), values=[])}
        return Batch({n: Column(k, values=[]) for n, k in self._types.items()}, nothing, 0)

    def _envelope(self, found: pa.RecordBatch | pa.Table) -> tuple[pa.Array, pa.Array]:
        keys = found.column(self._key).cast(pa.string())
        if self._stable:
            changed = found.column(_CHANGED).cast(pa.string())
            return keys, pc.binary_join_element_wise(self._table, changed, "")
        return keys, pa.repeat(pa.scalar(self._version), found.num_rows)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several, each once."""
    return tuple(dict.fromkeys([given] if isinstance(given, str) else given))


def _scan_options(batch_rows: int) -> dict[str, Any]:
    return {
        "batch_size": batch_rows,
        "batch_readahead": _READAHEAD,
        "blob_handling": "all_binary",  # of the scanned columns; others are not touched
    }


def _fragments(dataset: Any) -> list[Any]:
    return sorted(dataset.get_fragments(), key=lambda f: f.fragment_id)


def _files(fragment: Any) -> dict[str, Any]:
    """What a fragment's rows are: its data files, and which of their rows are deleted."""
    metadata = fragment.metadata.to_json()
    files = [{k: f[k] for k in ("path", "fields", "file_size_bytes")} for f in metadata["files"]]
    return {"data": files, "deleted": metadata["deletion_file"]}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]
