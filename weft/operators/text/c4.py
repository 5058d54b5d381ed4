"""The rules of C4: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer" (JMLR 2020), section 2.2.

C4 drops lines and then judges what is left of the page. Here nothing is dropped: the scores say
how much it would drop, and whether the page would stay. Two of its steps look at more than one
page, the language and sentences that are on other pages too, and are not among them.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from weft.operators.text.sentences import sentences
from weft.pipelines.fields import fields
from weft.pipelines.types import Bool, Float32, Int32

WRITES = fields(
    terminal_line_fraction=Float32(),
    short_line_fraction=Float32(),
    boilerplate_line_fraction=Float32(),
    kept_line_fraction=Float32(),
    sentence_count=Int32(),
    lorem_ipsum=Bool(),
    curly_bracket=Bool(),
    bad_word_count=Int32(),
    passes_c4=Bool(),
)

_TERMINAL = (".", "!", "?", '"', "”")
_BOILERPLATE = (
    "javascript", "terms of use", "privacy policy", "cookie policy", "uses cookies",
    "use of cookies", "use cookies",
)  # fmt: skip
_MIN_LINE_WORDS = 5
_MIN_SENTENCES = 3


def scores(text: str, lines: list[str], bad_words: tuple[str, ...]) -> dict[str, Any]:
    """Each score of one text, and whether C4 would keep the page."""
    terminal = [line.endswith(_TERMINAL) for line in lines]
    short = [len(line.split()) < _MIN_LINE_WORDS for line in lines]
    boilerplate = [_is_boilerplate(line.lower()) for line in lines]
    kept = [
        line
        for line, ends, few, notice in zip(lines, terminal, short, boilerplate, strict=True)
        if ends and not few and not notice
    ]
    count = max(len(lines), 1)
    found: dict[str, Any] = {
        "terminal_line_fraction": sum(terminal) / count,
        "short_line_fraction": sum(short) / count,
        "boilerplate_line_fraction": sum(boilerplate) / count,
        "kept_line_fraction": len(kept) / count,
        "sentence_count": len(sentences("\n".join(kept))),
        "lorem_ipsum": "lorem ipsum" in text.lower(),
        "curly_bracket": "{" in text,
        "bad_word_count": len(_pattern(bad_words).findall(text)) if bad_words else 0,
    }
    refused = found["lorem_ipsum"] or found["curly_bracket"] or found["bad_word_count"] > 0
    return found | {"passes_c4": found["sentence_count"] >= _MIN_SENTENCES and not refused}


def _is_boilerplate(line: str) -> bool:
    return any(notice in line for notice in _BOILERPLATE)


@functools.lru_cache
def _pattern(bad_words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the words or phrases, by themselves; of two that fit, the longer."""
    longest_first = sorted(bad_words, key=len, reverse=True)
    any_of = "|".join(map(re.escape, longest_first))
    return re.compile(rf"(?<!\w)(?:{any_of})(?!\w)", re.IGNORECASE)
