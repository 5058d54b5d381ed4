"""MCAP files from inside: where their messages are, and the messages of a block.

A *block* is a piece of a file that is read as one: a chunk, or a run of messages that stand in
no chunk. Messages are numbered from 0 through the file, in the order in which they stand.

Blocks come from the summary at the end of the file where it indexes every message, at 16 bytes
read per message and without decompressing anything. Else the file is read through once: it was
written without an index, or its recorder was killed. What cannot be read is then a block of
one row that always fails, so that the books show it.

The format is described at https://mcap.dev/spec.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from weft.connectors.listing import readable
from weft.errors import DefinitionError, RowError

try:
    import lz4.frame
    import zstandard
    from mcap import records
    from mcap.data_stream import ReadDataStream
    from mcap.exceptions import McapError
    from mcap.opcode import Opcode
except ImportError as error:
    raise DefinitionError("MCAP needs mcap. Install it with: pip install 'weft[sensor]'") from error

MAGIC = b"\x89MCAP0\r\n"

MAX_RECORD_BYTES = 2**30
"""A chunk is a MiB by default and a camera's keyframe some; lengths beyond it are damage."""

_RUN_BYTES = 4 * 2**20
"""Messages outside chunks are read this many bytes at a time."""

_KEEP_BYTES = 64 * 2**20
"""Blocks that unpack to less are kept for the next split, two in a process: a split that ends
within a chunk would otherwise unpack it again."""

_HEAD = struct.Struct("<BQ")
_MESSAGE = struct.Struct("<HIQQ")
_FOOTER_BYTES = _HEAD.size + 20 + len(MAGIC)

READING = (
    OSError, McapError, struct.error, ValueError, MemoryError, OverflowError,
    RuntimeError,  # lz4
    zstandard.ZstdError, RowError,
)  # fmt: skip
"""What is raised on a damaged file."""

Longs = npt.NDArray[np.int64]
_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Channel:
    """What a message's channel says of it."""

    topic: str
    schema: str
    encoding: str


@dataclass(frozen=True)
class Block:
    """A piece of a file, [`offset`, `offset` + `length`), with `rows` messages from number `first`.

    `index` is where its message index stands, with its length; ``None``: it has none. `damage`
    says why nothing of it can be read; it then is one row.
    """

    offset: int
    length: int
    rows: int
    first: int
    bytes: int
    index: tuple[int, int] | None = None
    damage: str | None = None


@dataclass(frozen=True)
class Heads:
    """When the messages of a block were logged, and their channels, in the order of the file."""

    log_time_ns: Longs
    channel: Longs


@dataclass(frozen=True)
class Message:
    """A message as it stands in the file."""

    channel: int
    sequence: int
    log_time_ns: int
    publish_time_ns: int
    data: bytes


@dataclass(frozen=True)
class Log:
    """All blocks of a file, and its channels by id."""

    blocks: tuple[Block, ...]
    channels: Mapping[int, Channel]

    @property
    def rows(self) -> int:
        """All messages, and one for each damage."""
        return sum(block.rows for block in self.blocks)


def open_log(path: str) -> Log:
    """Where the messages of a file are.

    Raises:
        DefinitionError: it is no MCAP file.
    """
    with open(path, "rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise DefinitionError(
                f"MCAP: {readable(path)} is no MCAP file: it does not start with {MAGIC!r}. Take "
                "it out of the pattern."
            )
        try:
            indexed = _indexed(file)
        except READING:  # the summary is damaged; the messages may be whole
            indexed = None
        return indexed or _read_through(file)


def heads_of(path: str, size: int, mtime_ns: int, block: Block) -> Heads:
    """Times and channels of a block, from its index if it has one.

    Raises:
        RowError: they are damaged.
    """
    if block.index is None:
        messages = messages_of(path, size, mtime_ns, block)
        return Heads(
            np.array([m.log_time_ns for m in messages], np.int64),
            np.array([m.channel for m in messages], np.int64),
        )
    with open(path, "rb") as file:
        return _indexed_heads(file, *block.index)


def messages_of(path: str, size: int, mtime_ns: int, block: Block) -> tuple[Message, ...]:
    """All messages of a block, from memory if it was read just before.

    Raises:
        RowError: they are damaged, or not as many as were listed.
    """
    if block.damage is not None:
        raise RowError(block.damage)
    return (_read if block.bytes > _KEEP_BYTES else _kept)(path, size, mtime_ns, block)


def _read(path: str, size: int, mtime_ns: int, block: Block) -> tuple[Message, ...]:
    with open(path, "rb") as file:
        messages = tuple(_messages(_records_of(file, block.offset, block.length)))
    if len(messages) != block.rows:
        raise RowError(
            f"it has {len(messages)} messages at byte {block.offset}, where its index lists "
            f"{block.rows}"
        )
    return messages


