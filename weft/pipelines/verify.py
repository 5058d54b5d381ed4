"""Checks that a plan is one that the engines can run. Runs after every pass.

A plan that fails here is a defect of the pass before it, never of the user's pipeline.
"""

from __future__ import annotations

from weft.pipelines.graph import Exchange, Read, Select, Write
from weft.pipelines.lowering import is_first
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
    phases = [stage.phase for stage in plan.stages]
    _must(phases == sorted(phases) and set(phases) == set(range(plan.phases)), f"phases {phases}")
    for step in plan.steps:
        _check_place(plan, step)
    for index, stage in enumerate(plan.stages):
        takes_up = stage.phase > 0 and phases.index(stage.phase) == index
        _must(bool(stage.steps) or takes_up, "a stage is empty")
        _must(stage.batch_rows >= 1, f"a stage has batches of {stage.batch_rows} rows")
    _must(plan.unit_rows >= 1, f"units have {plan.unit_rows} rows")
    return plan


def _check_place(plan: Plan, step: Step) -> None:
    """Check that a step stands in a stage where its rows are."""
    here, phases = plan.stage_of(step.id), [stage.phase for stage in plan.stages]
    phase = phases[here]
    for source in step.inputs:
        there = plan.stage_of(source)
        if isinstance(plan.step(source).action, Exchange):
            _must(phases[there] < phase, f"{step.id} takes what {source} has not kept yet")
        else:
            _must(phases[there] == phase, f"{step.id} and its input {source} are phases apart")
            _must(there <= here, f"{step.id} runs before its input {source}")
    if is_first(plan, step):
        what = "reads" if isinstance(step.action, Read) else "takes whole groups"
        _must(phases.index(phase) == here, f"{step.id} {what} in stage {here + 1}")
    if step.ends:
        what = "writes" if isinstance(step.action, Write) else "keeps rows"
        last = len(phases) - 1 - phases[::-1].index(phase)
        _must(here == last, f"{step.id} {what} before the last stage")


def _check_step(step: Step, done: dict[str, Step]) -> None:
    for source in step.inputs:
        _must(source in done, f"{step.id} takes rows of {source}, which comes later or not at all")
    given: set[str] = set()
    for source in step.inputs:
        has = set(done[source].columns)
        missing = step.wants(source, frozenset()) - has
        _must(not missing, f"{step.id} reads {sorted(missing)}, which {source} does not pass on")
        given |= has
    if isinstance(step.action, Read):
        return
    lost = set(step.columns) - given - step.makes()
    _must(not lost, f"{step.id} passes on {sorted(lost)}, which nobody made")
    if isinstance(step.action, Select | Write | Exchange):
        columns = done[step.inputs[0]].columns
        wrong = [c for c in step.columns if step.columns[c] != columns[c]]
        _must(not wrong, f"{step.id} changes the type of {wrong}")


def _must(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(f"unsound plan: {message}")
