"""PDF files of some pages: text that is known, and a figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from reportlab.lib.pagesizes import A4
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from weft.samples.photos import open_photograph

if TYPE_CHECKING:
    from weft.samples import Made

PAPERS = {
    "on-clocks.pdf": (
        "On clocks",
        (
            "Two clocks never agree. A robot has one in its camera, one in its wheels and one "
            "in its computer, and each of them drifts.",
            "Measurements are aligned to one clock, as of the last value that is not too old. "
            "What is older than the tolerance is a gap, and a gap is reported.",
            "We conclude that a time without a clock's name means nothing.",
        ),
    ),
    "on-loss.pdf": (
        "On loss",
        (
            "A row that vanishes in silence is worse than a row that fails aloud. Every row is "
            "read, kept, dropped or failed, and the sums agree.",
            "Published once means published whole: a reader sees all of a run or nothing of it.",
        ),
    ),
    "on-roofs.pdf": ("On roofs", ("The roof of the temple is made of glazed tiles.",)),
}


def make() -> Made:
    """The papers, and title and text of each page."""
    files = {name: _pdf(title, pages) for name, (title, pages) in PAPERS.items()}
    known = {
        name: {"title": title, "pages": len(pages), "text": list(pages)}
        for name, (title, pages) in PAPERS.items()
    }
    files["broken-cut-short.pdf"] = files["on-clocks.pdf"][:600]
    return files, {**known, "broken-cut-short.pdf": {"broken": True}}


def _pdf(title: str, pages: tuple[str, ...]) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file, A4, invariant=1)  # no date, no random id: the same bytes each time
    canvas.setTitle(title)
    for number, text in enumerate(pages):
        canvas.setFont("Helvetica-Bold", 20)
        canvas.drawString(72, 770, f"{title}, page {number + 1}")
        canvas.setFont("Helvetica", 12)
        for row, line in enumerate(_lines(text)):
            canvas.drawString(72, 730 - 18 * row, line)
        if number == 0:
            figure = open_photograph("china.jpg").resize((320, 213))
            canvas.drawImage(ImageReader(figure), 72, 400, 320, 213)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def _lines(text: str, width: int = 70) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
