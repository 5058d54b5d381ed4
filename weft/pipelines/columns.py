"""New values for some columns of a Lance table, without its other columns being written again.

A fragment is a set of files with the same rows, each with some of the columns. A column is
replaced by one more file in every fragment and a line in its metadata; the files of media, which
are most of the bytes, stay as they are. Everything is one ``Merge``: columns that are new, have
new values or another type or place, or are gone; rows that are deleted; rows that are added.
Lance refuses it if anybody committed in between.

What was measured on pylance 14.0.2, and is held by tests:

- A file must have a value for each *physical* row, deleted ones too. Lance does not look, and a
  shorter one makes the column unreadable.
- A replaced column has a new field id, and Lance drops the indices on the old one. With the
  same id they would go on to answer with the old values. A media column keeps its id, since
  Lance takes no new one for it; it has no index.
- Every fragment must be in it. Lance deletes all rows of one by leaving it out, which it refuses
  here, so the deletion file is written as it would be: the positions of the rows, as Arrow IPC.
  The next commit of rows leaves the fragment out.
- Once a column was replaced, the ids of a table are not those that Lance gives to the fields of
  an Arrow schema, so those of every staged file are put right.
- Lance notes that all rows of a changed fragment were updated, so datasets that are made of this
  one see them as changed.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from weft.errors import BooksError
from weft.pipelines import blobs
from weft.pipelines.batch import KEY
from weft.pipelines.connector import Replacement
from weft.pipelines.fragments import deletions

_CHUNK_ROWS = 4096
"""Rows of new values that are gathered at a time: 8 MB of embeddings of 512 numbers."""

_GONE = -2
"""The field id that Lance gives to a column of a file that is not of the table any more."""


def merge(
    dataset: Any,
    schema: pa.Schema,
    new: Sequence[Mapping[str, Any]],
    removed: Collection[str],
    replacement: Replacement,
) -> Any:
    """The operation that gives `dataset` the columns of `schema`, as they are stored.

    Args:
        dataset: the newest version.
        schema: with the columns that are replaced, and in the order that is wanted.
        new: fragments with rows to add, as JSON, staged with `schema`.
        removed: keys of rows that go.
        replacement: the new values.

    Raises:
        BooksError: a row has no value for a new column, or a key is there twice.
    """
    from lance import LanceOperation
    from lance.fragment import FragmentMetadata

    gone, thinned = deletions(dataset, removed)
    less = {fragment.id: fragment for fragment in thinned}
    if lacking := {f.name for f in schema} - {*_same(dataset.schema, schema), *replacement.names}:
        raise BooksError(f"{dataset.uri}: nothing was staged for {', '.join(sorted(lacking))}.")
    values = _Values(dataset, schema, replacement, removed)
    fields = _Fields(dataset, schema, values.names if values.rows else ())
    kept, moved = fields.kept(), fields.moved()
    own, whole = fields.alone(values.schema), fields.alone(schema)
    made: list[dict[str, Any]] = []
    for fragment in dataset.get_fragments():
        found = _plain(less.get(fragment.fragment_id, fragment.metadata).to_json())
        if fragment.fragment_id in gone:
            found["deletion_file"] = _without_rows(dataset, fragment)
        file = values.file(fragment)
        files = _renamed(found["files"], moved if file is None else kept)
        made.append(found | {"files": files + ([] if file is None else _renamed([file], own))})
    number = 1 + max([0, *_fragment_ids(dataset)])
    for offset, fragment in enumerate(new):
        files = _renamed(fragment["files"], whole)
        made.append({**fragment, "id": number + offset, "files": files})
    fragments = [FragmentMetadata.from_json(json.dumps(f)) for f in made]
    return LanceOperation.Merge(fragments, fields.schema)


@dataclass(frozen=True)
class _Tree:
    """A column as Lance's schema has it: itself and what is inside of it, in one order."""

    ids: tuple[int, ...]
    protos: tuple[bytes, ...]


