"""The report's parts as values: escapes, secrets, reasons, the accounts and the picture."""

from __future__ import annotations

import html.parser
import json
import random
from itertools import combinations, pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.compile import compile_plan
from weft.pipelines.observe.failures import pattern, reasons
from weft.pipelines.observe.markup import Markup, element, style_sheet
from weft.pipelines.observe.outline import outline
from weft.pipelines.observe.report import Report, clean, make_report
from weft.pipelines.observe.report_graph import Box, Edge, Layout, layout
from weft.pipelines.observe.report_page import page
from weft.pipelines.resources import Cluster, Machine

CANARY = "canary-8f3a"
HOSTILE = "<script>alert(1)</script>\" onload='x' <img src=//evil.example/a>"


class Reader(html.parser.HTMLParser):
    """An independent reading of a page: its elements, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@settings(deadline=None)
@given(st.text(), st.text())
def test_text_comes_back_as_it_was(text: str, attribute: str) -> None:
    found = Reader(element("p", text, title=attribute))
    ((tag, attributes),) = found.elements
    assert tag == "p"
    for read, given_ in ((found.text, text), (attributes["title"], attribute)):
        expected = "".join("\ufffd" if _control(c) else c for c in given_)
        assert (read or "") == expected


def _control(c: str) -> bool:
    odd = c in "\ufffe\uffff" or 0xD800 <= ord(c) < 0xE000
    return odd or (c not in "\t\n" and (ord(c) < 32 or 127 <= ord(c) < 160))


def test_names_are_never_anybodys_text() -> None:
    with pytest.raises(AssertionError):
        element("p onload=x")
    with pytest.raises(AssertionError):
        element("p", **{"a b": 1})
    with pytest.raises(AssertionError):
        style_sheet("</style><script>")
    assert element("p", Markup("<b>1</b>"), ["<", None, 2]) == "<p><b>1</b>&lt;2</p>"


def test_secrets_go() -> None:
    given_ = {
        "source": f"s3://user:{CANARY}@bucket/a?X-Amz-Signature={CANARY}",
        "hf_token": CANARY,
        "nested": [{"apiKey": CANARY}, f"password={CANARY}"],
        "max_tokens": 8,
    }
    told = json.dumps(clean(given_))
    assert CANARY not in told
    assert clean(given_)["max_tokens"] == 8
    assert clean(given_)["source"] == "s3://***@bucket/a?***"


def failed(key: str, message: str, error: str = "RowError") -> dict[str, str]:
    return {
        "key": key, "step": "probe", "operator": "image.Probe", "error": error,
        "outcome": "failed", "message": message,
    }  # fmt: skip


def test_reasons_are_told_apart_by_all_but_values() -> None:
    rows = [failed(f"k{i}", f"/data/{i}.jpg: {i} of 1,024 bytes, header 'a{i}'") for i in range(9)]
    found = reasons([*rows, failed("x", "no image"), failed("y", "no image", "OSError")])
    assert [(r.rows, r.error, r.pattern) for r in found] == [
        (9, "RowError", "…: … of … bytes, header …"),
        (1, "OSError", "no image"),
        (1, "RowError", "no image"),
    ]
    assert (found[0].keys, found[0].message) == (["k0", "k1", "k2", "k3", "k4"], rows[0]["message"])


def test_messages_that_are_all_different_do_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from weft.pipelines.observe import failures

    monkeypatch.setattr(failures, "_MOST_REASONS", 3)
    found = reasons(failed(f"k{i}", "a" * (i + 1)) for i in range(10))
    assert sum(r.rows for r in found) == 10
    assert len(found) == 4
    assert found[0].pattern == "other messages"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("at https://h/a?b=1: 404", "at … …"),
        ("-1.5e-3 is not in 0 to 1", "… is not in … to …"),
        ("H264 and x264 stay", "H264 and x264 stay"),
        ("digest deadbeef01 of 0x1F", "digest … of …"),
    ],
)
def test_patterns(message: str, expected: str) -> None:
    assert pattern(message) == expected


@weft.operator(version="1")
def model(n: int) -> int:
    return n


@pytest.fixture
def plan() -> Any:
    """A read that filters, two branches, one with a pool, and two writes."""

    @weft.operator(version="1", resources=weft.Resources(workers=1, cpus=0.5))
    def pooled(n: int) -> float:
        return n / 2

    @weft.pipeline
    def drawn():
        source = Arrow([{"id": "a", "n": 1}], key="id")
        rows = weft.read(source).where(pl.col("n") > 0).apply(model)
        return (
            rows.apply(pooled).select("n", "pooled").write(Memory("a")),
            rows.where(pl.col("n") > 5).select("n").write(Memory("b")),
        )

    return compile_plan(drawn().graph, Cluster((Machine(cpus=4),)))


def test_an_outline_is_json_that_names_what_the_plan_names(plan: Any) -> None:
    found = json.loads(json.dumps(outline(plan)))
    assert [s["id"] for s in found["steps"]] == [s.id for s in plan.steps]
    assert [s["inputs"] for s in found["steps"]] == [list(s.inputs) for s in plan.steps]
    assert {s["kind"] for s in found["steps"]} <= {"read", "apply", "where", "select", "write"}
    assert [s["steps"] for s in found["stages"]] == [list(s.steps) for s in plan.stages]
    assert [s["workers"] for s in found["stages"]] == [s.workers for s in plan.stages]
    named = {s["id"] for s in found["steps"]} | {
        f["id"] for s in found["steps"] for f in s["filters"]
    }
    from weft.pipelines.engines.books import new_books

    assert named == set(new_books(plan))


# --- the picture


@st.composite
def outlines(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Any DAG of up to 14 steps, cut into stages in topological order."""
    count = draw(st.integers(1, 14))
    steps = []
    for i in range(count):
        inputs = draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else []
        steps.append({"id": f"s{i}", "inputs": [f"s{j}" for j in inputs]})
    cuts = sorted(draw(st.sets(st.integers(1, count), max_size=4)) | {0, count})
    stages = [{"steps": [s["id"] for s in steps[a:b]]} for a, b in pairwise(cuts)]
    return steps, stages


