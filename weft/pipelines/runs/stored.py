"""Sources of backfills: rows of a dataset, and rows of a source with what a dataset has of them."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from weft.pipelines import tables
from weft.pipelines.batch import COUNT, ENVELOPE, INDEX, KEY, PARENT, SOURCE, Batch, Column
from weft.pipelines.connector import Chunk, Source, Split
from weft.pipelines.fields import Fields
from weft.pipelines.operator import digest
from weft.pipelines.types import Type

_KEYS_ROWS = 65_536
"""Keys of a split that are read at a time."""

_LENGTH = struct.Struct("<q")


@dataclass(frozen=True)
class Stored(Source):
    """Rows of a dataset at a version, some of its columns under other names.

    The rows keep their key, their source version and, if they are children, their parent. Those
    that are `leaving` are left out.
    """

    path: str
    version: int
    names: tuple[tuple[str, str], ...]
    types: Fields
    leaving: frozenset[str] = frozenset()

    @property
    def columns(self) -> Fields:
        return self.types

    def identity(self) -> dict[str, Any]:
        return {"stored": self.path, "version": self.version, "names": dict(self.names)}

    def count(self) -> int:
        return int(self._open().count_rows()) - len(self.leaving)

    def splits(self, rows: int) -> Iterator[Split]:
        """Ranges of the rows of one fragment each, and which of those are left out."""
        for fragment in self._open().get_fragments():
            leaving = self._leaving(fragment)
            for start in range(0, count := fragment.count_rows(), rows):
                size = min(rows, count - start)
                out = leaving[(leaving >= start) & (leaving < start + size)] - start
                if len(out) < size:
                    where = [fragment.fragment_id, start, size, out.tolist()]
                    name = digest([*self.identity().values(), where])
                    yield Split(name, size - len(out), json.dumps(where).encode())

    def _leaving(self, fragment: Any) -> npt.NDArray[np.intp]:
        """The places of rows of a fragment that are left out."""
        if not self.leaving:
            return np.zeros(0, np.intp)
        keys = fragment.to_table(columns=[KEY])[KEY].to_pylist()
        return np.flatnonzero([key in self.leaving for key in keys])

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        assert not predicates, "it accepts none"
        number, start, rows, leaving = json.loads(split.payload)
        dataset = self._open()
        own = [n for n in (KEY, SOURCE, PARENT, INDEX, COUNT) if n in dataset.schema.names]
        names = dict(self.names)
        scanner = dataset.get_fragment(number).scanner(
            columns=[*own, *dict.fromkeys(names[c] for c in columns)],
            offset=start,
            limit=rows,
            batch_size=batch_rows,
            blob_handling="all_binary",
        )
        stays, at = np.ones(rows, np.bool_), 0
        stays[leaving] = False
        for there in scanner.to_batches():
            mask = stays[at : at + there.num_rows]
            at += there.num_rows
            batch = there if mask.all() else there.filter(pa.array(mask))
            envelope = {n: Column(ENVELOPE[n], array=batch.column(n)) for n in own}
            values = {c: column(self.types[c], batch.column(names[c])) for c in columns}
            yield Chunk(Batch(values, envelope, batch.num_rows))

    def __getstate__(self) -> dict[str, Any]:
        """For a worker: what is left out is said by split."""
        return {**vars(self), "leaving": frozenset()}

    def _open(self) -> Any:
        return tables.open_table(self.path, self.version)


@dataclass(frozen=True)
class Beside(Source):
    """Rows of a source that are in a dataset, too, with columns that the dataset has of them.

    `names` are the names that these columns get, with those that they have there, and `types`
    their types. Each row of the source has the key of the row of the dataset.
    """

    source: Source
    path: str
    version: int
    names: tuple[tuple[str, str], ...]
    types: Fields

    @property
    def columns(self) -> Fields:
        return self.source.columns.merge(self.types)

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def uri(self) -> str | None:
        return self.source.uri

    def identity(self) -> dict[str, Any]:
        stored = {"stored": self.path, "version": self.version, "names": dict(self.names)}
        return {"source": self.source.identity(), **stored}

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        mine = {*predicate.meta.root_names()} & {*self.types}
        return not mine and self.source.accepts_predicate(predicate)

    def row_bytes(self) -> Mapping[str, int]:
        return self.source.row_bytes()

    def count(self) -> int | None:
        return self.source.count()

    def splits(self, rows: int) -> Iterator[Split]:
        """Those of the source, each with the places of its rows in the dataset."""
        for split in self.source.splits(rows):
            chunks = self.source.read(split, [], [], _KEYS_ROWS)
            keys = [key for chunk in chunks for key in chunk.batch.keys]
            places = json.dumps({key: self._places[key] for key in keys}).encode()
            payload = _LENGTH.pack(len(places)) + places + split.payload
            name = digest([*self.identity().values(), split.id])
            yield replace(split, id=name, payload=payload)

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        [length] = _LENGTH.unpack_from(split.payload)
        end = _LENGTH.size + length
        places = json.loads(split.payload[_LENGTH.size : end])
        names = {name: stored for name, stored in self.names if name in columns}
        own = [name for name in columns if name not in names]
        given = replace(split, payload=split.payload[end:])
        dataset = tables.open_table(self.path, self.version)
        for chunk in self.source.read(given, own, predicates, batch_rows):
            at = [places[key] for key in chunk.batch.keys]
            table = dataset.take(at, columns=[*dict.fromkeys(names.values())])
            added = {n: column(self.types[n], table[names[n]]) for n in names}
            yield replace(chunk, batch=chunk.batch.with_columns(added))

    @cached_property
    def _places(self) -> dict[str, int]:
        """The place of each row of the dataset, by key."""
        keys = tables.open_table(self.path, self.version).to_table(columns=[KEY])[KEY]
        return {key: place for place, key in enumerate(keys.to_pylist())}

    def __getstate__(self) -> dict[str, Any]:
        """For a worker, whose splits say the places."""
        return {name: value for name, value in vars(self).items() if name != "_places"}


def column(kind: Type, array: pa.Array | pa.ChunkedArray) -> Column:
    """A column of a table, as its type has it."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # more than one array can hold
        array = pa.concat_arrays(array.chunks)
    return Column(kind, array=array if array.type == kind.storage else array.cast(kind.storage))
