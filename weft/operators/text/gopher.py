"""The document rules of Gopher: Rae et al., "Scaling Language Models: Methods, Analysis & Insights
from Training Gopher" (2021), appendix A.1.1, "quality filtering"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.pipelines.fields import fields
from weft.pipelines.types import Bool, Float32, Int32

WRITES = fields(
    word_count=Int32(),
    mean_word_length=Float32(),
    symbol_word_ratio=Float32(),
    bullet_line_fraction=Float32(),
    ellipsis_line_fraction=Float32(),
    alphabetic_word_fraction=Float32(),
    stop_word_count=Int32(),
    passes_gopher=Bool(),
)

_STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
_ELLIPSES = ("...", "…")
_BULLETS = ("•", "‣", "▪", "◦", "●", "\u2013", "-", "*")
"""The paper does not list them."""


def scores(text: str, words: list[str], lines: list[str]) -> dict[str, Any]:
    """Each score of one text, and whether all are within the paper's bounds."""
    count = max(len(words), 1)
    symbols = max(text.count("#"), sum(map(text.count, _ELLIPSES)))
    bullets = sum(line.lstrip().startswith(_BULLETS) for line in lines)
    trailing = sum(line.rstrip().endswith(_ELLIPSES) for line in lines)
    found: dict[str, Any] = {
        "word_count": len(words),
        "mean_word_length": sum(map(len, words)) / count,
        "symbol_word_ratio": symbols / count,
        "bullet_line_fraction": bullets / max(len(lines), 1),
        "ellipsis_line_fraction": trailing / max(len(lines), 1),
        "alphabetic_word_fraction": sum(map(_has_letter, words)) / count,
        "stop_word_count": len(_STOP_WORDS.intersection(words)),
    }
    return found | {"passes_gopher": _passes(found)}


def _has_letter(word: str) -> bool:
    return word[0].isalpha() or any(map(str.isalpha, word))


def _passes(found: Mapping[str, Any]) -> bool:
    return bool(
        50 <= found["word_count"] <= 100_000
        and 3 <= found["mean_word_length"] <= 10
        and found["symbol_word_ratio"] <= 0.1
        and found["bullet_line_fraction"] <= 0.9
        and found["ellipsis_line_fraction"] <= 0.3
        and found["alphabetic_word_fraction"] >= 0.8
        and found["stop_word_count"] >= 2
    )
