"""`weft report` of real runs, looked at in a real browser; `weft run` with metrics."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

RUN = ("run", "--engine", "local")

CANARY = "canary-77c1"

BRANCHES = f"""\
from collections.abc import Iterator

import polars as pl

import weft
from weft.connectors import Arrow, Lance

HOSTILE = "<script>document.title='hit'</script><img src=http://127.0.0.1:9/x>"
ROWS = [{{"id": f"{{HOSTILE}} {{i}}", "n": i}} for i in range(64)]


@weft.operator(version="1")
def picky(n: int) -> int:
    if n % 16 == 3:
        raise ValueError(f"{{HOSTILE}} {{n}} at https://me:{CANARY}@host/a?sig={CANARY}")
    return n


@weft.operator(version="1")
def copies(n: int) -> Iterator[weft.fields(copy=int)]:
    return ({{"copy": 10 * n + i}} for i in range(n % 3))


@weft.operator(version="1", resources=weft.Resources(workers=1, cpus=0.5))
def a_pooled_operator_with_a_name_that_is_much_too_long_for_its_box(n: int, by: str = "") -> float:
    return n / 2


@weft.pipeline
def branches(out: str = "b", note: str = HOSTILE, hf_token: str = "", url: str = ""):
    rows = weft.read(Arrow(ROWS, key="id")).apply(picky)
    long = a_pooled_operator_with_a_name_that_is_much_too_long_for_its_box.replace(by=HOSTILE * 3)
    pooled = rows.apply(long)
    few = rows.where(pl.col("n") > 40).apply(copies)
    most = rows.where(pl.col("n") <= 40)
    return (
        pooled.write(Lance(f"{{out}}/pooled.lance")),
        few.select("copy").write(Lance(f"{{out}}/few.lance")),
        most.select("n").write(Lance(f"{{out}}/most.lance")),
    )
