"""What of a pipeline changed since a dataset was made, by recipe: steps, fields, filters.

Steps are compared by what they are, not by their names. What decides which rows there can be (a
read, an expand, a group) must be as it was, or the dataset is made anew. Everything else changes
some fields, or asks some rows again:

- a field whose recipe is another one is computed for all rows;
- a filter that changed is asked for all rows that are there, and those that the old one dropped
  go through the pipeline again;
- rows that were dropped or failed below a step that is new, or that changed, go through it again:
  who knows what becomes of them there.

A change of nothing but an operator's version is a change of code, and the operator's `on_change`
says what it means. One that was accepted (``weft accept``) is none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from weft.pipelines.graph import Apply
from weft.pipelines.plan import Plan, Step
from weft.pipelines.recipes import PROPERTY, Recipes, StepRecipe, derive, older

FOLLOWS = "reads what changed"
"""Why a step differs that is itself as it was."""

CODE = "source:"
"""How a version begins that is a digest of an operator's code."""

Accepted = Collection[tuple[str, str, str]]
"""Changes of code that are known to be neutral: operator, version before, version after."""


@dataclass(frozen=True)
class Changes:
    """What differs between a plan and the recipes of a dataset, for one write.

    Attributes:
        recipes: those that the dataset has when a run of the plan has published it.
        versions: those that operators had, by step, of changes of code that are none.
        columns: by step, the recipe of each column, with those `versions`.
        fields: the fields that are computed for all rows, in the order of the write.
        steps: the steps that differ, in order, without those that decide which rows there are.
        own: of these, those that themselves are new or changed; the others read what changed.
        asked: names that steps had, of which the rows that ended there are processed again.
        names: what the steps are called now that are still there, by the names that they had; one
            that only reads something else is still there.
        reasons: by step that differs or is gone, why, for people.
    """

    recipes: Recipes
    versions: Mapping[str, str]
    columns: Mapping[str, Mapping[str, str]]
    fields: tuple[str, ...]
    steps: tuple[str, ...]
    own: frozenset[str]
    asked: frozenset[str]
    names: Mapping[str, str]
    reasons: Mapping[str, str]

    @property
    def told(self) -> tuple[str, ...]:
        """What changed by itself, in words."""
        steps = [f"{name} {why}" for name, why in self.reasons.items() if why != FOLLOWS]
        return tuple(steps)


def compare(plan: Plan, write: Step, before: Recipes, accepted: Accepted = ()) -> Changes | str:
    """What of a plan as `plain_plan` makes it differs for `write`; text: all of it, and why."""
    kept = _kept_versions(plan, write, before, accepted)
    now = derive(plan, write, kept)
    if (why := _moulded_otherwise(before, now.recipes)) is not None:
        return why
    if (step := _back(before, now.recipes, kept)) is not None:
        return f"{step} is again as it was, but some rows were made with other code of it"
    had = {s.recipe for s in before.steps}
    differ = [s for s in now.recipes.steps if s.recipe not in had]
    own = frozenset(s.id for s in differ if s.alone not in {b.alone for b in before.steps})
    lenient = _lenient(plan, write, kept, now.recipes)
    fields = tuple(
        name
        for name in write.columns
        if not _current(
            now.recipes.fields[name][0], before.fields.get(name, ()), lenient=name in lenient
        )
    )
    return Changes(
        recipes=_stamped(plan, write, before, kept),
        versions=kept,
        columns=now.columns,
        fields=fields,
        steps=tuple(s.id for s in differ),
        own=own,
        asked=frozenset(_asked(before, now.recipes)),
        names=_names(before, now.recipes),
        reasons=_reasons(before, now.recipes, differ, own),
    )


def stamp(plan: Plan, write: Step) -> Recipes:
    """The recipes of a dataset that a run of `plan` made as a whole."""
    return derive(plan, write).recipes


def behind(plan: Plan, properties: Mapping[str, str]) -> bool:
    """Whether a dataset has rows of an older make that `plan` does not leave as they are."""
    if PROPERTY not in properties:
        return False
    older = Recipes.from_json(properties[PROPERTY]).older
    return bool(older) and not any(_policy(step) == "new-rows-only" for step in plan.steps)


def _policy(step: Step) -> str:
    if not isinstance(step.action, Apply):
        return "recompute"
    return step.action.on_change or step.action.operator.on_change


def _kept_versions(plan: Plan, write: Step, before: Recipes, accepted: Accepted) -> dict[str, str]:
    """The versions, by step, with which changes of code that change no value are as they were."""
    found: dict[str, str] = {}
    for step in derive(plan, write).recipes.steps:
        twins = [b for b in before.steps if b.same and b.same == step.same]
        twin = next((b for b in twins if b.id == step.id), next(iter(twins), None))
        if twin is None or any(b.version == step.version for b in twins):
            continue
        neutral = (step.operator, twin.version, step.version) in {*accepted}
        if neutral or _policy(plan.step(step.id)) in ("keep", "new-rows-only"):
            found[step.id] = twin.version
    return found


