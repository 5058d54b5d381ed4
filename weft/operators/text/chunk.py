"""Pieces of a text, as long as a model reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from weft.errors import DefinitionError
from weft.operators.text import sentences, tokens
from weft.pipelines.fields import fields
from weft.pipelines.operator import Expand, Row
from weft.pipelines.types import Int32, Int64, Text

_WORD = re.compile(r"\S+")
_UNITS = ("tokens", "sentences", "words")


@dataclass(frozen=True)
class Chunk(Expand):
    """Cut a text into chunks that overlap.

    Reads `text`. Writes one row a chunk, in order; none for a text without units:

    * `chunk`: the piece;
    * `start`, `stop`: its place in the text, in characters, half open:
      ``text[start:stop] == chunk``. It neither starts nor ends with white space, and every
      other character of the text is in a chunk;
    * `units`: how many units it has.

    `size` and `overlap` are numbers of units: each chunk has `size`, and shares its first
    `overlap` with the chunk before; the last may be shorter. `unit`:

    * "words": runs of characters other than white space;
    * "sentences": as UAX #29, section 5, bounds them, without tailoring for a language;
    * "tokens": of `tokenizer`, the path of a ``tokenizer.json`` (Hugging Face's tokenizers) or
      of a folder that has one. Special tokens are not counted: leave room for them (two in
      BERT). A chunk may start within a word, and then have other tokens by itself.

    The tokenizer's content, not its path, is part of the identity.

    >>> for piece in Chunk(3, overlap=1)("To be, or not to be."):
    ...     print(piece["start"], piece["stop"], piece["units"], piece["chunk"])
    0 9 3 To be, or
    7 16 3 or not to
    14 20 2 to be.

    Raises:
        DefinitionError: sizes, unit and tokenizer that do not fit together, or no such file.
    """

    size: int = 256
    overlap: int = 32
    unit: Literal["tokens", "sentences", "words"] = "words"
    tokenizer: str | Path | None = None

    version = "1"
    reads = fields(text=Text())
    writes = fields(chunk=Text(), start=Int64(), stop=Int64(), units=Int32())
    early = ("chunk", "start", "stop", "units")

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 <= self.overlap < self.size:
            raise DefinitionError(
                f"{self.name}: size={self.size!r}, overlap={self.overlap!r}: expected a size of at "
                "least 1 and an overlap of at least 0 and less than it."
            )
        if self.unit not in _UNITS:
            raise DefinitionError(
                f"{self.name}: unit={self.unit!r}: expected one of {', '.join(_UNITS)}."
            )
        if (self.unit == "tokens") != (self.tokenizer is not None):
            raise DefinitionError(
                f"{self.name}: unit={self.unit!r}, tokenizer={self.tokenizer!r}: a tokenizer goes "
                "with unit='tokens', and with no other."
            )
        if self.tokenizer is not None:
            tokens.find(self.tokenizer, f"{self.name}: tokenizer")

    def identity(self) -> dict[str, Any]:
        """Name, version and parameters; of the tokenizer, its digest."""
        found = super().identity()
        if self.tokenizer is not None:
            file = tokens.find(self.tokenizer, f"{self.name}: tokenizer")
            found["params"]["tokenizer"] = {"sha256": tokens.digest(file)}
        return found

    def setup(self, device: str) -> Any:
        """The tokenizer."""
        if self.tokenizer is None:
            return None
        what = f"{self.name}: tokenizer"
        return tokens.load(tokens.find(self.tokenizer, what), what)

    def expand_row(self, row: Row, loaded: Any) -> Iterator[dict[str, Any]]:
        """The chunks of one text."""
        text = row["text"]
        starts = self._starts(text, loaded)
        # What no unit has, such as control characters that a tokenizer skips, goes to the unit
        # before, and at the start of the text to the first.
        bounds = [0, *starts[1:], len(text)] if starts else []
        step = self.size - self.overlap
        for first in range(0, max(len(starts) - self.overlap, min(len(starts), 1)), step):
            after = min(first + self.size, len(starts))
            start, stop = _trim(text, bounds[first], bounds[after])
            if start < stop:  # the bytes of one character can be several tokens
                units = after - first
                yield {"chunk": text[start:stop], "start": start, "stop": stop, "units": units}

    def _starts(self, text: str, loaded: Any) -> list[int]:
        """Where each unit starts."""
        if self.unit == "words":
            return [match.start() for match in _WORD.finditer(text)]
        if self.unit == "sentences":
            found = sentences.sentences(text)
            return [start for start, stop in found if not text[start:stop].isspace()]
        return [start for start, _ in tokens.spans(loaded, text)]


def _trim(text: str, start: int, stop: int) -> tuple[int, int]:
    """The span without white space at its ends."""
    piece = text[start:stop]
    return start + len(piece) - len(piece.lstrip()), stop - len(piece) + len(piece.rstrip())
