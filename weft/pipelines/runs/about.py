"""What the journal of a run says it set out to do: everything a person asks of it later."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version as installed
from typing import Any

import weft
from weft.errors import names_a_secret, redact
from weft.pipelines.engines.worker import Target, Unit
from weft.pipelines.observe.outline import outline
from weft.pipelines.plan import Plan
from weft.pipelines.runs.asked import Asked
from weft.pipelines.runs.journal import whoami
from weft.pipelines.runs.phases import exchanges
from weft.pipelines.runs.places import sink_of


def about_run(
    asked: Asked,
    plan: Plan,
    run: str,
    *,
    inputs: str,
    targets: Mapping[str, Target],
    units: Sequence[Unit],
) -> dict[str, Any]:
    """What a run sets out to do, as JSON, without secrets."""
    return {
        "run": run,
        "pipeline": plan.name,
        "target": asked.target,
        "folder": os.getcwd(),
        "parameters": {
            k: "***" if names_a_secret(k) else _recorded(v)
            for k, v in asked.pipeline.parameters.items()
        },
        "recipe": plan.recipe,
        "input": inputs,
        "exchanges": exchanges(plan),
        "rows": sum(u.split.rows for u in units),
        "units": len(units),
        "engine": asked.engine,
        "plan": redact(str(plan), limit=10**6),
        "outline": outline(plan),
        "targets": {name: asdict(t) for name, t in targets.items()},
        "datasets": list(uris_of(plan).values()),
        "process": whoami(),
        "versions": {
            "weft": weft.__version__,
            "python": platform.python_version(),
            **{p: installed(p) for p in ("ray", "pyarrow", "polars", "pylance", "pillow")},
        },
        "command": ["weft", *(redact(a) for a in sys.argv[1:])],
    }


def uris_of(plan: Plan) -> dict[str, str]:
    """Where each write goes."""
    return {s.id: sink_of(s).uri for s in plan.writes()}


def _recorded(value: Any) -> Any:
    """A parameter as JSON, without secrets; what is no JSON, as text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_recorded(v) for v in value]
    return redact(str(value), limit=100_000)
