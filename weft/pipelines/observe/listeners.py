"""Several listeners of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from weft.pipelines.runs.result import Listener

if TYPE_CHECKING:
    from weft.pipelines.engines.books import Books
    from weft.pipelines.plan import Plan
    from weft.pipelines.runs.result import RunResult


class Listeners(Listener):
    """Tells each of its listeners everything, in their order."""

    def __init__(self, *listeners: Listener) -> None:
        self.listeners = listeners

    def notice(self, text: str) -> None:
        for listener in self.listeners:
            listener.notice(text)

    def engine_started(self, engine: str, seconds: float) -> None:
        for listener in self.listeners:
            listener.engine_started(engine, seconds)

    def started(self, plan: Plan, run: str, rows: int, rows_done: int) -> None:
        for listener in self.listeners:
            listener.started(plan, run, rows, rows_done)

    def advanced(self, rows_done: int, books: Books, samples: Sequence[dict[str, str]]) -> None:
        for listener in self.listeners:
            listener.advanced(rows_done, books, samples)

    def finished(self, result: RunResult) -> None:
        for listener in self.listeners:
            listener.finished(result)
