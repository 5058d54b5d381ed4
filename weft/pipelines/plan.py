"""The plan: how a graph will run, as a value that can be printed and compared.

A step is a graph node with the columns it passes on. A stage is a chain of steps that one
worker runs on the rows of one *unit*, a slice of the source; a unit goes through the stages one
after the other, whole, and ends in one receipt. Steps start alone in their stages; passes
rewrite, order and fuse them.

Rows that must meet, for a join, a group or an order, end a *phase*: an `Exchange` keeps them on
disk, and what is made of them is the work of the next phase, whose units are cut from what was
kept. A plan without such steps has one phase.

Rules that hold in every plan (`verify` checks them): steps stand after their inputs; in each
phase the reads, and what takes its rows from an exchange, are in the first stage; writes and
exchanges are in the last, so that a unit's receipt is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from weft.pipelines.batch import ENVELOPE, PARENT
from weft.pipelines.expressions import Expression
from weft.pipelines.fields import Fields
from weft.pipelines.graph import (
    Action,
    Apply,
    Exchange,
    Group,
    Join,
    Order,
    Read,
    Select,
    Union,
    Where,
    WithColumns,
    Write,
)
from weft.pipelines.grouping import Pick
from weft.pipelines.operator import Expand
from weft.pipelines.resources import Resources


@dataclass(frozen=True)
class Predicate:
    """A `where` that another step applies: the node it was, and its expression."""

    node: str
    expression: Expression


@dataclass(frozen=True)
class Step:
    """One action of the plan and the columns it passes on."""

    id: str
    action: Action
    inputs: tuple[str, ...]
    columns: Fields
    predicates: tuple[Predicate, ...] = ()
    placed: Resources | None = None  # what `assign_devices` gave it; None: what it asks for

    def wants(self, source: str, wanted: frozenset[str]) -> frozenset[str]:
        """The columns of its input `source` that it needs so as to pass on `wanted`."""
        match self.action:
            case Join() as join:
                return _joins(self, join, source, wanted) - set(ENVELOPE)
            case Group(operator=operator) if not isinstance(operator, Pick):
                return self.reads()
            case _:
                return self.reads() | (wanted - self.makes())

    def reads(self) -> frozenset[str]:
        """The columns of its inputs that it needs for itself."""
        match self.action:
            case Apply(inputs=inputs):
                asked = {root for p in self.predicates for root in p.expression.roots}
                found = {column for _, column in inputs} | (asked - self.makes())
            case Where(predicate=predicate):
                found = {*predicate.roots}
            case WithColumns(expressions=expressions):
                found = {root for e in expressions for root in e.roots}
            case Group(by=by, aggregates=exprs, inputs=inputs):
                found = {*by, *(c for _, c in inputs), *(r for e in exprs for r in e.roots)}
            case Order(by=by) | Exchange(by=by):
                found = {*by}
            case Join(left_on=left, right_on=right):
                found = {*left, *right}
            case Write():
                found = {*self.columns}
            case _:
                found = set()
        return frozenset(found - set(ENVELOPE))

    def makes(self) -> frozenset[str]:
        """The columns it adds or replaces."""
        match self.action:
            case Read():
                return frozenset(self.columns)
            case Apply(outputs=outputs):
                return frozenset(column for _, column in outputs)
            case WithColumns(expressions=expressions):
                return frozenset(e.name for e in expressions)
            case Join(brings=brings):
                return frozenset(new for _, new in brings)
            case Group(operator=operator) if not isinstance(operator, Pick):
                return frozenset(self.columns)
            case _:
                return frozenset()

    @property
    def resources(self) -> Resources:
        """What a worker holds while it runs this step."""
        if self.placed is not None:
            return self.placed
        return self.action.operator.resources if isinstance(self.action, Apply) else Resources()

    @property
    def expands(self) -> bool:
        """Whether a row may become several."""
        return isinstance(self.action, Apply) and isinstance(self.action.operator, Expand)

    @property
    def ends(self) -> bool:
        """Whether a phase ends here for its rows: they are written, or kept for the next one."""
        return isinstance(self.action, Write | Exchange)

    def __str__(self) -> str:
        return f"{self.id}: {self.action}"


@dataclass(frozen=True)
class Stage:
    """Steps that one worker runs together, and what that worker is."""

    steps: tuple[str, ...]
    resources: Resources
    workers: int | None = None  # of a pool; None: tasks, as many as there is room for
    batch_rows: int = 64
    phase: int = 0

    def __str__(self) -> str:
        kind = f"pool of {self.workers}" if self.workers else "tasks"
        needs = replace(self.resources, workers=None)
        return f"{kind}, {needs}, batches of {self.batch_rows} rows"


@dataclass(frozen=True)
class Plan:
    """Steps in topological order, cut into phases and stages."""

    name: str
    recipe: str
    steps: tuple[Step, ...]
    stages: tuple[Stage, ...]
    unit_rows: int = 256

    def step(self, name: str) -> Step:
        """The step of that name."""
        return next(s for s in self.steps if s.id == name)

    def consumers(self, name: str) -> tuple[Step, ...]:
        """The steps that take the rows of `name`."""
        return tuple(s for s in self.steps if name in s.inputs)

    @property
    def phases(self) -> int:
        """How many phases there are."""
        return 1 + max(stage.phase for stage in self.stages)

    def phase(self, number: int) -> Plan:
        """This plan with the stages of one phase only, as a worker of that phase sees it."""
        return replace(self, stages=tuple(s for s in self.stages if s.phase == number))

    def phase_of(self, name: str) -> int:
        """The phase that runs `name`."""
        return self.stages[self.stage_of(name)].phase

    def enters(self, step: Step) -> bool:
        """Whether a phase begins with `step`: it takes rows that an exchange brought together."""
        if not step.inputs or step.ends:
            return False
        action = self.step(step.inputs[0]).action
        return isinstance(action, Exchange) and action.kind in ("shuffle", "sort")

    def exchanges(self, *kinds: str) -> Iterator[Step]:
        """The steps that keep rows for a later phase, of these kinds or of any."""
        for step in self.steps:
            if isinstance(step.action, Exchange) and (not kinds or step.action.kind in kinds):
                yield step

    def depth(self, name: str) -> int:
        """How many `Expand`s the rows of a step have come through: their parents' parents."""
        step = self.step(name)
        match step.action:
            case Group(by=by, operator=operator) if not isinstance(operator, Pick):
                return max(0, self.depth(step.inputs[0]) - 1) if by == (PARENT,) else 0
            case Join():
                return self.depth(step.inputs[0])
        return max((self.depth(i) for i in step.inputs), default=0) + step.expands

    def stage_of(self, name: str) -> int:
        """The index of the stage that runs `name`."""
        return next(i for i, stage in enumerate(self.stages) if name in stage.steps)

    def stage_steps(self, index: int) -> tuple[Step, ...]:
        """The steps of a stage, in order."""
        inside = set(self.stages[index].steps)
        return tuple(s for s in self.steps if s.id in inside)

    def ports(self, index: int) -> tuple[str, ...]:
        """The steps whose rows a worker hands from stage `index` to a later one of its phase."""
        phase = self.stages[index].phase
        mine = [(i, stage) for i, stage in enumerate(self.stages) if stage.phase == phase]
        taken = {
            source
            for i, stage in mine
            for s in stage.steps
            if i > index
            for source in self.step(s).inputs
        }
        done = {s for i, stage in mine if i <= index for s in stage.steps}
        inside = {s for _, stage in mine for s in stage.steps}
        held = {s.id for s in self.exchanges("hold")} - inside
        return tuple(s.id for s in self.steps if s.id in taken and s.id in done | held)

    def writes(self) -> Iterator[Step]:
        """The steps that write."""
        return (s for s in self.steps if isinstance(s.action, Write))

    def reads(self) -> Iterator[Step]:
        """The steps that read."""
        return (s for s in self.steps if isinstance(s.action, Read))

    def needed(self) -> dict[str, frozenset[str]]:
        """By step, the columns of its rows that a later step reads or writes; a leaf's are all."""
        found: dict[str, frozenset[str]] = {}
        for step in reversed(self.steps):
            consumers = self.consumers(step.id)
            wanted = (c.wants(step.id, found[c.id]) for c in consumers)
            found[step.id] = frozenset().union(*wanted) if consumers else frozenset(step.columns)
        return found

    def upstream(self, name: str) -> frozenset[str]:
        """`name` and every step its rows come through."""
        found = {name}
        for step in reversed(self.steps):
            if step.id in found:
                found.update(step.inputs)
        return frozenset(found)

    def replace_step(self, step: Step) -> Plan:
        """This plan with the step of the same name replaced."""
        return replace(self, steps=tuple(step if s.id == step.id else s for s in self.steps))

    def remove_step(self, name: str) -> Plan:
        """This plan without a step; its consumers take the rows of its input."""
        (source,) = self.step(name).inputs
        steps = tuple(
            replace(s, inputs=tuple(source if i == name else i for i in s.inputs))
            for s in self.steps
            if s.id != name
        )
        stages = tuple(
            replace(stage, steps=kept)
            for stage in self.stages
            if (kept := tuple(s for s in stage.steps if s != name))
        )
        return replace(self, steps=steps, stages=stages)

    def __str__(self) -> str:
        lines = [f"{self.name}: units of {self.unit_rows} rows"]
        above: tuple[str, ...] = ()
        for index, stage in enumerate(self.stages):
            if self.phases > 1 and stage.phase != self.stages[index - 1].phase:
                lines.append(f"  phase {stage.phase + 1}:")
            lines.append(f"  stage {index + 1}: {stage}")
            for step in self.stage_steps(index):
                elsewhere = step.inputs and step.inputs != above
                source = f"  from {', '.join(step.inputs)}" if elsewhere else ""
                lines.append(f"    {step}{source}")
                lines += [f"      {change}" for change in self._changes(step)]
                above = (step.id,)
        return "\n".join(lines)

    def _changes(self, step: Step) -> list[str]:
        """What a step does to the columns, in words: one line each."""
        match step.action:
            case Read():
                only = [f"only {p.expression}  [{p.node}]" for p in step.predicates]
                return [*only, f"reads {step.columns or 'keys only'}"]
            case Write():
                return [f"writes {step.columns}"]
            case Exchange():
                return [f"keeps {step.columns or 'keys only'}"]
            case Union():
                return [f"has {step.columns or 'keys only'}"]
        made = Fields({n: t for n, t in step.columns.items() if n in step.makes()})
        gone = [n for n in self.step(step.inputs[0]).columns if n not in step.columns]
        changes = [f"only {p.expression}  [{p.node}]" for p in step.predicates]
        changes += [f"adds {made}"] if made else []
        return changes + ([f"drops {', '.join(gone)}"] if gone else [])


def _joins(step: Step, join: Join, source: str, wanted: frozenset[str]) -> frozenset[str]:
    """What a join needs of one side; of a step that is both, of both."""
    left, right = step.inputs
    found: set[str] = set()
    if source == left:
        asof = {join.asof.left} if join.asof else set()
        found |= {*join.left_on, *asof, *(wanted - step.makes())}
    if source == right:
        asof = {join.asof.right} if join.asof else set()
        found |= {*join.right_on, *asof, *(c for c, new in join.brings if new in wanted)}
    return frozenset(found)


__all__ = ["Plan", "Predicate", "Select", "Stage", "Step"]
