"""What became of a run, as lines of text that fit a screen."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from weft.pipelines.graph import Apply, Where
from weft.pipelines.observe.progress import duration, number
from weft.pipelines.observe.stages import slow_side
from weft.pipelines.types import Encoded

if TYPE_CHECKING:
    from weft.pipelines.plan import Plan
    from weft.pipelines.runs.result import RunResult

_MOST_STEPS = 6
"""Steps named where the time went, and filters and failing steps: the largest."""

_MOST_REASONS = 3
"""Different reasons told of one failing step; the errors table has all rows."""


def summarise(result: RunResult) -> list[str]:
    """The lines of a summary."""
    if result.in_sync:
        return _in_sync(result)
    return [
        *_head(result),
        *_increment(result),
        _rows(result),
        *_recomputed(result),
        *_dropped(result),
        *_failed(result),
        *_time(result),
        *_slow_side(result),
        *_gates(result),
        *_next(result),
    ]


def _in_sync(result: RunResult) -> list[str]:
    lines = ["In sync: same pipeline, same source. Nothing was run."]
    return lines + [f"  {uri} version {result.versions[w]}" for w, uri in result.uris.items()]


def _head(result: RunResult) -> list[str]:
    start = f", {result.engine} started in {duration(result.startup_seconds)}"
    timing = duration(result.seconds) + (start if result.startup_seconds >= 0.1 else "")
    lines = [f"{result.plan.name}: run {result.run} {result.state} in {timing}"]
    for write, uri in result.uris.items():
        rows = f"{result.kept[write]:,} rows" + (" written" if result.increment else "")
        lines.append(f"  {uri}: version {result.versions[write]}, {rows}")
    return lines


def _increment(result: RunResult) -> list[str]:
    told = [f"{count:,} {what}" for what, count in result.increment.items() if count]
    lines = [_line("source", ", ".join(told) or "nothing changed")] if result.increment else []
    if not result.earlier:
        return lines
    runs = len(result.earlier) + 1
    return [_line("parts", f"{runs} runs published one after the other; this is the last"), *lines]


def _rows(result: RunResult) -> str:
    dropped = sum(line.dropped for line in result.books.values())
    nulled = sum(line.nulled for line in result.books.values())
    kept = " + ".join(f"{count:,}" for count in result.kept.values())
    worked = result.rows - result.rows_resumed
    rate = number(worked / result.seconds) if result.seconds else "0"
    parts = [f"{result.rows:,} read", f"{kept} kept", f"{dropped:,} dropped"]
    parts += [f"{result.failed:,} failed"]
    parts += [f"{nulled:,} with nulls for what failed"] if nulled else []
    parts += [f"{result.rows_resumed:,} from an earlier attempt"] if result.rows_resumed else []
    return _line("rows", f"{', '.join(parts)}; {rate} rows/s")


def _recomputed(result: RunResult) -> list[str]:
    """What backfills did for rows that stayed."""
    told = []
    for done in result.recomputed.values():
        what = ", ".join(done.fields) or "filters"
        where = "" if done.stored else ", read again"
        failed = f", {done.failed:,} failed" if done.failed else ""
        told.append(f"{what} for {done.rows:,} rows{where}: {done.written:,} written{failed}")
    return _block("anew", told)


def _dropped(result: RunResult) -> list[str]:
    filters = [(name, line.dropped) for name, line in result.books.items() if line.dropped]
    filters.sort(key=lambda f: -f[1])
    return _block(
        "dropped",
        [f"{count:,} by {name}: {_what(result.plan, name)}" for name, count in filters],
    )


def _failed(result: RunResult) -> list[str]:
    steps = [
        (name, line.failures + line.nulled)
        for name, line in result.books.items()
        if line.failures or line.nulled
    ]
    steps.sort(key=lambda s: -s[1])
    told = []
    for name, count in steps:
        reasons = list(_reasons(result, name).values())
        told.append(f"{count:,} at {name}: {reasons[0] if reasons else 'see the errors table'}")
        told += [f"  and: {reason}" for reason in reasons[1:_MOST_REASONS]]
    return _block("failed", told)


def _reasons(result: RunResult, step: str) -> dict[tuple[str, str], str]:
    """Different failures of a step, each with the first row that met it."""
    found: dict[tuple[str, str], str] = {}
    for sample in result.samples:
        if sample["step"] == step:
            message = _cut(sample["message"], 110)
            told = f"{sample['error']}: {message} (row {_cut(sample['key'], 40)})"
            found.setdefault((sample["error"], message), told)
    return found


def _time(result: RunResult) -> list[str]:
    total = sum(line.seconds for line in result.books.values())
    steps = sorted(result.books.items(), key=lambda item: -item[1].seconds)[:_MOST_STEPS]
    shown = [
        f"{name} {duration(line.seconds)} ({line.seconds / total:.0%})"
        for name, line in steps
        if total and line.seconds / total >= 0.005
    ]
    return [_line("time", ", ".join(shown) + ", over all workers")] if shown else []


def _slow_side(result: RunResult) -> list[str]:
    told = slow_side(result.stages)
    return [] if told is None else [_line("busy", told)]


def _gates(result: RunResult) -> list[str]:
    found = [v for many in result.gates.verdicts.values() for v in many]
    return [_line("gate", str(v)) for v in found]


def _next(result: RunResult) -> list[str]:
    lines = []
    lance = [uri for uri in result.uris.values() if "://" not in uri]
    for uri in lance:
        lines.append(_line("read it", f'lance.dataset("{uri}", version="latest")'))
    if any(isinstance(t, Encoded) for s in result.plan.writes() for t in s.columns.values()):
        lines.append(_line("", 'media columns: .to_table(blob_handling="all_binary")'))
    failed = {n for n, line in result.books.items() if line.failures or line.nulled}
    told = [u for n, u in result.uris.items() if u in lance and failed & result.plan.upstream(n)]
    if told:  # the errors table of a dataset has what failed on the way to it
        lines.append(_line("why", f"weft errors {shlex.quote(told[0])}"))
    return lines


def _what(plan: Plan, name: str) -> str:
    """What the step or pushed predicate `name` says."""
    for step in plan.steps:
        for predicate in step.predicates:
            if predicate.node == name:
                return f"{predicate.expression}, in {step.id}"
        if step.id == name and isinstance(step.action, Where):
            return str(step.action.predicate)
        if step.id == name and isinstance(step.action, Apply):
            return str(step.action.operator)
        if step.id == name:
            return str(step.action)
    return name


def _block(head: str, lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_STEPS
    shown = [line if len(line) <= 200 else line[:199] + "…" for line in lines[:_MOST_STEPS]]
    shown += [f"and {more} more"] if more > 0 else []
    return [_line(head if i == 0 else "", text) for i, text in enumerate(shown)]


def _line(head: str, text: str) -> str:
    return f"  {head:<8} {text}"


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
