"""From a graph to the plainest plan of it: exchanges put in, phases numbered, nothing fused.

A join and a group need all rows of a key together, an order all rows: each takes its rows from
an `Exchange`, which keeps them on disk between two phases. Children of one parent are together
anyway, as long as no exchange came between, so a group by ``_parent`` needs none.

Every step is in one phase, and steps between which rows flow are in the same: the left of a
join that the right is broadcast to is read when the right is complete. Where rows are taken in
a later phase all the same, since what they meet there is made of themselves, the step that makes
them runs once, and they are held on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weft.pipelines.batch import PARENT
from weft.pipelines.graph import Exchange, Graph, Group, Join, Order, Read, Write
from weft.pipelines.grouping import Pick
from weft.pipelines.plan import Plan, Stage, Step
from weft.pipelines.resources import Resources

PARTITIONS = 64
"""Pieces that a shuffle is cut into unless `size_batches` knows better."""


def lower(graph: Graph) -> Plan:
    """The plainest plan of a graph: every step alone in its stage, the writes together."""
    steps: list[Step] = []
    for node in graph.nodes:
        step = Step(node.id, node.action, node.inputs, node.columns)
        kept = _exchanges(step, steps)
        steps += kept
        steps.append(replace(step, inputs=tuple(k.id for k in kept)) if kept else step)
    return settle(Plan(graph.name, graph.recipe(), tuple(steps), ()))


def settle(plan: Plan) -> Plan:
    """The plan with its phases numbered anew and each step alone in its stage."""
    steps = _released(plan.steps)
    phases = _phases(steps)
    steps = _held(steps, phases)
    phases = _phases(steps)
    stages: list[Stage] = []
    for number in range(1 + max(phases.values())):
        inside = [s for s in steps if phases[s.id] == number]
        stages += _stages(number, inside, replace(plan, steps=steps))
    return replace(plan, steps=steps, stages=tuple(stages))


def is_first(plan: Plan, step: Step) -> bool:
    """Whether `step` stands in the first stage of its phase."""
    return isinstance(step.action, Read) or plan.enters(step)


def stage_of_steps(steps: Sequence[str], resources: Resources, phase: int) -> Stage:
    """A stage of these steps, whose worker holds `resources`."""
    workers = (resources.workers or 1) if resources.pooled else None
    rows = resources.batch_rows or Stage.batch_rows
    return Stage(tuple(steps), resources, workers, rows, phase)


def _stages(phase: int, inside: list[Step], plan: Plan) -> list[Stage]:
    """The stages of one phase; the first may be empty, if all it does is to take up held rows."""
    first = [s.id for s in inside if is_first(plan, s)]
    last = [s.id for s in inside if s.ends]
    alone = [s for s in inside if s.id not in {*first, *last}]
    return [
        stage_of_steps(first, Resources(), phase),
        *(stage_of_steps((s.id,), s.resources, phase) for s in alone),
        stage_of_steps(last, Resources(), phase),
    ]


def _exchanges(step: Step, before: list[Step]) -> list[Step]:
    """What has to stand between a step and its inputs so that it gets its rows together."""
    match step.action:
        case Join(left_on=left, right_on=right):
            left_by, right_by = Exchange("shuffle", left), Exchange("shuffle", right)
            pieces = PARTITIONS if left else 1
            sides = (("left", left_by), ("right", right_by))
            return [
                _exchange(step, i, replace(by, partitions=pieces), before, name)
                for i, (name, by) in enumerate(sides)
            ]
        case Group(by=by):
            if by == (PARENT,) and _together(step.inputs[0], before):
                return []
            kept = Exchange("shuffle", by, PARTITIONS if by else 1)
            return [_exchange(step, 0, kept, before, "rows")]
        case Order(by=by, descending=descending, limit=limit):
            kept = Exchange("sort", by, descending=descending, limit=limit)
            return [_exchange(step, 0, kept, before, "rows")]
    return []


def _exchange(step: Step, number: int, kept: Exchange, before: list[Step], name: str) -> Step:
    source = next(s for s in before if s.id == step.inputs[number])
    return Step(f"{step.id}.{name}", kept, (source.id,), source.columns)


def _together(name: str, steps: list[Step]) -> int:
    """Of how many generations all rows of `name` are in one unit with their siblings."""
    step = next(s for s in steps if s.id == name)
    if isinstance(step.action, Exchange):
        return 0
    above = step.inputs[:1] if isinstance(step.action, Join) else step.inputs
    found = min((_together(i, steps) for i in above), default=0)
    if isinstance(step.action, Group) and not isinstance(step.action.operator, Pick):
        return max(0, found - 1)
    return found + step.expands


def _released(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps without those that hold rows."""
    held = {s.id: s.inputs[0] for s in steps if _holds(s)}
    return tuple(
        replace(s, inputs=tuple(held.get(i, i) for i in s.inputs))
        for s in steps
        if s.id not in held
    )


