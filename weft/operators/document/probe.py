"""What a PDF says of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.operators.document.pdfium import Document
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Bool, Encoded, Int32, Text

_MANY = 2**31 - 1


@dataclass(frozen=True)
class Probe(Map):
    """Read what a PDF says of itself. No page is read, so any number of them is fine.

    Reads `content`: the bytes of a PDF.
    Writes:

    * `pages`: how many there are;
    * `title`, `author`, `producer`: as the document information dictionary gives them (ISO
      32000-1, 14.3.3), null where it does not;
    * `encrypted`: whether the file is encrypted; one that opens without a password is read;
    * `pdf_version`: of the header, such as "1.7"; null if there is none.

    >>> import io; from PIL import Image as PilImage
    >>> file = io.BytesIO(); PilImage.new("L", (72, 36)).save(file, "PDF", title="Grey")
    >>> probed = Probe()(file.getvalue())
    >>> probed["pages"], probed["title"], probed["encrypted"], probed["pdf_version"]
    (1, 'Grey', False, '1.4')

    Raises:
        RowError: no PDF, damaged, cut short, or not to be opened without a password.
    """

    version = "1"
    isolated = True
    reads = fields(content=Encoded("pdf"))
    writes = fields(
        pages=Int32(),
        title=Text() | None,
        author=Text() | None,
        producer=Text() | None,
        encrypted=Bool(),
        pdf_version=Text() | None,
    )

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One file."""
        document = Document(row["content"], _MANY, self.name)
        return {"pages": document.pages} | document.about()
