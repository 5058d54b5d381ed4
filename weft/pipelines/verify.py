"""Checks that a plan is one that the engines can run. Runs after every pass.

A plan that fails here is a defect of the pass before it, never of the user's pipeline.
"""

from __future__ import annotations

from weft.pipelines.graph import Read, Select, Write
from weft.pipelines.plan import Plan, Step


def verify(plan: Plan) -> Plan:
    """`plan` itself, if it is sound.

    Raises:
        AssertionError: it is not; the message names the step.
    """
    done: dict[str, Step] = {}
    for step in plan.steps:
        _check_step(step, done)
        done[step.id] = step
    staged = [s for stage in plan.stages for s in stage.steps]
    _must(sorted(staged) == sorted(done), f"stages hold {staged}, the plan has {list(done)}")
    for step in plan.steps:
        here = plan.stage_of(step.id)
        for source in step.inputs:
            _must(plan.stage_of(source) <= here, f"{step.id} runs before its input {source}")
        if isinstance(step.action, Read):
            _must(here == 0, f"{step.id} reads in stage {here + 1}")
        if isinstance(step.action, Write):
            _must(here == len(plan.stages) - 1, f"{step.id} writes before the last stage")
    for stage in plan.stages:
        _must(bool(stage.steps), "a stage is empty")
        _must(stage.batch_rows >= 1, f"a stage has batches of {stage.batch_rows} rows")
    _must(plan.unit_rows >= 1, f"units have {plan.unit_rows} rows")
    return plan


def _check_step(step: Step, done: dict[str, Step]) -> None:
    for source in step.inputs:
        _must(source in done, f"{step.id} takes rows of {source}, which comes later or not at all")
    if isinstance(step.action, Read):
        return
    (source,) = step.inputs
    given = done[source].columns
    missing = step.reads() - set(given)
    _must(not missing, f"{step.id} reads {sorted(missing)}, which {source} does not pass on")
    lost = set(step.columns) - set(given) - step.makes()
    _must(not lost, f"{step.id} passes on {sorted(lost)}, which nobody made")
    if not isinstance(step.action, Select | Write):
        return
    wrong = [c for c in step.columns if step.columns[c] != given[c]]
    _must(not wrong, f"{step.id} changes the type of {wrong}")


def _must(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"unsound plan: {message}")