def overlap(a: Box, b: Box) -> bool:
    return (
        a.x < b.x + b.width - 1e-6
        and b.x < a.x + a.width - 1e-6
        and a.y < b.y + b.height
        and b.y < a.y + a.height
    )


def way(edge: Edge) -> list[tuple[float, float]]:
    """Points along an edge, straight pieces and Bézier curves alike."""
    found = []
    for i, ((ax, ay), (bx, by)) in enumerate(pairwise(edge.points)):
        for step in range(21):
            t = step / 20
            if i % 2 == 0:
                found.append((ax + (bx - ax) * t, ay + (by - ay) * t))
            else:
                half = (by - ay) / 2
                ys = (ay, ay + half, by - half, by)
                weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
                x = ax * (weights[0] + weights[1]) + bx * (weights[2] + weights[3])
                found.append((x, sum(w * y for w, y in zip(weights, ys, strict=True))))
    return found


@settings(deadline=None)
@given(outlines(), st.integers(0, 10_000))
def test_nothing_overlaps(
    drawn: tuple[list[dict[str, Any]], list[dict[str, Any]]], seed: int
) -> None:
    steps, stages = drawn
    some = random.Random(seed)
    heights = {s["id"]: some.choice([58.0, 75.0, 120.0]) for s in steps}
    placed = layout(steps, stages, heights, left=190, least_width=880)
    assert len(placed.boxes) == len(steps)
    for a, b in combinations(placed.boxes, 2):
        assert not overlap(a, b)
    _boxes_are_in_their_bands(placed, stages)
    boxes = {b.step: b for b in placed.boxes}
    for edge in placed.edges:
        points = way(edge)
        assert points == sorted(points, key=lambda p: p[1])  # always down
        start, end = boxes[edge.source], boxes[edge.target]
        assert points[0] == (start.middle, start.y + start.height)
        assert points[-1] == (end.middle, end.y)
        for x, y in points:
            inside = [
                b
                for b in placed.boxes
                if b.x < x < b.x + b.width and b.y + 1e-6 < y < b.y + b.height - 1e-6
            ]
            assert inside == []


def _boxes_are_in_their_bands(placed: Layout, stages: list[dict[str, Any]]) -> None:
    for above, below in pairwise(placed.bands):
        assert above.y + above.height < below.y
    assert placed.bands[-1].y + placed.bands[-1].height <= placed.height
    for box in placed.boxes:
        (band,) = [b for b in placed.bands if box.step in stages[b.index]["steps"]]
        assert band.y < box.y
        assert box.y + box.height < band.y + band.height
        assert box.x > 190 - 1e-6
        assert box.x + box.width <= placed.width + 1e-6


# --- accounts and the page, of a journal made by hand


def line(taken: int, **more: float) -> dict[str, float]:
    passed = taken - more.get("dropped", 0) - more.get("failed", 0)
    return {"taken": taken, "passed": passed, "emitted": passed, "seconds": 1.0, **more}


def step(name: str, kind: str, *inputs: str, filters: tuple[str, ...] = (), expands: bool = False):
    return {
        "id": name, "kind": kind, "text": f"{name}({HOSTILE})", "inputs": list(inputs),
        "filters": [{"id": f, "text": HOSTILE} for f in filters], "expands": expands,
    }  # fmt: skip


