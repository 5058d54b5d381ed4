"""Truth: unicodedata, and lines of Unicode's NormalizationTest.txt."""

# ruff: noqa: RUF001  the letters of other languages are meant

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.operators.text import Normalize

FORMS = ("NFC", "NFD", "NFKC", "NFKD")

# Source; NFC; NFD; NFKC; NFKD, as in NormalizationTest.txt.
VECTORS = [
    "1E0A;1E0A;0044 0307;1E0A;0044 0307",
    "1E0C 0307;1E0C 0307;0044 0323 0307;1E0C 0307;0044 0323 0307",
    "1E9B 0323;1E9B 0323;017F 0323 0307;1E69;0073 0323 0307",
    "0061 0340;00E0;0061 0300;00E0;0061 0300",
    "FB01;FB01;FB01;0066 0069;0066 0069",
    "AC00;AC00;1100 1161;AC00;1100 1161",
    "2126;03A9;03A9;03A9;03A9",
    "212B;00C5;0041 030A;00C5;0041 030A",
    "0958;0915 093C;0915 093C;0915 093C;0915 093C",
    "1100 AC00 11A8;1100 AC01;1100 1100 1161 11A8;1100 AC01;1100 1100 1161 11A8",
    "0061 0315 0300 05AE 0062;00E0 05AE 0315 0062;0061 05AE 0300 0315 0062;"
    "00E0 05AE 0315 0062;0061 05AE 0300 0315 0062",
    "2460;2460;2460;0031;0031",
    "FF21;FF21;FF21;0041;0041",
]


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: str) -> None:
    source, *wanted = ["".join(chr(int(c, 16)) for c in t.split()) for t in vector.split(";")]
    for form, text in zip(FORMS, wanted, strict=True):
        assert Normalize(form)(source) == text  # type: ignore[arg-type]


LETTERS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"],
                                exclude_characters="\xad\ufeff"))  # fmt: skip


@given(LETTERS, st.sampled_from(FORMS))
def test_text_without_spaces_is_unicodedatas(text: str, form: str) -> None:
    assert Normalize(form, spaces=False)(text) == unicodedata.normalize(form, text)


ANY = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("\r\n\t \x00\x1c\x85\xa0\xad\u0301\u2028\ufeff\xb4ﬁa"),
    )
)


@settings(max_examples=400)
@given(ANY, st.sampled_from(FORMS), st.booleans())
def test_twice_is_once(text: str, form: str, spaces: bool) -> None:
    operator = Normalize(form, spaces)  # type: ignore[arg-type]
    once = operator(text)
    assert operator(once) == once
    assert unicodedata.is_normalized(form, once)
    kinds = {unicodedata.category(c) for c in once if c not in "\n\t"}
    assert not kinds & {"Cc", "Zl", "Zp"}


@given(ANY)
def test_only_spaces_and_invisible_characters_are_lost(text: str) -> None:
    def visible(of: str) -> str:
        kept = (c for c in of if not c.isspace() and c not in "\xad\ufeff")
        return "".join(c for c in kept if unicodedata.category(c) != "Cc")

    decomposed = unicodedata.normalize("NFD", text)
    assert sorted(visible(Normalize("NFD")(text))) == sorted(visible(decomposed))


@pytest.mark.parametrize(
    ("text", "wanted", "without_spaces"),
    [
        ("a\r\nb\rc\vd\fe\x85f\u2028g\u2029h", "a\nb\nc\nd\ne\nf\ng\nh", None),
        ("so\xadft\ufeff \x00nul\x07", "soft nul", None),
        ("  a \t\u3000 b\u00a0 \n\n\n \n c ", "a b\n\nc", "  a \t\u3000 b\u00a0 \n\n\n \n c "),
        ("if x:\n    y", "if x:\ny", "if x:\n    y"),
        ("a\x00\u0301", "á", None),
        ("می\u200cخواهم 👩\u200d👩\u200d👧", "می\u200cخواهم 👩\u200d👩\u200d👧", None),
        ("", "", ""),
    ],
)
def test_steps(text: str, wanted: str, without_spaces: str | None) -> None:
    assert Normalize()(text) == wanted
    assert Normalize(spaces=False)(text) == (wanted if without_spaces is None else without_spaces)


def test_wrong_form() -> None:
    with pytest.raises(DefinitionError, match=r"form='nfc': expected one of NFC, NFD, NFKC, NFKD"):
        Normalize("nfc")  # type: ignore[arg-type]
