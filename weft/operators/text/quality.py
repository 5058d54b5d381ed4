"""How far a text is prose, by the published rules for training data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError
from weft.operators.text import c4, gopher, repetition
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Text

_WRITES = {"gopher": gopher.WRITES, "repetition": repetition.WRITES, "c4": c4.WRITES}


@dataclass(frozen=True)
class Quality(Map):
    """Score a text by the rules of Gopher and C4; filter on the scores, or on `passes_…`.

    Reads `text`. Writes the scores of the sets named in `rules`, and for each set whether the
    text is within the bounds that its paper gives, which stand in brackets. Words are separated
    by white space; lines are those that are not blank.

    "gopher" (Rae et al. 2021, appendix A.1.1):

    * `word_count` (50..100,000), `mean_word_length` in characters (3..10);
    * `symbol_word_ratio` (≤ 0.1): number signs or ellipses, whichever are more, to words;
    * `bullet_line_fraction` (≤ 0.9), `ellipsis_line_fraction` (≤ 0.3): lines that start with a
      bullet, that end with an ellipsis;
    * `alphabetic_word_fraction` (≥ 0.8): words with a letter;
    * `stop_word_count` (≥ 2): how many of "the, be, to, of, and, that, have, with" occur. It is
      a rule for English;
    * `passes_gopher`.

    "repetition" (the same, table A1); n-grams are of words, and each character counts once:

    * `duplicate_line_fraction`, `duplicate_paragraph_fraction` (≤ 0.3) and the same by
      characters, `duplicate_line_character_fraction`, … (≤ 0.2): those that were there before;
    * `top_2gram_character_fraction` (≤ 0.20), 3 (≤ 0.18), 4 (≤ 0.16): characters in the n-gram
      that occurs most often; 0 where none occurs twice;
    * `duplicate_5gram_character_fraction` (≤ 0.15) to 10 (≤ 0.10): characters in n-grams that
      were there before;
    * `passes_repetition`.

    "c4" (Raffel et al. 2020, section 2.2):

    * `terminal_line_fraction`: lines that end with a full stop, exclamation or question mark or
      closing quotation mark; `short_line_fraction`: lines of less than 5 words;
      `boilerplate_line_fraction`: lines with "javascript" or a notice on cookies, privacy or
      terms of use; `kept_line_fraction`: the lines that C4 would keep for all of these;
    * `sentence_count` (≥ 3): sentences in the kept lines (UAX #29);
    * `lorem_ipsum`, `curly_bracket`, `bad_word_count` (false, false, 0): of the page. Words in
      `bad_words` are found by themselves, whatever their case; C4 took the list LDNOOBW;
    * `passes_c4`.

    An empty text has 0 in all fields and passes only "repetition".

    >>> scored = Quality(rules=("gopher",))("The sum of 2 and 3 is 5 ...")
    >>> scored["word_count"], scored["stop_word_count"], scored["passes_gopher"]
    (9, 2, False)
    >>> Quality()("Buy now! " * 20)["top_2gram_character_fraction"]
    1.0

    Raises:
        DefinitionError: an unknown set, none, or `bad_words` without "c4".
    """

    rules: tuple[str, ...] = ("gopher", "repetition", "c4")
    bad_words: tuple[str, ...] = ()

    version = "1"
    reads = fields(text=Text())
    writes = Fields({n: kind for each in _WRITES.values() for n, kind in each.items()})

    def __post_init__(self) -> None:
        object.__setattr__(self, "rules", tuple(self.rules))
        object.__setattr__(self, "bad_words", tuple(self.bad_words))
        if not self.rules or not set(self.rules) <= set(_WRITES):
            raise DefinitionError(
                f"{self.name}: rules={self.rules!r}: expected some of {', '.join(_WRITES)}."
            )
        if "" in self.bad_words or (self.bad_words and "c4" not in self.rules):
            raise DefinitionError(
                f"{self.name}: bad_words={self.bad_words!r}, rules={self.rules!r}: expected words, "
                "together with the rules 'c4'."
            )
        writes = Fields({n: kind for rule in self.rules for n, kind in _WRITES[rule].items()})
        object.__setattr__(self, "writes", writes)

    def map_row(self, row: Row, loaded: Any) -> dict[str, Any]:
        """One text."""
        text = row["text"]
        words = text.split()
        lines = [line for part in text.splitlines() if (line := part.strip())]
        found: dict[str, Any] = {}
        if "gopher" in self.rules:
            found |= gopher.scores(text, words, lines)
        if "repetition" in self.rules:
            found |= repetition.scores(text, words, lines)
        if "c4" in self.rules:
            found |= c4.scores(text, lines, self.bad_words)
        return found
