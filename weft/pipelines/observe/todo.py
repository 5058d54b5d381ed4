"""What a run would do for rows that are there already, and what that costs, in words.

The cost of a step is what it took for each row in the newest published run that has the step's
name in its books: seconds of one worker. A step that is new has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weft.errors import CorruptState
from weft.pipelines.observe.progress import duration
from weft.pipelines.plan import Plan
from weft.pipelines.runs.backfill import Backfill
from weft.pipelines.runs.changes import Changes
from weft.pipelines.runs.increment import Increment
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.places import sink_of


def recomputation(plan: Plan, found: Increment) -> list[dict[str, Any]]:
    """For each dataset whose rows get something anew: what, for how many rows, why, how long.

    `seconds` of a step are ``None`` if it has not run yet.
    """
    made = []
    for name, update in found.updates.by_write.items():
        if update.backfill is not None:
            sink = sink_of(plan.step(name))
            measured = _measured(sink.state) if sink.state else {}
            made.append(
                {
                    "dataset": sink.uri,
                    "fields": list(update.backfill.fields),
                    "rows": update.backfill.rows,
                    "reads": "dataset" if update.backfill.stored else "source",
                    "steps": list(_steps(plan, update.backfill, update.changes, measured)),
                }
            )
    return made


def recomputation_words(made: list[dict[str, Any]]) -> str:
    """The same for people."""
    lines = []
    for work in made:
        fields = ", ".join(work["fields"]) or "no field, but filters are asked"
        where = (
            "the dataset, only the columns that are needed"
            if work["reads"] == "dataset"
            else "the source again"
        )
        lines.append(f"For {work['rows']:,} rows that stay in {work['dataset']}: {fields}.")
        lines.append(f"  It reads {where}.")
        wide = max((len(s["step"]) for s in work["steps"]), default=0)
        lines += [f"  {s['step']:<{wide}}  {_told(s)}" for s in work["steps"]]
    return "\n".join(lines)


def _steps(
    plan: Plan, work: Backfill, changes: Changes, measured: dict[str, float]
) -> Iterator[dict[str, Any]]:
    for name in work.steps:
        each = measured.get(name)
        yield {
            "step": name,
            "why": changes.reasons.get(name, "is needed for what follows"),
            "gpus": plan.step(name).resources.gpus,
            "where_equal": "skipped" if name in work.cut_off else "run",
            "seconds": None if each is None else round(each * work.rows, 6),
        }


def _told(step: dict[str, Any]) -> str:
    device = "a GPU" if step["gpus"] else "a CPU"
    cost = "" if step["seconds"] is None else f", about {duration(step['seconds'])} of {device}"
    less = "; not for rows where that comes out as it was" if step["where_equal"] != "run" else ""
    return f"{step['why']}{cost}{less}"


def _measured(state: str) -> dict[str, float]:
    """Seconds for a row, by step, from the newest runs that tell."""
    found: dict[str, float] = {}
    for journal in journals(Path(state)):
        try:
            steps = journal.state().get("result", {}).get("steps", {})
        except CorruptState:
            continue
        for name, line in steps.items():
            if line["taken"]:
                found.setdefault(name, line["seconds"] / line["taken"])
    return found
