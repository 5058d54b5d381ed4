"""Parquet files: only the columns and row groups that are needed are decoded."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.connectors.listing import Paths, absolute, list_files, readable
from weft.connectors.predicates import Indices, Sifted, columns_read, pushable, sift
from weft.connectors.rowgroups import ParquetFile, Part, footer, refuse_other_columns
from weft.connectors.slices import chunks, column_types, ranges
from weft.errors import DefinitionError, RowError
from weft.pipelines.batch import KEY, SOURCE
from weft.pipelines.connector import Chunk, DroppedRows, FailedRow, Source, Split
from weft.pipelines.fields import Fields

_TEXTS = (pa.string(), pa.large_string(), pa.string_view())


@dataclass(frozen=True)
class Parquet(Source):
    """The rows of Parquet files: a glob, a folder (its ``*.parquet``), a file, or a list of these.

    The columns are those of the files, which must agree on names and types; names that start
    with ``_`` are left out, and names of folders (``day=3``) make no columns. A row's key is the
    text of column `key`, or else ``<path of the file>#<number of the row in it>``, the path as
    in `Files`. Its version is ``<size>-<modified in ns>`` of its file.

    A split lies within one row group. Columns that predicates read are decoded first, the others
    only where a row is left. A row fails whose key is null or was met before in its split, as do
    all rows of a file that changed since it was listed or cannot be decoded; they then go by
    file and number. That a key is unique in *all* files is not checked here.

    >>> import pathlib, tempfile, pyarrow.parquet as pq
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> pq.write_table(pa.table({"id": [7, 8, 9], "mass": [1.5, None, 2.5]}), folder / "a.parquet")
    >>> source = Parquet(folder, key="id")
    >>> print(source.columns)
    id: Int64?, mass: Float64?
    >>> [split] = source.splits(rows=100)
    >>> [chunk] = source.read(split, ["mass"], [pl.col("mass") > 2], batch_rows=10)
    >>> chunk.batch.keys, chunk.dropped[0].keys, next(Parquet(folder).splits(1)).rows
    (['9'], ['7', '8'], 1)

    Raises:
        DefinitionError: `paths` is none, or stands for no file; a file is not Parquet, or has
            other columns than the first; there is no column `key`, or it is no text or integer.
    """

    paths: Paths = field(compare=False)
    key: str | None = None
    _absolute: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.paths, list):
            object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "_absolute", absolute("Parquet", self.paths))

    @functools.cached_property
    def columns(self) -> Fields:
        """Of the first file, whose footer is all that is read."""
        first = footer(self._listing.slice(0, 1).to_pylist()[0])
        types = column_types(first.schema)
        if self.key is not None:
            types.require(self.key)
            dtype = first.schema.field(self.key).type
            if not (pa.types.is_integer(dtype) or dtype in _TEXTS):
                raise DefinitionError(
                    f"Parquet: key column {self.key!r} is {dtype}. Expected text or integers: "
                    "a key names a row."
                )
        return types

    def identity(self) -> dict[str, Any]:
        """Absolute paths and key column."""
        paths = [readable(path) for path in self._absolute]
        return {"source": "Parquet", "paths": paths, "key": self.key}

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        return pushable(predicate, self.columns)

    def count(self) -> int:
        """The rows of all footers."""
        return int(sum(chosen.sum() for chosen in self._chosen))

    def listing(self) -> pa.Table | None:
        """Keys by file and number; ``None`` with a key column, which would have to be read."""
        if self.key is not None:
            return None
        versions = [f"{file.size}-{file.mtime_ns}" for file in self._files]
        sources = np.repeat(np.array(versions, object), self._counts())
        return pa.table({KEY: self._keys(), SOURCE: pa.array(sources, pa.string())})

    def only(self, keys: pa.Array) -> Parquet:
        """The same files, with splits of these rows only."""
        other = dataclasses.replace(self)
        chosen = pc.is_in(self._keys(), keys).to_numpy(False)  # once: hashing `keys` costs most
        by_file = np.split(chosen, np.cumsum(self._counts())[:-1])
        other.__dict__.update(_listing=self._listing, _files=self._files, _chosen=by_file)
        return other

    @functools.cached_property
    def _chosen(self) -> list[npt.NDArray[np.bool_]]:
        """Which rows of each file are there: all, unless `only` says otherwise."""
        return [np.ones(count, bool) for count in self._counts()]

    def _counts(self) -> list[int]:
        """Rows by file."""
        return [sum(count for count, _ in file.groups) for file in self._files]

    def _keys(self) -> pa.Array:
        """The keys of all rows, file by file."""
        numbers = [pa.array(np.arange(count)).cast(pa.string()) for count in self._counts()]
        files = zip(self._files, numbers, strict=True)
        return pa.concat_arrays([pc.binary_join_element_wise(f.key, n, "#") for f, n in files])

    def splits(self, rows: int) -> Iterator[Split]:
        self.columns  # noqa: B018 - checks the key; and read() has the types without the files
        for file, chosen in zip(self._files, self._chosen, strict=True):
            first = 0
            for group, (count, size) in enumerate(file.groups):
                for start, length in ranges(chosen[first : first + count], rows):
                    part = Part(
                        key=file.key,
                        path=file.path,
                        size=file.size,
                        mtime_ns=file.mtime_ns,
                        group=group,
                        start=start,
                        rows=length,
                        first=first + start,
                    )
                    content = size * part.rows // count
                    yield Split(part.id(self.key), part.rows, part.to_payload(), content)
                first += count

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        part = Part(**json.loads(split.payload))
        rows = _Rows(part)
        try:
            part.refuse_changed()
            arrays = self._select(part, rows, columns, predicates)
        except (OSError, pa.ArrowException, RowError) as error:
            rows = _Rows(part)
            rows.fail({row: part.unreadable(error) for row in range(part.rows)})
            arrays = {name: self.columns[name].to_arrow([]) for name in columns}
        wanted = [(name, self.columns[name], arrays[name]) for name in columns]
        return chunks(
            wanted,
            rows.keys,
            rows.sources,
            batch_rows,
            dropped=rows.dropped,
            failed=rows.failed,
        )

    def _select(
        self, part: Part, rows: _Rows, columns: Sequence[str], predicates: Sequence[pl.Expr]
    ) -> dict[str, pa.Array]:
        """Leave in `rows` those that pass, and return their columns."""
        types = self.columns
        early = columns_read(predicates) + ([] if self.key is None else [self.key])
        arrays = part.decode(list(dict.fromkeys(early)), types)
        if self.key is not None:
            rows.name(arrays[self.key].cast(pa.string()), self.key)
        if predicates:
            seen = {name: rows.of(array) for name, array in arrays.items()}
            rows.sift(sift(seen, len(rows.keys), predicates))
        late = [name for name in columns if name not in arrays]
        if len(rows.keys):
            arrays |= part.decode(late, types)
            return {name: rows.of(arrays[name]) for name in columns}
        return {name: types[name].to_arrow([]) for name in columns}

    @functools.cached_property
    def _listing(self) -> pa.Table:
        return list_files("Parquet", self._absolute, "*.parquet")

    @functools.cached_property
    def _files(self) -> tuple[ParquetFile, ...]:
        """All footers, about 0.2 ms each."""
        files = tuple(footer(row) for row in self._listing.to_pylist())
        for file in files:
            refuse_other_columns(files[0], file)
        if not any(count for file in files for count, _ in file.groups):
            where = ", ".join(map(readable, self._absolute))
            raise DefinitionError(
                f"Parquet: the files of {where} have no rows: {len(files)} looked at. Check what "
                "wrote them."
            )
        return files

    def __getstate__(self) -> dict[str, Any]:
        # `columns` travels, so that a worker lists nothing.
        return {
            n: v for n, v in self.__dict__.items() if n not in ("_listing", "_files", "_chosen")
        }


class _Rows:
    """Which rows of a part are left, and what became of the others."""

    def __init__(self, part: Part) -> None:
        numbers = range(part.first, part.first + part.rows)
        self.keys = pa.array([f"{part.key}#{number}" for number in numbers], pa.string())
        self.sources = pa.repeat(f"{part.size}-{part.mtime_ns}", part.rows)
        self.at: Indices | None = None  # all rows of the part
        self.dropped: tuple[DroppedRows, ...] = ()
        self.failed: tuple[FailedRow, ...] = ()

    def of(self, array: pa.Array) -> pa.Array:
        """What is left of a column of the part."""
        return array if self.at is None else array.take(pa.array(self.at))

    def fail(self, faults: Mapping[int, RowError]) -> None:
        """Take out rows, under the keys they have now."""
        self.failed += tuple(
            FailedRow(self.keys[row].as_py(), self.sources[row].as_py(), error)
            for row, error in faults.items()
        )
        self._keep(np.delete(np.arange(len(self.keys)), list(faults)))

    def name(self, keys: pa.Array, column: str) -> None:
        """Name rows by a column; those whose key is null or was met before fail."""
        texts = keys.to_pylist()
        if keys.null_count or len(set(texts)) < len(texts):
            seen: set[str | None] = {None}
            faults = {}
            for row, text in enumerate(texts):
                if text in seen:
                    fault = "is null" if text is None else f"holds {text!r} twice"
                    faults[row] = RowError(
                        f"{self.keys[row]}: key column {column!r} {fault}. Every row needs its own."
                    )
                seen.add(text)
            self.fail(faults)
        self.keys = self.of(keys)

    def sift(self, sifted: Sifted) -> None:
        """Take out what predicates dropped or could not judge."""
        self.dropped = sifted.dropped_rows(self.keys, self.sources)
        self.failed += sifted.failed_rows(self.keys, self.sources)
        if sifted.kept is not None:
            self._keep(sifted.kept)

    def _keep(self, rows: Indices) -> None:
        self.at = rows if self.at is None else self.at[rows]
        self.keys, self.sources = self.keys.take(pa.array(rows)), self.sources.take(pa.array(rows))
