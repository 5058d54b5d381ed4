"""What a picture of a plan says of each step, whatever it is drawn with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from weft.errors import redact
from weft.pipelines.estimates import Estimate
from weft.pipelines.expressions import Expression
from weft.pipelines.graph import Apply, Read, WithColumns, Write
from weft.pipelines.observe.shapes import cut, cut_middle
from weft.pipelines.plan import Plan, Step
from weft.pipelines.relations import Exchange, Group, Join, Order, Union
from weft.pipelines.resources import format_bytes

Kind = Literal["source", "step", "meet", "disk", "sink"]
"""Where rows come from, what is done to each, where rows meet, where they wait, where they go."""

_MOST_LINES = 3
"""Expressions shown of a step, each on its line; all are in the tip."""

_LATER = ("rows of all units, for a later phase",)

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

    @property
    def words(self) -> str:
        """The rows that it passes on, for people."""
        return f"{self.rows} row{'s' * (self.rows.rows != 1)}"

    def shown(self, most: int) -> list[str]:
        """The lines, each cut to `most` characters; of an address both ends are kept."""
        ends = self.kind in ("source", "sink")
        first = [cut_middle(line, most) for line in self.lines[:1] if ends]
        return first + [cut(line, most) for line in self.lines[len(first) :]]


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
                worker = str(stage).rpartition(", ")[0]
                notes = (worker, f"batches of {_many(stage.batch_rows, 'row')}")
                found.append(Zone(f"Stage {index + 1}", notes, steps, phase))
        if waiting:
            found.append(Zone("On disk", _LATER, tuple(waiting), phase, disk=True))
    return found


def headline(plan: Plan) -> str:
    """What the plan is made of, in one line."""
    ends = [
        _many(sum(1 for _ in plan.reads()), "source"),
        _many(sum(1 for _ in plan.writes()), "sink"),
    ]
    work = [_many(plan.phases, "phase")] if plan.phases > 1 else []
    work.append(_many(len(plan.stages), "stage"))
    return " · ".join([", ".join(ends), ", ".join(work), f"units of {plan.unit_rows:,} rows"])


LEGEND = "Numbers are rows passed on if none fails. ≤ at most; ? known only when it runs."


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _card(plan: Plan, step: Step, rows: Estimate) -> Card:
    kind, lines, notes = _told(step, rows)
    lines = [line for line in lines if line not in ("", step.id)]
    only = [f"only {p.expression}" for p in step.predicates]
    shown = [redact(line, _LONGEST).replace(" -> ", " → ") for line in _first(lines) + _first(only)]
    return Card(step.id, kind, tuple(shown), tuple(notes), _tip(step, rows), rows, step.expands)


def _told(step: Step, rows: Estimate) -> tuple[Kind, list[str], list[str]]:
    """What it is, lines of what it does, and notes."""
    columns = ", ".join(step.columns) or "keys only"
    match step.action:
        case Read(source=source):
            told = str(source) if source.uri is None else f"{type(source).__name__} {source.uri}"
            return "source", [told], [f"reads {columns}"]
        case Write(sink=sink):
            return "sink", [f"{type(sink).__name__} {sink.uri}"], [f"writes {columns}"]
        case Exchange() as kept:
            return "disk", _kept(kept), [f"keeps {columns}", *_size(rows)]
        case Union() | Order() as action:
            return "meet", [str(action)], []
        case Join() as join:
            return "meet", [str(join).partition(" -> ")[0], _brought(join, step)], []
        case Group(operator=None, aggregates=aggregates) as group:
            return "meet", [_by(group), *map(_named, aggregates)], []
        case Group(operator=operator) as group:
            ports = str(group).partition(f": {operator}")[2].strip()
            return "meet", [_by(group), str(operator), ports], []
        case Apply(operator=operator) as apply:
            return "step", [str(operator), str(apply).removeprefix(str(operator)).strip()], []
        case WithColumns(expressions=expressions):
            return "step", list(map(_named, expressions)), []
        case action:
            return "step", [str(action)], []


def _brought(join: Join, step: Step) -> str:
    """The columns of the right that a later step needs."""
    names = [a if a == b else f"{b}={a}" for a, b in join.brings if b in step.columns]
    return f"brings {', '.join(names)}" if names else ""


def _by(group: Group) -> str:
    return f"by {', '.join(group.by)}" if group.by else "all rows"


def _named(expression: Expression) -> str:
    """A column and how it is made."""
    text = str(expression).removesuffix(f'.alias("{expression.name}")')
    return f"{expression.name} = {text}"


def _size(rows: Estimate) -> list[str]:
    if rows.bytes is None:
        return []
    return [f"about {format_bytes(rows.bytes)}{'' if rows.exact else ' at most'}"]


def _kept(kept: Exchange) -> list[str]:
    """What an exchange does with rows, in words."""
    by = ", ".join(kept.by)
    match kept.kind:
        case "shuffle":
            pieces = f"in {kept.partitions} pieces" if kept.partitions > 1 else "together"
            return [f"by {by}, {pieces}" if by else f"all rows {pieces}"]
        case "sort":
            order = f"sorted by {by}" if by else "as the source has them"
            first = "" if kept.limit is None else f"first {kept.limit:,} of each unit"
            return [order + " descending" * kept.descending, first]
        case "broadcast":
            return ["for every worker"]
        case _:
            return ["as they are"]


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
