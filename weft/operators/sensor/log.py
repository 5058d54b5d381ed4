"""The messages of some topics of an MCAP log that is in memory, in the order of time."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError, RowError, redact

try:
    import lz4.frame
    import zstandard
    from mcap import records
    from mcap.exceptions import McapError
    from mcap.stream_reader import StreamReader, breakup_chunk
except ImportError as error:
    raise DefinitionError(
        "Logs of sensors need mcap. Install it with: pip install 'weft[sensor]'"
    ) from error

_DAMAGE = (
    McapError, struct.error, ValueError, OverflowError, MemoryError,
    RuntimeError,  # lz4
    zstandard.ZstdError,
)  # fmt: skip
"""What is raised on a damaged log."""

_HEAD = struct.Struct("<BQ")
"""Kind and length of a record."""

Times = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """The messages of a topic: when (nanoseconds, ascending) and the bytes."""

    times_ns: Times
    messages: tuple[bytes, ...]
    decode: Callable[[bytes], Any]


def read_topics(
    content: bytes, topics: Collection[str], time: str, max_bytes: int, what: str
) -> dict[str, Series]:
    """All messages of `topics`. Messages of one time stay in the order of the log.

    Args:
        time: ``"log"`` or ``"publish"``.
        max_bytes: what all chunks together may unpack to.

    Raises:
        RowError: no MCAP log, damaged or cut short, too large, or without one of the topics.
    """
    channels: dict[int, records.Channel] = {}
    schemas: dict[int, records.Schema] = {}
    found: dict[str, list[tuple[int, bytes]]] = {}
    for record in _records(content, max_bytes, what):
        if isinstance(record, records.Schema):
            schemas[record.id] = record
        elif isinstance(record, records.Channel):
            channels[record.id] = record
        elif isinstance(record, records.Message):
            channel = channels.get(record.channel_id)
            if channel is None:
                raise RowError(f"{what}: a message is of channel {record.channel_id}: no such.")
            if channel.topic in topics:
                at = record.log_time if time == "log" else record.publish_time
                found.setdefault(channel.topic, []).append((min(at, 2**63 - 1), record.data))
    described = {c.topic: c for c in channels.values()}
    missing = sorted(set(topics) - set(described))
    if missing:
        raise RowError(
            f"{what}: the log has no topic {missing[0]!r}. Given: {', '.join(sorted(described))}."
        )
    return {t: _series(found.get(t, []), described[t], schemas, what) for t in topics}


def _records(content: bytes, max_bytes: int, what: str) -> Iterator[records.McapRecord]:
    """Every record; those in chunks are unpacked, never to more than the chunk says."""
    unpacked = 0
    try:
        reader = StreamReader(io.BytesIO(content), emit_chunks=True, record_size_limit=len(content))
        for record in reader.records:
            if not isinstance(record, records.Chunk):
                yield record
                continue
            unpacked += record.uncompressed_size
            if unpacked > max_bytes:
                raise RowError(
                    f"{what}: the log unpacks to more than max_bytes={max_bytes}. Cut it, or "
                    "raise the limit."
                )
            yield from breakup_chunk(_unpacked(record), validate_crc=True)
    except _DAMAGE as error:
        reason = redact(str(error).strip(), 200) or type(error).__name__
        raise RowError(
            f"{what}: no MCAP log, or damaged or cut short: {reason}. Given {len(content)} bytes "
            f"that start with {content[:8]!r}. Recover it first (mcap recover), or drop the row."
        ) from error


def _unpacked(chunk: records.Chunk) -> records.Chunk:
    """The chunk without compression. mcap itself trusts what the compressed bytes say."""
    size = chunk.uncompressed_size
    if chunk.compression == "zstd":
        with zstandard.ZstdDecompressor().stream_reader(chunk.data) as stream:
            data = stream.read(size + 1)
    elif chunk.compression == "lz4":
        data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size + 1)
    elif not chunk.compression:
        data = chunk.data
    else:
        raise ValueError(f"a chunk is compressed by {chunk.compression!r}, not zstd or lz4")
    if len(data) != size:
        raise ValueError(f"a chunk does not unpack to the {size} bytes it says")
    _refuse_nothing(data)
    return dataclasses.replace(chunk, data=data, compression="")


def _refuse_nothing(data: bytes) -> None:
    """Raise at a record of kind 0, which there is not: some kilobytes unpack to millions."""
    at = 0
    while at + _HEAD.size <= len(data):
        kind, length = _HEAD.unpack_from(data, at)
        if not kind:
            raise ValueError("a chunk has a record of kind 0")
        at += _HEAD.size + length


def _series(
    found: list[tuple[int, bytes]],
    channel: records.Channel,
    schemas: dict[int, records.Schema],
    what: str,
) -> Series:
    found.sort(key=lambda pair: pair[0])  # stable
    times = np.array([at for at, _ in found], np.int64)
    decode = decoder(channel.message_encoding, schemas.get(channel.schema_id), what)
    return Series(times, tuple(data for _, data in found), decode)


def decoder(encoding: str, schema: records.Schema | None, what: str) -> Callable[[bytes], Any]:
    """What turns the bytes of a message into fields: JSON, and CDR with a ROS 2 schema."""
    if encoding == "json":
        return lambda data: from_json(data, what)
    if encoding == "cdr" and schema is not None and schema.encoding == "ros2msg":
        return _ros2(schema, what)

    def refuse(data: bytes) -> Any:
        raise RowError(
            f"{what}: messages are encoded as {encoding!r}; expected 'json', or 'cdr' with a "
            "ros2msg schema. Take the whole message (path '') and decode it yourself."
        )

    return refuse


def from_json(data: bytes, what: str) -> Any:
    """A JSON message.

    Raises:
        RowError: it is none.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RowError(
            f"{what}: a message is no JSON: {str(error)[:100]}. Given {data[:40]!r}."
        ) from error


def _ros2(schema: records.Schema, what: str) -> Callable[[bytes], Any]:
    try:
        from mcap_ros2.decoder import DecoderFactory
    except ImportError as error:
        raise DefinitionError(
            "Messages of ROS 2 need mcap-ros2-support. Install it with: "
            "pip install mcap-ros2-support"
        ) from error
    try:
        read = DecoderFactory().decoder_for("cdr", schema)
    except (McapError, ValueError, UnicodeDecodeError) as error:
        raise RowError(f"{what}: schema {schema.name!r} is damaged: {error}.") from error
    assert read is not None

    def decode(data: bytes) -> Any:
        try:
            return read(data)
        except (*_DAMAGE, IndexError) as error:
            raise RowError(f"{what}: a message is no {schema.name}: {error}.") from error

    return decode
