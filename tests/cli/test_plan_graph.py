"""`weft plan --graph`: what is drawn of any plan, as text and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft as w
from weft.connectors import Arrow, Memory
from weft.operators.tabular import Sort
from weft.pipelines.compile import compile_plan
from weft.pipelines.estimates import estimate
from weft.pipelines.observe.plan_mermaid import escape, plan_mermaid
from weft.pipelines.observe.plan_svg import plan_svg
from weft.pipelines.observe.report_graph import layout
from weft.pipelines.observe.shapes import columns, cut, cut_middle
from weft.pipelines.plan import Plan, Stage
from weft.pipelines.resources import Cluster, Machine, Resources

HOSTILE = '"<script>alert(1)</script>` 1. *x* _y_ [a](b) {{c}} |d| #quot; ---> %% 東京都庁'
CANARY = "canary-8f3a"
SVG = "{http://www.w3.org/2000/svg}"


@w.operator(version="1", resources=w.Resources(workers=2, memory="8 GiB"))
def model(n: int) -> float:
    return n / 2


def plan_of(make: Callable[[], Any]) -> Plan:
    @w.pipeline
    def made():
        return make()

    return compile_plan(made().graph, Cluster((Machine(cpus=8, memory=2**36),)))


def meeting() -> Any:
    """Two sources, a join, a group, a union and three sinks, in three phases."""
    labels = [{"id": str(i), "n": i, "label": "a" * i} for i in range(1000)]
    left = w.read(Arrow(labels, key="id")).where(pl.col("label") != HOSTILE).apply(model)
    right = w.read(Arrow([{"id": str(i), "weight": float(i)} for i in range(50)], key="id"))
    met = left.join(right.group("id", weight=pl.col("weight").max()), on="id", how="left")
    few = left.where(pl.col("n") < 10)
    return (
        met.write(Memory(f"https://me:{CANARY}@h/a?sig={CANARY}")),
        met.group("label", n=pl.len(), mean=pl.col("model").mean(), m=pl.col("n").max(),
                  k=pl.col("n").min()).write(Memory("b" * 300)),
        met.select("id", "n").union(few.select("id", "n")).write(Memory("c")),
    )  # fmt: skip


def one() -> Any:
    """A single step between a source and a sink, without an end to its names."""
    rows = w.read(Arrow([{"n": 1}])).with_columns(
        **{f"c{i:03}": pl.col("n") + i for i in range(200)}
    )
    return rows.write(Memory("d"))


@pytest.fixture(scope="module", params=[meeting, one])
def plan(request: pytest.FixtureRequest) -> Plan:
    return plan_of(request.param)


def test_the_svg_is_well_formed_and_has_every_step_and_edge(plan: Plan) -> None:
    root = ET.fromstring(plan_svg(plan, estimate(plan)))
    assert root.tag == f"{SVG}svg"
    tips = [t.text or "" for t in root.iter(f"{SVG}title")]
    for step in plan.steps:
        assert sum(t.startswith(f"{step.id}: ") for t in tips) == 1
        for source in step.inputs:
            assert f"{source} to {step.id}" in tips
    names = ["".join(t.itertext()) for t in root.iter(f"{SVG}text") if t.get("class") == "name"]
    assert [n for n in names if n.startswith("Stage ")] == [
        f"Stage {i + 1}" for i in range(len(plan.stages))
    ]
    phases = [t for t in root.iter(f"{SVG}text") if t.get("class") == "phase"]
    assert len(phases) == (plan.phases if plan.phases > 1 else 0)


def test_the_svg_runs_and_fetches_nothing_and_tells_no_secret(plan: Plan) -> None:
    text = plan_svg(plan, estimate(plan))
    root = ET.fromstring(text)
    assert {e.tag.removeprefix(SVG) for e in root.iter()} <= {
        "svg", "style", "g", "title", "rect", "path", "text",
    }  # fmt: skip
    for element in root.iter():
        assert not any(name.startswith("on") or "href" in name for name in element.attrib)
    assert "url(" not in text
    assert "@import" not in text
    assert CANARY not in text
    assert CANARY not in plan_mermaid(plan, estimate(plan))


def test_rows_stand_where_edges_begin() -> None:
    plan = plan_of(meeting)
    root = ET.fromstring(plan_svg(plan, estimate(plan)))
    rows = [t.text for t in root.iter(f"{SVG}text") if t.get("class") == "rows"]
    assert len(rows) == sum(bool(plan.consumers(s.id)) for s in plan.steps)
    assert "50 rows" in rows
    assert "≤ 1,000 rows" in rows


def test_a_stage_that_only_takes_up_held_rows_is_drawn_empty() -> None:
    plan = plan_of(one)
    empty = Stage((), Resources())
    plan = replace(plan, stages=(empty, *plan.stages, replace(empty, phase=1)))
    root = ET.fromstring(plan_svg(plan, estimate(plan)))
    bands = [r for r in root.iter(f"{SVG}rect") if r.get("class") == "band"]
    assert len(bands) == len(plan.stages)
    assert plan_mermaid(plan, estimate(plan)).count("subgraph stage") == len(plan.stages) - 2


def placed(*steps: tuple[str, tuple[str, ...]]) -> dict[str, tuple[float, float]]:
    """Where the boxes of steps and their inputs stand, all in one stage."""
    told = [{"id": name, "inputs": list(inputs)} for name, inputs in steps]
    heights = {name: 60.0 for name, _ in steps}
    found = layout(told, [{"steps": list(heights)}], heights, left=0, least_width=0)
    return {box.step: (box.middle, box.y) for box in found.boxes}


def test_edges_that_need_not_cross_do_not() -> None:
    at = placed(("a", ()), ("b", ()), ("x", ("b",)), ("y", ("a",)))
    assert (at["a"] < at["b"]) == (at["y"] < at["x"])


def test_neighbours_are_swapped_where_that_takes_a_crossing_away() -> None:
    """Sorting by means alone leaves one here: found among random graphs, the smallest."""
    feeds = {"a": "", "b": "a", "c": "b", "d": "ab", "e": "ad", "f": "be", "g": "cd"}
    steps = [{"id": name, "inputs": list(inputs)} for name, inputs in feeds.items()]
    found = layout(steps, [{"steps": list(feeds)}], dict.fromkeys(feeds, 60.0),
                   left=0, least_width=0)  # fmt: skip
    curves = [(e.points[i], e.points[i + 1]) for e in found.edges
              for i in range(1, len(e.points) - 1, 2)]  # fmt: skip
    for (a, to_a), (b, to_b) in combinations(curves, 2):
        crossed = (a[0] - b[0]) * (to_a[0] - to_b[0]) < 0
        assert not (crossed and a[1] == b[1])  # between the same layers


def test_a_source_stands_by_what_it_feeds() -> None:
    at = placed(("a", ()), ("b", ()), ("c", ("b",)), ("d", ("a",)), ("e", ("d",)),
                ("join", ("e", "c")))  # fmt: skip
    levels = sorted({y for _, y in at.values()})
    assert [levels.index(at[n][1]) for n in ("a", "d", "e", "b", "c", "join")] == [0, 1, 2, 1, 2, 3]


def test_what_waits_on_disk_is_said_in_words() -> None:
    def sorted_and_held() -> Any:
        rows = w.read(Arrow([{"k": i % 2, "n": i} for i in range(10)]))
        first = rows.apply(Sort("n", descending=True, limit=3))
        total = rows.group(n=pl.len())
        return first.write(Memory("a")), total.write(Memory("b"))

    plan = plan_of(sorted_and_held)
    text = " ".join(ET.fromstring(plan_svg(plan, estimate(plan))).itertext())
    assert "sorted by n descending" in text
    assert "first 3 of each unit" in text
    assert "all rows together" in text
    assert re.search(r"about \d+ B", text)


# --- Mermaid. Each label was compared with what Mermaid 11.17.2 shows of it in a browser, for 1,800
# labels made at random of its own syntax; here its grammar stands in for it.

TEXT = r'"(?:[^"#<]|[#]\d+;|</?b>|<br/>)*"'
LINE = re.compile(
    rf"""\s*(?:
    n\d+(?:\(\[{TEXT}\]\)|\[\({TEXT}\)\]|\[\[{TEXT}\]\]|\{{\{{{TEXT}\}}\}}|\[{TEXT}\]):::[a-z]+
    |n\d+\ -->\|{TEXT}\|\ n\d+
    |subgraph\ \w+\[{TEXT}\]
    |end
    |class\ \w+\ [a-z]+
    |classDef\ [a-z]+\ [a-z#0-9:,]+
    )""",
    re.VERBOSE,
)


def test_mermaid_is_a_flowchart_of_all_steps(plan: Plan) -> None:
    text = plan_mermaid(plan, estimate(plan))
    _, front, chart = text.split("---\n", 2)
    assert front.startswith(f'title: "{plan.name}: ')
    first, *lines = chart.splitlines()
    assert first == "flowchart TB"
    for line in lines:
        assert LINE.fullmatch(line), line
    assert sum(" --> " in x or " -->|" in x for x in lines) == sum(
        len(s.inputs) for s in plan.steps
    )
    made = [x for x in lines if ":::" in x]
    assert len(made) == len(plan.steps)
    depth = 0
    for line in lines:
        depth += line.strip().startswith("subgraph") - (line.strip() == "end")
        assert depth >= 0
    assert depth == 0
    assert len(text) < 50_000


@given(st.text())
def test_no_text_is_syntax(text: str) -> None:
    found = escape(text)
    assert not re.search(r'["<>`*_|\[\]{}&$%~@;:\\-]', re.sub(r"#\d+;", "", found))
    back = re.sub(r"#(\d+);", lambda m: chr(int(m[1])), found).replace("\u2060", "")
    assert back == text.replace("\u2060", "")


@given(st.text(), st.integers(1, 40))
def test_what_is_cut_fits(text: str, most: int) -> None:
    for shorten in (cut, cut_middle):
        found = shorten(text, most)
        assert columns(found) <= most
        assert found == " ".join(text.split()) or "…" in found


# --- the command


def test_a_file_is_written_and_named(weft, answer, photos: Path, work: Path) -> None:
    text = weft("plan", "tiny.py:small", "--graph", "a.svg", code=10).stdout
    assert text.startswith("small: units of ")
    assert text.endswith(f"\nDrawn: {work}/a.svg\n")
    assert ET.parse(work / "a.svg").getroot().tag == f"{SVG}svg"
    told = answer("plan", "tiny.py:small", "--graph", "a.mmd", code=10)
    assert told["graph"] == f"{work}/a.mmd"
    assert "11 rows" in (work / "a.mmd").read_text()


def test_mermaid_is_printed_alone(weft, answer, photos: Path, work: Path) -> None:
    text = weft("plan", "tiny.py:twice", "--graph", "mermaid", code=10).stdout
    assert text.startswith('---\ntitle: "twice: 1 source, 2 sinks · ')
    assert text.splitlines()[-1].startswith("classDef ")
    assert answer("plan", "tiny.py:twice", "--graph", "mermaid", code=10)["graph"] == text.rstrip()


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ("a.png", "--graph a.png: expected a file that ends in .svg or .mmd, or the word mermaid"),
        ("svg", "--graph svg: expected a file that ends in .svg or .mmd"),
        ("no/a.svg", "no/a.svg: there is no folder "),
    ],
)
def test_other_pictures_are_refused(weft, photos: Path, given_: str, message: str) -> None:
    assert message in weft("plan", "tiny.py:small", "--graph", given_, code=2).stderr


# --- in a browser

CHROMIUM = shutil.which("chromium")

GEOMETRY = """
addEventListener('load', () => {
  const rect = e => { const r = e.getBoundingClientRect();
    return [r.left, r.top, r.right, r.bottom, e.textContent.slice(0, 60)]; };
  const all = (s, of = document) => [...of.querySelectorAll(s)];
  const ends = p => [0, 1].map(t => { const q = p.getPointAtLength(t * p.getTotalLength());
    const m = p.getScreenCTM(); return [q.x * m.a + m.e, q.y * m.d + m.f]; });
  const group = g => ({box: rect(g.querySelector('rect, path')), text: all('text', g).map(rect)});
  const out = {
    steps: all('g.step').map(group), stages: all('g.stage').map(group),
    kept: all('g.kept').map(g => all('text', g).map(rect)),
    rows: all('text.rows').map(rect), all: all('text').map(rect),
    edges: all('path.edge').filter((_, i) => i % 2 == 0).map(ends),
    whole: rect(document.querySelector('svg')),
  };
  document.body.textContent = JSON.stringify(out);
});
"""

Rect = list[Any]


def inside(a: Rect, b: Rect) -> bool:
    return a[0] > b[0] - 1 and a[1] > b[1] - 1 and a[2] < b[2] + 1 and a[3] < b[3] + 1


def apart(a: Rect, b: Rect) -> bool:
    """No more than a pixel of their line boxes, which are higher than their letters, overlaps."""
    return a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1


def all_apart(rects: list[Rect]) -> bool:
    return all(apart(a, b) for i, a in enumerate(rects) for b in rects[:i])


def look(svg: str, folder: Path) -> dict[str, Any]:
    """Where everything in a picture stands."""
    page = folder / "page.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><script>{GEOMETRY}</script>{svg}")
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--disable-background-networking", f"--user-data-dir={folder}/user",
        "--window-size=1800,2400", page.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (told,) = re.findall(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    found: dict[str, Any] = json.loads(told.replace("&lt;", "<").replace("&gt;", ">")
                                       .replace("&amp;", "&"))  # fmt: skip
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install)")
def test_in_a_browser_text_fits_and_nothing_overlaps(plan: Plan, work: Path) -> None:
    found = look(plan_svg(plan, estimate(plan)), work)
    boxes = [s["box"] for s in found["steps"]]
    assert len(boxes) == len(plan.steps)
    assert len(found["edges"]) == sum(len(s.inputs) for s in plan.steps)
    assert all_apart(boxes)
    for group in found["steps"] + found["stages"]:
        assert group["text"]
        for text in group["text"]:
            assert inside(text, group["box"]), (text, group["box"])
    assert all_apart(found["all"])
    marks = found["rows"] + [t for s in found["stages"] for t in s["text"]]
    marks += [t for texts in found["kept"] for t in texts]
    assert all(apart(m, b) for m in marks for b in boxes)
    assert all(inside(t, found["whole"]) for t in found["all"])
    bands = sorted((s["box"] for s in found["stages"]), key=lambda b: b[1])
    assert all(a[3] < b[1] for a, b in pairwise(bands))
    for (_, top), (_, bottom) in found["edges"]:
        assert top < bottom
