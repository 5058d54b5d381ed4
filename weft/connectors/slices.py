"""What sources share: ids of splits, Arrow IPC payloads, columns in their type's storage."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from weft.pipelines.batch import KEY, SOURCE, Batch, Column
from weft.pipelines.connector import Chunk, DroppedRows, FailedRow
from weft.pipelines.fields import Fields, fields_of
from weft.pipelines.types import METADATA_KEY, Arrow, Text, Timestamp, Type


def split_id(keys: pa.Array, sources: pa.Array) -> str:
    """The first 128 bits of the sha256 over keys and versions, as hex.

    Hashes Arrow buffers, not Python strings: 1e6 keys of 40 bytes take about 0.1 s. Lengths go
    first, so that two keys never pass for one.

    >>> a, b = pa.array(["ab", "c"]), pa.array(["1", "1"])
    >>> split_id(a, b) == split_id(pa.array(["x", "ab", "c"]).slice(1), b)
    True
    >>> split_id(a, b) == split_id(pa.array(["a", "bc"]), b)
    False
    """
    state = hashlib.sha256(b"weft split 1")
    for texts in (keys, sources):
        state.update(np.int64(len(texts)).tobytes())
        if len(texts):
            state.update(pc.binary_length(texts).to_numpy(zero_copy_only=False).astype("<i4"))
            _, offsets, data = texts.buffers()
            ends = np.frombuffer(offsets, "<i4")[texts.offset : texts.offset + len(texts) + 1]
            if data is not None:
                state.update(memoryview(data)[ends[0] : ends[-1]])
    return state.hexdigest()[:32]


def to_payload(table: pa.Table) -> bytes:
    """`table` as an Arrow IPC stream, in one batch where 32-bit offsets allow it."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    payload: bytes = sink.getvalue().to_pybytes()
    return payload


def from_payload(payload: bytes) -> pa.Table:
    """The table of `to_payload`; its columns are views of `payload`, each in one chunk."""
    with pa.ipc.open_stream(pa.py_buffer(payload)) as reader:
        return reader.read_all().combine_chunks()


def column_types(schema: pa.Schema) -> Fields:
    """The columns of an Arrow schema, none of which loses anything in its type's storage.

    `Timestamp` holds microseconds, so timestamps of nanoseconds stay plain Arrow.

    >>> print(column_types(pa.schema([("at", pa.timestamp("ns", tz="UTC")), ("s", pa.string())])))
    at: timestamp[ns, tz=UTC]?, s: Text?
    """
    types: dict[str, Type] = dict(fields_of(schema))
    for name, kind in types.items():
        field = schema.field(name)
        known = METADATA_KEY in (field.metadata or {})
        if isinstance(kind, Timestamp) and not known and field.type.unit == "ns":
            types[name] = Arrow(field.type, nullable=kind.nullable)
    return Fields(types)


def conform(array: pa.Array, kind: Type) -> pa.Array:
    """`array` in the storage of its type: large strings as strings, zoned times in UTC.

    Raises:
        pa.ArrowInvalid: a value does not fit.
    """
    storage = kind.storage
    if array.type == storage:
        return array
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(storage, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(storage, array.cast(storage.storage_type))
    return array.cast(storage)


def one_array(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """A column as one array; copies only what is in several chunks."""
    if not isinstance(column, pa.ChunkedArray):
        return column
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


TEXT = Text()


def chunks(
    columns: Sequence[tuple[str, Type, pa.Array]],
    keys: pa.Array,
    sources: pa.Array,
    batch_rows: int,
    *,
    dropped: Sequence[DroppedRows] = (),
    failed: Sequence[FailedRow] = (),
) -> Iterator[Chunk]:
    """Rows that are in memory, in batches without a copy; the first carries what is in none."""
    rows = len(keys)
    # A bare generator that does nothing but slice: about 10 us per batch of 5 columns.
    for start in range(0, rows, batch_rows):
        count = min(batch_rows, rows - start)
        batch = Batch(
            {name: Column(kind, array=array.slice(start, count)) for name, kind, array in columns},
            {
                KEY: Column(TEXT, array=keys.slice(start, count)),
                SOURCE: Column(TEXT, array=sources.slice(start, count)),
            },
            count,
        )
        yield Chunk(batch) if start else Chunk(batch, dropped, failed)
    if not rows and (dropped or failed):
        empty = {name: Column(kind, array=array) for name, kind, array in columns}
        envelope = {KEY: Column(TEXT, array=keys), SOURCE: Column(TEXT, array=sources)}
        yield Chunk(Batch(empty, envelope, 0), dropped, failed)


def ranges(mask: npt.NDArray[np.bool_], most: int) -> Iterator[tuple[int, int]]:
    """Start and length of each run of true values, cut into pieces of at most `most`.

    >>> list(ranges(np.array([True, True, True, False, True]), most=2))
    [(0, 2), (2, 1), (4, 1)]
    """
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    for start, stop in edges.reshape(-1, 2).tolist():
        for first in range(start, stop, most):
            yield first, min(most, stop - first)
