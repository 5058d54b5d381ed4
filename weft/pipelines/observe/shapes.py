"""What pictures of plans are drawn with: text that fits, and the ways of rows.

Text in SVG does not wrap, so it is cut to what fits by a generous width for each character;
letters of East Asian scripts and emoji are twice as wide.
"""

from __future__ import annotations

import unicodedata
from itertools import pairwise

from weft.pipelines.observe.markup import Markup, element
from weft.pipelines.observe.report_graph import Edge

NAME_PIXELS = 8.2
"""The widest that a character of 13 pixels, bold, is on average."""

MONO_PIXELS = 7.0
"""What a monospaced one of 11.5 pixels is in every font that browsers take."""

TIP = 6.0


def label(x: float, y: float, words: str, class_: str) -> Markup | None:
    """Words from `x` on, above the line at `y`."""
    return element("text", words, class_=class_, x=px(x), y=px(y)) if words else None


def cut(text: str, most: int) -> str:
    """`text` on one line, `most` characters wide.

    >>> cut("one  two", 7), cut("one two three", 7), cut("東京都庁", 7)
    ('one two', 'one tw…', '東京都…')
    """
    text = " ".join(text.split())
    if columns(text) <= most:
        return text
    while text and columns(text) > most - 1:
        text = text[:-1]
    return text + "…"


def cut_middle(text: str, most: int) -> str:
    """`text` on one line, `most` characters wide, with both its ends: of a path the name.

    >>> cut_middle("Lance('/data/2026/photos.lance')", 25)
    "Lance('…26/photos.lance')"
    """
    text = " ".join(text.split())
    if columns(text) <= most:
        return text
    head = cut(text, max(1, most // 3))[:-1]
    tail = cut(text[::-1], most - columns(head))[:-1]
    return f"{head}…{tail[::-1]}"


def columns(text: str) -> int:
    """How many narrow characters wide `text` is."""
    if text.isascii():
        return len(text)
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def arrow(edge: Edge) -> Markup:
    """Straight down from a box, then a curve to the next one, or to a place between."""
    (x, y), *rest = edge.points
    way = f"M{px(x)} {px(y)}"
    for index, ((ax, ay), (bx, by)) in enumerate(pairwise(edge.points)):
        if index % 2 == 0:
            way += f" L{px(bx)} {px(by)}"
        else:
            half = (by - ay) / 2
            way += f" C{px(ax)} {px(ay + half)} {px(bx)} {px(by - half)} {px(bx)} {px(by)}"
    tip_x, tip_y = rest[-1]
    tip = f"M{px(tip_x - 3.5)} {px(tip_y - TIP)} l3.5 {px(TIP)} l3.5 {px(-TIP)}"
    return element(
        "g",
        element("title", f"{edge.source} to {edge.target}"),
        element("path", class_="edge", d=way),
        element("path", class_="edge", d=tip),
    )


def px(value: float) -> str:
    """A length, without more digits than anybody sees."""
    return f"{value:.1f}".removesuffix(".0")
