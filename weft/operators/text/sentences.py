"""Sentence boundaries as Unicode defines them: UAX #29, section 5, rules SB1 to SB998.

The rules need neither the language nor a list of abbreviations: there is a boundary in "Mr. |
Smith", and none in "e.g. this", where a small letter follows. The classes of characters are
those of the `regex` package, which follows Unicode's releases.
"""

from __future__ import annotations

import re
from itertools import pairwise

from weft.errors import DefinitionError

try:
    import regex  # type: ignore[import-untyped]
except ImportError as error:
    raise DefinitionError(
        "Sentences need the package regex. Install it: pip install 'weft[text]'"
    ) from error

_RULES = r"""
    PARA                                    # SB4: after a line break, and (SB3) not within one
  | (?: [ST] EXT                            # a sign that always ends a sentence
      | [AT] EXT                            # a full stop, which may stand for something else
        (?! [NU] )                          # SB6: 3.4
        (?! (?<= [UP LO] [EX FO]* [AT] [EX FO]* ) [UP] )  # SB7: U.S
        (?= (?: [CL] EXT )*+ (?: [SP] EXT )*+
            (?! [^LE UP LO ST AT SE CR LF]*+ [LO] ) )  # SB8: etc. and so on
    )
    (?: [CL] EXT )*+ (?: [SP] EXT )*+       # SB9, SB10: quotes, brackets and spaces belong to it
    (?: PARA | (?! [SC ST AT] ) )           # SB8a: not before a comma or another such sign; SB11
"""


def _class(match: re.Match[str]) -> str:
    """``[ST AT]`` as a class of the characters with these values of Sentence_Break."""
    return f"[{match[1]}" + "".join(rf"\p{{SB={name}}}" for name in match[2].split()) + "]"


def _compiled() -> regex.Pattern[str]:
    rules = _RULES.replace("EXT", "[EX FO]*+").replace("PARA", r"(?: \r\n | [CR LF SE] )")
    # SB5: signs that extend a character, or only format it, count as part of it.
    return regex.compile(re.sub(r"\[(\^?)([A-Z ]+)\]", _class, rules), regex.VERBOSE)


_ENDS = _compiled()


def sentences(text: str) -> list[tuple[int, int]]:
    """Where the sentences of `text` start and end, half open; together they are all of it.

    >>> text = 'He said "It is 3.4 m." She left at 6 p.m. as usual. Why?'
    >>> [text[start:stop] for start, stop in sentences(text)]
    ['He said "It is 3.4 m." ', 'She left at 6 p.m. as usual. ', 'Why?']
    """
    ends = [0, *(match.end() for match in _ENDS.finditer(text))]
    if ends[-1] < len(text):
        ends.append(len(text))
    return list(pairwise(ends))
