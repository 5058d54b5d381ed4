"""How far a run is: rows, rate, time left, and a line for each step. State only, no display."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from weft.pipelines.graph import Select

if TYPE_CHECKING:
    from weft.pipelines.engines.books import Count
    from weft.pipelines.plan import Plan

_WINDOW_SECONDS = 30.0
"""What the rate is taken over: long enough for units that end in bursts, short enough to follow."""


@dataclass(frozen=True)
class Line:
    """One step, or one stage of several; `share` is its part of all working time, 0 to 1."""

    name: str
    taken: int
    emitted: int
    dropped: int
    failed: int
    share: float


class Progress:
    """Follows a run. One thread may tell it news while others ask."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self.rows = 0
        self.done = 0
        self._clock = clock
        self._plan: Plan | None = None
        self._books: Mapping[str, Count] = {}
        self._seen: deque[tuple[float, int]] = deque()
        self._lock = threading.Lock()

    def start(self, plan: Plan, rows: int, rows_done: int) -> None:
        """Work begins; `rows_done` of `rows` were done in an earlier attempt."""
        with self._lock:
            self._plan, self.rows, self.done = plan, rows, rows_done
            self._seen = deque([(self._clock(), rows_done)])

    def advance(self, rows_done: int, books: Mapping[str, Count]) -> None:
        """`rows_done` rows are through; `books` are summed over them."""
        with self._lock:
            now = self._clock()
            self.done, self._books = rows_done, books
            self._seen.append((now, rows_done))
            while len(self._seen) > 2 and self._seen[1][0] < now - _WINDOW_SECONDS:
                self._seen.popleft()

    @property
    def rate(self) -> float:
        """Rows a second, over the last half minute."""
        with self._lock:
            if not self._seen:
                return 0.0
            since, before = self._seen[0]
            passed = self._clock() - since
            return (self.done - before) / passed if passed > 0 else 0.0

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the last row, if it goes on like this; ``None`` while nobody can tell."""
        rate = self.rate
        return (self.rows - self.done) / rate if rate > 0 else None

    @property
    def failed(self) -> int:
        """Rows that failed, at whatever step."""
        return sum(line.failures for line in self._books.values())

    @property
    def dropped(self) -> int:
        """Rows that a filter dropped."""
        return sum(line.dropped for line in self._books.values())

    def lines(self) -> list[Line]:
        """A line for each stage; for each step, if one stage does everything."""
        if self._plan is None or not self._books:
            return []
        groups = [
            [s.id for s in self._plan.stage_steps(i) if not isinstance(s.action, Select)]
            for i in range(len(self._plan.stages))
        ]
        if len(groups) == 1:
            groups = [[step] for step in groups[0]]
        total = sum(line.seconds for line in self._books.values()) or 1.0
        return [self._line(group, total) for group in groups if group]

    def _line(self, steps: list[str], total: float) -> Line:
        assert self._plan is not None
        pushed = [p.node for s in steps for p in self._plan.step(s).predicates]
        of = [self._books[s] for s in (*steps, *pushed)]
        return Line(
            name=" → ".join(steps),
            taken=self._books[steps[0]].taken,
            emitted=self._books[steps[-1]].emitted or self._books[steps[-1]].passed,
            dropped=sum(line.dropped for line in of),
            failed=sum(line.failures for line in of),
            share=sum(line.seconds for line in of) / total,
        )

    def sentence(self) -> str:
        """How far it is, in one line."""
        share = f" ({self.done / self.rows:.0%})" if self.rows else ""
        parts = [f"{self.done:,} of {self.rows:,} rows{share}", f"{number(self.rate)} rows/s"]
        parts += [f"{self.failed:,} failed"] if self.failed else []
        parts += [f"{self.dropped:,} dropped"] if self.dropped else []
        eta = self.eta_seconds
        parts += [f"ETA {duration(eta)}"] if eta is not None and self.done < self.rows else []
        return ", ".join(parts)


def number(value: float) -> str:
    """A rate for people.

    >>> number(1234.5), number(12.34), number(0)
    ('1,234', '12.3', '0')
    """
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.1f}"


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(0.012), duration(6.12), duration(200), duration(7500)
    ('12 ms', '6.1 s', '3 min 20 s', '2 h 05 min')
    """
    if seconds < 0.095:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
