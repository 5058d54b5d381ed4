"""A plan as an SVG file of its own: nothing is fetched, nothing runs, light and dark.

Phases are named along the left edge, stages are bands with their steps, and what is kept on disk
between two phases stands between their bands. The rows that a step passes on, as far as they
are known, stand where its edges begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from textwrap import wrap

from weft.pipelines.estimates import Estimate
from weft.pipelines.observe.markup import Markup, element, style_sheet
from weft.pipelines.observe.plan_cards import (
    LEGEND,
    Card,
    Zone,
    cards,
    headline,
    outline_of,
    zones,
)
from weft.pipelines.observe.report_graph import Band, Box, Layout, layout
from weft.pipelines.observe.shapes import (
    MONO_PIXELS,
    NAME_PIXELS,
    arrow,
    columns,
    cut,
    label,
    px,
)
from weft.pipelines.plan import Plan

_MARGIN = 24.0
_HEAD = 62.0
_FOOT = 30.0
_RAIL = 30.0
"""For the names of phases, beside the stages."""

_GUTTER = 176.0
_LEAST_WIDTH = 640.0
_PAD = 13.0
_LINE = 17.0
_LID = 6.0
"""Half the height of the lid of a drum, which is what rows on disk look like."""

_TITLE_PIXELS = 12.0
_NOTE_PIXELS = 6.8
_NOTE_COLUMNS = 22
_NARROWEST = 190.0
_WIDEST = {1: 460.0, 2: 340.0}
_WIDE = 290.0

CSS = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --ink: #1d2126; --soft: #5d656e; --line: #d9dcd8; --band: #f6f7f5;
  --card: #ffffff; --edge: #7b848d;
  --source: #33619e; --source-fill: #edf3fb; --sink: #2c6e49; --sink-fill: #eaf5ee;
  --disk: #9a6a12; --disk-fill: #fcf4e2; --meet: #75519c; --meet-fill: #f6f0fb;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171a; --ink: #e3e6e9; --soft: #9aa3ac; --line: #30363d; --band: #191d21;
    --card: #20252a; --edge: #87919b;
    --source: #83aee3; --source-fill: #1b2735; --sink: #84cba0; --sink-fill: #1a2b21;
    --disk: #dcac55; --disk-fill: #2e2617; --meet: #bfa2e0; --meet-fill: #292234;
  }
}
svg { background: var(--page); }
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans",
  sans-serif; fill: var(--ink); font-variant-numeric: tabular-nums; }
.page { fill: var(--page); }
text.title { font-size: 19px; font-weight: 650; letter-spacing: -0.01em; }
text.name { font-size: 13px; font-weight: 600; }
text.code { font: 11.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  "Liberation Mono", monospace; fill: var(--soft); }
text.soft, text.rows { fill: var(--soft); }
text.end { text-anchor: end; }
text.phase { font-size: 11.5px; font-weight: 600; fill: var(--soft); text-anchor: middle;
  letter-spacing: 0.06em; }
.rail { fill: var(--line); }
.band { fill: var(--band); stroke: var(--line); }
.card { fill: var(--card); stroke: var(--line); stroke-width: 1.2; }
.source .card { fill: var(--source-fill); stroke: var(--source); }
.sink .card { fill: var(--sink-fill); stroke: var(--sink); }
.meet .card { fill: var(--meet-fill); stroke: var(--meet); }
.disk .card { fill: var(--disk-fill); stroke: var(--disk); }
.source .name { fill: var(--source); } .sink .name { fill: var(--sink); }
.meet .name { fill: var(--meet); } .disk .name { fill: var(--disk); }
.lid { fill: none; stroke: var(--disk); stroke-width: 1.2; }
.edge { fill: none; stroke: var(--edge); stroke-width: 1.2; }
"""


