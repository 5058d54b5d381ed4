"""A run's report as one HTML file: nothing is fetched, nothing runs, it prints.

A content security policy forbids scripts and requests even if an escape were wrong.
"""

from __future__ import annotations

import shlex
from typing import Any

from weft.pipelines.observe.failures import Reason
from weft.pipelines.observe.markup import Child, Markup, element, join, style_sheet
from weft.pipelines.observe.progress import duration, number
from weft.pipelines.observe.report import Account, Report
from weft.pipelines.observe.report_style import CSS
from weft.pipelines.observe.report_svg import draw

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_MOST_REASONS = 40
_LONGEST_MESSAGE = 600
_LONGEST_KEY = 120

_TONES = {
    "published": "good",
    "failed": "bad",
    "over budget": "bad",
    "gated": "bad",
    "refused": "bad",
    "killed": "bad",
}
"""States that are good or bad; the others are neither."""

_NEXT = {
    "failed": "resume",
    "interrupted": "resume",
    "killed": "resume",
    "over budget": "errors",
    "gated": "show",
}
"""The command that goes on from a state."""


def page(report: Report) -> str:
    """The whole file."""
    title = f"{report.about['pipeline']}: run {report.about['run']} {report.state['state']}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        style_sheet(CSS),
    )
    body = element(
        "main",
        _head(report),
        _error(report),
        _tiles(report),
        _datasets(report),
        _picture(report),
        _rows(report),
        _time(report),
        _failed(report),
        _asked(report),
    )
    return "<!doctype html>\n" + element("html", head, element("body", body), lang="en") + "\n"


def _head(report: Report) -> list[Markup]:
    about, state = report.about, report.state
    tone = _TONES.get(state["state"], "")
    day, _, time = state["at"][:19].partition("T")
    end = time if report.began.startswith(day) else f"{day} {time}"
    when = f"{report.began} to {end} UTC" if report.began else f"until {end} UTC"
    return [
        element(
            "header",
            element("h1", about["pipeline"]),
            element("span", state["state"], class_=f"badge {tone}".rstrip()),
        ),
        element(
            "p",
            "Run ", element("code", about["run"]), f", {when}, on the {about['engine']} engine",
            class_="soft wrap",
        ),
    ]  # fmt: skip


def _error(report: Report) -> Markup | None:
    text = report.state.get("error") or report.state.get("reason")
    following = _NEXT.get(report.state["state"])
    if not text and not following:
        return None
    command = f"weft {following} {shlex.quote(report.about['datasets'][0])}" if following else None
    return element(
        "div",
        element("p", text) if text else None,
        element("p", _WORDS[following], " ", element("code", command)) if following else None,
        class_="card error",
    )


_WORDS = {
    "resume": "Nothing was published. Finished units are kept; go on with it:",
    "errors": "Nothing was published. All rows that failed:",
}


def _tiles(report: Report) -> Markup:
    result, done = report.result, report.units_done
    rows = report.about["rows"]
    lines = report.books.values()
    kept = report.total("write", "taken")
    sinks = len(report.about["datasets"])
    where = f" in {sinks} datasets" if sinks > 1 else ""
    dropped = sum(c.dropped for c in lines)
    failed = sum(c.failures for c in lines)
    if result:
        before = result["rows_resumed"]
        told = "rows read" + (f", {before:,} in an earlier attempt" if before else "")
    else:
        told = f"of {rows:,} rows read, {done:,} of {report.about['units']:,} units done"
    tiles = [
        _tile(f"{report.rows_done:,}", told),
        _tile(f"{kept:,}", f"kept{where}" if result else f"kept so far{where}"),
        _tile(f"{dropped:,}", "dropped by filters", "dropped" if dropped else ""),
        _tile(f"{failed:,}", "failed", "failed" if failed else ""),
    ]
    if result:
        worked = result["rows"] - result["rows_resumed"]
        rate = worked / result["seconds"] if result["seconds"] else 0.0
        tiles.append(_tile(duration(result["seconds"]), "working time"))
        tiles.append(_tile(number(rate), "rows a second"))
    return element("div", tiles, class_="tiles", style=f"--tiles: {len(tiles)}")


