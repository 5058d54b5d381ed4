"""Prose in several languages, and text that no model should be trained on.

The first article of the Universal Declaration of Human Rights (United Nations, 1948) is in the
public domain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.samples import Made

ARTICLE = {
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft "
    "und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with "
    "reason and conscience and should act towards one another in a spirit of brotherhood.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como "
    "están de razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués "
    "de raison et de conscience et doivent agir les uns envers les autres dans un esprit de "
    "fraternité.",
}

NEAR_COPY = ARTICLE["en"].replace("human beings", "people")

BAD = {
    "spam.txt": "BUY NOW!!! buy now buy now buy now $$$ ### click here ...\n" * 8,
    "menu.txt": "home\nabout\ncontact\nlogin\n" * 6,
}


def make() -> Made:
    """The texts, and the language of those that have one."""
    files = {f"article-{code}.txt": text.encode() for code, text in ARTICLE.items()}
    known: dict[str, dict[str, object]] = {
        f"article-{code}.txt": {"language": code} for code in ARTICLE
    }
    files["article-en-again.txt"] = NEAR_COPY.encode()
    known["article-en-again.txt"] = {"language": "en", "near_copy_of": "article-en.txt"}
    for name, text in BAD.items():
        files[name] = text.encode()
        known[name] = {"quality": "bad"}
    return files, known