def plan_svg(plan: Plan, estimates: Mapping[str, Estimate]) -> str:
    """The picture of a plan, whose rows are estimated."""
    stages, told = zones(plan), cards(plan, estimates)
    steps, bands = outline_of(plan, stages)
    rail = _RAIL if plan.phases > 1 else 0.0
    placed = layout(
        steps,
        bands,
        {name: _height(card) for name, card in told.items()},
        left=rail + _GUTTER,
        least_width=_LEAST_WIDTH,
        width_of=lambda most: _width(told.values(), most),
    )
    width, height = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN + _HEAD + _FOOT
    graph = element(
        "g",
        _phases(plan, stages, placed) if rail else None,
        [_zone(stages[band.index], band, rail, placed.width) for band in placed.bands],
        [arrow(edge) for edge in placed.edges],
        [_rows(told[box.step], box, placed) for box in placed.boxes],
        [_step(told[box.step], box) for box in placed.boxes],
        transform=f"translate({px(_MARGIN)} {px(_MARGIN + _HEAD)})",
    )
    return element(
        "svg",
        style_sheet(CSS),
        element("rect", class_="page", width=px(width), height=px(height)),
        label(_MARGIN, _MARGIN + 18, cut(plan.name, int(placed.width / _TITLE_PIXELS)), "title"),
        label(_MARGIN, _MARGIN + 40, headline(plan), "soft"),
        graph,
        label(_MARGIN, height - _MARGIN, LEGEND, "soft"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {px(width)} {px(height)}",
        width=px(width),
        height=px(height),
        role="img",
        aria_label=f"The plan of {plan.name}: {headline(plan)}",
    )


def _height(card: Card) -> float:
    lines = 0.7 + len(card.lines) + len(card.notes)
    return 2 * _PAD + _LINE * lines + (2 * _LID if card.kind == "disk" else 0)


def _width(told: Iterable[Card], most: int) -> float:
    """As wide as the longest text asks for, within reason."""
    wanted = [
        pixels * columns(text)
        for card in told
        for texts, pixels in (
            ((card.id + _tag(card),), NAME_PIXELS),
            (card.lines, MONO_PIXELS),
            (card.notes, _NOTE_PIXELS),
        )
        for text in texts
    ]
    return min(max(_NARROWEST, max(wanted) + 2 * _PAD), _WIDEST.get(most, _WIDE))


def _tag(card: Card) -> str:
    return "one to many" if card.several else ""


def _phases(plan: Plan, stages: Sequence[Zone], placed: Layout) -> list[Markup]:
    """The name of each phase, upright beside its stages."""
    found = []
    for phase in range(plan.phases):
        mine = [b for b in placed.bands if (z := stages[b.index]).phase == phase and not z.disk]
        top, bottom = mine[0].y, mine[-1].y + mine[-1].height
        middle = (top + bottom) / 2
        name = element(
            "text", f"PHASE {phase + 1}", class_="phase",
            transform=f"translate(8 {px(middle)}) rotate(-90)",
        )  # fmt: skip
        rail = element(
            "rect", class_="rail", x=15, y=px(top), width=3, height=px(bottom - top), rx=1.5
        )
        found += [name, rail]
    return found


def _zone(zone: Zone, band: Band, x: float, width: float) -> Markup:
    """A stage and what its workers are; of rows on disk, the words alone."""
    y = band.y + 25
    lines = [
        line
        for note in zone.notes
        for line in wrap(note, _NOTE_COLUMNS, max_lines=2, placeholder="…")
    ]
    notes = [label(x + 18, y + (i + 1) * _LINE, line, "soft") for i, line in enumerate(lines)]
    rect = element(
        "rect", class_="band", x=px(x + 1), y=px(band.y), width=px(width - x - 2),
        height=px(band.height), rx=10,
    )  # fmt: skip
    return element(
        "g",
        element("title", ", ".join((zone.title, *zone.notes))),
        None if zone.disk else rect,
        label(x + 18, y, zone.title, "name"),
        notes,
        class_="kept" if zone.disk else "stage",
    )


def _rows(card: Card, box: Box, placed: Layout) -> Markup | None:
    """The number of rows that a step passes on, beside where its edges begin."""
    if not any(e.source == card.id for e in placed.edges):
        return None
    return label(box.middle + 8, box.y + box.height + 15, card.words, "rows")


def _step(card: Card, box: Box) -> Markup:
    left, right = box.x + _PAD, box.x + box.width - _PAD
    wide = box.width - 2 * _PAD
    y = box.y + _PAD + 9 + (2 * _LID if card.kind == "disk" else 0)
    name = int(wide / NAME_PIXELS) - columns(_tag(card))
    parts = [
        label(left, y, cut(card.id, name), "name"),
        label(right, y, _tag(card), "soft end"),
    ]
    for line in card.shown(int(wide / MONO_PIXELS)):
        y += _LINE
        parts.append(label(left, y, line, "code"))
    for note in card.notes:
        y += _LINE
        parts.append(label(left, y, cut(note, int(wide / _NOTE_PIXELS)), "soft"))
    shape = _drum(box) if card.kind == "disk" else _card(card, box)
    return element("g", element("title", card.tip), shape, parts, class_=f"step {card.kind}")


def _card(card: Card, box: Box) -> Markup:
    return element(
        "rect", class_="card", x=px(box.x), y=px(box.y), width=px(box.width),
        height=px(box.height), rx={"source": 16, "sink": 3}.get(card.kind, 7),
    )  # fmt: skip


def _drum(box: Box) -> list[Markup]:
    """The shape that stands for a disk."""
    x, y, wide, lid = px(box.x), box.y + _LID, px(box.width), px(_LID)
    arc = f"a{px(box.width / 2)} {lid} 0 0"
    side = px(box.height - 2 * _LID)
    body = f"M{x} {px(y)} {arc} 1 {wide} 0 v{side} {arc} 1 -{wide} 0 z"
    return [
        element("path", class_="card", d=body),
        element("path", class_="lid", d=f"M{x} {px(y)} {arc} 0 {wide} 0"),
    ]
