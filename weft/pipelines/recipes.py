"""Recipes: what decides the values of each field of a dataset, and which rows it has.

A field's recipe is a digest of the operator that makes it, its version, parameters and weights,
and of the recipes of the columns that it reads, back to the source: same recipe and same source
row, same value. Each step has a recipe too, of what it is and of the columns it reads. Two plans
agree about a step, wherever it stands and whatever it is called, if its recipe is the same.

A dataset keeps the recipes it was made with as a property of its version, so that the next run
can tell what differs: see `weft.pipelines.runs.changes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from weft.errors import redact
from weft.pipelines.batch import ENVELOPE
from weft.pipelines.graph import Apply, Read, Select, Union, Where, WithColumns, Write
from weft.pipelines.operator import Expand, Operator, digest
from weft.pipelines.plan import Plan, Step

PROPERTY = "weft.recipes"
"""The recipes that a version of a dataset was made with."""


@dataclass(frozen=True)
class StepRecipe:
    """What a step is.

    Attributes:
        id: its name in the plan.
        text: itself, for people.
        recipe: digest of what it does and of the recipes of the columns it reads.
        alone: digest of what it does.
        same: of an operator, digest of what it does whatever its version.
        operator: of an operator, its name.
        version: of an operator, its version.
        moulds: whether it decides which rows there can be and how they are called, as a read,
            an expand and a group do; a filter only drops some.
        above: the steps that its rows came through.
    """

    id: str
    text: str
    recipe: str
    alone: str
    same: str = ""
    operator: str = ""
    version: str = ""
    moulds: bool = False
    above: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipes:
    """The recipes of one write: of its fields, and of the steps its rows come through.

    A field has several recipes if rows made with an older one were left as they were: the
    newest is first. Such rows went through some steps as these were before: those are `older`,
    and their recipes are of that time.
    """

    fields: Mapping[str, tuple[str, ...]]
    steps: tuple[StepRecipe, ...]
    older: tuple[str, ...] = ()

    def step(self, name: str) -> StepRecipe:
        """The step of that name."""
        return next(s for s in self.steps if s.id == name)

    def above(self, step: StepRecipe) -> frozenset[str]:
        """The recipes of the steps that the rows of `step` came through."""
        return frozenset(s.recipe for s in self.steps if s.id in step.above)

    @property
    def moulds(self) -> tuple[StepRecipe, ...]:
        """The steps that decide which rows there can be."""
        return tuple(s for s in self.steps if s.moulds)

    def to_json(self) -> str:
        """The recipes as text that `from_json` reads."""
        steps = [vars(s) | {"text": redact(s.text)} for s in self.steps]
        fields = {n: list(f) for n, f in self.fields.items()}
        return json.dumps({"fields": fields, "steps": steps, "older": list(self.older)})

    @staticmethod
    def from_json(text: str) -> Recipes:
        """The recipes that `to_json` wrote."""
        found = json.loads(text)
        fields = {name: tuple(given) for name, given in found["fields"].items()}
        steps = tuple(_step_of(step) for step in found["steps"])
        return Recipes(fields, steps, tuple(found.get("older", ())))


@dataclass(frozen=True)
class Derived:
    """The recipes of a write, and on the way there those of the columns of each step."""

    recipes: Recipes
    columns: Mapping[str, Mapping[str, str]]


def derive(
    plan: Plan,
    write: Step,
    versions: Mapping[str, str] | None = None,
    equal: Mapping[str, str] | None = None,
) -> Derived:
    """The recipes of `write` in a plan as `weft.pipelines.compile.plain_plan` makes it.

    `versions` take the place of operators' own, by step: to ask what would be if a change of
    code were none. `equal` are recipes that take the place of others: to ask what would be if
    columns had the values that they had before.
    """
    columns: dict[str, dict[str, str]] = {}
    steps: list[StepRecipe] = []
    above = plan.upstream(write.id)
    for step in plan.steps:
        if step.id in above and step.id != write.id:
            passed = plan.upstream(step.id) - {step.id}
            came = [s for s in steps if s.id in passed]
            given = _envelope(came) | _given(step, columns)
            recipe = _step(step, given, came, (versions or {}).get(step.id))
            if not isinstance(step.action, Select):
                steps.append(_told_apart(recipe, steps))
            made = _columns(step, given, recipe.recipe)
            columns[step.id] = {n: (equal or {}).get(r, r) for n, r in made.items()}
    last = columns[write.inputs[0]]
    fields = {name: (last[name],) for name in write.columns}
    return Derived(Recipes(fields, tuple(steps)), columns)


def _step_of(said: Mapping[str, Any]) -> StepRecipe:
    return StepRecipe(**{**said, "above": tuple(said["above"])})


def _envelope(above: Sequence[StepRecipe]) -> dict[str, str]:
    """The recipes of what rows have besides columns: a key below an expand is another one."""
    moulds = [s.recipe for s in above if s.moulds]
    return {name: digest([name, moulds]) for name in ENVELOPE}


def _told_apart(step: StepRecipe, before: Sequence[StepRecipe]) -> StepRecipe:
    """The second of two steps that do the same has a recipe of its own: rows end at one."""
    taken, recipe = {s.recipe for s in before}, step.recipe
    while recipe in taken:
        recipe = digest(["again", recipe])
    return replace(step, recipe=recipe)


def _given(step: Step, columns: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The recipes of the columns that a step takes; of one in several inputs, of all of them."""
    if len(step.inputs) == 1:
        return dict(columns[step.inputs[0]])
    names = dict.fromkeys(name for i in step.inputs for name in columns[i])
    found = {}
    for name in names:
        each = [columns[i].get(name) for i in step.inputs]
        same = each[0] if len({*each}) == 1 else None
        found[name] = same or digest(["of each input", each])
    return found


