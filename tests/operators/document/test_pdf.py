"""Pages of a PDF; truth: poppler (pdftotext, pdfinfo, pdftoppm) on the same bytes."""

from __future__ import annotations

import gc
import io
import random
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image as PilImage
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen import canvas

import weft
from weft.connectors import Files, Lance
from weft.errors import DefinitionError, RowError
from weft.operators.document import PDF, pdf, pdfium
from weft.operators.image import Crop, Resize
from weft.pipelines.fields import fields
from weft.pipelines.operator import Later
from weft.pipelines.types import Encoded, Image

from . import files


@pytest.fixture(scope="module")
def paper() -> bytes:
    return files.paper()


def texts(content: bytes) -> list[str]:
    return [row["text"].make() for row in PDF().expand_row({"content": content}, None)]


def words(text: str) -> list[str]:
    return sorted(text.split())


@files.needs_poppler
class TestPoppler:
    def test_the_words_are_those_of_pdftotext(self, paper: bytes, tmp_path: Path) -> None:
        truth = files.poppler("pdftotext", paper, tmp_path, "-raw").split("\f")
        found = texts(paper)
        assert len(found) == len(truth) - 1 == 5
        for ours, theirs in zip(found, truth, strict=False):
            assert words(ours) == words(theirs)
        assert found[0].split() == truth[0].split()  # in order, of one column
        assert found[1].split() == truth[1].split()  # column by column, as they are in the file
        assert found[2] == found[4] == ""
        assert "Ångström señor façade Øresund straße garçon." in found[3]

    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_sizes_and_images_of_a_turned_page(
        self, paper: bytes, tmp_path: Path, degrees: int
    ) -> None:
        content = files.turned(paper, degrees)
        info = files.poppler("pdfinfo", content, tmp_path, "-l", "9")
        sizes = re.findall(r"Page +\d+ size: +([\d.]+) x ([\d.]+)", info)
        rows = PDF(dpi=50)(content)
        assert [row["page"] for row in rows] == [1, 2, 3, 4, 5]
        assert {row["pages"] for row in rows} == {int(re.search(r"Pages: +(\d+)", info)[1])}
        for row, size, image in zip(
            rows, sizes, files.rendered(content, tmp_path, "-r", "50"), strict=True
        ):
            width, height = map(float, size)
            if row["page"] == 1 and degrees in (90, 270):
                width, height = height, width
            assert (row["width_points"], row["height_points"]) == pytest.approx(
                (width, height), abs=0.01
            )
            assert row["image"].shape == image.shape
        assert words(rows[0]["text"]) == words(texts(paper)[0])

    @pytest.mark.parametrize("dpi", [72, 150])
    def test_images_are_those_of_pdftoppm(self, paper: bytes, tmp_path: Path, dpi: int) -> None:
        """The two draw edges of letters differently; a picture and what is blank they do not."""
        truth = files.rendered(paper, tmp_path, "-r", str(dpi))
        ours = [row["image"] for row in PDF(dpi=dpi)(paper)]
        found = []
        for one, other in zip(ours, truth, strict=True):
            assert (one.shape, one.dtype) == (other.shape, np.uint8)
            found.append(np.abs(one.astype(int) - other).mean())
        assert found[2] == 0
        assert found[4] < 0.2
        assert max(found) < 9
        for one, other in zip(ours, truth, strict=True):
            small = [PilImage.fromarray(p).reduce(dpi // 9) for p in (one, other)]
            blurred = np.abs(np.subtract(*[np.asarray(s, int) for s in small]))
            assert blurred.mean() < 2

    def test_a_box_is_that_of_pdftoppm(self, paper: bytes, tmp_path: Path) -> None:
        truth = files.rendered(paper, tmp_path, "-scale-to", "300")
        ours = [row["image"] for row in PDF(size=300)(paper)]
        for one, other in zip(ours, truth, strict=True):
            assert max(one.shape) == max(other.shape) == 300
            assert np.abs(np.subtract(one.shape, other.shape)).max() <= 1

    def test_filled_forms_are_drawn(self, tmp_path: Path) -> None:
        file = io.BytesIO()
        page = canvas.Canvas(file, pagesize=(200, 100))
        page.acroForm.textfield(name="a", value="FILLED IN", x=20, y=30, width=160, height=40)
        page.showPage()
        page.save()
        [row] = PDF(dpi=72)(file.getvalue())
        [truth] = files.rendered(file.getvalue(), tmp_path, "-r", "72")
        dark = [int((p[30:70, 20:180].min(axis=2) < 100).sum()) for p in (row["image"], truth)]
        assert dark[1] > 100
        assert dark[0] == pytest.approx(dark[1], rel=0.5)


class TestImage:
    def test_a_picture_is_where_it_was_put(self, paper: bytes) -> None:
        image = PDF(dpi=72)(paper)[4]["image"]
        height = image.shape[0]
        found = image[height - 450 : height - 300, 100:300].astype(int)
        assert np.abs(found - files.picture()).mean() < 1

    @pytest.mark.parametrize(
        ("size", "shape"), [(300, (300, 232)), ((792, 1), (2, 1)), (1, (1, 1))]
    )
    def test_the_page_just_fits_the_box(self, paper: bytes, size: Any, shape: Any) -> None:
        assert PDF(size=size)(paper)[0]["image"].shape[:2] == shape

    def test_resize_is_taken_over_exactly(self, paper: bytes) -> None:
        chain = (Resize(200), Resize((64, 48), "cover"))
        whole = PDF(dpi=100)
        absorbed = whole
        for resize in chain:
            absorbed = absorbed.absorb(resize, "image")
        assert absorbed == PDF(dpi=100, then=chain)
        for row, truth in zip(absorbed(paper), whole(paper), strict=True):
            assert np.array_equal(row["image"], chain[1](chain[0](truth["image"])))
        assert absorbed.infer(fields(content=Encoded("pdf")))["image"] == Image(64, 48)
        assert whole.absorb(Crop(10), "image") is None
        assert str(absorbed).startswith("document.PDF(dpi=100, then=[image.Resize(size=200), ")

    def test_drawing_smaller_is_another_image(self, paper: bytes) -> None:
        """The figure in the docstring: why a resize is not replaced by a smaller drawing."""
        for size in (224, 512, 1024):
            drawn = PDF(size=size)(paper)[0]["image"].astype(int)
            resized = Resize(size)(PDF()(paper)[0]["image"])
            width = min(drawn.shape[1], resized.shape[1])
            assert 4 < np.abs(drawn[:, :width] - resized[:, :width]).mean() < 8


class TestLater:
    def test_text_alone_draws_nothing(
        self, paper: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done: list[tuple[str, int]] = []

        def watch(name: str) -> None:
            real: Callable[..., Any] = getattr(pdfium.Document, name)
            monkeypatch.setattr(
                pdfium.Document,
                name,
                lambda self, index, *rest: done.append((name, index)) or real(self, index, *rest),
            )

        (tmp_path / "paper.pdf").write_bytes(paper)
        watch("text")
        watch("render")

        @weft.pipeline
        def pages(out: str):
            rows = weft.read(Files(tmp_path / "paper.pdf", kind="pdf"))
            rows = rows.apply(PDF(), isolated=False).where(pl.col("page") < 3)
            return rows.select("page", "text").write(Lance(out))

        result = pages(str(tmp_path / "out.lance")).run(engine="local")
        assert result.failed == 0
        assert done == [("text", 0), ("text", 1)]

    def test_only_what_costs_is_later(self, paper: bytes) -> None:
        for row in PDF().expand_row({"content": paper}, None):
            later = {port for port, value in row.items() if isinstance(value, Later)}
            assert set(row) - later == set(PDF.early)


class TestHostile:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", r"^document\.PDF: not a PDF\. Given 0 bytes that start with b''"),
            (b"text", r"not a PDF\. Given 4 bytes that start with b'text'; expected %PDF-"),
            (b"%PDF-1.4\n", r"the PDF is cut short: its end is missing after 9 bytes"),
            (b"%PDF-1.4\nxx%%EOF", r"the PDF is damaged: PDFium cannot open its 16 bytes"),
        ],
    )
    def test_no_pdf(self, content: bytes, message: str) -> None:
        with pytest.raises(RowError, match=message):
            PDF()(content)

    def test_a_password(self) -> None:
        locked = files.paper(encrypt=StandardEncryption("secret", strength=128))
        with pytest.raises(RowError, match="is encrypted and asks for a password; weft never"):
            PDF()(locked)
        open_to_all = files.paper(encrypt=StandardEncryption("", ownerPassword="x", strength=128))
        assert texts(open_to_all) == texts(files.paper())

    def test_cut_anywhere(self, paper: bytes) -> None:
        for cut in random.Random(0).sample(range(len(paper) - 6), 40):
            with pytest.raises(RowError, match=r"cut short|not a PDF"):
                PDF()(paper[:cut])

    def test_cut_though_linearized(self) -> None:
        content = b"%PDF-1.4\n1 0 obj<</Linearized 1/L 5000/H[1 2]>>endobj\n%%EOF\n"
        with pytest.raises(RowError, match="cut short"):
            PDF()(content)

    def test_damaged_bytes(self) -> None:
        """Whatever comes out, it is pages or a RowError."""
        whole, chance = files.paper(compress=0), random.Random(0)
        refused = 0
        for _ in range(60):
            content = bytearray(whole)
            for _ in range(chance.choice([1, 10, 100])):
                content[chance.randrange(len(content))] = chance.randrange(256)
            try:
                for row in PDF(size=40, max_pixels=10**6)(bytes(content)):
                    assert row["image"].shape[2] == 3
            except RowError:
                refused += 1
        assert refused > 0

    def test_a_damaged_page_fails_alone(self, paper: bytes) -> None:
        document = pdfium.Document(paper, 10, "document.PDF")
        with pytest.raises(RowError, match=r"page 8 of 5 is damaged: PDFium cannot read it"):
            document.text(7)

    def test_too_large(self) -> None:
        file = io.BytesIO()
        page = canvas.Canvas(file, pagesize=(14400, 14400))
        page.showPage()
        page.save()
        message = r"page 1 of 1 is too large to draw: 14400x14400 points would be 30000x30000 pix"
        with pytest.raises(RowError, match=message):
            PDF()(file.getvalue())
        assert PDF(size=20)(file.getvalue())[0]["image"].shape == (20, 20, 3)
        assert texts(file.getvalue()) == [""]

    def test_too_many_pages(self, paper: bytes) -> None:
        assert len(PDF(max_pages=5, size=10)(paper)) == 5
        with pytest.raises(RowError, match=r"too many pages\. Given 5; expected at most 4\."):
            PDF(max_pages=4)(paper)


def test_threads_take_turns(paper: bytes) -> None:
    """PDFium crashes when two threads call it at once, also when one only closes a file."""
    truth = [row["image"] for row in PDF(size=60)(paper)]
    wrong: list[object] = []

    def work() -> None:
        for _ in range(3):
            rows = PDF(size=60)(paper)
            if not all(np.array_equal(r["image"], t) for r, t in zip(rows, truth, strict=True)):
                wrong.append(rows)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_document_is_closed_when_nobody_holds_it(
    paper: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    monkeypatch.setattr(pdfium, "_close", lambda pdf: closed.append(pdf.close()))
    rows = list(PDF().expand_row({"content": paper}, None))
    gc.collect()
    assert closed == []
    rows[2]["text"].make()
    rows.clear()
    gc.collect()
    assert len(closed) == 1


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"dpi": 0}, r"document\.PDF: dpi=0: expected a positive number of pixels an inch"),
        ({"dpi": float("nan")}, r"dpi=nan: expected a positive number"),
        ({"dpi": 72, "size": 10}, r"dpi=72 and size=10: expected one of them"),
        ({"size": 0}, r"document\.PDF: size=0: expected a positive number"),
        ({"max_pages": 0}, r"max_pages=0: expected at least 1"),
        ({"max_pixels": 0}, r"max_pixels=0: expected at least 1"),
        ({"then": (Crop(3),)}, r"then holds Crop\(.*\); expected image\.Resize only"),
    ],
)
def test_wrong_parameters(given_params: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        PDF(**given_params)


def test_pixels_are_limited_as_for_images() -> None:
    from weft.operators.image import decode

    assert pdf.MAX_PIXELS == decode.MAX_PIXELS
