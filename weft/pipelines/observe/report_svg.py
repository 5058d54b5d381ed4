"""The picture of a plan: a box for each step, a band for each stage, rows along the edges.

Text in SVG does not wrap, so it is cut to what fits by a generous width for each character; all
of it is in the box's title, which browsers show when the mouse rests there.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from weft.pipelines.observe.markup import Markup, element
from weft.pipelines.observe.progress import number
from weft.pipelines.observe.report import Report
from weft.pipelines.observe.report_graph import Band, Box, Edge, Layout, layout

_GUTTER = 190.0
_LEAST_WIDTH = 880.0
_BAR = 96
_LINE = 17.0
_PAD = 12.0
_NAME_PIXELS = 8.2
"""The widest that a character of 13 pixels, bold, is on average; a monospaced one of 11.5
pixels is 7.0 in every font that browsers take."""

_MONO_PIXELS = 7.0


def draw(report: Report) -> Markup | None:
    """The picture of a run's plan; ``None`` if the journal has only its text."""
    if not report.steps:
        return None
    heights = {s["id"]: _height(s) for s in report.steps}
    placed = layout(report.steps, report.stages, heights, left=_GUTTER, least_width=_LEAST_WIDTH)
    steps = {s["id"]: s for s in report.steps}
    return element(
        "svg",
        [_band(report, band, placed.width) for band in placed.bands],
        [_edge(edge) for edge in placed.edges],
        [_rows_out(report, steps[box.step], box, placed) for box in placed.boxes],
        [_box(report, steps[box.step], box) for box in placed.boxes],
        viewBox=f"0 0 {placed.width:.0f} {placed.height:.0f}",
        width=f"{placed.width:.0f}",
        height=f"{placed.height:.0f}",
        role="img",
        aria_label=f"The plan of {report.about['pipeline']}: steps, stages and rows",
        style=f"min-width: {placed.width * 0.72:.0f}px",
    )


def _height(step: Mapping[str, Any]) -> float:
    lines = 1.7 if step["kind"] == "select" else 2.7  # nothing is lost in a select, nor any time
    return 2 * _PAD + _LINE * (lines + len(step["filters"]))


def _band(report: Report, band: Band, width: float) -> Markup:
    stage, busy = report.stages[band.index], report.busy(band.index)
    workers = stage["workers"]
    kind = "tasks" if workers is None else f"pool of {workers}"
    title = f"{kind}, {stage['needs']}, batches of {stage['batch_rows']} rows"
    y = band.y + 25
    return element(
        "g",
        element("title", title),
        element(
            "rect", class_="band", x=1, y=_px(band.y), width=_px(width - 2),
            height=_px(band.height), rx=10,
        ),
        _text(18, y, f"Stage {band.index + 1}", "name"),
        _text(18, y + _LINE, _cut(_workers(report, band.index, kind), 23), "soft"),
        _text(18, y + 2 * _LINE, _cut(stage["needs"], 23), "soft"),
        [] if busy is None else _busy(y + 3 * _LINE, busy),
        class_="stage",
    )  # fmt: skip


def _workers(report: Report, index: int, kind: str) -> str:
    """A pool has as many workers as planned; tasks as many as there was room for."""
    uses = report.result.get("stages", [])
    if report.stages[index]["workers"] is None and index < len(uses):
        return f"tasks, {uses[index]['workers']:g} at once"
    return kind


def _busy(y: float, busy: float) -> list[Markup | None]:
    return [
        _text(18, y, f"busy {busy:.0%}", "soft"),
        element("rect", class_="track", x=_BAR, y=_px(y - 8), width=70, height=7, rx=3.5),
        element(
            "rect", class_="busy", x=_BAR, y=_px(y - 8), width=_px(70 * busy), height=7, rx=3.5
        ),
    ]  # fmt: skip


def _edge(edge: Edge) -> Markup:
    """Straight down from a box, then a curve to the next one, or to a place between."""
    (x, y), *rest = edge.points
    way = f"M{_px(x)} {_px(y)}"
    for index, ((ax, ay), (bx, by)) in enumerate(pairwise(edge.points)):
        if index % 2 == 0:
            way += f" L{_px(bx)} {_px(by)}"
        else:
            half = (by - ay) / 2
            way += f" C{_px(ax)} {_px(ay + half)} {_px(bx)} {_px(by - half)} {_px(bx)} {_px(by)}"
    tip_x, tip_y = rest[-1]
    tip = f"M{_px(tip_x - 3.5)} {_px(tip_y - 6)} l3.5 6 l3.5 -6"
    return element(
        "g",
        element("title", f"{edge.source} to {edge.target}"),
        element("path", class_="edge", d=way),
        element("path", class_="edge", d=tip),
    )