def _holds(step: Step) -> bool:
    return isinstance(step.action, Exchange) and step.action.kind == "hold"


def _phases(steps: Sequence[Step]) -> dict[str, int]:
    """The phase of each step, by its name.

    Steps between which rows flow are in one phase, if that can be. It cannot if rows wait for
    something that is made of themselves: then steps run as early as they can, and as late as
    those that take their rows allow, and what flows between steps far apart is held.
    """
    found = _flowing(steps, cut=frozenset())
    if found is None:
        apart = _early_and_late(steps)
        edges = ((source, s.id) for s in steps for source in s.inputs)
        found = _flowing(steps, frozenset(e for e in edges if apart[e[0]] != apart[e[1]]))
    assert found is not None
    return found


def _flowing(steps: Sequence[Step], cut: frozenset[tuple[str, str]]) -> dict[str, int] | None:
    """The earliest phases in which rows flow along all edges but those of `cut`; ``None``: none."""
    kept = {s.id for s in steps if isinstance(s.action, Exchange)}
    group = {s.id: s.id for s in steps}

    def head(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    later: list[tuple[str, str, int]] = []
    for step in steps:
        for source in step.inputs:
            if source in kept or (source, step.id) in cut:
                later.append((source, step.id, int(source in kept)))
            else:
                group[head(step.id)] = head(source)
    phase = {head(s.id): 0 for s in steps}
    for _ in range(len(phase) + 1):
        before = dict(phase)
        for source, name, wait in later:
            phase[head(name)] = max(phase[head(name)], phase[head(source)] + wait)
        if phase == before:
            return {s.id: phase[head(s.id)] for s in steps}
    return None


def _early_and_late(steps: Sequence[Step]) -> dict[str, int]:
    """Phases that can always be: early, then as late as those that take the rows allow."""
    kept = {s.id for s in steps if isinstance(s.action, Exchange)}
    found: dict[str, int] = {}
    for step in steps:
        found[step.id] = max((found[i] + (i in kept) for i in step.inputs), default=0)
    consumers: dict[str, list[Step]] = {s.id: [] for s in steps}
    for step in steps:
        for source in step.inputs:
            consumers[source].append(step)
    for step in reversed(steps):
        if step.id in kept:
            found[step.id] = min(found[c.id] for c in consumers[step.id]) - 1
        else:
            later = [found[c.id] for c in consumers[step.id] if not isinstance(c.action, Write)]
            found[step.id] = min(later, default=found[step.id])
    for step in steps:
        if step.ends:  # for its rows the phase ends where they come from
            found[step.id] = found[step.inputs[0]]
    return found


def _held(steps: Sequence[Step], phases: dict[str, int]) -> tuple[Step, ...]:
    """The steps with one that holds wherever rows are taken in a later phase."""
    named = {s.id: s for s in steps}
    late = {
        i: f"{i}.held"
        for s in steps
        for i in s.inputs
        if not isinstance(named[i].action, Exchange) and phases[i] < phases[s.id]
    }
    made: list[Step] = []
    for step in steps:
        waits = {i for i in step.inputs if i in late and phases[i] < phases[step.id]}
        made.append(replace(step, inputs=tuple(late[i] if i in waits else i for i in step.inputs)))
        if step.id in late:
            made.append(Step(late[step.id], Exchange("hold"), (step.id,), step.columns))
    return tuple(made)
