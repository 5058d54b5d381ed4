"""Which language a text is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weft.errors import DefinitionError, nearest
from weft.pipelines.fields import fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.resources import Resources
from weft.pipelines.types import Float32, Text

try:
    import lingua
except ImportError as error:
    raise DefinitionError(
        "text.Language needs the package lingua-language-detector. "
        "Install it: pip install 'weft[text]'"
    ) from error

_CODES = {language.iso_code_639_1.name.lower(): language for language in lingua.Language.all()}


@dataclass(frozen=True)
class Language(Map):
    """Tell the language of a text, with Lingua's models of letter sequences.

    Reads `text`. Writes:

    * `language`: the code of ISO 639-1, such as "en"; null where there is nothing to tell it by
      (no letters, or several languages are equally likely);
    * `language_confidence`: 0..1, how likely it is among the languages asked for; 0 where
      `language` is null. A few words are told apart badly: filter on it.

    `languages` are the codes to choose among; none means all that Lingua knows, 75. Naming the
    few that can occur is more accurate and faster. Text in none of them is given the nearest,
    so keep more languages than you want and filter. Mixed text is given one language.

    Lingua (Peter M. Stahl) weighs sequences of 1 to 5 letters in short text and of 3 in text of
    120 characters and more. The models are part of the package; nothing is downloaded.

    >>> Language(("en", "fr"))("Tous les êtres humains naissent libres et égaux.")["language"]
    'fr'
    >>> Language(("en", "fr"))("12:30")
    {'language': None, 'language_confidence': 0.0}

    Raises:
        DefinitionError: an unknown code, fewer than two, or Lingua is not installed.
    """

    languages: tuple[str, ...] = ()

    version = "1"
    resources = Resources(memory="1 GiB")  # all models, once a text in Latin letters is short
    reads = fields(text=Text())
    writes = fields(language=Text() | None, language_confidence=Float32())

    def __post_init__(self) -> None:
        # The order does not matter, so it is not part of the identity.
        object.__setattr__(self, "languages", tuple(sorted(set(self.languages))))
        for code in self.languages:
            if code not in _CODES:
                raise DefinitionError(
                    f"{self.name}: languages has {code!r}: expected ISO 639-1 codes that Lingua "
                    f"knows, in small letters, such as 'en'. {nearest(code, _CODES)}".rstrip()
                )
        if len(self.languages) == 1:
            raise DefinitionError(
                f"{self.name}: languages={self.languages}: expected two at least, to choose among."
            )

    def setup(self, device: str) -> lingua.LanguageDetector:
        """Lingua's detector. It loads the models of a script when it meets the first text in it."""
        chosen = [_CODES[code] for code in self.languages or _CODES]
        return lingua.LanguageDetectorBuilder.from_languages(*chosen).build()

    def map_row(self, row: Row, loaded: lingua.LanguageDetector) -> dict[str, Any]:
        """One text; on one core, Lingua's batch methods would take all of them."""
        first, second = loaded.compute_language_confidence_values(row["text"])[:2]
        if first.value == second.value:
            return {"language": None, "language_confidence": 0.0}
        return {
            "language": first.language.iso_code_639_1.name.lower(),
            "language_confidence": first.value,
        }
