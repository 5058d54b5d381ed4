"""HTML and SVG that escape by default: what is not `Markup` is text, whatever stands in it.

Keys, captions and messages come from anybody. Text and attribute values are escaped, control
characters are replaced, and there is no way to pass a string through unescaped by mistake: only
`element` makes `Markup`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = frozenset({"meta", "br", "hr", "col"})


class Markup(str):
    """A string that is markup already."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]
"""What may stand in an element: text, markup, numbers, or several of them; ``None`` is nothing."""


def element(tag: str, *children: Child, **attributes: object) -> Markup:
    """An element. An attribute of ``None`` is left out; ``class_`` is ``class``.

    >>> element("p", "a < b", element("b", 1), class_="x", title='"hi"', id=None)
    '<p class="x" title="&quot;hi&quot;">a &lt; b<b>1</b></p>'
    """
    given = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    for name in (tag, *given):
        assert _NAME.fullmatch(name), name
    head = "".join(f' {n}="{escape(str(v))}"' for n, v in given.items() if v is not None)
    if tag in _VOID:
        return Markup(f"<{tag}{head}>")
    return Markup(f"<{tag}{head}>{join(children)}</{tag}>")


def join(children: Child) -> Markup:
    """Children one after the other."""
    match children:
        case None:
            return Markup("")
        case Markup():
            return children
        case str() | int() | float():
            return escape(str(children))
        case _:
            return Markup("".join(join(child) for child in children))


def escape(text: str) -> Markup:
    """Text as markup.

    >>> escape("<script>\\x00")
    '&lt;script&gt;\ufffd'
    """
    return Markup(html.escape(_CONTROL.sub("\ufffd", text), quote=True))


def style_sheet(css: str) -> Markup:
    """A style sheet of our own; never made of anybody's text."""
    assert "<" not in css
    return Markup(f"<style>{css}</style>")