def _rows_out(report: Report, step: Mapping[str, Any], box: Box, placed: Layout) -> Markup | None:
    """The number of rows that a step passes on, beside where its edges begin."""
    if not any(e.source == step["id"] for e in placed.edges) or not report.books:
        return None
    rows = report.count(step["id"]).emitted
    words = f"{rows:,} {'child' if step['expands'] else 'row'}"
    words += "" if rows == 1 else "ren" if step["expands"] else "s"
    return _text(box.middle + 8, box.y + box.height + 15, words, "rows")


def _box(report: Report, step: Mapping[str, Any], box: Box) -> Markup:
    line = report.count(step["id"])
    filters = [(f, report.count(f["id"])) for f in step["filters"]]
    seconds = line.seconds + sum(c.seconds for _, c in filters)
    total = sum(c.seconds for c in report.books.values())
    left, right = box.x + _PAD, box.x + box.width - _PAD
    share = seconds / total if total else 0.0
    shown = f"{share:.0%} of the time" if share >= 0.005 else ""
    wide = box.width - 2 * _PAD
    y = box.y + _PAD + 9
    name = int((wide - len(shown) * _MONO_PIXELS - 8) / _NAME_PIXELS)
    parts = [
        element("title", f"{step['id']}: {step['text']}"),
        element(
            "rect", class_=f"box{' bad' if line.failures else ''}", x=_px(box.x), y=_px(box.y),
            width=_px(box.width), height=_px(box.height), rx=7,
        ),
        _text(left, y, _cut(step["id"], name), "name"),
        _text(right, y, shown, "soft end"),
        _text(left, y + _LINE, _cut(step["text"], int(wide / _MONO_PIXELS)), "code"),
    ]  # fmt: skip
    for predicate, count in filters:
        y += _LINE
        lost = f"{count.dropped:,} dropped" if count.dropped else ""
        room = int((wide - len(lost) * _MONO_PIXELS - 8) / _MONO_PIXELS)
        parts.append(_text(left, y + _LINE, _cut(f"only {predicate['text']}", room), "code"))
        parts.append(_text(right, y + _LINE, lost, "dropped end"))
    y += 2 * _LINE
    if line.seconds and line.taken and step["kind"] != "select":
        parts.append(_text(left, y, f"{number(line.taken / line.seconds)} rows/s", "soft"))
    parts.append(_outcome(line, right, y))
    if share >= 0.005:
        parts.append(_heat(box, share))
    return element("g", parts, class_="step")


def _outcome(line: Any, x: float, y: float) -> Markup | None:
    told = [
        (f"{line.dropped:,} dropped", "dropped", line.dropped),
        (f"{line.nulled:,} nulled", "nulled", line.nulled),
        (f"{line.failures:,} failed", "failed", line.failures),
    ]
    spans = [(words, kind) for words, kind, count in told if count]
    if not spans:
        return None
    parts = [
        element("tspan", words, class_=kind, dx=None if i == 0 else 8)
        for i, (words, kind) in enumerate(spans)
    ]
    return element("text", parts, class_="soft end", x=_px(x), y=_px(y))


def _heat(box: Box, share: float) -> Markup:
    """How much of the working time went into a step: a line along the foot of its box."""
    wide = box.width - 2 * _PAD
    y = _px(box.y + box.height - 7)
    return element(
        "g",
        element("rect", class_="track", x=_px(box.x + _PAD), y=y, width=_px(wide), height=3),
        element(
            "rect", class_="busy", x=_px(box.x + _PAD), y=y, width=_px(wide * share), height=3
        ),
    )  # fmt: skip


def _text(x: float, y: float, words: str, class_: str) -> Markup | None:
    return element("text", words, class_=class_, x=_px(x), y=_px(y)) if words else None


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: max(0, most - 1)] + "…"


def _px(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
