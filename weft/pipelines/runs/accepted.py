"""Changes of code that somebody knows to be neutral: ``weft accept``.

They are noted beside the dataset: operator, version before, version after. A plan is compared
with the dataset as if such an operator had the version before.
"""

from __future__ import annotations

import json
from pathlib import Path

from weft.pipelines.engines.sealed import read_json, sealed_json
from weft.pipelines.runs.journal import write_whole

Change = tuple[str, str, str]
"""Operator, version before, version after."""


def accepted(state: str) -> frozenset[Change]:
    """The changes that were accepted for a dataset.

    Raises:
        CorruptState: the file is damaged.
    """
    path = _path(state)
    if not path.exists():
        return frozenset()
    return frozenset((a["operator"], a["before"], a["after"]) for a in read_json(path)["accepted"])


def accept(state: str, changes: frozenset[Change]) -> None:
    """Note changes beside those that were accepted before."""
    names = ("operator", "before", "after")
    rows = [dict(zip(names, c, strict=True)) for c in sorted(changes | accepted(state))]
    write_whole(_path(state), sealed_json(json.dumps({"accepted": rows}, indent=1).encode()))


def _path(state: str) -> Path:
    return Path(state, "accepted.json")
