"""Where the state of a dataset is: its ledger and its errors table, in the folder beside it."""

from __future__ import annotations

from pathlib import Path

from weft.pipelines.connector import Sink
from weft.pipelines.graph import Write
from weft.pipelines.plan import Step


def sink_of(step: Step) -> Sink:
    """The sink of a write."""
    assert isinstance(step.action, Write)
    return step.action.sink


def ledger_uri(state: str) -> str:
    """The ledger in a dataset's state folder."""
    return str(Path(state) / "ledger.lance")


def errors_uri(state: str) -> str:
    """The errors table in a dataset's state folder."""
    return str(Path(state) / "errors.lance")