def fitted(
    dataset: Any, schema: pa.Schema, staged: Sequence[Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """Fragments, as JSON, that were staged with the table's own columns, with its field ids."""
    own = _Fields(dataset, schema, ()).alone(schema)
    return [{**f, "files": _renamed(f["files"], own)} for f in staged]


class _Fields:
    """The schema with field ids: those of columns that stay, new ones for the others."""

    def __init__(self, dataset: Any, schema: pa.Schema, names: Sequence[str]) -> None:
        from lance.schema import LanceSchema

        self._old = _trees(dataset.lance_schema)
        same = _same(dataset.schema, schema)
        replaced = {f.name for f in schema if f.name in names and not blobs.is_blob(f)}
        fresh = {f.name for f in schema if f.name in replaced or f.name not in same}
        first = 1 + max(number for tree in self._old.values() for number in tree.ids)
        # A schema made of an Arrow schema counts its ids from 0, so others stand before.
        before = [pa.field(f"_{i}", pa.int8()) for i in range(first)]
        after = [f for f in schema if f.name in fresh]
        new = _trees(LanceSchema.from_pyarrow(pa.schema([*before, *after])))
        self._now = {f.name: (new if f.name in fresh else self._old)[f.name] for f in schema}
        self._stay = {name for name in self._now if name not in fresh and name not in names}
        metadata = dataset.lance_schema.__reduce__()[1][0]
        protos = [proto for tree in self._now.values() for proto in tree.protos]
        self.schema = LanceSchema._from_protos(metadata, *protos)

    def kept(self) -> dict[int, int]:
        """The ids in files of the table whose replaced columns have new files."""
        return self._ids({n: t for n, t in self._old.items() if n in self._stay})

    def moved(self) -> dict[int, int]:
        """The ids in files of the table whose values all stay."""
        return self._ids(self._old)

    def alone(self, schema: pa.Schema) -> dict[int, int]:
        """The ids in files that were written by themselves, with these columns."""
        from lance.schema import LanceSchema

        return self._ids(_trees(LanceSchema.from_pyarrow(schema)))

    def _ids(self, files: Mapping[str, _Tree]) -> dict[int, int]:
        """The id now of each id in some files; the sameness of a column is its name."""
        pairs = ((t.ids, self._now[n].ids) for n, t in files.items() if n in self._now)
        return {was: now for old, new in pairs for was, now in zip(old, new, strict=True)}


class _Values:
    """The new values, and the places of their rows."""

    def __init__(
        self,
        dataset: Any,
        schema: pa.Schema,
        replacement: Replacement,
        removed: Collection[str],
    ) -> None:
        self.uri, self.storage = dataset.uri, dataset.data_storage_version
        self.names = replacement.names
        self.schema = pa.schema([schema.field(n) for n in self.names])
        old = dataset.schema
        self.old = [
            n for n in self.names if n in old.names and old.field(n).equals(schema.field(n))
        ]
        self.table = replacement.table() if self.names else None
        self.rows = self.table.num_rows if self.table is not None else 0
        keys = self.table[KEY] if self.table is not None else pa.chunked_array([], pa.string())
        staged = pl.DataFrame({KEY: pl.from_arrow(keys)}).with_row_index("row")
        if not staged[KEY].is_unique().all():
            raise BooksError(f"{self.uri}: a key has two new values. Nothing was committed.")
        at = pl.col("_rowaddr")
        rows = pl.DataFrame(dataset.scanner(columns=[KEY], with_row_address=True).to_table())
        gone = pl.Series(list(removed), dtype=pl.String).implode()
        live = rows.lazy().filter(~pl.col(KEY).is_in(gone))
        placed = live.join(staged.lazy(), on=KEY, how="left").select(
            KEY, "row", (at // 2**32).alias("fragment"), (at % 2**32).alias("place")
        )
        self.places = placed.collect().partition_by("fragment", as_dict=True)

    def file(self, fragment: Any) -> dict[str, Any] | None:
        """A data file, as JSON, with the columns of a fragment; ``None``: its values stay."""
        if (fragment.fragment_id,) not in self.places:  # none of its rows stays
            where = np.zeros(fragment.physical_rows, np.int64)
            return self._write((self.table, where), len(where)) if self.rows else None
        rows = self.places[(fragment.fragment_id,)]
        kept = rows.filter(pl.col("row").is_null())
        if len(kept) and len(self.old) < len(self.names):
            raise BooksError(
                f"{self.uri}: {len(kept)} rows, the first {kept[KEY][0]!r}, have no value for "
                f"{', '.join(n for n in self.names if n not in self.old)}. Nothing was committed."
            )
        if len(kept) == len(rows):
            return None
        source = self._rows(fragment, rows, kept)
        return self._write(source, fragment.physical_rows)

    def _rows(
        self, fragment: Any, rows: pl.DataFrame, kept: pl.DataFrame
    ) -> tuple[pa.Table, npt.NDArray[np.int64]]:
        """A table of values, and for each physical row which of them is its own."""
        assert self.table is not None
        table = self.table
        where = np.full(fragment.physical_rows, -1, np.int64)
        new = rows.filter(pl.col("row").is_not_null())
        where[new["place"].to_numpy()] = new["row"].to_numpy()
        if len(kept):
            scan = fragment.scanner(
                columns=self.old, with_row_address=True, blob_handling="all_binary"
            ).to_table()
            place = pl.Series(scan["_rowaddr"].to_numpy() % 2**32)
            mine = place.is_in(kept["place"].implode()).to_numpy()
            where[place.to_numpy()[mine]] = table.num_rows + np.arange(mine.sum())
            old = scan.filter(pa.array(mine)).select(self.names)
            plain = blobs.plain_schema(self.schema)
            both = (table.select(self.names), old)
            table = pa.concat_tables([pa.table(t.columns, plain) for t in both])
        return table, _filled(where)

    def _write(self, source: tuple[pa.Table, npt.NDArray[np.int64]], rows: int) -> dict[str, Any]:
        from lance.fragment import write_fragments

        table, where = source[0].select(self.names), source[1]

        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(where), _CHUNK_ROWS):
                part = _taken(table, where[start : start + _CHUNK_ROWS])
                plain = pa.table(part.columns, blobs.plain_schema(self.schema))
                yield from blobs.to_stored(plain).combine_chunks().to_batches()

        (fragment,) = write_fragments(
            pa.RecordBatchReader.from_batches(self.schema, batches()),
            self.uri,
            mode="overwrite",  # field ids of the given schema
            max_rows_per_file=max(1, rows),
            max_bytes_per_file=1 << 62,
            data_storage_version=self.storage,
        )
        found = _plain(fragment.to_json())
        if found["physical_rows"] != rows or len(found["files"]) != 1:
            raise BooksError(f"{self.uri}: Lance cut a column into several files.")
        file: dict[str, Any] = found["files"][0]
        return file


def _filled(where: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Places of deleted rows, which are -1, get the value of a neighbour: any one serves."""
    found = pl.Series(where).replace(-1, None).forward_fill().backward_fill()
    return found.to_numpy()


def _taken(table: pa.Table, rows: npt.NDArray[np.int64]) -> pa.Table:
    """Some rows of a table in many chunks. Arrow makes one of all chunks first, which for each
    4,096 of a million embeddings would be 2 GB; the values of a fragment mostly lie together."""
    first, last = int(rows.min()), int(rows.max())
    return table.slice(first, last - first + 1).take(pa.array(rows - first))


def _without_rows(dataset: Any, fragment: Any) -> dict[str, Any]:
    """Write the deletion file of a fragment that keeps no row; what its metadata says of it."""
    rows, number = fragment.physical_rows, secrets.randbits(63)
    name = f"{fragment.fragment_id}-{dataset.version}-{number}.arrow"
    path = Path(dataset.uri, "_deletions", name)
    path.parent.mkdir(exist_ok=True)
    positions = pa.table(
        [pa.array(np.arange(rows, dtype=np.uint32))],
        schema=pa.schema([pa.field("row_id", pa.uint32(), nullable=False)]),
    )
    with pa.ipc.new_file(str(path), positions.schema) as file:
        file.write_table(positions)
    about = {"read_version": dataset.version, "id": number, "file_type": "array"}
    return {**about, "num_deleted_rows": rows, "base_id": None}


def _same(before: pa.Schema, after: pa.Schema) -> list[str]:
    """The columns of `after` that `before` has too, stored in the same way."""
    return [f.name for f in after if f.name in before.names and before.field(f.name).equals(f)]


def _renamed(files: Sequence[dict[str, Any]], ids: Mapping[int, int]) -> list[dict[str, Any]]:
    """The data files that have a column of the table, with the ids it has there."""
    found = [f | {"fields": [ids.get(i, _GONE) for i in f["fields"]]} for f in files]
    return [f for f in found if any(number != _GONE for number in f["fields"])]


def _trees(schema: Any) -> dict[str, _Tree]:
    """The columns of a Lance schema."""
    protos = iter(schema.__reduce__()[1][1:])
    found = {}
    for field in schema.fields():
        ids = tuple(_walk(field))
        found[field.name()] = _Tree(ids, tuple(next(protos) for _ in ids))
    return found


def _walk(field: Any) -> Iterator[int]:
    yield int(field.id())
    for child in field.children():
        yield from _walk(child)


def _fragment_ids(dataset: Any) -> Iterator[int]:
    """The ids of fragments, and of those that an index still speaks of: none may come back."""
    yield from (f.fragment_id for f in dataset.get_fragments())
    for index in dataset.describe_indices():
        for segment in index.segments:
            yield from segment.fragment_ids


def _plain(metadata: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(metadata))
    return found
