"""What a PDF says of itself; truth: poppler's pdfinfo."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image
from reportlab.lib.pdfencrypt import StandardEncryption

from weft.errors import RowError
from weft.operators.document import Probe

from . import files


def plain() -> bytes:
    """A PDF by another hand, without author."""
    file = io.BytesIO()
    Image.new("RGB", (30, 40)).save(
        file, "PDF", save_all=True, append_images=[Image.new("L", (9, 9))] * 3, title="a (b) \\c"
    )
    return file.getvalue()


CASES = {
    "reportlab": files.paper(),
    "turned": files.turned(files.paper(), 90),
    "pillow": plain(),
    "encrypted": files.paper(encrypt=StandardEncryption("", ownerPassword="x", strength=40)),
    "encrypted by 128 bits": files.paper(
        encrypt=StandardEncryption("", ownerPassword="x", strength=128)
    ),
}


@files.needs_poppler
@pytest.mark.parametrize("name", CASES)
def test_it_is_what_pdfinfo_says(name: str, tmp_path: Path) -> None:
    said = files.poppler("pdfinfo", CASES[name], tmp_path)
    info = dict(re.findall(r"(?m)^([\w ]+): +(.*)$", said))
    assert Probe()(CASES[name]) == {
        "pages": int(info["Pages"]),
        "title": info.get("Title"),
        "author": info.get("Author"),
        "producer": info.get("Producer"),
        "encrypted": info["Encrypted"].startswith("yes"),
        "pdf_version": info["PDF version"],
    }


def test_cases_differ() -> None:
    found = {name: Probe()(content) for name, content in CASES.items()}
    assert found["pillow"]["author"] is None
    assert found["reportlab"]["title"] == "Étude №1"
    assert [p["encrypted"] for p in found.values()] == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GIF89a", r"^document\.Probe: not a PDF\. Given 6 bytes that start with b'GIF89a'"),
        (files.paper()[:-20], "cut short"),
        (files.paper(encrypt=StandardEncryption("secret")), "asks for a password"),
    ],
)
def test_refused(content: bytes, message: str) -> None:
    with pytest.raises(RowError, match=message):
        Probe()(content)
