"""PDFs that the tests write, and what poppler says of them."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pypdfium2 as pdfium
import pytest
from PIL import Image
from reportlab.lib.pagesizes import A4, letter
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen import canvas

needs_poppler = pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="needs pdftotext (apt-get install poppler-utils)"
)

PROSE = (
    "Le café naïve où l'été — “cité” — coûte 12,50 à Zürich.",
    "Ångström señor façade Øresund straße garçon.",
    "The quick brown fox jumps over the lazy dog 0123456789.",
)


def font() -> str:
    """A font with accents that comes with reportlab."""
    if "Vera" not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(TTFont("Vera", "Vera.ttf"))
    return "Vera"


def paper(*, encrypt: StandardEncryption | None = None, compress: int = 1) -> bytes:
    """Five pages: prose, two columns, an empty one, one of A4 turned, one with a picture."""
    file = io.BytesIO()
    page = canvas.Canvas(file, pagesize=letter, encrypt=encrypt, pageCompression=compress)
    page.setTitle("Étude №1")
    page.setAuthor("Ada Lovelace")
    for number in range(40):
        page.setFont("Times-Roman", 11)
        page.drawString(72, 740 - 16 * number, f"{number}. {PROSE[2]} office fluffy")
    page.showPage()
    for column in 0, 1:
        for number in range(20):
            page.setFont("Helvetica", 10)
            page.drawString(72 + 260 * column, 740 - 14 * number, f"column {column} line {number}")
    page.showPage()
    page.showPage()
    page.setPageSize(A4)
    for number, line in enumerate(PROSE):
        page.setFont(font(), 9)
        page.drawString(72, 700 - 16 * number, line)
    page.showPage()
    page.drawInlineImage(Image.fromarray(picture()), 100, 300, 200, 150)
    page.showPage()
    page.save()
    return file.getvalue()


def picture() -> np.ndarray:
    """A smooth pattern of 150 x 200."""
    down, across = np.mgrid[:150, :200]
    return np.stack([down, across, (down + across) // 2], axis=2).astype(np.uint8)


def turned(content: bytes, degrees: int, index: int = 0) -> bytes:
    """The file with one page turned clockwise."""
    pdf = pdfium.PdfDocument(content)
    page = pdf[index]
    page.set_rotation(degrees)
    pdf.save(file := io.BytesIO())
    page.close()
    pdf.close()
    return file.getvalue()


def poppler(tool: str, content: bytes, folder: Path, *options: str) -> str:
    """What ``tool OPTIONS file.pdf`` prints."""
    path = folder / "file.pdf"
    path.write_bytes(content)
    command = [tool, *options, str(path), *(["-"] if tool == "pdftotext" else [])]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rendered(content: bytes, folder: Path, *options: str) -> list[np.ndarray]:
    """The pages by pdftoppm."""
    (folder / "file.pdf").write_bytes(content)
    subprocess.run(
        ["pdftoppm", *options, str(folder / "file.pdf"), str(folder / "page")], check=True
    )
    pages = sorted(folder.glob("page-*.ppm"))
    return [np.asarray(Image.open(path)) for path in pages]