def journal(state: str = "published", **more: Any) -> Report:
    """A clip run: 20 clips read, 2 dropped by the read, 3 failed; 15 make 150 frames."""
    books = {
        "read": line(20, emitted=18), "where": line(20, dropped=2),
        "probe": line(18, failed=3, nulled=4),
        "frames": line(15, emitted=96, children_failed=4), "where_2": line(150, dropped=50),
        "select": line(96), "write": line(96, emitted=0),
    }  # fmt: skip
    steps = [
        step("read", "read", filters=("where",)),
        step("probe", "apply", "read"),
        step("frames", "apply", "probe", filters=("where_2",), expands=True),
        step("select", "select", "frames"),
        step("write", "write", "select"),
    ]
    stages = [
        {"steps": ["read", "probe"], "workers": None, "needs": "cpus=1", "batch_rows": 4},
        {"steps": ["frames", "select", "write"], "workers": 1, "needs": HOSTILE, "batch_rows": 4},
    ]
    result = {
        "rows": 20, "rows_resumed": 0, "seconds": 2.0, "increment": {}, "slow_side": HOSTILE,
        "stages": [{"busy": 0.5, "workers": 2.0}, {"busy": 1.0, "workers": 1.0}],
        "writes": [{"dataset": HOSTILE, "version": 2, "kept": 96}],
    }  # fmt: skip
    return make_report(
        about={
            "run": "20261120-141500-1", "pipeline": HOSTILE, "target": HOSTILE, "folder": HOSTILE,
            "parameters": {HOSTILE: HOSTILE, "url": f"https://h/?sig={CANARY}", "token": CANARY},
            "recipe": "r", "input": "i", "rows": 20, "units": 2, "engine": "local",
            "plan": HOSTILE, "outline": {"steps": steps, "stages": stages},
            "datasets": [HOSTILE], "process": {"host": "h"}, "versions": {"weft": "1"},
            "command": ["weft", HOSTILE, f"--set=token={CANARY}"],
        },
        state={"state": state, "at": "2026-11-20T14:15:09+00:00"}
        | ({"result": result} if state == "published" else {"error": HOSTILE}),
        books=books,
        failed=[failed(HOSTILE, f"{HOSTILE} at s3://a:{CANARY}@h")],
        whole=True,
        units_done=2,
        rows_done=20,
        began="2026-11-20 14:15:00",
        **more,
    )  # fmt: skip


def test_every_row_is_on_an_account() -> None:
    found = journal().accounts()
    assert [(a.name, a.taken, a.passed, a.dropped, a.failed, a.of) for a in found] == [
        ("read", 20, 20, 0, 0, 20),
        ("where", 20, 18, 2, 0, 20),
        ("probe", 18, 15, 0, 3, 20),
        ("frames", 15, 15, 0, 0, 20),
        ("where_2", 150, 100, 50, 0, 150),
        ("frames: children", 100, 96, 0, 4, 150),
        ("write", 96, 96, 0, 0, 150),
    ]
    for account in found:
        assert account.taken == account.passed + account.dropped + account.failed


@pytest.mark.parametrize("state", ["published", "failed", "over budget", "killed", "running"])
def test_nobodys_text_becomes_markup(state: str) -> None:
    text = page(journal(state))
    found = Reader(text)
    tags = {tag for tag, _ in found.elements}
    assert tags.isdisjoint({"script", "img", "link", "iframe", "object", "a", "form", "image"})
    for _, attributes in found.elements:
        assert not any(name.startswith("on") or name in ("src", "href") for name in attributes)
    assert found.text.count("<script>alert(1)</script>") >= 10  # shown, not run
    policies = [a["content"] for t, a in found.elements if t == "meta" and "http-equiv" in a]
    assert policies[0].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "url(" not in text
    assert "@import" not in text


def test_no_secrets_are_told() -> None:
    text = page(journal())
    assert CANARY not in text
    assert "token=***" in text


def test_what_the_page_says() -> None:
    text = " ".join(Reader(page(journal())).text.split())
    assert "20rows read" in text
    assert "96kept" in text
    assert "52dropped by filters" in text
    assert "7failed" in text
    assert "2026-11-20 14:15:00 to 14:15:09 UTC" in text
    assert "96 children" in text
    assert "Only the first failures" not in text
    ended = " ".join(Reader(page(journal("interrupted"))).text.split())
    assert "Nothing was published. Finished units are kept; go on with it: weft resume" in ended


def test_a_journal_without_an_outline_has_tables_and_no_picture() -> None:
    whole = journal()
    about = {k: v for k, v in whole.about.items() if k != "outline"}
    old = Report(**{**vars(whole), "about": about})
    text = page(old)
    assert "<svg" not in text
    assert [a.name for a in old.accounts()] == list(whole.books)
