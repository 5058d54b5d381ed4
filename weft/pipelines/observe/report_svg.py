"""The picture of a plan: a box for each step, a band for each stage, rows along the edges.

Text is cut to what fits; all of it is in the box's title, which browsers show when the mouse
rests there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from weft.pipelines.observe.markup import Markup, element
from weft.pipelines.observe.progress import number
from weft.pipelines.observe.report import Report
from weft.pipelines.observe.report_graph import Band, Box, Layout, layout
from weft.pipelines.observe.shapes import MONO_PIXELS, NAME_PIXELS, arrow, cut, label, px

_GUTTER = 190.0
_LEAST_WIDTH = 880.0
_BAR = 96
_LINE = 17.0
_PAD = 12.0


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
        [arrow(edge) for edge in placed.edges],
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
            "rect", class_="band", x=1, y=px(band.y), width=px(width - 2),
            height=px(band.height), rx=10,
        ),
        label(18, y, f"Stage {band.index + 1}{_phase(report, stage)}", "name"),
        label(18, y + _LINE, cut(_workers(report, band.index, kind), 23), "soft"),
        label(18, y + 2 * _LINE, cut(stage["needs"], 23), "soft"),
        [] if busy is None else _busy(y + 3 * _LINE, busy),
        class_="stage",
    )  # fmt: skip


def _phase(report: Report, stage: Mapping[str, Any]) -> str:
    """The phase of a stage, in runs of several; journals of old do not name it."""
    several = any(s.get("phase", 0) for s in report.stages)
    return f", phase {stage['phase'] + 1}" if several else ""


def _workers(report: Report, index: int, kind: str) -> str:
    """A pool has as many workers as planned; tasks as many as there was room for."""
    uses = report.result.get("stages", [])
    if report.stages[index]["workers"] is None and index < len(uses):
        return f"tasks, {uses[index]['workers']:g} at once"
    return kind


def _busy(y: float, busy: float) -> list[Markup | None]:
    return [
        label(18, y, f"busy {busy:.0%}", "soft"),
        element("rect", class_="track", x=_BAR, y=px(y - 8), width=70, height=7, rx=3.5),
        element(
            "rect", class_="busy", x=_BAR, y=px(y - 8), width=px(70 * busy), height=7, rx=3.5
        ),
    ]  # fmt: skip


def _rows_out(report: Report, step: Mapping[str, Any], box: Box, placed: Layout) -> Markup | None:
    """The number of rows that a step passes on, beside where its edges begin."""
    if not any(e.source == step["id"] for e in placed.edges) or not report.books:
        return None
    rows = report.count(step["id"]).emitted
    words = f"{rows:,} {'child' if step['expands'] else 'row'}"
    words += "" if rows == 1 else "ren" if step["expands"] else "s"
    return label(box.middle + 8, box.y + box.height + 15, words, "rows")


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
    name = int((wide - len(shown) * MONO_PIXELS - 8) / NAME_PIXELS)
    parts = [
        element("title", f"{step['id']}: {step['text']}"),
        element(
            "rect", class_=f"box{' bad' if line.failures else ''}", x=px(box.x), y=px(box.y),
            width=px(box.width), height=px(box.height), rx=7,
        ),
        label(left, y, cut(step["id"], name), "name"),
        label(right, y, shown, "soft end"),
        label(left, y + _LINE, cut(step["text"], int(wide / MONO_PIXELS)), "code"),
    ]  # fmt: skip
    for predicate, count in filters:
        y += _LINE
        lost = f"{count.dropped:,} dropped" if count.dropped else ""
        room = int((wide - len(lost) * MONO_PIXELS - 8) / MONO_PIXELS)
        parts.append(label(left, y + _LINE, cut(f"only {predicate['text']}", room), "code"))
        parts.append(label(right, y + _LINE, lost, "dropped end"))
    y += 2 * _LINE
    if line.seconds and line.taken and step["kind"] != "select":
        parts.append(label(left, y, f"{number(line.taken / line.seconds)} rows/s", "soft"))
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
    return element("text", parts, class_="soft end", x=px(x), y=px(y))


def _heat(box: Box, share: float) -> Markup:
    """How much of the working time went into a step: a line along the foot of its box."""
    wide = box.width - 2 * _PAD
    y = px(box.y + box.height - 7)
    return element(
        "g",
        element("rect", class_="track", x=px(box.x + _PAD), y=y, width=px(wide), height=3),
        element(
            "rect", class_="busy", x=px(box.x + _PAD), y=y, width=px(wide * share), height=3
        ),
    )  # fmt: skip