"""


@pytest.fixture
def branched(work: Path, weft) -> Path:
    """Three datasets of one run; keys, messages and parameters are hostile."""
    (work / "branches.py").write_text(BRANCHES)
    url = f"https://me:{CANARY}@host/a?sig={CANARY}"
    settings = ("--set", f"hf_token={CANARY}", "--set", f"url={url}")
    weft(*RUN, "branches.py", *settings, "--max-failed", "50")
    return work / "b"


def test_the_report_of_a_published_run(weft, answer, photos: Path, work: Path) -> None:
    run = answer(*RUN, "tiny.py:small")["run"]
    found = answer("report", "small.lance")
    assert found == {
        "dataset": f"{work}/small.lance",
        "run": run,
        "report": f"{work}/small.lance.weft/runs/{run}/report.html",
    }
    text = Path(found["report"]).read_text()
    tiles = ("11</b><span>rows read", "5</b><span>kept", "5</b><span>dropped by", "1</b><span>fail")
    for told in (*tiles, "x0.jpg", "version 2", run, "least", "weft errors"):
        assert told in text
    assert weft("report", "small.lance", run[:15], "-o", "r.html").stdout == f"{work}/r.html\n"
    assert (work / "r.html").read_text() == text


def test_refusals(weft, photos: Path, work: Path) -> None:
    weft(*RUN, "tiny.py:small")
    refused = weft("report", "small.lance", "-o", "no/r.html", code=2).stderr
    assert refused == f"error: {work}/no/r.html: there is no folder {work}/no. Make it first.\n"
    assert "has no run '1999'" in weft("report", "small.lance", "1999", code=2).stderr


def report(answer, dataset: object, *more: str) -> str:
    return Path(answer("report", dataset, *more)["report"]).read_text()


def test_a_run_that_failed(weft, answer, many: Path, work: Path) -> None:
    weft(*RUN, "tiny.py:chosen", "--set", "on_error=raise", code=1)
    text = report(answer, "chosen.lance")
    assert 'class="badge bad">failed' in text
    assert "is too wide" in text
    assert f"weft resume {work}/chosen.lance" in text
    assert "of 80 rows read" in text


def test_a_run_over_budget(weft, answer, many: Path, work: Path) -> None:
    weft(*RUN, "tiny.py:chosen", "--max-failed", "5", code=4)
    text = report(answer, "chosen.lance")
    assert 'class="badge bad">over budget' in text
    assert f"weft errors {work}/chosen.lance" in text
    assert "<strong>ValueError</strong>" in text
    assert "… is too wide" in text
    assert "Only the first failures" not in text


def test_a_run_that_is_not_finished(weft, answer, many: Path, work: Path) -> None:
    """What a killed process leaves: a state of running, some receipts, no errors table."""
    weft(*RUN, "tiny.py:chosen", "--set", "on_error=raise", code=1)
    (folder,) = (work / "chosen.lance.weft" / "runs").iterdir()
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "state": "running"}))
    done = len(list((folder / "receipts").glob("*.json")))
    units = json.loads((folder / "run.json").read_text())["units"]
    text = report(answer, "chosen.lance")
    assert 'class="badge bad">killed' in text
    assert f"{done} of {units} units done" in text
    assert 0 < done < units
    shutil.rmtree(folder / "receipts")  # before the first unit ended
    assert f"0 of {units} units done" in report(answer, "chosen.lance")


def test_every_sink_and_no_row_twice(weft, answer, branched: Path) -> None:
    for dataset in ("pooled", "few", "most"):
        text = report(answer, branched / f"{dataset}.lance")
        assert all(f"{branched}/{d}.lance" in text for d in ("pooled", "few", "most"))
        assert "4</b><span>failed" in text
        assert text.count('class="reason"') == 1  # before the branch: in all three tables
        assert '<div class="reason"><b>4</b>' in text


def test_no_secrets_and_no_scripts(weft, answer, branched: Path) -> None:
    text = report(answer, branched / "few.lance")
    assert CANARY not in text
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


# --- in a browser

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install)")

GEOMETRY = """
<script>
const broken = [];
document.addEventListener('securitypolicyviolation', e => broken.push(e.blockedURI));
addEventListener('load', () => {
  const rect = e => { const r = e.getBoundingClientRect();
    return [r.left, r.top, r.right, r.bottom, e.textContent.slice(0, 40)]; };
  const all = s => [...document.querySelectorAll(s)];
  const out = {
    steps: all('g.step').map(g => ({box: rect(g.querySelector('rect')),
                                    text: [...g.querySelectorAll('text')].map(rect)})),
    stages: all('g.stage').map(g => ({box: rect(g.querySelector('rect')),
                                      text: [...g.querySelectorAll('text, .track')].map(rect)})),
    rows: all('text.rows').map(rect),
    fetched: performance.getEntriesByType('resource').map(e => e.name),
    scripts: document.scripts.length, title: document.title, broken,
    page: [document.documentElement.scrollWidth, innerWidth],
  };
  const pre = document.createElement('pre'); pre.id = 'out';
  pre.textContent = JSON.stringify(out); document.body.append(pre);
});
</script>
"""

Rect = list[Any]


def look(page: Path, width: int, profile: Path) -> dict[str, Any]:
    """Where everything on a page stands after layout, and what the page fetched."""
    policy = "default-src 'none'"
    text = page.read_text().replace(
        html.escape(policy, quote=True), f"{policy}; script-src 'unsafe-inline'", 1
    )
    copy = profile / "copy.html"
    profile.mkdir(exist_ok=True)
    copy.write_text(text.replace("<head>", "<head>" + GEOMETRY, 1))
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
        "--disable-background-networking", f"--user-data-dir={profile}/user",
        f"--window-size={width},1200", copy.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    (out,) = re.findall(r'<pre id="out">(.*?)</pre>', done.stdout, re.DOTALL)
    found: dict[str, Any] = json.loads(html.unescape(out))
    return found


def inside(a: Rect, b: Rect) -> bool:
    return a[0] > b[0] - 1 and a[1] > b[1] - 1 and a[2] < b[2] + 1 and a[3] < b[3] + 1


def apart(a: Rect, b: Rect) -> bool:
    """No more than a pixel of their line boxes, which are higher than their letters, overlaps."""
    return a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1


def all_apart(rects: list[Rect]) -> bool:
    return all(apart(a, b) for i, a in enumerate(rects) for b in rects[:i])


@needs_chromium
def test_in_a_browser(weft, branched: Path, work: Path) -> None:
    page = work / "r.html"
    weft("report", branched / "few.lance", "-o", page)
    for width in (1280, 800):
        found = look(page, width, work / "profile")
        assert found["fetched"] == []
        assert found["broken"] == []
        assert found["scripts"] == 1  # the one that looks
        assert found["title"].startswith("branches: run ")
        assert found["page"][0] <= found["page"][1]
        assert len(found["steps"]) == 11
        boxes = [s["box"] for s in found["steps"]]
        assert all_apart(boxes)
        for group in found["steps"] + found["stages"]:
            assert all(inside(t, group["box"]) for t in group["text"]), group
            assert all_apart(group["text"]), group
        marks = found["rows"] + [t for s in found["stages"] for t in s["text"]]
        assert all(apart(m, b) for m in marks for b in boxes)
        assert all_apart(found["rows"])
        assert all(any(inside(b, s["box"]) for s in found["stages"]) for b in boxes)


# --- metrics of `weft run`


def samples(file: Path) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for family in text_string_to_metric_families(file.read_text()):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def state(file: Path) -> str:
    (on,) = [s.labels["state"] for s in samples(file)["weft_run_state"] if s.value]
    return str(on)


def test_metrics_of_a_run(weft, answer, photos: Path, work: Path) -> None:
    done = weft(*RUN, "tiny.py:small", "--metrics-file", "m.prom", "--metrics-port", 0)
    assert re.search(r"Metrics: http://127\.0\.0\.1:\d+/metrics", done.stderr)
    steps = answer("show", "small.lance")["steps"]
    rows = {(s.labels["step"], s.labels["outcome"]): s.value
            for s in samples(work / "m.prom")["weft_rows_total"]}  # fmt: skip
    assert rows["where", "dropped"] == steps["where"]["dropped"] == 5
    assert rows["probe", "failed"] == steps["probe"]["failed"] == 1
    assert state(work / "m.prom") == "published"
    first = samples(work / "m.prom")["weft_run_last_success_timestamp_seconds"][0].value
    weft(*RUN, "tiny.py:small", "--metrics-file", "m.prom")
    assert state(work / "m.prom") == "in sync"
    again = samples(work / "m.prom")["weft_run_last_success_timestamp_seconds"][0].value
    assert again > first


def test_a_run_that_fails_leaves_metrics(weft, many: Path, work: Path) -> None:
    given = (*RUN, "tiny.py:chosen", "--set", "on_error=raise", "--metrics-file", "m.prom")
    weft(*given, code=1)
    assert state(work / "m.prom") == "failed"
    assert "weft_run_last_success_timestamp_seconds" not in samples(work / "m.prom")
    weft("resume", "chosen.lance", "--metrics-file", "r.prom", code=1)
    assert state(work / "r.prom") == "failed"


def test_metrics_that_cannot_be_written_are_refused_before_the_run(
    weft, photos: Path, work: Path
) -> None:
    refused = weft(*RUN, "tiny.py:small", "--metrics-file", "no/m.prom", code=2).stderr
    assert f"no/m.prom: the folder {work}/no is not there or not writable" in refused
    assert not (work / "small.lance").exists()