def _stamped(plan: Plan, write: Step, before: Recipes, kept: Mapping[str, str]) -> Recipes:
    """The recipes after a run: of fields that rows of an older make keep, the older ones too, and
    of steps that some rows went through as they were, the older one: it is asked again when all
    are to be of one make."""
    mixed = {s: v for s, v in kept.items() if _policy(plan.step(s)) == "new-rows-only"}
    true, with_old = derive(plan, write).recipes, derive(plan, write, mixed).recipes
    differ = {n for n, f in true.fields.items() if f != with_old.fields[n]}
    made = older(true, {n: f for n, f in before.fields.items() if n in differ})
    return replace(made, steps=with_old.steps, older=tuple(mixed))


def _back(before: Recipes, now: Recipes, kept: Mapping[str, str]) -> str | None:
    """A step that is as it was for the oldest rows, while others went through a newer make."""
    recipes = {s.recipe for s in before.steps if s.id in before.older}
    return next((s.id for s in now.steps if s.recipe in recipes and s.id not in kept), None)


def _lenient(plan: Plan, write: Step, kept: Mapping[str, str], now: Recipes) -> set[str]:
    """The fields that depend on a step whose values may be of an older make."""
    steps = [s.id for s in now.steps if s.operator and _policy(plan.step(s.id)) != "recompute"]
    other = derive(plan, write, {**kept, **dict.fromkeys(steps, "another")}).recipes
    return {name for name, made in other.fields.items() if made != now.fields[name]}


def _current(recipe: str, before: tuple[str, ...], *, lenient: bool) -> bool:
    """Whether no row has to be computed for a field; some may be of an older make."""
    return recipe in before and (len(before) == 1 or lenient)


def _moulded_otherwise(before: Recipes, now: Recipes) -> str | None:
    """Why the rows there can be are not those there were; ``None``: they are."""
    old, new = before.moulds, now.moulds
    if [(s.id, s.recipe) for s in old] == [(s.id, s.recipe) for s in new]:
        return None
    for was, is_ in zip(old, new, strict=False):
        if was.id != is_.id:
            return f"{is_.id} stands where {was.id} stood"
        if was.alone != is_.alone:
            return f"{is_.id}, which decides which rows there are, {_what(was, is_)}"
        if was.recipe != is_.recipe:
            return f"{is_.id}, which decides which rows there are, reads what changed"
    more = "new" if len(new) > len(old) else "gone"
    (step, *_) = new[len(old) :] or old[len(new) :]
    return f"step {step.id}, which decides which rows there are, is {more}"


def _asked(before: Recipes, now: Recipes) -> Iterator[str]:
    """Names of the old steps whose rows go through the pipeline again: the steps that are not as
    they were, and those to which rows come through a step that they had not come through."""
    named = {s.recipe: s for s in now.steps}
    for step in before.steps:
        same = named.get(step.recipe)
        if same is None or not now.above(same) <= before.above(step):
            yield step.id


def _names(before: Recipes, now: Recipes) -> dict[str, str]:
    """What the old steps are called now: those that are as they were, then those that do the same
    with something else. The others are gone."""
    same = {s.recipe: s.id for s in now.steps}
    found = {s.id: same[s.recipe] for s in before.steps if s.recipe in same}
    free = [s for s in now.steps if s.id not in found.values()]
    for step in before.steps:
        twin = next((s for s in free if s.alone == step.alone), None)
        if step.id not in found and twin is not None:
            free.remove(twin)
            found[step.id] = twin.id
    return found


def _reasons(
    before: Recipes, now: Recipes, differ: list[StepRecipe], own: frozenset[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for step in differ:
        was = next((b for b in before.steps if b.id == step.id), None)
        if step.id not in own:
            found[step.id] = FOLLOWS
        elif was is None or was.operator != step.operator:
            found[step.id] = "is new"
        else:
            found[step.id] = _what(was, step)
    left = {s.alone for s in now.steps}
    gone = (s.id for s in before.steps if s.alone not in left and s.id not in found)
    return found | dict.fromkeys(gone, "is gone")


def _what(was: StepRecipe, now: StepRecipe) -> str:
    """How a step differs from itself, in words."""
    if was.same and was.same == now.same:
        if was.version.startswith(CODE) and now.version.startswith(CODE):
            return "has other code now"
        return f"is of version {now.version}, was of {was.version}"
    if was.text != now.text:
        return f"was {was.text}, is {now.text}"
    return "has other parameters, other types or another policy"
