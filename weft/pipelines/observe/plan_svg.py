"""A plan as an SVG file of its own: nothing is fetched, nothing runs, light and dark.

Phases are named along the left edge, stages are bands with their steps, and what is kept on disk
between two phases stands between their bands. The rows that a step passes on, as far as they
are known, stand where its edges begin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from weft.pipelines.observe.estimates import Estimate
from weft.pipelines.observe.markup import Markup, element, style_sheet
from weft.pipelines.observe.plan_cards import (
    LEGEND,
    Box,
    Card,
    boxes,
    cards,
    headline,
    outline_of,
)
from weft.pipelines.observe.report_graph import Band, Layout, layout
from weft.pipelines.observe.report_graph import Box as Place
from weft.pipelines.observe.shapes import (
    MONO_PIXELS,
    NAME_PIXELS,
    arrow,
    columns,
    cut,
    cut_middle,
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
"""Half the height of the top of a drum, which is what rows on disk look like."""

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
    """The picture of a plan."""
    stages, told = boxes(plan), cards(plan, estimates)
    steps, bands = outline_of(plan, stages)
    rail = _RAIL if plan.phases > 1 else 0.0
    placed = layout(
        steps,
        bands,
        {name: _height(card) for name, card in told.items()},
        left=rail + _GUTTER,
        least_width=_LEAST_WIDTH,
        width=lambda most: _width(told.values(), most),
    )
    width, height = placed.width + 2 * _MARGIN, placed.height + 2 * _MARGIN + _HEAD + _FOOT
    return element(
        "svg",
        style_sheet(CSS),
        element("rect", class_="page", width=px(width), height=px(height)),
        _heading(plan, placed),
        element(
            "g",
            _phases(stages, placed) if rail else None,
            [_band(stages[band.index], band, rail, placed.width) for band in placed.bands],
            [arrow(edge) for edge in placed.edges],
            [_rows(told[place.step], place, placed) for place in placed.boxes],
            [_card(told[place.step], place) for place in placed.boxes],
            transform=f"translate({px(_MARGIN)} {px(_MARGIN + _HEAD)})",
        ),
        label(_MARGIN, height - _MARGIN, LEGEND, "soft"),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {px(width)} {px(height)}",
        width=px(width),
        height=px(height),
        role="img",
        aria_label=f"The plan of {plan.name}: {headline(plan)}",
    ) + "\n"  # fmt: skip
