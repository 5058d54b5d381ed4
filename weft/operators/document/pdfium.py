"""PDFium, opened safely: one call at a time, no passwords, whole files only.

PDFium is not thread-safe, not even for two documents. `LOCK` is therefore held around every
call, also the one that closes a document when its last page is let go. It costs parallelism
within a process: threads of the local engine take turns at PDFium, while NumPy copies and
everything outside go on. Workers of Ray are processes of their own and do not wait.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError, RowError

try:
    import pypdfium2 as pdfium
    from pypdfium2 import raw
except ImportError as error:
    raise DefinitionError(
        "Documents need pypdfium2. Install it with: pip install 'weft[document]'"
    ) from error

LOCK = threading.RLock()
"""Reentrant: a document may be closed by the garbage collector of a thread that holds it."""

POINTS_PER_INCH = 72

_LINEARIZED = re.compile(rb"/Linearized\b.{0,200}?/L\s+(\d+)", re.DOTALL)


class Document:
    """An open PDF; it is closed when nobody holds it any more.

    Raises:
        RowError: no PDF, damaged, cut short, or not to be read without a password; more than
            `max_pages` pages.
    """

    def __init__(self, content: bytes, max_pages: int, what: str) -> None:
        self.what = what
        _refuse_cut(content, what)
        with LOCK:
            self._pdf = _open(content, what)
            weakref.finalize(self, _close, self._pdf)
            self.pages = len(self._pdf)
            if self.pages:
                self._pdf.init_forms()  # else what is filled into a form is not drawn
        if self.pages > max_pages:
            raise RowError(
                f"{what}: too many pages. Given {self.pages}; expected at most {max_pages}."
            )

    def size_points(self, index: int) -> tuple[float, float]:
        """Width and height of page `index`, from 0, as it is shown: cropped and turned."""
        with LOCK, self._reading(index):
            width, height = self._pdf.get_page_size(index)
        return float(width), float(height)

    def text(self, index: int) -> str:
        """The text of a page in the order of the file."""
        with LOCK, self._page(index) as page:
            text = page.get_textpage()
            try:
                found: str = text.get_text_range()
            finally:
                text.close()
        return found

    def render(self, index: int, scale: float) -> npt.NDArray[np.uint8]:
        """A page on white, RGB, at `scale` pixels a point, sizes rounded up."""
        with LOCK, self._page(index) as page:
            bitmap = page.render(scale=scale, rev_byteorder=True, fill_color=(255, 255, 255, 255))
            try:
                return np.ascontiguousarray(_rgb(bitmap.to_numpy())).copy()
            finally:
                bitmap.close()

    def about(self) -> dict[str, Any]:
        """Title, author and producer as the file gives them; its version; whether encrypted."""
        with LOCK:
            known = self._pdf.get_metadata_dict(skip_empty=True)
            version = self._pdf.get_version()
            encrypted = raw.FPDF_GetSecurityHandlerRevision(self._pdf) != -1
        return {
            "title": known.get("Title"),
            "author": known.get("Author"),
            "producer": known.get("Producer"),
            "encrypted": encrypted,
            "pdf_version": f"{version // 10}.{version % 10}" if version else None,
        }

    @contextmanager
    def _page(self, index: int) -> Iterator[Any]:
        with self._reading(index):
            page = self._pdf.get_page(index)
            try:
                yield page
            finally:
                page.close()

    @contextmanager
    def _reading(self, index: int) -> Iterator[None]:
        try:
            yield
        except pdfium.PdfiumError as error:
            raise RowError(
                f"{self.what}: page {index + 1} of {self.pages} is damaged: PDFium cannot read "
                "it. Fetch the file again, or drop the row."
            ) from error


def _refuse_cut(content: bytes, what: str) -> None:
    """Raise if the end is missing: PDFium would mend the file and leave out pages in silence."""
    if b"%PDF-" not in content[:1024]:
        raise RowError(
            f"{what}: not a PDF. Given {len(content)} bytes that start with {content[:16]!r}; "
            "expected %PDF- within the first 1024."
        )
    whole = _LINEARIZED.search(content[:1024])
    if b"%%EOF" not in content or (whole and int(whole[1]) > len(content)):
        raise RowError(
            f"{what}: the PDF is cut short: its end is missing after {len(content)} bytes. Fetch "
            "it again, or drop the row."
        )


def _open(content: bytes, what: str) -> Any:
    try:
        return pdfium.PdfDocument(content)
    except pdfium.PdfiumError as error:
        if error.err_code == raw.FPDF_ERR_PASSWORD:
            raise RowError(
                f"{what}: the PDF is encrypted and asks for a password; weft never gives one. "
                "Decrypt it first (qpdf --decrypt), or drop the row."
            ) from error
        if error.err_code == raw.FPDF_ERR_SECURITY:
            raise RowError(
                f"{what}: the PDF is encrypted in a way that PDFium does not know. Decrypt it "
                "first, or drop the row."
            ) from error
        raise RowError(
            f"{what}: the PDF is damaged: PDFium cannot open its {len(content)} bytes. Fetch it "
            "again, or drop the row."
        ) from error


def _close(pdf: Any) -> None:
    with LOCK:
        pdf.close()


def _rgb(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Three channels of what PDFium drew, which is grey if a page is."""
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels[:, :, :3]
