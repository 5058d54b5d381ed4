"""A plan as a Mermaid flowchart, for pages that draw those: a README, an issue, a wiki.

Every special character of a text is written by its number, so that no text is taken for syntax,
HTML or Markdown; names of nodes are numbers of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from weft.pipelines.estimates import Estimate
from weft.pipelines.observe.plan_cards import Card, Zone, cards, headline, zones
from weft.pipelines.observe.shapes import cut
from weft.pipelines.plan import Plan

_LONGEST = 60
"""Characters of a line. Mermaid refuses texts of more than 50,000 in all."""

_SHAPES = {
    "source": ("([", "])"),
    "disk": ("[(", ")]"),
    "sink": ("[[", "]]"),
    "meet": ("{{", "}}"),
    "step": ("[", "]"),
}

_STYLES = {
    "source": "fill:#edf3fb,stroke:#33619e,color:#1d2126",
    "disk": "fill:#fcf4e2,stroke:#9a6a12,color:#1d2126",
    "sink": "fill:#eaf5ee,stroke:#2c6e49,color:#1d2126",
    "meet": "fill:#f6f0fb,stroke:#75519c,color:#1d2126",
    "step": "fill:#ffffff,stroke:#aab0b6,color:#1d2126",
    "stage": "fill:#f4f5f3,stroke:#d0d4d0,color:#1d2126",
    "phase": "fill:#fafafa,stroke:#d0d4d0,color:#5d656e",
}
"""Ink and ground of each box are both ours: legible on pages of any colour."""

_CONFIG = (
    "config:",
    "  flowchart:",
    "    wrappingWidth: 380",
    "    subGraphTitleMargin: {top: 4, bottom: 12}",
)
"""Lines as long as we make them, and titles that stand clear of what is below."""

_LONGEST_TITLE = 50
"""Mermaid does not widen a stage for its title."""

_SPECIAL = re.compile(r"[^\w ,.()/='+→…≤?·]|_|(?<=\d)[.)](?=\s|$)|(?<!\S)\+")
"""What is no plain text: also what begins a list in Markdown, as in ``1. one``, and the colon,
after which Mermaid takes numbers of characters for colours."""

_LATE = re.compile(r"(?<=:)(?=fa-)|(?<=\$)(?=\$)")
"""Inside icons (``fa:fa-car``) and formulas (``$$x$$``), which Mermaid looks for at the end."""


def plan_mermaid(plan: Plan, estimates: Mapping[str, Estimate]) -> str:
    """The flowchart of a plan, whose rows are estimated."""
    told = cards(plan, estimates)
    names = {step.id: f"n{i}" for i, step in enumerate(plan.steps)}
    lines = [
        "---",
        f'title: "{plan.name}: {headline(plan)}"',
        *_CONFIG,
        "---",
        "flowchart TB",
        *_phases(plan, told, names),
        *_edges(plan, told, names),
        *(f"classDef {kind} {style}" for kind, style in _STYLES.items()),
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text for a label between quotes: what may mean something to Mermaid is a number.

    >>> escape('a < "b" # 1. c')
    'a #60; #34;b#34; #35; 1#46; c'
    """
    apart = _LATE.sub("\u2060", text)  # a word joiner, which has no width
    return _SPECIAL.sub(lambda found: f"#{ord(found[0])};", apart)


def _phases(plan: Plan, told: Mapping[str, Card], names: Mapping[str, str]) -> Iterator[str]:
    """Stages in their phases, then what is kept on disk for later ones."""
    stages = [zone for zone in zones(plan) if zone.steps]
    for phase in range(plan.phases):
        mine = [zone for zone in stages if zone.phase == phase]
        inside = [line for z in mine if not z.disk for line in _stage(z, told, names)]
        if plan.phases > 1 and inside:
            inside = _subgraph("phase", f"Phase {phase + 1}", inside)
        yield from inside
        yield from (_node(told[s], names) for z in mine if z.disk for s in z.steps)


def _stage(zone: Zone, told: Mapping[str, Card], names: Mapping[str, str]) -> list[str]:
    title = cut(" · ".join((zone.title, *zone.notes)), _LONGEST_TITLE)
    return _subgraph("stage", title, [_node(told[s], names) for s in zone.steps])


def _subgraph(kind: str, title: str, lines: Sequence[str]) -> list[str]:
    name = "_".join(title.lower().split()[:2])
    head = f'subgraph {name}["{escape(title)}"]'
    return [head, *(f"  {line}" for line in lines), "end", f"class {name} {kind}"]


def _node(card: Card, names: Mapping[str, str]) -> str:
    lines = [f"<b>{escape(cut(card.id, _LONGEST))}</b>"]
    lines += map(escape, card.shown(_LONGEST))
    lines += [escape(cut(note, _LONGEST)) for note in card.notes]
    start, end = _SHAPES[card.kind]
    return f'{names[card.id]}{start}"{"<br/>".join(lines)}"{end}:::{card.kind}'


def _edges(plan: Plan, told: Mapping[str, Card], names: Mapping[str, str]) -> Iterator[str]:
    for step in plan.steps:
        for source in step.inputs:
            rows = escape(told[source].words)
            yield f'{names[source]} -->|"{rows}"| {names[step.id]}'
