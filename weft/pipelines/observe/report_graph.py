"""Where the boxes of a plan's picture stand, by the way of Sugiyama, Tagawa and Toda (1981).

Steps get layers so that edges go down and every stage has layers of its own. An edge over
several layers gets a narrow place in each, so it runs beside boxes, never through them. Layers
are ordered by the mean place of their neighbours, so that few edges cross, and placed as near
to them as the order and the widths allow (isotonic regression). Nothing overlaps, by
construction.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

GAP_X = 26.0
GAP_Y = 38.0
STEM = 20.0
"""Below every layer edges run straight for so long: room for the number of rows beside them."""

LANDING = 7.0
"""Above a box they run straight again, so that a tip points down."""

BAND_TOP = 14.0
BAND_BOTTOM = STEM + 5.0
"""From the lowest boxes of a stage to its border: the number of rows stands inside."""

BAND_GAP = 12.0
LEAST_BAND = 92.0
"""Four lines of text of a stage."""

_LANE = 30.0
"""The width of a long edge's place in a layer: a row count fits beside it only under a box."""

_SLOPE = 12.0
"""Pixels aside for one more pixel down."""

_DEEPEST = 44.0

_SWEEPS = 8

Node = str | tuple[str, str, int]
"""A step, or the place of an edge (from, to) in a layer between."""


@dataclass(frozen=True)
class Box:
    """A step's place."""

    step: str
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        """Where edges meet it."""
        return self.x + self.width / 2


@dataclass(frozen=True)
class Edge:
    """The way of rows from one step to another: straight pieces and curves between them.

    The points are pairs: a straight piece from each even one to the next, a curve from there on.
    """

    source: str
    target: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Band:
    """A stage's place: all of the width, from `y` on."""

    index: int
    y: float
    height: float


