"""Bytes of a text file to text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError, RowError
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Encoded, Text

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, and the encoding that reads what follows them."""

MAX_BYTES = 64 * 2**20
"""A text of this size is no text that a person wrote."""


@dataclass(frozen=True)
class Decode(Map):
    r"""Decode the bytes of a text file.

    Reads `content`. Writes `text`. A byte order mark decides (UTF-8, UTF-16 or UTF-32) and is
    not part of the text; without one the bytes are in `encoding`, a name that Python knows.
    What they are is never guessed: a wrong guess is a text that looks right. Line ends stay.

    >>> Decode()("naïve".encode()), Decode()(b"\xff\xfeh\x00i\x00")
    ('naïve', 'hi')
    >>> Decode("latin-1")(b"na\xefve")
    'naïve'

    Raises:
        DefinitionError: Python knows no such encoding.
        RowError: the bytes are not in it, with the place of the first that is not; or they are
            more than `max_bytes`.
    """

    encoding: str = "utf-8"
    max_bytes: int = MAX_BYTES

    version = "1"
    reads = fields(content=Encoded("text"))
    writes = fields(text=Text())

    def __post_init__(self) -> None:
        try:
            known = codecs.lookup(self.encoding)._is_text_encoding
        except LookupError:
            known = False
        if not known:
            raise DefinitionError(
                f"{self.name}: encoding={self.encoding!r}: Python knows no such text encoding. "
                "Expected a name such as 'utf-8', 'latin-1' or 'shift_jis'."
            )
        if self.max_bytes < 1:
            raise DefinitionError(
                f"{self.name}: max_bytes={self.max_bytes!r}: expected at least 1."
            )

    def map_row(self, row: Row, loaded: Any) -> str:
        """One file."""
        content: bytes = row["content"]
        if len(content) > self.max_bytes:
            raise RowError(
                f"{self.name}: the file is too large. Given {len(content)} bytes; expected at "
                f"most {self.max_bytes}. If it is one text, raise max_bytes."
            )
        encoding = next((e for mark, e in _MARKS if content.startswith(mark)), self.encoding)
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            raise RowError(
                f"{self.name}: the bytes are not {error.encoding}: {error.reason} at byte "
                f"{error.start} of {len(content)}, {content[error.start : error.start + 8]!r}. "
                "Give the encoding that the file is in, or drop the row."
            ) from error
