"""MCAP logs: a row for each message of a robot's recording."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.connectors.listing import Paths, absolute, list_files, readable
from weft.connectors.mcap_log import (
    READING,
    Block,
    Channel,
    Heads,
    Log,
    Longs,
    Message,
    heads_of,
    messages_of,
    open_log,
)
from weft.connectors.predicates import Sifted, reads_only, sift
from weft.connectors.slices import chunks
from weft.errors import DefinitionError, RowError, nearest, redact
from weft.pipelines.batch import KEY, SOURCE
from weft.pipelines.connector import Chunk, DroppedRows, FailedRow, Source, Split
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import digest
from weft.pipelines.types import Binary, Int64, Text, UInt32

_EARLY = ("uri", "topic", "schema", "encoding", "log_time_ns")
"""What the index of a chunk tells, so that the chunk is not read for it."""

_TYPES = fields(
    uri=Text(),
    topic=Text(),
    schema=Text(),
    encoding=Text(),
    sequence=UInt32(),
    log_time_ns=Int64(),
    publish_time_ns=Int64(),
    data=Binary(),
)


@dataclass(frozen=True)
class MCAP(Source):
    """The messages of MCAP logs: a glob, a folder (its ``*.mcap``), a file, or a list of these.

    ===============  =========  =============================================================
    uri              `Text`     absolute path of the file
    topic            `Text`     of the message's channel
    schema           `Text`     name of its schema, empty if it has none
    encoding         `Text`     how `data` is written: "json", "cdr", "protobuf", …
    sequence         `UInt32`   as the publisher counts
    log_time_ns      `Int64`    nanoseconds since 1970 (or whatever the robot's clock counts)
    publish_time_ns  `Int64`    the same
    data             `Binary`   the message as it was recorded
    ===============  =========  =============================================================

    Rows stand in the order of the files, which is nearly that of time. A row's key is ``<path of
    the file>#<number of the message in it>``, the path as in `Files`, whatever `topics`; its
    version is ``<size>-<modified in ns>`` of the file. Attachments and metadata are left out.

    `topics` names those to read, all by default; [`start_ns`, `stop_ns`) is a range of log time.
    What they leave out is no row of the source. A ``where`` drops rows instead; one that reads
    only `topic`, `schema`, `encoding`, `log_time_ns` or `uri` is answered by the index of the
    log, and chunks without a row that passes are neither read nor unpacked. That index is read
    once to list the source, 16 bytes a message. A log without one, as is one whose recorder was
    killed, is read through to list it.

    Every message before a damage is a row. What is damaged is one failed row if it is met while
    listing (the end of a log that was cut short, a chunk that does not unpack); a chunk that the
    index lists and that turns out damaged fails all its rows, as does a file that changed since
    it was listed.

    Compression by zstd and lz4 is known. A chunk that says it unpacks to more than 1 GiB is
    damage.

    >>> import pathlib, tempfile
    >>> from mcap.writer import Writer
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> with open(folder / "drive.mcap", "wb") as file:
    ...     log = Writer(file); log.start()
    ...     imu = log.register_channel("/imu", "json", schema_id=0)
    ...     for tick in range(3):
    ...         log.add_message(imu, log_time=tick, publish_time=tick, data=b'{"x": %d}' % tick)
    ...     log.finish()
    >>> source = MCAP(folder)
    >>> [split] = source.splits(rows=100)
    >>> [chunk] = source.read(split, ["data"], [pl.col("log_time_ns") > 1], batch_rows=10)
    >>> chunk.batch.keys, chunk.batch.columns["data"].values, chunk.dropped[0].keys
    (['drive.mcap#2'], [b'{"x": 2}'], ['drive.mcap#0', 'drive.mcap#1'])

    Raises:
        DefinitionError: `paths` is none, or stands for no file; a file is no MCAP; no file has
            one of the `topics`; the range is empty or nothing is in it.
    """

    paths: Paths = field(compare=False)
    topics: str | Sequence[str] | None = None
    start_ns: int | None = None
    stop_ns: int | None = None
    _absolute: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.paths, list):
            object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "_absolute", absolute("MCAP", self.paths))
        if self.topics is not None:
            topics = (self.topics,) if isinstance(self.topics, str) else tuple(self.topics)
            if not topics or not all(isinstance(t, str) and t for t in topics):
                raise DefinitionError(
                    f"MCAP: topics={self.topics!r}: expected names like '/imu', or nothing for "
                    "all of them."
                )
            object.__setattr__(self, "topics", tuple(sorted(set(topics))))
        for name in ("start_ns", "stop_ns"):
            given = getattr(self, name)
            if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
                raise DefinitionError(f"MCAP: {name}={given!r}: expected whole nanoseconds.")
        if None not in (self.start_ns, self.stop_ns) and not self._low < self._high:
            raise DefinitionError(
                f"MCAP: start_ns={self.start_ns} and stop_ns={self.stop_ns}: nothing is between."
            )

    @property
    def columns(self) -> Fields:
        return _TYPES

    def identity(self) -> dict[str, Any]:
        """Absolute paths, topics and range."""
        return {
            "source": "MCAP",
            "paths": [readable(path) for path in self._absolute],
            "topics": None if self.topics is None else list(self.topics),
            "start_ns": self.start_ns,
            "stop_ns": self.stop_ns,
        }

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        return reads_only(predicate, _EARLY)

    def count(self) -> int:
        """The messages by the index of the logs, on the topics and in the range."""
        return sum(len(places) for *_, places in self._pieces())

    def listing(self) -> pa.Table:
        """Keys by file and number, versions by file."""
        found = list(self._pieces())
        keys = [file.keys(block.first + places) for file, _, block, places in found]
        versions = [pa.repeat(file.version, len(places)) for file, _, _, places in found]
        columns = (pa.chunked_array(arrays, pa.string()) for arrays in (keys, versions))
        return pa.table(dict(zip((KEY, SOURCE), columns, strict=True)))

    def only(self, keys: pa.Array) -> MCAP:
        """The same logs, with splits of these messages only."""
        other = dataclasses.replace(self)
        have = pa.concat_arrays([file.keys(np.arange(log.rows)) for file, log in self._logs])
        chosen = pc.is_in(have, keys).to_numpy(zero_copy_only=False)  # once: hashing costs most
        by_file = np.split(chosen, np.cumsum([log.rows for _, log in self._logs])[:-1])
        other.__dict__.update(_logs=self._logs, _chosen=by_file)
        return other

    @functools.cached_property
    def _chosen(self) -> list[npt.NDArray[np.bool_]] | None:
        """Which messages of each file are there: all, unless `only` says otherwise."""
        return None

    def splits(self, rows: int) -> Iterator[Split]:
        for (file, log), pieces in groupby(self._pieces(), key=itemgetter(0, 1)):
            for parts in _packed((piece[2:] for piece in pieces), rows):
                yield file.split(parts, log)

    def _pieces(self) -> Iterator[tuple[File, Log, Block, Longs]]:
        """The blocks with something to read, and which places in them."""
        self._refuse_unknown_topics()
        some = False
        for number, (file, log) in enumerate(self._logs):
            for block in log.blocks:
                places = self._places(file, log, block)
                if self._chosen is not None:
                    places = places[self._chosen[number][block.first + places]]
                if len(places):
                    some = True
                    yield file, log, block, places
        if not some and self._chosen is None:
            raise DefinitionError(
                f"MCAP: there is no message in {', '.join(map(readable, self._absolute))} with "
                f"topics={self.topics}, start_ns={self.start_ns}, stop_ns={self.stop_ns}."
            )

    def _places(self, file: File, log: Log, block: Block) -> Longs:
        """Places in the block of the messages on the topics and in the range."""
        everything = self.topics is None and self.start_ns is None and self.stop_ns is None
        if everything or block.damage is not None:
            return np.arange(block.rows)
        heads = heads_of(file.path, file.size, file.mtime_ns, block)
        mask = (heads.log_time_ns >= self._low) & (heads.log_time_ns <= self._high - 1)
        if self.topics is not None:
            ids = [n for n, channel in log.channels.items() if channel.topic in self.topics]
            mask &= np.isin(heads.channel, ids)
        return np.flatnonzero(mask)

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        reading = _Reading.of(split, columns, predicates)
        for part in reading.parts:
            yield from reading.read(part, batch_rows)

    @property
    def _low(self) -> int:
        return -(2**63) if self.start_ns is None else self.start_ns

    @property
    def _high(self) -> int:
        return 2**63 if self.stop_ns is None else self.stop_ns

    def _refuse_unknown_topics(self) -> None:
        known = {channel.topic for _, log in self._logs for channel in log.channels.values()}
        for topic in self.topics or ():
            if topic not in known:
                raise DefinitionError(
                    f"MCAP: no file has topic {topic!r}. Given: {', '.join(sorted(known))}. "
                    f"{nearest(topic, known)}".rstrip()
                )

    @functools.cached_property
    def _logs(self) -> tuple[tuple[File, Log], ...]:
        listing = list_files("MCAP", self._absolute, "*.mcap").to_pylist()
        files = [
            File(row["key"], os.fsdecode(row["path"]), row["size"], row["mtime_ns"])
            for row in listing
        ]
        return tuple((file, open_log(file.path)) for file in files)

    def __getstate__(self) -> dict[str, Any]:
        hidden = ("_logs", "_chosen")  # a worker lists nothing
        return {name: value for name, value in self.__dict__.items() if name not in hidden}


@dataclass(frozen=True)
class Part:
    """`rows` messages of a block: from `start` on, or those at `places` in it."""

    block: Block
    start: int
    rows: int
    places: tuple[int, ...] | None = None

    @classmethod
    def of(cls, block: Block, places: Longs) -> Part:
        """Those at `places`, which ascend; a run of them is kept as two numbers."""
        start, rows = int(places[0]), len(places)
        run = int(places[-1]) - start + 1 == rows
        return cls(block, start, rows, None if run else tuple(places.tolist()))

    @property
    def at(self) -> Longs:
        """The places in the block."""
        if self.places is None:
            return np.arange(self.start, self.start + self.rows)
        return np.array(self.places, np.int64)


def _packed(pieces: Iterable[tuple[Block, Longs]], rows: int) -> Iterator[list[Part]]:
    """Pieces of blocks put together to `rows` rows, but for the last."""
    parts: list[Part] = []
    room = rows
    for block, places in pieces:
        done = 0
        while done < len(places):
            part = Part.of(block, places[done : done + room])
            parts.append(part)
            done += part.rows
            room -= part.rows
            if not room:
                yield parts
                parts, room = [], rows
    if parts:
        yield parts


@dataclass(frozen=True)
class File:
    """A file as it was listed."""

    key: str
    path: str
    size: int
    mtime_ns: int

    @property
    def version(self) -> str:
        """The version of its rows."""
        return f"{self.size}-{self.mtime_ns}"

    def keys(self, numbers: Longs) -> pa.Array:
        """The keys of messages by their numbers."""
        return pc.binary_join_element_wise(self.key, pa.array(numbers).cast(pa.string()), "#")

    def split(self, parts: Sequence[Part], log: Log) -> Split:
        """A split of these parts; its id does not depend on where the folder is."""
        about: dict[str, Any] = {"file": asdict(self), "parts": [asdict(part) for part in parts]}
        channels = {str(number): asdict(channel) for number, channel in log.channels.items()}
        return Split(
            digest({**about, "file": {**about["file"], "path": None}}),
            sum(part.rows for part in parts),
            json.dumps({**about, "channels": channels}).encode(),
            sum(part.block.bytes * part.rows // part.block.rows for part in parts),
        )

    def refuse_changed(self) -> None:
        """Raise if the file is no longer the one that was listed."""
        now = os.stat(self.path)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise RowError("it changed since it was listed. Run again when nobody writes it")


@dataclass(frozen=True)
class _Reading:
    """A split being read."""

    file: File
    parts: tuple[Part, ...]
    channels: dict[int, Channel]
    columns: Sequence[str]
    predicates: Sequence[pl.Expr]

    @classmethod
    def of(cls, split: Split, columns: Sequence[str], predicates: Sequence[pl.Expr]) -> _Reading:
        payload = json.loads(split.payload)
        parts = []
        for part in payload["parts"]:
            block = part.pop("block")
            index = block.pop("index")
            places = part.pop("places")
            parts.append(
                Part(
                    Block(**block, index=tuple(index) if index else None),
                    **part,
                    places=None if places is None else tuple(places),
                )
            )
        channels = {int(n): Channel(**channel) for n, channel in payload["channels"].items()}
        return cls(File(**payload["file"]), tuple(parts), channels, columns, predicates)

    def read(self, part: Part, batch_rows: int) -> Iterator[Chunk]:
        """The rows of a part: predicates first, and the block only for the rows that pass."""
        keys = self.file.keys(part.block.first + part.at)
        rows = _Rows(part.at, keys, pa.repeat(self.file.version, part.rows))
        try:
            self.file.refuse_changed()
            arrays = self._early(part)
            if self.predicates:
                kept = rows.sift(sift(arrays, part.rows, self.predicates))
                arrays = {name: array.take(kept) for name, array in arrays.items()}
            arrays |= self._late(part, rows.at)
        except READING as error:
            rows.fail(self._unreadable(error))
            arrays = {name: _TYPES[name].to_arrow([]) for name in self.columns}
        wanted = [(name, _TYPES[name], arrays[name]) for name in self.columns]
        yield from chunks(
            wanted, rows.keys, rows.sources, batch_rows, dropped=rows.dropped, failed=rows.failed
        )

    def _early(self, part: Part) -> dict[str, pa.Array]:
        """What the index tells, as far as it is asked for."""
        asked = {name for p in self.predicates for name in p.meta.root_names()}
        names = [name for name in _EARLY if name in asked or name in self.columns]
        if part.block.damage is not None:
            raise RowError(part.block.damage)
        if not names:
            return {}
        heads, at = self._heads(part.block), part.at
        of = [self._channel(number) for number in heads.channel[at].tolist()]
        made: dict[str, Any] = {
            "uri": [readable(self.file.path)] * len(at),
            "topic": [channel.topic for channel in of],
            "schema": [channel.schema for channel in of],
            "encoding": [channel.encoding for channel in of],
            "log_time_ns": heads.log_time_ns[at],
        }
        return {name: _TYPES[name].to_arrow(made[name]) for name in names}

    def _heads(self, block: Block) -> Heads:
        heads = heads_of(self.file.path, self.file.size, self.file.mtime_ns, block)
        if len(heads.channel) != block.rows:
            raise RowError(f"its index lists {len(heads.channel)} messages, not {block.rows}")
        return heads

    def _channel(self, number: int) -> Channel:
        if number not in self.channels:
            raise RowError(f"a message is of channel {number}, which the file does not describe")
        return self.channels[number]

    def _late(self, part: Part, at: Longs) -> dict[str, pa.Array]:
        """What is in the messages themselves."""
        names = [name for name in self.columns if name not in _EARLY]
        if not names or not len(at):
            return {name: _TYPES[name].to_arrow([]) for name in names}
        file = self.file
        messages = messages_of(file.path, file.size, file.mtime_ns, part.block)
        self._refuse_other_index(part.block, messages)
        return {
            name: _TYPES[name].to_arrow([getattr(messages[place], name) for place in at.tolist()])
            for name in names
        }

    def _refuse_other_index(self, block: Block, messages: Sequence[Message]) -> None:
        """Raise if the index, by which topics and times are told, speaks of other messages."""
        heads = self._heads(block)
        if heads.channel.tolist() != [m.channel for m in messages] or (
            heads.log_time_ns.tolist() != [m.log_time_ns for m in messages]
        ):
            raise RowError(
                f"the index of the chunk at byte {block.offset} speaks of other messages than the "
                "chunk has. Write it again (mcap recover)"
            )

    def _unreadable(self, error: Exception) -> RowError:
        path = readable(self.file.path)
        if isinstance(error, FileNotFoundError):
            return RowError(f"{path} is gone since it was listed. Run again.")
        reason = redact(str(error).strip(), 200) or type(error).__name__
        return RowError(f"{path} cannot be read: {reason}. Check the file and who wrote it.")


class _Rows:
    """Which messages of a part are left, and what became of the others."""

    def __init__(self, at: Longs, keys: pa.Array, sources: pa.Array) -> None:
        self.at, self.keys, self.sources = at, keys, sources
        self.dropped: tuple[DroppedRows, ...] = ()
        self.failed: tuple[FailedRow, ...] = ()

    def sift(self, sifted: Sifted) -> pa.Array:
        """Take out what predicates dropped or could not judge; returns which rows are left."""
        self.dropped = sifted.dropped_rows(self.keys, self.sources)
        self.failed = sifted.failed_rows(self.keys, self.sources)
        kept = np.arange(len(self.at)) if sifted.kept is None else sifted.kept
        self._keep(kept)
        return pa.array(kept)

    def fail(self, error: RowError) -> None:
        """Take out all that are left."""
        pairs = zip(self.keys.to_pylist(), self.sources.to_pylist(), strict=True)
        self.failed += tuple(FailedRow(key, source, error) for key, source in pairs)
        self._keep(np.zeros(0, np.int64))

    def _keep(self, rows: Longs) -> None:
        kept = pa.array(rows)
        self.at, self.keys, self.sources = (
            self.at[rows],
            self.keys.take(kept),
            self.sources.take(kept),
        )
