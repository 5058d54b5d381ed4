"""``weft plan TARGET``: the plan, how much there is to do, and exit code 10 if there is any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import parse_settings, target_argument
from weft.errors import DefinitionError, redact

if TYPE_CHECKING:
    from weft.pipelines.plan import Plan
    from weft.pipelines.resources import Cluster

WORK_TO_DO = 10
"""The exit code that says a run would do something."""

SVG, MERMAID = ".svg", ".mmd"


@click.command("plan", cls=Command)
@target_argument
@click.option(
    "--graph",
    metavar="FILE",
    help="Draw the plan too: FILE.svg, FILE.mmd (Mermaid), or 'mermaid', which prints that alone.",
)
@click.pass_context
def command(ctx: click.Context, target: str, settings: tuple[str, ...], graph: str | None) -> None:
    """Print what a run would do on this machine; exit 10 if there is work, 0 if in sync."""
    from weft.cli.target import load
    from weft.pipelines.compile import compile_plan, plain_plan
    from weft.pipelines.resources import this_machine
    from weft.pipelines.runs import forgotten

    file = _graph_file(graph)
    pipeline, full = load(target, parse_settings(settings))
    machine = this_machine()
    nodes = forgotten.without(pipeline.graph.afresh())
    plan = compile_plan(nodes, machine)
    todo = _todo(plan, plain_plan(nodes), machine)
    document = {"pipeline": plan.name, "target": full, "recipe": plan.recipe, **todo}
    shown = redact(str(plan), 10**6)
    text = f"{shown}\n\n{_words(todo)}"
    if file is not None:
        _draw(plan, file)
        document["graph"], text = str(file), f"{text}\nDrawn: {file}"
    elif graph is not None:
        document["graph"] = text = _drawing(plan, MERMAID).rstrip()
    emit({**document, "plan": shown}, text)
    ctx.exit(0 if todo["in_sync"] else WORK_TO_DO)


def _graph_file(given: str | None) -> Path | None:
    """The file that ``--graph`` names, if it names one.

    Raises:
        DefinitionError: it is no picture that can be drawn, or there is no such folder.
    """
    if given is None or given == "mermaid":
        return None
    path = Path(given).absolute()
    if path.suffix not in (SVG, MERMAID):
        raise DefinitionError(
            f"--graph {given}: expected a file that ends in {SVG} or {MERMAID}, or the word "
            "mermaid, which prints the text of such a file."
        )
    if not path.parent.is_dir():
        raise DefinitionError(f"{path}: there is no folder {path.parent}. Make it first.")
    return path


def _draw(plan: Plan, file: Path) -> None:
    from weft.pipelines.runs.journal import write_whole

    write_whole(file, _drawing(plan, file.suffix).encode("utf-8", "replace"))


def _drawing(plan: Plan, suffix: str) -> str:
    from weft.pipelines.estimates import estimate
    from weft.pipelines.observe.plan_mermaid import plan_mermaid
    from weft.pipelines.observe.plan_svg import plan_svg

    return redact((plan_svg if suffix == SVG else plan_mermaid)(plan, estimate(plan)), 10**7)


def _todo(plan: Plan, plain: Plan, machine: Cluster) -> dict[str, Any]:
    """What a run would do now: nothing, the rest of an unfinished run, what changed, or all."""
    from weft.pipelines.observe.todo import recomputation
    from weft.pipelines.runs.increment import Increment, find_increment
    from weft.pipelines.runs.places import sink_of
    from weft.pipelines.runs.work import cut, nothing_to_do, unfinished

    states = [s for step in plan.writes() if (s := sink_of(step).state) is not None]
    old = unfinished(states[0]) if states else None
    if old is not None and old.about()["recipe"] == plan.recipe:
        units = [*old.units(), *old.backfill_units()]
        receipts = {r["unit"]: r["rows"] for r in old.receipts()}
        rows = sum(u.split.rows for u in units)
        left = rows - sum(receipts.values())
        why = f"goes on with run {old.run}"
        return _work(left, rows, old.known() - len(receipts), why, resumes=old.run)
    versions = nothing_to_do(plan) if states else None
    if versions is not None:
        return {"in_sync": True, "rows": 0, "units": 0, "versions": versions, "resumes": None}
    found = find_increment(plain)
    if isinstance(found, Increment):
        units = cut(plan, machine, found.sources)
        rows = sum(u.split.rows for u in units)
        of = rows + found.counts["unchanged"]
        since = f"since run {found.base}: {found}"
        work = _work(rows, of, len(units), since, increment=dict(found.counts))
        return work | {"recomputes": recomputation(plain, found)}
    units = cut(plan, machine)
    rows = sum(u.split.rows for u in units)
    why = "an unfinished run of another recipe would be abandoned" if old else found.why
    return _work(rows, rows, len(units), why)


def _work(
    rows: int,
    of: int,
    units: int,
    why: str,
    *,
    resumes: str | None = None,
    increment: dict[str, int] | None = None,
) -> dict[str, Any]:
    return {
        "in_sync": False,
        "rows": rows,
        "rows_of_source": of,
        "units": units,
        "why": why,
        "resumes": resumes,
        "increment": increment or {},
        "recomputes": [],
    }


def _words(todo: dict[str, Any]) -> str:
    if todo["in_sync"]:
        return "In sync: same pipeline, same source. Nothing to do."
    units = f"{todo['units']:,} unit{'s' * (todo['units'] != 1)}"
    from weft.pipelines.observe.todo import recomputation_words

    told = f"To do: {todo['rows']:,} rows in {units} ({todo['why']})."
    return "\n".join(filter(None, [told, recomputation_words(todo["recomputes"])]))
