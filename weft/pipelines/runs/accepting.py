"""Accepting a change of code: finding it, and noting it beside the datasets it is of."""

from __future__ import annotations

from weft.errors import DefinitionError, nearest
from weft.pipelines import recipes, tables
from weft.pipelines.plan import Plan
from weft.pipelines.recipes import Recipes, derive
from weft.pipelines.runs.accepted import Change, accept
from weft.pipelines.runs.places import sink_of


def accept_change(plan: Plan, operator: str, version: str | None) -> list[tuple[str, Change]]:
    """Note that the present code of `operator` answers as that did with which datasets of `plan`
    were made; the datasets and the changes.

    `operator` is its name, or the last part of it. `version` is its present version, if given.

    Raises:
        DefinitionError: no such operator has changed in nothing but its version; says which have.
    """
    changes = changed_versions(plan)
    known = sorted({f"{name}@{after}" for _, _, (name, _, after) in changes})
    chosen = [
        (state, uri, change)
        for state, uri, change in changes
        if operator in (change[0], change[0].rpartition(".")[2]) and version in (None, change[2])
    ]
    if not chosen:
        given = operator if version is None else f"{operator}@{version}"
        told = f"These have: {', '.join(known)}." if known else "No operator has."
        raise DefinitionError(
            f"{given}: no such operator has changed in its version alone since its dataset was "
            f"made. {told} {nearest(given, known)}".rstrip()
        )
    if len({change[2] for _, _, change in chosen}) > 1:
        raise DefinitionError(f"Say which: {', '.join(known)}.")
    for state, _, change in chosen:
        accept(state, frozenset([change]))
    return [(uri, change) for _, uri, change in chosen]


def changed_versions(plan: Plan) -> list[tuple[str, str, Change]]:
    """The operators whose version alone differs from that their dataset was made with: the
    dataset's state folder, its path, the change."""
    found: dict[tuple[str, str, Change], None] = {}
    for write in plan.writes():
        sink = sink_of(write)
        latest = tables.latest(sink.uri) if sink.state is not None else None
        if sink.state is None or latest is None or recipes.PROPERTY not in latest[1]:
            continue
        before = Recipes.from_json(latest[1][recipes.PROPERTY])
        had = {(s.same, s.version) for s in before.steps}
        for step in derive(plan, write).recipes.steps:
            if step.operator and (step.same, step.version) not in had:
                olds = [s.version for s in before.steps if s.same == step.same]
                for old in olds[:1]:
                    found[sink.state, sink.uri, (step.operator, old, step.version)] = None
    return list(found)