# Size and time are there so that a file that changed is not taken for what it was.
_kept = functools.lru_cache(maxsize=2)(_read)


# --- files with an index ---------------------------------------------------------------------


def _indexed(file: BinaryIO) -> Log | None:
    """What the summary says; ``None`` if there is none, or it does not speak of every message."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _FOOTER_BYTES))
    tail = file.read()
    opcode, length = _HEAD.unpack_from(tail)
    start = struct.unpack_from("<Q", tail, _HEAD.size)[0]
    if not tail.endswith(MAGIC) or (opcode, length) != (Opcode.FOOTER, 20) or not start:
        return None
    schemas: dict[int, str] = {}
    channels: dict[int, records.Channel] = {}
    chunks: list[records.ChunkIndex] = []
    counted = None
    file.seek(start)
    for code, body in _split(file.read(size - _FOOTER_BYTES - start)):
        _note(code, body, schemas, channels)
        if code == Opcode.CHUNK_INDEX:
            chunks.append(_parse(records.ChunkIndex, body))
        elif code == Opcode.STATISTICS:
            counted = _parse(records.Statistics, body).message_count
    blocks, first = [], 0
    for chunk in sorted(chunks, key=lambda c: c.chunk_start_offset):
        index = chunk.chunk_start_offset + chunk.chunk_length, chunk.message_index_length
        heads = _indexed_heads(file, *index)
        rows = len(heads.channel)
        blocks.append(
            Block(
                chunk.chunk_start_offset,
                chunk.chunk_length,
                rows,
                first,
                chunk.uncompressed_size,
                index,
            )
        )
        first += rows
        if not set(heads.channel.tolist()) <= set(channels):
            return None
    return Log(tuple(blocks), _channels(channels, schemas)) if counted == first else None


def _indexed_heads(file: BinaryIO, offset: int, length: int) -> Heads:
    file.seek(offset)
    found = []
    for code, body in _split(_exactly(file, length)):
        if code == Opcode.MESSAGE_INDEX:
            channel, size = struct.unpack_from("<HI", body)
            pairs = np.frombuffer(body, "<u8", count=size // 8, offset=6).reshape(-1, 2)
            found.append((pairs, np.full(len(pairs), channel, np.int64)))
    if not found:
        return Heads(np.zeros(0, np.int64), np.zeros(0, np.int64))
    pairs = np.concatenate([p for p, _ in found])
    order = np.argsort(pairs[:, 1], kind="stable")
    return Heads(_signed(pairs[:, 0])[order].copy(), np.concatenate([c for _, c in found])[order])


# --- files without ---------------------------------------------------------------------------


def _read_through(file: BinaryIO) -> Log:
    """Every record in turn, chunks opened to count what is in them."""
    walk = _Walk(file)
    for offset, code, length in _walk(file):
        if code is None:
            walk.damaged(offset, "the file ends without its end, as if its recorder was killed")
        elif code == Opcode.CHUNK:
            walk.chunk(offset, length)
        elif code == Opcode.MESSAGE:
            walk.message(offset, length)
        elif code in (Opcode.SCHEMA, Opcode.CHANNEL):
            walk.meaning(code, offset)
        else:
            walk.end_run()  # an attachment may be large, and is not read along
    walk.end_run()
    return Log(tuple(walk.blocks), _channels(walk.channels, walk.schemas))


class _Walk:
    """What reading a file through has found so far."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.blocks: list[Block] = []
        self.schemas: dict[int, str] = {}
        self.channels: dict[int, records.Channel] = {}
        self.first = 0
        self.run: Block | None = None

    def chunk(self, offset: int, length: int) -> None:
        self.end_run()
        rows = size = 0
        try:
            for code, body in _records_of(self.file, offset, length):
                _note(code, body, self.schemas, self.channels)
                rows += code == Opcode.MESSAGE
                size += len(body)
        except READING as error:
            self.damaged(offset, f"a chunk is damaged: {error}")
            return
        self._add(Block(offset, length, rows, self.first, size))

    def message(self, offset: int, length: int) -> None:
        run = self.run or Block(offset, 0, 0, self.first, 0)
        end = offset + length
        self.run = dataclasses.replace(
            run, length=end - run.offset, bytes=end - run.offset, rows=run.rows + 1
        )
        if self.run.length >= _RUN_BYTES:
            self.end_run()

    def meaning(self, code: int, offset: int) -> None:
        self.file.seek(offset)
        try:
            _, body = _next(self.file)
            _note(code, body, self.schemas, self.channels)
        except READING as error:
            self.damaged(offset, f"a schema or channel is damaged: {error}")

    def damaged(self, offset: int, why: str) -> None:
        self.end_run()
        self._add(Block(offset, 0, 1, self.first, 0, damage=f"{why} (byte {offset})"))

    def end_run(self) -> None:
        if self.run is not None:
            self._add(self.run)
            self.run = None

    def _add(self, block: Block) -> None:
        self.blocks.append(block)
        self.first += block.rows