def _tile(value: str, what: str, class_: str = "") -> Markup:
    return element(
        "div", element("b", value), element("span", what), class_=f"tile {class_}".rstrip()
    )


def _datasets(report: Report) -> Markup:
    writes = {w["dataset"]: w for w in report.result.get("writes", [])}
    rows = []
    for uri in report.about["datasets"]:
        write = writes.get(uri)
        version = f"version {write['version']}" if write else "not published"
        kept = write["kept"] if write else 0
        count = f"{kept:,} row{'s' * (kept != 1)}" if write else ""
        rows.append(_cells((element("code", uri), "wrap"), (version, "n"), (count, "n")))
    increment = report.result.get("increment") or report.about.get("increment") or {}
    told = ", ".join(f"{n:,} {what}" for what, n in increment.items() if n)
    return element(
        "div",
        element("table", element("tbody", rows)),
        element("p", f"Rows of the source since the run before: {told}.", class_="note")
        if told
        else None,
        class_="card plain",
    )


def _picture(report: Report) -> list[Markup]:
    drawn = draw(report)
    if drawn is None:
        return []
    slow = report.result.get("slow_side")
    note = (
        "Time is that of all workers together, rows/s that of one of them. "
        "A stage is what one worker runs in one go."
    )
    return [
        element("h2", "Plan"),
        element("p", note, class_="note"),
        element("p", f"Slow side: {slow}.") if slow else Markup(""),
        element("div", drawn, class_="card scroll"),
    ]


def _rows(report: Report) -> list[Markup]:
    if not report.books:
        return []
    head = _head_cells(("step", ""), ("", "bar"), *((n, "n") for n in _COUNTS))
    lines = [_account(account) for account in report.accounts()]
    return [
        element("h2", "Where the rows went"),
        element(
            "p",
            "At every step, rows taken = passed on + dropped + failed. A bar is as long as all "
            "rows read; after a step that makes several rows of one, as all of these.",
            class_="note",
        ),
        element(
            "div",
            element("table", element("thead", head), element("tbody", lines)),
            _legend(),
            class_="card",
        ),
    ]


_COUNTS = ("taken", "passed on", "dropped", "failed")


def _account(line: Account) -> Markup:
    parts = [
        ("kept", line.passed - line.nulled, "passed on"),
        ("nulled", line.nulled, "passed on with nulls"),
        ("dropped", line.dropped, "dropped"),
        ("failed", line.failed, "failed"),
        ("gone", line.of - line.taken, "ended before"),
    ]
    bar = [
        element("i", class_=kind, style=f"flex: {rows} 0 0", title=f"{rows:,} {what}")
        for kind, rows, what in parts
        if rows > 0
    ]
    notes = [f" → {line.children:,} children"] if line.children is not None else []
    notes += [f" ({line.nulled:,} with nulls)"] if line.nulled else []
    return _cells(
        ([line.name, element("span", notes, class_="soft")], "step"),
        (element("div", bar, class_="stack"), "bar"),
        (f"{line.taken:,}", "n"),
        (f"{line.passed:,}", "n"),
        (f"{line.dropped:,}" if line.dropped else "", "n dropped"),
        (f"{line.failed:,}" if line.failed else "", "n failed"),
    )


def _legend() -> Markup:
    kinds = [
        ("kept", "passed on"),
        ("nulled", "passed on with nulls"),
        ("dropped", "dropped"),
        ("failed", "failed"),
        ("gone", "ended at an earlier step"),
    ]
    return element(
        "div",
        [element("span", element("i", class_=kind), words) for kind, words in kinds],
        class_="legend",
    )


