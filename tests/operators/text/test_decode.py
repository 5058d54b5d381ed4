"""Text files: iconv is asked for the same bytes in other encodings."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from weft.errors import DefinitionError, RowError
from weft.operators.text import Decode
from weft.samples.texts import ARTICLE

MARKED = ["UTF-8-SIG", "UTF-16", "UTF-32"]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(MARKED))
def test_a_mark_decides(text: str, encoding: str) -> None:
    assume(not text.startswith("\0"))  # in UTF-16 it looks like the mark of UTF-32
    assert Decode("latin-1")(text.encode(encoding)) == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf_8_without_a_mark(text: str) -> None:
    assert Decode()(text.encode()) == text.removeprefix("\ufeff")


@pytest.mark.skipif(shutil.which("iconv") is None, reason="needs iconv (libc-bin)")
@pytest.mark.parametrize("encoding", ["ISO-8859-1", "WINDOWS-1252", "UTF-16LE", "IBM850"])
@pytest.mark.parametrize("language", list(ARTICLE))
def test_what_iconv_writes(encoding: str, language: str) -> None:
    text = ARTICLE[language].encode()
    command = ["iconv", "-f", "UTF-8", "-t", encoding]
    made = subprocess.run(command, input=text, capture_output=True, check=True)
    assert Decode(encoding.lower())(made.stdout) == ARTICLE[language]


def test_refused() -> None:
    with pytest.raises(DefinitionError, match="encoding='utf-9': Python knows no such text enc"):
        Decode("utf-9")
    with pytest.raises(DefinitionError, match="encoding='hex': Python knows no such text encoding"):
        Decode("hex")
    with pytest.raises(DefinitionError, match="max_bytes=0: expected at least 1"):
        Decode(max_bytes=0)
    with pytest.raises(RowError, match=r"invalid continuation byte at byte 2 of 5, b'.xefve'"):
        Decode()(b"na\xefve")
    with pytest.raises(RowError, match=r"too large. Given 9 bytes; expected at most 8"):
        Decode(max_bytes=8)(b"123456789")
