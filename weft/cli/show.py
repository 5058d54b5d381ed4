"""``weft show DATASET [RUN]``: one run in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument

if TYPE_CHECKING:
    from weft.cli.datasets import Steps

_COUNTS = ("taken", "passed", "dropped", "failed", "nulled", "emitted", "children_failed")


@click.command("show", cls=Command)
@dataset_argument
@click.argument("run", metavar="[RUN]", required=False)
def command(dataset: str, run: str | None) -> None:
    """Show one run in full: what was asked, the plan, the books, how it ended.

    RUN is a run's id or how it begins; without it, the newest run.
    """
    from weft.cli.datasets import find_dataset, find_run, primary, state_of, steps_of

    found = find_dataset(dataset)
    journal = find_run(found, run)
    about, state = journal.about(), state_of(found, journal)
    steps = steps_of(journal, state)
    done = sum(1 for _ in primary(journal).receipts_path.glob("*.json"))
    about["units"] = primary(journal).known()  # with those of later phases
    about.pop("targets", None)  # tokens of the storage, of no use to people
    document = {**about, "state": state, "units_done": done, "steps": steps}
    emit(document, "\n".join(_lines(about, state, steps, done)))


def _lines(about: dict[str, Any], state: dict[str, Any], steps: Steps, done: int) -> list[str]:
    parameters = "  ".join(f"{k}={v}" for k, v in about["parameters"].items())
    lines = [
        _line("run", about["run"]),
        _line("state", f"{state['state']}, {state['at'][:19].replace('T', ' ')} UTC"),
        _line("pipeline", f"{about['pipeline']}  from {about['target'] or 'Python'}"),
        _line("parameters", parameters or "none"),
        _line("engine", about["engine"]),
        _line("command", " ".join(about["command"])),
        _line("recipe", about["recipe"]),
        _line("input", about["input"]),
        _line("rows", f"{about['rows']:,} in {about['units']:,} units, {done:,} of them done"),
    ]
    lines += _increment(about)
    lines += _datasets(about, state)
    lines += _gates(state)
    lines += [_line("with", ", ".join(f"{k} {v}" for k, v in about["versions"].items()))]
    if "error" in state or "reason" in state:
        lines.append(_line("error", state.get("error") or state["reason"]))
    if steps:
        lines += ["", *_books(steps)]
    lines += _stages(state.get("result", {}))
    return [*lines, "", about["plan"]]


def _increment(about: dict[str, Any]) -> list[str]:
    told = [f"{count:,} {what}" for what, count in about.get("increment", {}).items() if count]
    return [_line("source", f"{', '.join(told)} since run {about['base']}")] if told else []


def _datasets(about: dict[str, Any], state: dict[str, Any]) -> list[str]:
    writes = {w["dataset"]: w for w in state.get("result", {}).get("writes", [])}
    lines = []
    for uri in about["datasets"]:
        write = writes.get(uri)
        added = " written" if state.get("result", {}).get("increment") else ""
        rows = f": version {write['version']}, {write['kept']:,} rows{added}" if write else ""
        end = rows or ": not published"
        lines.append(_line("dataset", uri + end))
    return lines


def _gates(state: dict[str, Any]) -> list[str]:
    found = [v for many in state.get("result", {}).get("gates", {}).values() for v in many]
    return [
        _line("gate", f"{v['gate']} {'passed' if v['passed'] else 'FAILED'}: {v['told']}")
        for v in found
    ]


def _books(steps: Steps) -> list[str]:
    total = sum(line["seconds"] for line in steps.values()) or 1.0
    rows = [["step", *_COUNTS, "seconds", "share"]]
    for name, line in steps.items():
        counts = [f"{line.get(count, 0):,.0f}" for count in _COUNTS]
        rows.append([name, *counts, f"{line['seconds']:,.2f}", f"{line['seconds'] / total:.0%}"])
    return aligned(rows, right=frozenset(range(1, len(rows[0])))).split("\n")


def _stages(result: dict[str, Any]) -> list[str]:
    if not result.get("stages"):
        return []
    rows = [["stage", "workers", "seconds", "busy"]]
    for use in result["stages"]:
        kind = "pool of" if use["pooled"] else "tasks on"
        workers, steps = f"{kind} {use['workers']:g}", ", ".join(use["steps"])
        rows.append([steps, workers, f"{use['seconds']:,.2f}", f"{use['busy']:.0%}"])
    lines = ["", *aligned(rows, right=frozenset((2, 3))).split("\n")]
    return [*lines, *([f"slow side  {result['slow_side']}"] if result["slow_side"] else [])]


def _line(head: str, text: str) -> str:
    return f"{head:<10} {text}"
