"""The example on PDFs made here; truth: poppler on the same files."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
from pathlib import Path

import lance
import pytest
from PIL import Image
from reportlab.pdfgen import canvas

EXAMPLE = Path(__file__).parents[2] / "examples" / "papers.py"


def write(path: Path, title: str, pages: int) -> None:
    page = canvas.Canvas(str(path), pagesize=(400, 600))
    page.setTitle(title)
    for number in range(1, pages + 1):
        page.drawString(50, 500, f"{title}, page {number}: café naïve")
        page.showPage()
    page.save()


@pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="needs pdftotext (apt-get install poppler-utils)"
)
def test_papers(tmp_path: Path) -> None:
    folder, out = tmp_path / "papers", tmp_path / "papers.lance"
    folder.mkdir()
    write(folder / "one.pdf", "On Sensors", 3)
    write(folder / "two.pdf", "On Clocks", 1)
    (folder / "cut.pdf").write_bytes((folder / "one.pdf").read_bytes()[:900])
    spec = importlib.util.spec_from_file_location("papers", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    pipeline = module.papers(source=f"{folder}/*.pdf", out=str(out), size=300, most_pages=2)
    result = pipeline.run(engine="local")
    assert (result.rows, result.failed, result.kept) == (3, 1, {"write": 3})

    table = lance.dataset(str(out), version="latest").to_table(blob_handling="all_binary")
    rows = sorted(table.to_pylist(), key=lambda row: (row["uri"], row["page"]))
    assert [(Path(r["uri"]).stem, r["title"], r["page"], r["pages"]) for r in rows] == [
        ("one", "On Sensors", 1, 3),
        ("one", "On Sensors", 2, 3),
        ("two", "On Clocks", 1, 1),
    ]
    for row in rows:
        number = str(row["page"])
        command = ["pdftotext", "-f", number, "-l", number, row["uri"], "-"]
        truth = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert row["text"].split() == truth.split()
        assert row["words"] == len(truth.split())
        with Image.open(io.BytesIO(row["picture"])) as picture:
            assert picture.size == (200, 300)