def _step(
    step: Step, given: Mapping[str, str], above: Sequence[StepRecipe], version: str | None
) -> StepRecipe:
    """The recipe of a step, if its columns have those that are given, and its rows came through
    the steps `above`. These decide what is in a group; of other steps, those that mould rows say
    which rows it works on: a filter below an expand drops others than above it."""
    action = step.action
    does, operator, same = action.identity(), "", ""
    if (own := _operator(action)) is not None:
        identity = own.identity()
        operator, version = str(identity["operator"]), version or str(identity["version"])
        slot = "apply" if isinstance(action, Apply) else "operator"
        does = does | {slot: identity | {"version": version}}
        same = digest(does | {slot: identity | {"version": None}})
    reads = {name: given[name] for name in sorted(_reads(action, given))}
    expands = isinstance(action, Apply) and isinstance(action.operator, Expand)
    one_by_one = isinstance(action, Apply | Where | WithColumns | Select | Read | Union)
    return StepRecipe(
        id=step.id,
        text=str(action),
        recipe=digest([does, reads, [s.recipe for s in above if s.moulds or not one_by_one]]),
        alone=digest(does),
        same=same,
        operator=operator,
        version=(version or "") if operator else "",
        moulds=expands or not isinstance(action, Apply | Where | WithColumns | Select),
        above=tuple(s.id for s in above),
    )


def _operator(action: Any) -> Operator | None:
    found = getattr(action, "operator", None)
    return found if isinstance(found, Operator) else None


def _reads(action: Any, given: Mapping[str, str]) -> set[str]:
    """The columns that decide what a step does; of one that brings rows together, all."""
    match action:
        case Apply(inputs=inputs):
            return {column for _, column in inputs}
        case Where(predicate=predicate):
            return {*predicate.roots}
        case WithColumns(expressions=expressions):
            return {root for e in expressions for root in e.roots}
        case Read() | Select() | Union():
            return set()
    return {*given}


def _columns(step: Step, given: Mapping[str, str], recipe: str) -> dict[str, str]:
    """The recipes of the columns that a step passes on."""
    made: dict[str, str] = {}
    match step.action:
        case Apply(outputs=outputs):
            made = {column: digest([recipe, port]) for port, column in outputs}
        case WithColumns(expressions=expressions):
            for e in expressions:
                reads = {root: given[root] for root in sorted({*e.roots})}
                # A column that is only called otherwise is still the same.
                same = given.get(e.column) if e.column is not None else None
                made[e.name] = same or digest(["with_columns", e.identity(), reads])
        case Where() | Select() | Union() | Write():
            pass
        case _:
            made = {name: digest([recipe, name]) for name in step.columns}
    return {name: made.get(name) or given[name] for name in step.columns}


def older(recipes: Recipes, before: Mapping[str, tuple[str, ...]]) -> Recipes:
    """`recipes`, with those that rows of an older make still have, by field."""
    fields = {n: tuple(dict.fromkeys([*f, *before.get(n, ())])) for n, f in recipes.fields.items()}
    return replace(recipes, fields=fields)
