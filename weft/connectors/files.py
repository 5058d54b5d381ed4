"""Files of any kind, one row each; bytes are read as late as possible and never twice."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.connectors.listing import Paths, absolute, list_files, readable
from weft.connectors.predicates import Sifted, reads_only, sift
from weft.connectors.readahead import batches
from weft.connectors.slices import TEXT, from_payload, one_array, split_id, to_payload
from weft.errors import DefinitionError, RowError
from weft.pipelines.batch import KEY, SOURCE, Batch, Column
from weft.pipelines.connector import Chunk, DroppedRows, FailedRow, Source, Split
from weft.pipelines.fields import Fields
from weft.pipelines.types import Encoded, Int64, Text, Timestamp

_KINDS = {
    extension: kind
    for kind, extensions in {
        "image": "jpg jpeg png webp gif tif tiff bmp avif",
        "video": "mp4 mov mkv webm avi m4v mpg mpeg ts",
        "audio": "wav mp3 flac ogg opus m4a aac",
        "pdf": "pdf",
        "mcap": "mcap",
        "text": "txt md",
    }.items()
    for extension in extensions.split()
}

_LISTED = ("key", "uri", "size", "modified")


@dataclass(frozen=True)
class Files(Source):
    """The files that a glob, a folder, a file or a list of these stand for.

    =========  ============  ==================================================================
    key        `Text`        path below the fixed root of the pattern, with ``/``
    uri        `Text`        absolute path
    size       `Int64`       bytes
    modified   `Timestamp`   microseconds, UTC
    content    `Encoded`     the bytes of the file, of the kind that the extension says
    =========  ============  ==================================================================

    The root is what stands before the first ``*``, ``?`` or ``[``; ``**`` is any number of
    folders; a folder stands for all files below it. With several paths keys begin at the folder
    that all roots have in common, so no two files share one. Hidden names (``.git``) are skipped
    unless the pattern names them; pipes and devices always are. Links are followed, loops are
    not. A relative path means the place where the `Files` was made, wherever it is read; two are
    equal, and a killed run finds its source again, when absolute paths and kind are the same.

    A row's version is ``<size>-<modified in ns>``. Units of work depend on keys and versions
    alone, so they survive a move of the folder that keeps times. The listing is taken once per
    instance, when first needed. A file that cannot be read, or that is no longer as it was
    listed, is a failed row; the others go on.

    `kind` says what the content is: ``"image"``, ``"video"``, ``"audio"``, ``"pdf"``,
    ``"mcap"``, ``"text"`` or your own; by default it follows from the extensions in `paths`, if
    all say the same.

    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> for name in "a.jpg", "b.jpg", "notes.txt":
    ...     _ = (folder / name).write_bytes(name.encode())
    >>> photos = Files(f"{folder}/*.jpg")
    >>> print(photos.columns)
    key: Text, uri: Text, size: Int64, modified: Timestamp, content: Encoded('image')
    >>> [split] = photos.splits(rows=100)
    >>> [chunk] = photos.read(split, ["content"], [pl.col("key") > "a.jpg"], batch_rows=10)
    >>> chunk.batch.columns["content"].values, chunk.dropped[0].keys
    ([b'b.jpg'], ['a.jpg'])

    Raises:
        DefinitionError: `paths` or `kind` is none; and, once it is listed, a path stands for no
            file, with what is there instead.
    """

    paths: Paths = field(compare=False)
    kind: str | None = None
    _absolute: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.paths, list):
            object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "_absolute", absolute("Files", self.paths))
        if self.kind is None:
            kinds = {_KINDS.get(_extension(path)) for path in self._absolute}
            object.__setattr__(self, "kind", kinds.pop() if len(kinds) == 1 else None)
        elif not isinstance(self.kind, str) or not self.kind:
            raise DefinitionError(
                f"Files: kind={self.kind!r} is no kind of file. Expected text like 'image', or "
                "leave it out to go by the extension."
            )

    @property
    def columns(self) -> Fields:
        return Fields(
            {
                "key": Text(),
                "uri": Text(),
                "size": Int64(),
                "modified": Timestamp(),
                "content": Encoded(self.kind),
            }
        )

    def identity(self) -> dict[str, Any]:
        """Absolute paths and kind."""
        paths = [readable(path) for path in self._absolute]
        return {"source": "Files", "paths": paths, "kind": self.kind}

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        return reads_only(predicate, _LISTED)

    def row_bytes(self) -> Mapping[str, int]:
        """The average size of the files. Lists them if that is not done yet."""
        return {"content": max(1, int(pc.mean(self._listing["size"]).as_py() or 0))}

    def count(self) -> int:
        """The number of files. Lists them if that is not done yet."""
        return int(self._listing.num_rows)

    def listing(self) -> pa.Table:
        """The keys and versions of all files."""
        listing = self._listing.combine_chunks()
        return pa.table({KEY: listing["key"], SOURCE: _versions(listing)})

    def only(self, keys: pa.Array) -> Files:
        """The same paths, with the listing cut down."""
        other = dataclasses.replace(self)
        other.__dict__["_listing"] = self._listing.filter(pc.is_in(self._listing["key"], keys))
        return other

    def splits(self, rows: int) -> Iterator[Split]:
        listing = self._listing
        for start in range(0, listing.num_rows, rows):
            part = listing.slice(start, rows).combine_chunks()
            keys, sources = one_array(part["key"]), _versions(part)
            size = pc.sum(part["size"]).as_py()
            yield Split(split_id(keys, sources), part.num_rows, to_payload(part), size)

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        """As `Source.read`; no file is opened unless ``content`` is asked for."""
        listed = from_payload(split.payload)
        arrays = _listed_columns(listed)
        sifted = sift(arrays, split.rows, predicates) if predicates else Sifted()
        envelope = arrays["key"], _versions(listed)
        dropped, failed = sifted.dropped_rows(*envelope), sifted.failed_rows(*envelope)
        if sifted.kept is not None:
            listed = listed.take(pa.array(sifted.kept)).combine_chunks()
        with contextlib.closing(batches(listed, batch_rows, "content" in columns)) as ahead:
            for rows, contents in ahead:
                yield self._chunk(rows, contents, columns, dropped, failed)
                dropped, failed = (), ()
                del contents  # the bytes belong to the consumer alone now
        if dropped or failed:
            yield self._chunk(listed.slice(0, 0), [], columns, dropped, failed)

    def _chunk(
        self,
        listed: pa.Table,
        contents: list[bytes | RowError] | None,
        columns: Sequence[str],
        dropped: Sequence[DroppedRows],
        failed: Sequence[FailedRow],
    ) -> Chunk:
        faults = [i for i, c in enumerate(contents or ()) if isinstance(c, RowError)]
        if contents is not None and faults:
            keys, sources = listed["key"], _versions(listed)
            failed = [
                *failed,
                *(
                    FailedRow(keys[i].as_py(), sources[i].as_py(), error)
                    for i in faults
                    if isinstance(error := contents[i], RowError)
                ),
            ]
            listed = listed.take(pa.array(np.delete(np.arange(listed.num_rows), faults)))
            contents = [c for c in contents if not isinstance(c, RowError)]
        arrays, types = _listed_columns(listed), self.columns
        made = {
            name: Column(types[name], values=contents)
            if name == "content"
            else Column(types[name], array=arrays[name])
            for name in columns
        }
        envelope = {
            KEY: Column(TEXT, array=arrays["key"]),
            SOURCE: Column(TEXT, array=_versions(listed)),
        }
        return Chunk(Batch(made, envelope, listed.num_rows), dropped, failed)

    @functools.cached_property
    def _listing(self) -> pa.Table:
        return list_files("Files", self._absolute)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_listing"}


def _extension(path: str) -> str:
    return os.path.splitext(path)[1][1:].lower()


def _versions(listed: pa.Table) -> pa.Array:
    size, mtime = (one_array(listed[name]).cast(pa.string()) for name in ("size", "mtime_ns"))
    return pc.binary_join_element_wise(size, mtime, "-")


def _listed_columns(listed: pa.Table) -> dict[str, pa.Array]:
    """The columns of a listing as the source shows them."""
    paths = one_array(listed["path"])
    try:
        uri = paths.cast(pa.string())
    except pa.ArrowInvalid:
        uri = pa.array([readable(path) for path in paths.to_pylist()], pa.string())
    microseconds = np.floor_divide(one_array(listed["mtime_ns"]).to_numpy(), 1000)
    return {
        "key": one_array(listed["key"]),
        "uri": uri,
        "size": one_array(listed["size"]),
        "modified": pa.array(microseconds, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
    }