@dataclass(frozen=True)
class Layout:
    """The picture: boxes, edges and stages, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    bands: tuple[Band, ...]


def by_most(most: int) -> float:
    """How wide boxes are if a layer has `most` of them: one is wide, three and more are narrow."""
    return {1: 540.0, 2: 320.0}.get(most, 250.0)


def layout(
    steps: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    heights: Mapping[str, float],
    *,
    left: float,
    least_width: float,
    width_of: Callable[[int], float] = by_most,
) -> Layout:
    """Place the steps of an outline; `heights` are of their boxes, `left` is kept free.

    All boxes are equally wide, by the most boxes that there are in one layer.
    """
    layer = _layers(steps, stages)
    rows = _rows(steps, layer)
    _order(rows, steps)
    width = width_of(max(sum(isinstance(n, str) for n in row) for row in rows))
    middles, extent = _place(rows, steps, width)
    wide = max(extent, least_width - left - GAP_X)
    shift = left + (wide - extent) / 2
    middles = {n: m + shift for n, m in middles.items()}
    drops = _drops(rows, steps, middles)
    tops, bands, height = _vertical(rows, layer, stages, heights, drops)
    boxes = tuple(
        Box(n, middles[n] - width / 2, tops[i], width, heights[n])
        for i, row in enumerate(rows)
        for n in row
        if isinstance(n, str)
    )
    bottoms = [top + _tallest(row, heights) for top, row in zip(tops, rows, strict=True)]
    way = _Ways(layer, middles, tops, bottoms)
    placed = {b.step: b for b in boxes}
    edges = tuple(
        way(placed[source], placed[step["id"]]) for step in steps for source in step["inputs"]
    )
    return Layout(left + wide + GAP_X, height, boxes, edges, bands)


def _layers(
    steps: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]
) -> dict[str, int]:
    """Each step as high as its inputs allow; what only feeds others is moved down to them."""
    found: dict[str, int] = {}
    floor = 0
    for stage in stages:
        inside = [s for s in steps if s["id"] in stage["steps"]]
        for step in inside:
            found[step["id"]] = max([floor, *(found[i] + 1 for i in step["inputs"])])
        _lower(inside, found)
        floor = max(found.values(), default=-1) + 1
    return found


def _lower(inside: Sequence[Mapping[str, Any]], found: dict[str, int]) -> None:
    """Move steps without inputs, and chains that begin with them, down to what they feed."""
    feeds: dict[str, list[str]] = {s["id"]: [] for s in inside}
    loose: set[str] = set()
    for step in inside:
        for source in step["inputs"]:
            feeds.get(source, []).append(step["id"])
    for step in inside:
        if all(i in loose and feeds[i] == [step["id"]] for i in step["inputs"]):
            loose.add(step["id"])
    for step in reversed(inside):
        if step["id"] in loose and feeds[step["id"]]:
            found[step["id"]] = min(found[s] for s in feeds[step["id"]]) - 1


def _rows(steps: Sequence[Mapping[str, Any]], layer: Mapping[str, int]) -> list[list[Node]]:
    """The steps of each layer, and the long edges that run through it."""
    rows: list[list[Node]] = [[] for _ in range(max(layer.values()) + 1)]
    for step in steps:
        rows[layer[step["id"]]].append(step["id"])
        for source in step["inputs"]:
            for between in range(layer[source] + 1, layer[step["id"]]):
                rows[between].append((source, step["id"], between))
    return rows


def _neighbours(
    rows: list[list[Node]], steps: Sequence[Mapping[str, Any]]
) -> tuple[dict[Node, list[Node]], dict[Node, list[Node]]]:
    """What stands above and what stands below each node."""
    above: dict[Node, list[Node]] = {n: [] for row in rows for n in row}
    below: dict[Node, list[Node]] = {n: [] for row in rows for n in row}
    lanes = [n for row in rows for n in row if not isinstance(n, str)]
    for step in steps:
        for source in step["inputs"]:
            way = [source, *(n for n in lanes if n[:2] == (source, step["id"])), step["id"]]
            for a, b in pairwise(way):
                above[b].append(a)
                below[a].append(b)
    return above, below


def _order(rows: list[list[Node]], steps: Sequence[Mapping[str, Any]]) -> None:
    """Sort each layer by the mean place of its neighbours, from above and from below.

    It is tried from the order given and from its mirror image; of all orders on the way, the
    one with the fewest crossings is kept.
    """
    above, below = _neighbours(rows, steps)
    best, fewest = [row[:] for row in rows], _crossings(rows, below)
    for start in (rows, [row[::-1] for row in rows]):
        now = [row[:] for row in start]
        for sweep in range(_SWEEPS):
            _sweep(now, sweep, above, below)
            if (crossings := _crossings(now, below)) < fewest:
                best, fewest = [row[:] for row in now], crossings
    rows[:] = best


def _sweep(
    rows: list[list[Node]],
    number: int,
    above: Mapping[Node, list[Node]],
    below: Mapping[Node, list[Node]],
) -> None:
    """Sort all layers once: down or up, and equal means one way round or the other."""
    down = number % 2 == 0
    near = above if down else below
    places = {n: float(i) for row in rows for i, n in enumerate(row)}
    for row in rows if down else reversed(rows):
        means = {n: _mean([places[m] for m in near[n]], places[n]) for n in row}
        if number % 4 > 1:
            row.reverse()
        row.sort(key=means.__getitem__)
        places |= {n: float(i) for i, n in enumerate(row)}
    _swap(rows, above, below)


def _swap(
    rows: list[list[Node]], above: Mapping[Node, list[Node]], below: Mapping[Node, list[Node]]
) -> None:
    """Swap neighbours whose edges cross less the other way round, until there are none."""
    places = {n: i for row in rows for i, n in enumerate(row)}

    def crossings(a: Node, b: Node) -> int:
        return sum(
            places[c] > places[d]
            for near in (above, below)
            for c in near[a]
            for d in near[b]
        )  # fmt: skip

    better = True
    while better:
        better = False
        for row in rows:
            for i in range(len(row) - 1):
                a, b = row[i : i + 2]
                if crossings(a, b) > crossings(b, a):
                    row[i : i + 2] = b, a
                    places[a], places[b] = i + 1, i
                    better = True


def _crossings(rows: list[list[Node]], below: Mapping[Node, list[Node]]) -> int:
    """How many pairs of edges cross: of the ends below, those out of order."""
    found = 0
    for row, following in pairwise(rows):
        places = {n: i for i, n in enumerate(following)}
        ends: list[int] = []
        for node in row:
            new = sorted(places[n] for n in below[node])
            found += sum(len(ends) - bisect_right(ends, place) for place in new)
            for place in new:
                insort(ends, place)
    return found


def _place(
    rows: list[list[Node]], steps: Sequence[Mapping[str, Any]], width: float
) -> tuple[dict[Node, float], float]:
    """The middles of all nodes, the leftmost border at 0, and the whole width."""
    above, below = _neighbours(rows, steps)
    middles: dict[Node, float] = {n: 0.0 for row in rows for n in row}
    for sweep in range(_SWEEPS + 1):
        down = sweep % 2 == 0
        near = above if down else below
        for row in rows if down else reversed(rows):
            wanted = [_mean([middles[m] for m in near[n]], middles[n]) for n in row]
            apart = [_half(a, width) + GAP_X + _half(b, width) for a, b in pairwise(row)]
            middles |= dict(zip(row, _separate(wanted, apart), strict=True))
    least = min(middles[n] - _half(n, width) for n in middles)
    most = max(middles[n] + _half(n, width) for n in middles)
    return {n: m - least for n, m in middles.items()}, most - least


def _separate(wanted: list[float], apart: list[float]) -> list[float]:
    """The places nearest to those wanted, by least squares, that are `apart` or more.

    >>> _separate([0.0, 0.0, 9.0], [2.0, 2.0])
    [-1.0, 1.0, 9.0]
    """
    offsets = [0.0]
    for distance in apart:
        offsets.append(offsets[-1] + distance)
    pools: list[tuple[float, int]] = []  # mean, how many
    for want, offset in zip(wanted, offsets, strict=True):
        mean, count = want - offset, 1
        while pools and pools[-1][0] > mean:
            other, many = pools.pop()
            mean, count = (mean * count + other * many) / (count + many), count + many
        pools.append((mean, count))
    means = [mean for mean, count in pools for _ in range(count)]
    return [m + o for m, o in zip(means, offsets, strict=True)]


def _drops(
    rows: list[list[Node]], steps: Sequence[Mapping[str, Any]], middles: Mapping[Node, float]
) -> list[float]:
    """Room below each layer, so that an edge that goes far aside is no flat line."""
    _, below = _neighbours(rows, steps)
    aside = [max((abs(middles[a] - middles[b]) for a in row for b in below[a]), default=0.0)
             for row in rows]  # fmt: skip
    return [min(_DEEPEST, distance / _SLOPE) for distance in aside]


def _vertical(
    rows: list[list[Node]],
    layer: Mapping[str, int],
    stages: Sequence[Mapping[str, Any]],
    heights: Mapping[str, float],
    drops: Sequence[float],
) -> tuple[list[float], tuple[Band, ...], float]:
    """The top of each layer, the stages, and the whole height."""
    tops = [0.0] * len(rows)
    bands = []
    y = 1.0
    for index, stage in enumerate(stages):
        inside = sorted({layer[s] for s in stage["steps"]})
        tall = sum(_tallest(rows[i], heights) for i in inside)
        tall += sum(GAP_Y + drops[i] for i in inside[:-1])
        last = index == len(stages) - 1
        height = max(LEAST_BAND, BAND_TOP + tall + (BAND_TOP if last else BAND_BOTTOM))
        bands.append(Band(index, y, height))
        top = y + BAND_TOP
        for i in inside:
            tops[i] = top
            top += _tallest(rows[i], heights) + GAP_Y + drops[i]
        y += height + BAND_GAP + sum(drops[i] for i in inside[-1:])
    return tops, tuple(bands), bands[-1].y + bands[-1].height + 1.0


@dataclass(frozen=True)
class _Ways:
    """What the ways of edges depend on: layers and where they stand."""

    layer: Mapping[str, int]
    middles: Mapping[Node, float]
    tops: Sequence[float]
    bottoms: Sequence[float]

    def __call__(self, start: Box, end: Box) -> Edge:
        first, last = self.layer[start.step], self.layer[end.step]
        foot = (start.middle, start.y + start.height)
        points = [foot, (start.middle, self.bottoms[first] + STEM)]
        for between in range(first + 1, last):
            x = self.middles[(start.step, end.step, between)]
            points += [(x, self.tops[between]), (x, self.bottoms[between] + STEM)]
        tip = (end.middle, end.y)
        return Edge(start.step, end.step, (*points, (end.middle, end.y - LANDING), tip))


def _tallest(row: Sequence[Node], heights: Mapping[str, float]) -> float:
    return max(heights[n] for n in row if isinstance(n, str))


def _half(node: Node, width: float) -> float:
    return (width if isinstance(node, str) else _LANE) / 2


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
