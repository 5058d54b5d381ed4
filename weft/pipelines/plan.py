"""The plan: how a graph will run, as a value that can be printed and compared.

A step is a graph node with the columns it passes on. A stage is a chain of steps that one
worker runs on the rows of one *unit*, a slice of the source; a unit goes through the stages one
after the other, whole, and ends in one receipt. Steps start alone in their stages; passes
rewrite, order and fuse them.

Rules that hold in every plan (`verify` checks them): steps stand after their inputs; the reads
are in the first stage; the writes are in the last, so that a unit's receipt is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from weft.pipelines.expressions import Expression
from weft.pipelines.fields import Fields
from weft.pipelines.graph import Action, Apply, Graph, Read, Select, Where, WithColumns, Write
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

    def reads(self) -> frozenset[str]:
        """The columns of its input that it needs for itself."""
        match self.action:
            case Apply(inputs=inputs):
                asked = {root for p in self.predicates for root in p.expression.roots}
                return frozenset(column for _, column in inputs) | (asked - self.makes())
            case Where(predicate=predicate):
                return frozenset(predicate.roots)
            case WithColumns(expressions=expressions):
                return frozenset(root for e in expressions for root in e.roots)
            case Write():
                return frozenset(self.columns)
            case _:
                return frozenset()

    def makes(self) -> frozenset[str]:
        """The columns it adds or replaces."""
        match self.action:
            case Read():
                return frozenset(self.columns)
            case Apply(outputs=outputs):
                return frozenset(column for _, column in outputs)
            case WithColumns(expressions=expressions):
                return frozenset(e.name for e in expressions)
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

    def __str__(self) -> str:
        return f"{self.id}: {self.action}"


@dataclass(frozen=True)
class Stage:
    """Steps that one worker runs together, and what that worker is."""

    steps: tuple[str, ...]
    resources: Resources
    workers: int | None = None  # of a pool; None: tasks, as many as there is room for
    batch_rows: int = 64

    def __str__(self) -> str:
        kind = f"pool of {self.workers}" if self.workers else "tasks"
        needs = replace(self.resources, workers=None)
        return f"{kind}, {needs}, batches of {self.batch_rows} rows"


@dataclass(frozen=True)
class Plan:
    """Steps in topological order, cut into stages."""

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

    def stage_of(self, name: str) -> int:
        """The index of the stage that runs `name`."""
        return next(i for i, stage in enumerate(self.stages) if name in stage.steps)

    def stage_steps(self, index: int) -> tuple[Step, ...]:
        """The steps of a stage, in order."""
        inside = set(self.stages[index].steps)
        return tuple(s for s in self.steps if s.id in inside)

    def ports(self, index: int) -> tuple[str, ...]:
        """The steps up to stage `index` whose rows a later stage takes."""
        later = {
            i
            for stage in self.stages[index + 1 :]
            for s in stage.steps
            for i in self.step(s).inputs
        }
        done = {s for stage in self.stages[: index + 1] for s in stage.steps}
        return tuple(s.id for s in self.steps if s.id in done and s.id in later)

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
            wanted = (c.reads() | (found[c.id] - c.makes()) for c in consumers)
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
        if isinstance(step.action, Read):
            only = [f"only {p.expression}  [{p.node}]" for p in step.predicates]
            return [*only, f"reads {step.columns or 'keys only'}"]
        if isinstance(step.action, Write):
            return [f"writes {step.columns}"]
        made = Fields({n: t for n, t in step.columns.items() if n in step.makes()})
        gone = [n for n in self.step(step.inputs[0]).columns if n not in step.columns]
        changes = [f"only {p.expression}  [{p.node}]" for p in step.predicates]
        changes += [f"adds {made}"] if made else []
        return changes + ([f"drops {', '.join(gone)}"] if gone else [])


def lower(graph: Graph) -> Plan:
    """The plainest plan of a graph: every step alone in its stage, the writes together."""
    steps = tuple(Step(n.id, n.action, n.inputs, n.columns) for n in graph.nodes)
    writes = tuple(s.id for s in steps if isinstance(s.action, Write))
    reads = tuple(s.id for s in steps if isinstance(s.action, Read))
    alone = [s for s in steps if s.id not in writes and s.id not in reads]
    stages = (
        Stage(reads, Resources()),
        *(_stage((s.id,), s.resources) for s in alone),
        Stage(writes, Resources()),
    )
    return Plan(graph.name, graph.recipe(), steps, stages)


def _stage(steps: tuple[str, ...], resources: Resources) -> Stage:
    workers = (resources.workers or 1) if resources.pooled else None
    return Stage(steps, resources, workers, resources.batch_rows or Stage.batch_rows)


__all__ = ["Plan", "Predicate", "Select", "Stage", "Step", "lower"]
