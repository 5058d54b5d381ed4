"""A name for what a row says."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Binary, Encoded, Text, Type


class Content(Type):
    """A port for text, and for bytes with and without a known meaning."""

    def accepts(self, other: Type) -> bool:
        """Text, or bytes."""
        return isinstance(other, Text | Binary | Encoded)

    def _describe(self) -> str:
        return "text or bytes"


@dataclass(frozen=True)
class ContentHash(Map):
    """Name content by its SHA-256 (FIPS 180-4), of which no two that are equal are known.

    Reads `content`: text, taken as UTF-8, or bytes. Writes `content_hash`: 64 hexadecimal digits,
    as ``sha256sum`` prints them.

    >>> ContentHash()("abc") == ContentHash()(b"abc")
    True
    >>> ContentHash()("abc")[:16]
    'ba7816bf8f01cfea'
    """

    version = "1"
    reads = fields(content=Content())
    writes = fields(content_hash=Text())

    def map_row(self, row: Row, loaded: Any) -> str:
        """One text, or one file."""
        content = row["content"]
        data = content.encode() if isinstance(content, str) else content
        return hashlib.sha256(data).hexdigest()
