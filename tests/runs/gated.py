"""`sinks.three` with gates, and a process that dies while what they refuse is held back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import lance

import weft
from weft.connectors import Files, Lance
from weft.gates import FailedShare, NullShare, RowCount
from weft.pipelines.gates import judging

sys.path.insert(0, str(Path(__file__).parent))

import sinks

MOST_WORDS = 20
"""More are refused."""


@weft.pipeline
def gated(source: str, out: str) -> Any:
    """Three datasets of one source; the second has the gate that fails, the third has none."""
    rows = weft.read(Files(source, kind="text")).apply(sinks.text)
    few = [NullShare("word", max=0), RowCount(max=MOST_WORDS)]
    return (
        rows.apply(sinks.lines).select("uri", "line")
            .write(Lance(f"{out}/lines.lance"), gates=[RowCount(min=1), FailedShare(max=0.5)]),
        rows.apply(sinks.words).select("uri", "word")
            .write(Lance(f"{out}/words.lance"), gates=few),
        rows.select("uri", "size").write(Lance(f"{out}/sizes.lance")),
    )  # fmt: skip


def points() -> list[str]:
    """The durable steps from the verdict to the end of a run that is refused, in order. The
    errors are the same before and after, so they are not restored."""
    tables = [f"{kind} {n}" for n in sinks.NAMES for kind in ("errors", "ledger", "dataset")]
    return [
        f"note gates.json {sinks.NAMES[0]}",
        *(f"tag {table}" for table in tables),
        *(f"restore {table}" for table in tables if not table.startswith("errors")),
        *(f"note gated {name}" for name in (*sinks.NAMES[1:], sinks.NAMES[0])),
    ]


def main() -> None:
    """Answer lines of JSON as `sinks.main` does, of `gated`."""
    die_before = sinks.die_before

    def die(point: str) -> None:
        die_before(point)
        for owner, name, what in (
            (lance.LanceDataset, "restore", "restore"), (judging, "write_whole", "note")
        ):  # fmt: skip
            setattr(owner, name, sinks._mortal(getattr(owner, name), what, point))

    sinks.die_before, sinks.three = die, gated
    sinks.main()
