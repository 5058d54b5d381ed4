"""Two actors on one dataset, each stopped at named points of the real code, in any order.

After Delta's `PhaseLockingExecutionObserver`: a point is a function of weft; an actor stops right
before its n-th call of it, in its own thread, until it is let go. Between the points of an actor
lie its phases. Nothing in weft knows of this.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import pytest

Point = tuple[Any, str, int]
"""A module, the name of its function, and which call of it by the actor."""

SECONDS = 60.0
"""How long a phase may take before the test fails: two actors wait for each other."""


def orders(phases: int) -> list[str]:
    """All orders of the phases of two actors, as ``"AABBABAB"``."""
    places = combinations(range(2 * phases), phases)
    return ["".join("A" if i in mine else "B" for i in range(2 * phases)) for mine in places]


class Actor(threading.Thread):
    """One of the two. `result` or `error` is there when it has ended."""

    def __init__(self, work: Callable[[], Any], points: list[Point]) -> None:
        super().__init__(daemon=True)
        self.result: Any = None
        self.error: Exception | None = None
        self.stops: list[str] = []
        self._work = work
        self._points = points
        self._calls: Counter[tuple[Any, str]] = Counter()
        self._go = threading.Semaphore(0)
        self._stopped = threading.Event()

    def run(self) -> None:
        self._go.acquire()
        try:
            self.result = self._work()
        except Exception as error:  # noqa: BLE001  the test judges it
            self.error = error
        self._stopped.set()

    def reach(self, place: Any, name: str) -> None:
        """Called by the actor's thread; stops it where it is to be stopped."""
        self._calls[place.__name__, name] += 1
        number = self._calls[place.__name__, name]
        if (place, name, number) in self._points:
            self.stops.append(name)
            self._stopped.set()
            self._go.acquire()

    def step(self) -> None:
        """Let the actor go until its next point, or its end."""
        if not self.is_alive() and self.ident is not None:
            return
        if self.ident is None:
            self.start()
        self._stopped.clear()
        self._go.release()
        assert self._stopped.wait(SECONDS), f"stuck after {self.stops}"
        if self.error is not None or self.result is not None:
            self.join()


@contextmanager
def stopping(actors: list[Actor], points: list[Point]) -> Iterator[None]:
    """Have the actors stop at points inside."""
    with pytest.MonkeyPatch.context() as patch:
        for place, name in {(place, name) for place, name, _ in points}:
            patch.setattr(place, name, _stopper(getattr(place, name), place, name, actors))
        yield


def _stopper(
    function: Callable[..., Any], place: Any, name: str, actors: list[Actor]
) -> Callable[..., Any]:
    def stopper(*arguments: Any, **named: Any) -> Any:
        for actor in actors:
            if actor is threading.current_thread():
                actor.reach(place, name)
        return function(*arguments, **named)

    return stopper


def play(order: str, actors: dict[str, Actor], points: list[Point]) -> None:
    """Let actors go, phase by phase, in an order; then to their ends."""
    with stopping(list(actors.values()), points):
        for name in order + len(points) * "AB":
            actors[name].step()
