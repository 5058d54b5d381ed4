"""Progress on stderr: a live display on a terminal, otherwise a log line every few seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from weft.pipelines.observe.progress import Progress, duration
from weft.pipelines.runs.result import Listener

if TYPE_CHECKING:
    from weft.pipelines.engines.books import Books
    from weft.pipelines.plan import Plan

LOG_SECONDS = 5.0
"""How often a log line tells how far the run is."""

_MOST_LINES = 14
"""Steps shown at once; a terminal has 24 lines or more."""


class Display(Listener):
    """Shows how a run goes. A context manager: leaving it takes the display away."""

    def __init__(self, engine: str) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress()
        self.engine = engine
        self.working = False
        self._began = perf_counter()
        self._doing = "starting Ray" if engine == "ray" else ""
        self._live: Live | None = None
        self._stop = threading.Event()
        self._log: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(
                self,
                console=self.console,
                refresh_per_second=4,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
            )
            self._live.start()
        elif self._doing:
            self._say(f"{self._doing}…")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._live is not None:
            self._live.stop()
        if self._log is not None:
            self._log.join()

    def engine_started(self, engine: str, seconds: float) -> None:
        if engine == "ray" and not self.working:  # later parts and backfills have it running
            self._say(f"starting Ray… {duration(seconds)}")
        self._doing, self._began = "listing the source", perf_counter()

    def notice(self, text: str) -> None:
        self._say(text)

    def started(self, plan: Plan, run: str, rows: int, rows_done: int) -> None:
        self.progress.start(plan, rows, rows_done)
        self.working, self._doing = True, ""
        done = f", {rows_done:,} of them done before" if rows_done else ""
        self._say(f"{plan.name}: run {run}, {rows:,} rows{done}")
        if self._live is None and self._log is None:
            self._log = threading.Thread(target=self._log_lines, daemon=True, name="weft-log")
            self._log.start()

    def advanced(self, rows_done: int, books: Books, samples: Sequence[dict[str, str]]) -> None:
        self.progress.advance(rows_done, books)

    def _say(self, text: str) -> None:
        if self.console.is_terminal:
            self.console.print(text, markup=False)
        else:  # whole lines, for whoever reads the log
            self.console.print(f"{datetime.now():%H:%M:%S} {text}", markup=False, soft_wrap=True)

    def _log_lines(self) -> None:
        while not self._stop.wait(LOG_SECONDS):
            self._say(self.progress.sentence())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.working:
            if self._doing:
                yield Text(f"{self._doing}… {duration(perf_counter() - self._began)}")
            return
        yield Group(self._head(), *([self._steps()] if self.progress.lines() else []))

    def _head(self) -> Table:
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=max(1, self.progress.rows), completed=self.progress.done, width=24)
        head.add_row(bar, self.progress.sentence())
        return head

    def _steps(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
        table.add_column("step", no_wrap=True, overflow="ellipsis")
        for name in ("rows", "passed on", "dropped", "failed", "time"):
            table.add_column(name, justify="right", no_wrap=True)
        lines = self.progress.lines()
        for line in lines[:_MOST_LINES]:
            table.add_row(
                line.name,
                f"{line.taken:,}",
                f"{line.emitted:,}",
                f"{line.dropped:,}" if line.dropped else "",
                Text(f"{line.failed:,}", style="red") if line.failed else "",
                f"{line.share:.0%}",
            )
        if len(lines) > _MOST_LINES:
            table.add_row(f"and {len(lines) - _MOST_LINES} more", "", "", "", "", "")
        return table
