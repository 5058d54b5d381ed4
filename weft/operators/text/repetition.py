"""The repetition rules of Gopher: Rae et al. (2021), appendix A.1.1 and table A1.

What repeats is what was there before: of three equal lines, two are duplicates. Characters are
those of lines, paragraphs and words, without the white space between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.pipelines.fields import Fields
from weft.pipelines.types import Bool, Float32

LIMITS = {
    "duplicate_line_fraction": 0.30,
    "duplicate_paragraph_fraction": 0.30,
    "duplicate_line_character_fraction": 0.20,
    "duplicate_paragraph_character_fraction": 0.20,
    "top_2gram_character_fraction": 0.20,
    "top_3gram_character_fraction": 0.18,
    "top_4gram_character_fraction": 0.16,
    "duplicate_5gram_character_fraction": 0.15,
    "duplicate_6gram_character_fraction": 0.14,
    "duplicate_7gram_character_fraction": 0.13,
    "duplicate_8gram_character_fraction": 0.12,
    "duplicate_9gram_character_fraction": 0.11,
    "duplicate_10gram_character_fraction": 0.10,
}
"""The largest values that pass: table A1."""

WRITES = Fields({name: Float32() for name in LIMITS} | {"passes_repetition": Bool()})

_PARAGRAPHS = re.compile(r"\n\s*\n")

Integers = npt.NDArray[np.int64]


def scores(text: str, words: list[str], lines: list[str]) -> dict[str, Any]:
    """Each score of one text, and whether all are within the paper's bounds."""
    paragraphs = [p for part in _PARAGRAPHS.split(text) if (p := part.strip())]
    found: dict[str, Any] = {}
    for name, parts in (("line", lines), ("paragraph", paragraphs)):
        count, characters = _duplicates(parts)
        found[f"duplicate_{name}_fraction"] = count
        found[f"duplicate_{name}_character_fraction"] = characters
    ends = np.cumsum([0, *map(len, words)])
    total = max(int(ends[-1]), 1)
    for n, at, grams in _repeated(words, 10):
        if n <= 4:
            found[f"top_{n}gram_character_fraction"] = _in_top(at, grams, n, ends) / total
        else:
            found[f"duplicate_{n}gram_character_fraction"] = _in_later(at, grams, n, ends) / total
    passes = all(found[name] <= limit for name, limit in LIMITS.items())
    return found | {"passes_repetition": passes}


def _duplicates(parts: list[str]) -> tuple[float, float]:
    """The share of parts that were there before, by number and by characters."""
    distinct = set(parts)
    total = sum(map(len, parts))
    repeated = total - sum(map(len, distinct))
    return (len(parts) - len(distinct)) / max(len(parts), 1), repeated / max(total, 1)


def _repeated(words: list[str], longest: int) -> Iterator[tuple[int, Integers, Integers]]:
    """For n of 2 to `longest`: where the n-grams that occur twice or more start, and which it is.

    Numbers stand for n-grams, the same for the same words: one is an (n-1)-gram and a word, so
    a pair of numbers stands for it. That is exact, and no text is put together. Only where an
    (n-1)-gram repeats can an n-gram repeat, so there is ever less to sort.
    """
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(w, len(numbers)) for w in words), np.int64, len(words))
    at, grams = np.arange(len(words)), ids
    for n in range(2, longest + 1):
        inside = at + n <= len(words)
        at, grams = at[inside], grams[inside]
        pairs = grams * len(words) + ids[at + n - 1]
        _, grams, counts = np.unique(pairs, return_inverse=True, return_counts=True)
        again = counts[grams] > 1
        at, grams = at[again], grams[again]
        yield n, at, grams


def _in_top(at: Integers, grams: Integers, n: int, ends: Integers) -> int:
    """Characters in the n-gram that occurs most often; of several, in the one with the most."""
    if not len(at):
        return 0
    order = np.argsort(grams, kind="stable")
    at, grams = at[order], grams[order]
    before = np.where(np.diff(grams, prepend=-1) == 0, np.roll(at, 1) + n, 0)
    characters = np.bincount(grams, ends[at + n] - ends[np.maximum(at, before)])
    counts = np.bincount(grams)
    return int(characters[counts == counts.max()].max())


def _in_later(at: Integers, grams: Integers, n: int, ends: Integers) -> int:
    """Characters in n-grams that were there before, each counted once."""
    order = np.argsort(grams, kind="stable")
    later = np.sort(at[order][np.diff(grams[order], prepend=-1) == 0])
    before = np.roll(later, 1) + n
    before[:1] = 0
    return int((ends[later + n] - ends[np.maximum(later, before)]).sum())