def _walk(file: BinaryIO) -> Iterator[tuple[int, int | None, int]]:
    """Offset, opcode and whole length of each record of the data section; ``None`` is damage."""
    size, offset = file.seek(0, os.SEEK_END), len(MAGIC)
    while offset < size:
        file.seek(offset)
        head = file.read(_HEAD.size)
        code, length = _HEAD.unpack(head) if len(head) == _HEAD.size else (None, 0)
        if code in (Opcode.DATA_END, Opcode.FOOTER):
            return
        if not code or offset + _HEAD.size + length > size:
            yield offset, None, 0
            return
        yield offset, code, _HEAD.size + length
        offset += _HEAD.size + length
    yield offset, None, 0


# --- records ---------------------------------------------------------------------------------


def _records_of(file: BinaryIO, offset: int, length: int) -> Iterator[tuple[int, bytes]]:
    """The records in a piece of a file; those in a chunk are unpacked."""
    file.seek(offset)
    for code, body in _split(_exactly(file, length)):
        if code == Opcode.CHUNK:
            yield from _split(_unpacked(_parse(records.Chunk, body)))
        else:
            yield code, body


def _unpacked(chunk: records.Chunk) -> bytes:
    """The records of a chunk. No more than it says is ever unpacked.

    Raises:
        RowError: it says too much, or something else than it holds.
    """
    size = chunk.uncompressed_size
    if size > MAX_RECORD_BYTES:
        raise RowError(f"a chunk is said to unpack to {size} bytes, at most {MAX_RECORD_BYTES}")
    if chunk.compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(chunk.data) as reader:
            data = reader.read(size + 1)
    elif chunk.compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
    elif chunk.compression == "":
        data = chunk.data
    else:
        raise RowError(f"a chunk is compressed by {chunk.compression!r}; expected zstd or lz4")
    if len(data) != size:
        raise RowError(f"a chunk does not unpack to the {size} bytes it says")
    if chunk.uncompressed_crc not in (0, zlib.crc32(data)):
        raise RowError("a chunk is damaged: its checksum does not agree")
    return bytes(data)


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and body of each record in `data`."""
    at = 0
    while at < len(data):
        code, length = _HEAD.unpack_from(data, at)
        if not code:  # there is no such kind, and some kilobytes unpack to millions of them
            raise RowError("it has a record of kind 0")
        at += _HEAD.size + length
        if at > len(data):
            raise RowError("a record is longer than what holds it")
        yield code, data[at - length : at]


def _next(file: BinaryIO) -> tuple[int, bytes]:
    code, length = _HEAD.unpack(_exactly(file, _HEAD.size))
    return code, _exactly(file, length)


def _exactly(file: BinaryIO, length: int) -> bytes:
    if length > 2 * MAX_RECORD_BYTES:
        raise RowError(f"a record is said to have {length} bytes")
    data = file.read(length)
    if len(data) != length:
        raise RowError(f"the file ends {length - len(data)} bytes too early")
    return data


def _messages(found: Iterator[tuple[int, bytes]]) -> Iterator[Message]:
    for code, body in found:
        if code == Opcode.MESSAGE:
            channel, sequence, logged, published = _MESSAGE.unpack_from(body)
            yield Message(
                channel, sequence, _signed(logged), _signed(published), body[_MESSAGE.size :]
            )


def _signed(nanoseconds: Any) -> Any:
    """Unsigned times as Int64, which ends in 2262; later ones, which are mistakes, as its end."""
    top = np.iinfo(np.int64).max
    if isinstance(nanoseconds, int):
        return min(nanoseconds, top)
    return np.minimum(nanoseconds, np.uint64(top)).astype(np.int64)


def _parse(kind: type[_Record], body: bytes) -> _Record:
    read: Any = kind
    parsed: _Record = read.read(ReadDataStream(io.BytesIO(body)))
    return parsed


def _note(
    code: int, body: bytes, schemas: dict[int, str], channels: dict[int, records.Channel]
) -> None:
    """Remember a schema's name or a channel."""
    if code == Opcode.SCHEMA:
        schema = _parse(records.Schema, body)
        schemas[schema.id] = schema.name
    elif code == Opcode.CHANNEL:
        channel = _parse(records.Channel, body)
        channels[channel.id] = channel


def _channels(
    channels: Mapping[int, records.Channel], schemas: Mapping[int, str]
) -> dict[int, Channel]:
    return {
        number: Channel(c.topic, schemas.get(c.schema_id, ""), c.message_encoding)
        for number, c in channels.items()
    }