def _time(report: Report) -> list[Markup]:
    steps = sorted(report.books.items(), key=lambda item: -item[1].seconds)
    total = sum(line.seconds for _, line in steps)
    if not total:
        return []
    most = steps[0][1].seconds
    shown = [(name, line) for name, line in steps if line.seconds / total >= 0.001]
    lines = [
        _cells(
            (name, "step"),
            (_bar(line.seconds / most), "bar"),
            (duration(line.seconds), "n"),
            (f"{line.seconds / total:.1%}", "n"),
            (number(line.taken / line.seconds), "n"),
        )
        for name, line in shown
    ]
    left = len(steps) - len(shown)
    head = _head_cells(("step", ""), ("", "bar"), ("time", "n"), ("share", "n"), ("rows/s", "n"))
    return [
        element("h2", "Where the time went"),
        element(
            "p",
            f"{duration(total)} over all workers"
            + (f"; {left} steps took less than 0.1 % each." if left else "."),
            class_="note",
        ),
        element(
            "div",
            element("table", element("thead", head), element("tbody", lines)),
            class_="card",
        ),
    ]


def _bar(share: float) -> Markup:
    return element(
        "div",
        element("i", class_="kept", style=f"flex: {share:.4f} 0 0"),
        element("i", class_="gone", style=f"flex: {1 - share:.4f} 0 0") if share < 1 else None,
        class_="stack",
    )


def _failed(report: Report) -> list[Markup]:
    if not report.failed:
        return []
    shown = report.failed[:_MOST_REASONS]
    left = len(report.failed) - len(shown)
    words = "By step, error and message; … stands for values that differ from row to row."
    if not report.whole:
        words = f"Only the first failures of each unit are known. {words}"
    return [
        element("h2", "Failed rows"),
        element("p", words, class_="note"),
        element("div", [_reason(reason) for reason in shown], class_="card"),
        element("p", f"And {left:,} more reasons.", class_="note") if left else Markup(""),
        element(
            "p",
            "All of them: ",
            element("code", f"weft errors {shlex.quote(report.about['datasets'][0])}"),
            class_="note",
        ),
    ]


def _reason(reason: Reason) -> Markup:
    where = f" at {reason.step}" + (f" ({reason.operator})" if reason.operator else "")
    where += ", passed on with nulls" if reason.outcome == "nulled" else ""
    more = reason.rows - len(reason.keys)
    alike = reason.rows > 1 and reason.message != reason.pattern
    keys: list[Child] = [[element("bdi", _cut(k, _LONGEST_KEY)), " "] for k in reason.keys]
    return element(
        "div",
        element("b", f"{reason.rows:,}"),
        element(
            "div",
            element("p", element("strong", reason.error), element("span", where, class_="soft")),
            element("p", element("bdi", _cut(reason.pattern, _LONGEST_MESSAGE))) if alike else None,
            element("p", "First: " if alike else None,
                    element("bdi", _cut(reason.message, _LONGEST_MESSAGE)),
                    class_="soft" if alike else None),
            element("p", "Rows: ", keys, f"and {more:,} more" if more else None, class_="keys"),
        ),
        class_="reason",
    )  # fmt: skip


def _asked(report: Report) -> list[Markup]:
    about = report.about
    facts = {
        "pipeline": f"{about['pipeline']}, from {about['target'] or 'Python'}",
        "command": " ".join(shlex.quote(a) for a in about["command"]),
        "folder": about["folder"],
        "recipe": about["recipe"],
        "input": about["input"],
        "units": f"{about['units']:,}, {report.units_done:,} of them done",
        "machine": str(about["process"]["host"]),
    }
    return [
        element("h2", "Parameters"),
        element("div", _facts(about["parameters"]) or "None.", class_="card"),
        element("h2", "Plan in words"),
        element("div", element("pre", about["plan"]), class_="card"),
        element("h2", "How it was run"),
        element("div", _facts(facts), class_="card"),
        element("h2", "Software"),
        element("div", _facts(about["versions"]), class_="card"),
    ]


def _facts(facts: dict[str, Any]) -> Markup | None:
    if not facts:
        return None
    pairs = [
        [element("dt", name), element("dd", element("code", _shown(value)))]
        for name, value in facts.items()
    ]
    return element("dl", pairs)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != "" else "''"


def _head_cells(*cells: tuple[str, str]) -> Markup:
    return element("tr", [element("th", text, class_=kind or None) for text, kind in cells])


def _cells(*cells: tuple[Child, str]) -> Markup:
    return element("tr", [element("td", join(text), class_=kind) for text, kind in cells])


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
