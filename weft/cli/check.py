"""``weft check TARGET``: graph and plan for this machine, and the columns of each write."""

from __future__ import annotations

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import parse_settings, target_argument


@click.command("check", cls=Command)
@target_argument
def command(target: str, settings: tuple[str, ...]) -> None:
    """Check a pipeline for this machine; run nothing.

    Names, types and shapes, whether the plan fits this machine and whether each dataset can
    take what is written. Prints the columns of each write.
    """
    from weft.cli.target import load
    from weft.pipelines.compile import compile_plan
    from weft.pipelines.engines.worker import dataset_schema
    from weft.pipelines.resources import this_machine
    from weft.pipelines.runs.places import sink_of

    pipeline, full = load(target, parse_settings(settings))
    machine = this_machine()
    plan = compile_plan(pipeline.graph, machine)
    writes = []
    lines = [f"{plan.name} is right, and fits this machine ({machine})."]
    for step in plan.writes():
        sink = sink_of(step)
        sink.check(dataset_schema(plan, step))
        columns = {name: str(kind) for name, kind in step.columns.items()}
        writes.append({"step": step.id, "dataset": sink.uri, "columns": columns})
        table = aligned([[f"  {name}", kind] for name, kind in columns.items()])
        lines += [f"{step.id} -> {sink.uri}", table]
    document = {
        "pipeline": plan.name,
        "target": full,
        "recipe": plan.recipe,
        "machine": str(machine),
        "writes": writes,
    }
    emit(document, "\n".join(lines))
