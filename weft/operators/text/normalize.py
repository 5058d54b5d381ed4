"""One form for text that says the same."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, Literal

from weft.errors import DefinitionError
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Text

_FORMS = ("NFC", "NFD", "NFKC", "NFKD")

_BREAK = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\ufeff]")
_SPACES = re.compile(r"[^\S\n]+")
_AROUND_BREAK = re.compile(r" ?\n ?")
_BREAKS = re.compile(r"\n{3,}")


@dataclass(frozen=True)
class Normalize(Map):
    r"""Bring text into one form: Unicode, line ends, invisible characters, spaces.

    Reads `text`. Writes `text`, after these steps, in this order:

    1. CR LF, CR, VT, FF, NEL, U+2028 and U+2029 become a line feed;
    2. control characters (category Cc, but line feed and tab), soft hyphens (U+00AD) and byte
       order marks (U+FEFF) are removed. Joiners and marks of direction stay: they have meaning;
    3. the Unicode normal form `form` (UAX #15) is taken. "NFC" changes no meaning; "NFKC" also
       replaces variants, such as "ﬁ" by "fi", "²" by "2" and full width letters by plain ones;
       "NFD" and "NFKD" are the decomposed forms;
    4. with `spaces`, a run of spaces of any kind and tabs becomes one space, lines lose those at
       both ends, two blank lines or more become one, and the text loses all at both ends. Turn
       it off where indentation has a meaning, as in code.

    To normalize twice is to normalize once. Letters keep their case, and text that was decoded
    wrongly ("Ã©") stays as it is.

    >>> Normalize()("cafe\u0301 \u00a0 au\tlait\r\n\r\n\r\n\r\nwith soft\u00adware")
    'café au lait\n\nwith software'
    >>> Normalize("NFKC")("ﬁne №②")
    'fine No2'

    Raises:
        DefinitionError: `form` is not one of the four.
    """

    form: Literal["NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    spaces: bool = True

    version = "1"
    reads = fields(text=Text())
    writes = fields(text=Text())

    def __post_init__(self) -> None:
        if self.form not in _FORMS:
            raise DefinitionError(
                f"{self.name}: form={self.form!r}: expected one of {', '.join(_FORMS)}."
            )

    def map_row(self, row: Row, loaded: Any) -> str:
        """One text."""
        text = _INVISIBLE.sub("", _BREAK.sub("\n", row["text"]))
        text = unicodedata.normalize(self.form, text)
        if not self.spaces:
            return text
        text = _AROUND_BREAK.sub("\n", _SPACES.sub(" ", text))
        return _BREAKS.sub("\n\n", text).strip(" \n")
