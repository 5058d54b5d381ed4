"""What a picture of a plan says of each step, whatever it is drawn with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from weft.errors import redact
from weft.pipelines.graph import Apply, Read, Select, WithColumns, Write
from weft.pipelines.observe.estimates import Estimate
from weft.pipelines.plan import Plan, Step
from weft.pipelines.relations import Exchange, Group, Join, Order, Union

Kind = Literal["source", "step", "meet", "disk", "sink"]
"""Where rows come from, what is done to each, where rows meet, where they wait, where they go."""

_MOST_LINES = 3
"""Expressions shown of a step, each on its line; all are in the tip."""

_LONGEST = 4_000
"""Characters of a tip."""


@dataclass(frozen=True)
class Card:
    """A step: its name, a few lines of what it does, and `tip`, which has everything.

    `rows` is how many it passes on; `several` says that it makes several rows of one.
    """

    id: str
    kind: Kind
    lines: tuple[str, ...]
    notes: tuple[str, ...]
    tip: str
    rows: Estimate
    several: bool


@dataclass(frozen=True)
class Zone:
    """A stage: what its workers are, and its steps; of ``disk``, rows that wait for a phase."""

    title: str
    notes: tuple[str, ...]
    steps: tuple[str, ...]
    phase: int
    disk: bool = False


def cards(plan: Plan, estimates: Mapping[str, Estimate]) -> dict[str, Card]:
    """A card for each step, by its name."""
    return {step.id: _card(plan, step, estimates[step.id]) for step in plan.steps}


def zones(plan: Plan) -> list[Zone]:
    """The stages, and between the phases what is kept on disk."""
    kept = {s.id for s in plan.exchanges()}
    found = []
    for phase in range(plan.phases):
        waiting: list[str] = []
        for index, stage in enumerate(plan.stages):
            if stage.phase == phase:
                waiting += [s for s in stage.steps if s in kept]
                steps = tuple(s for s in stage.steps if s not in kept)
                worker, needs, batches = str(stage).split(", ")
                notes = (worker, needs, batches)
                found.append(Zone(f"Stage {index + 1}", notes, steps, phase))
        if waiting:
            notes = ("rows of all units,", f"for phase {phase + 2}")
            found.append(Zone("On disk", notes, tuple(waiting), phase, disk=True))
    return found


def headline(plan: Plan) -> str:
    """What the plan is made of, in one line."""
    parts = [
        _many(sum(1 for _ in plan.reads()), "source"),
        _many(sum(1 for _ in plan.writes()), "sink"),
        _many(plan.phases, "phase"),
        _many(len(plan.stages), "stage"),
        f"units of {plan.unit_rows:,} rows",
    ]
    return ", ".join(parts)


LEGEND = "Numbers are rows passed on if none fails. ≤ at most; ? known only when it runs."


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _card(plan: Plan, step: Step, rows: Estimate) -> Card:
    kind, lines, notes = _told(step, rows)
    only = [f"only {p.expression}" for p in step.predicates]
    lines = [redact(line, _LONGEST) for line in (*_first(lines), *_first(only))]
    return Card(step.id, kind, tuple(lines), tuple(notes), _tip(step, rows), rows, step.expands)


def _told(step: Step, rows: Estimate) -> tuple[Kind, Sequence[str], Sequence[str]]:
    """What it is, lines of what it does, and notes."""
    match step.action:
        case Read(source=source):
            return "source", [str(source)], [f"reads {', '.join(step.columns) or 'keys only'}"]
        case Write(sink=sink):
            return "sink", [str(sink)], [f"writes {', '.join(step.columns) or 'keys only'}"]
        case Exchange() as kept:
            return "disk", [_kept(kept)], [f"keeps {', '.join(step.columns) or 'keys only'}"]
        case Union() as union:
            return "meet", [str(union)], []
        case Join() | Group(operator=None) | Order():
            return "meet", list(_sides(step.action)), []
        case Group() as group:
            by, _, rest = str(group).partition(": ")
            return "meet", [by, *rest.split("  ")], []
        case Apply() as apply:
            ports = str(apply).removeprefix(str(apply.operator)).strip()
            return "step", [str(apply.operator), ports], []
        case WithColumns(expressions=expressions):
            return "step", [str(e) for e in expressions], []
        case Select(columns=columns):
            return "step", [", ".join(columns)], []
        case action:
            return "step", [str(action)], []


def _sides(action: Join | Group | Order) -> Iterator[str]:
    """What rows meet by, and what comes of it."""
    by, _, made = str(action).partition(" -> ")
    yield by
    if isinstance(action, Group):
        yield from map(str, action.aggregates)
    elif made:
        yield f"-> {made}"


def _kept(kept: Exchange) -> str:
    """What an exchange does with rows, in words."""
    by = ", ".join(kept.by)
    match kept.kind:
        case "shuffle":
            pieces = f"in {kept.partitions} pieces" if kept.partitions > 1 else "together"
            return f"by {by}, {pieces}" if by else f"all rows {pieces}"
        case "sort":
            return f"sorted: {kept}" if kept.by else f"in order {kept}".rstrip()
        case "broadcast":
            return "for every worker"
        case _:
            return "as they are"


def _first(lines: Sequence[str]) -> list[str]:
    shown = [line for line in lines if line]
    if len(shown) <= _MOST_LINES:
        return shown
    return [*shown[: _MOST_LINES - 1], f"and {len(shown) - _MOST_LINES + 1} more"]


def _tip(step: Step, rows: Estimate) -> str:
    parts = [
        f"{step.id}: {step.action}",
        *(f"only {p.expression}  [{p.node}]" for p in step.predicates),
        f"{rows} rows of {step.columns or 'keys only'}",
    ]
    return redact("\n".join(parts), _LONGEST)


def outline_of(plan: Plan, stages: Sequence[Zone]) -> tuple[list[dict[str, Any]], ...]:
    """Steps and stages as `weft.pipelines.observe.report_graph.layout` takes them."""
    steps = [{"id": s.id, "inputs": list(s.inputs)} for s in plan.steps]
    return steps, [{"steps": list(stage.steps)} for stage in stages]
