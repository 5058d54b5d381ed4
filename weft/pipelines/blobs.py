"""Media columns in Lance: bytes for everybody, blob columns on disk.

A blob column keeps its bytes beside the table, so that a scan of another column never reads
them. Its meaning stays in the field's metadata, as for every other column.
"""

from __future__ import annotations

import pyarrow as pa

from weft.pipelines.fields import arrow_field
from weft.pipelines.types import METADATA_KEY, Encoded, from_arrow


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """`schema` as Lance stores it: media columns become blob columns and keep their meaning."""
    return pa.schema([_stored_field(f) for f in schema], schema.metadata)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A table's schema as readers see it: blob columns are bytes again."""
    return pa.schema([_plain_field(f) for f in schema], schema.metadata)


def is_blob(field: pa.Field) -> bool:
    """Whether a field of a table is a Lance blob column."""
    return getattr(field.type, "extension_name", "") == "lance.blob.v2"


def _stored_field(field: pa.Field) -> pa.Field:
    if METADATA_KEY not in (field.metadata or {}) or not isinstance(from_arrow(field), Encoded):
        return field
    from lance import blob_field

    blob = blob_field(field.name, nullable=field.nullable)
    return blob.with_metadata((blob.metadata or {}) | field.metadata)


def _plain_field(field: pa.Field) -> pa.Field:
    if not is_blob(field):
        return field
    if METADATA_KEY in (field.metadata or {}):
        kind = from_arrow(field)
    else:
        kind = Encoded(nullable=field.nullable)
    return arrow_field(field.name, kind)


def to_stored(table: pa.Table) -> pa.Table:
    schema = stored_schema(table.schema)
    columns = [
        _blobs(column) if is_blob(field) else column
        for field, column in zip(schema, table.columns, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _blobs(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bytes as Lance's blob type around the same buffers; `lance.blob_array` copies each."""
    from lance.blob import BlobType

    kind = BlobType()
    chunks = []
    for chunk in column.chunks:
        absent = [pa.nulls(len(chunk), field.type) for field in list(kind.storage_type)[1:]]
        parts = pa.StructArray.from_arrays(
            [chunk, *absent], fields=list(kind.storage_type), mask=chunk.is_null()
        )
        chunks.append(pa.ExtensionArray.from_storage(kind, parts))
    return pa.chunked_array(chunks, kind)
