"""A plan as data, for journals: its steps, what feeds each, and its stages.

`str(plan)` is for people and changes with its wording; reports are drawn from this.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from weft.errors import redact
from weft.pipelines.graph import Apply
from weft.pipelines.plan import Plan, Stage, Step


def outline(plan: Plan) -> dict[str, Any]:
    """The steps and stages of a plan, as JSON.

    ``kind`` is ``read``, ``apply``, ``where``, ``with_columns``, ``select`` or ``write``;
    ``filters`` are the predicates that the step applies for later ones, by their own names in
    the books; ``workers`` is ``None`` for tasks.
    """
    return {
        "steps": [_step(step) for step in plan.steps],
        "stages": [_stage(stage) for stage in plan.stages],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "kind": "apply" if isinstance(step.action, Apply) else step.action.label,
        "text": redact(str(step.action), limit=10_000),
        "inputs": list(step.inputs),
        "filters": [{"id": p.node, "text": str(p.expression)} for p in step.predicates],
        "expands": step.expands,
    }


def _stage(stage: Stage) -> dict[str, Any]:
    return {
        "steps": list(stage.steps),
        "workers": stage.workers,
        "needs": str(replace(stage.resources, workers=None)),
        "batch_rows": stage.batch_rows,
        "phase": stage.phase,
    }
