"""What became of a run, and who hears how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from weft.pipelines.engines.books import Books
from weft.pipelines.gates.judging import Judgement
from weft.pipelines.observe.stages import StageUse, slow_side
from weft.pipelines.plan import Plan


@dataclass(frozen=True)
class Recomputed:
    """What a backfill did: the `fields` it computed anew, for how many `rows`, how many of them
    were `written` because something came out otherwise, and how many failed. `stored` says
    whether it read the dataset alone; `books` are those of its steps."""

    fields: tuple[str, ...]
    rows: int
    written: int
    failed: int
    stored: bool
    books: Books = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All but the books."""
        return {n: v for n, v in vars(self).items() if n != "books"}


@dataclass(frozen=True)
class RunResult:
    """What became of a run.

    `rows` are the rows read; `kept` and `versions` are by write step. `seconds` is the time
    this attempt took, without the start of the engine, which `startup_seconds` is. `increment`
    says of an incremental run how many rows of the source were new, changed, deleted, retried
    and unchanged; it is empty if all rows were processed. `stages` tells how busy each was,
    `incidents` which workers and machines died on the way, `gates` what gates found, and
    `recomputed`, by write, what was computed anew for rows that stay. Of one that published in
    parts it is the last part; `earlier` are the runs that published the others, and rows that
    are `put_off` are for the next. One that is `resumed` went on with another's units.
    """

    run: str
    state: str
    plan: Plan
    rows: int
    books: Books
    kept: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    uris: dict[str, str] = field(default_factory=dict)
    samples: tuple[dict[str, str], ...] = ()
    seconds: float = 0.0
    startup_seconds: float = 0.0
    rows_resumed: int = 0
    engine: str = "local"
    increment: dict[str, int] = field(default_factory=dict)
    stages: tuple[StageUse, ...] = ()
    incidents: tuple[str, ...] = ()
    gates: Judgement = field(default_factory=Judgement)
    recomputed: Mapping[str, Recomputed] = field(default_factory=dict)
    put_off: int = 0
    earlier: tuple[str, ...] = ()
    resumed: bool = False

    @property
    def failed(self) -> int:
        """Rows that failed, at whatever step."""
        again = sum(done.failed for done in self.recomputed.values())
        return sum(line.failures for line in self.books.values()) + again

    def _steps(self) -> Books:
        """What the steps did, for rows of the source and for rows that stay."""
        found = {name: replace(line) for name, line in self.books.items()}
        for done in self.recomputed.values():
            for name, line in done.books.items():
                if name in found:
                    found[name].add(line)
        return found

    @property
    def in_sync(self) -> bool:
        """Whether there was nothing to do."""
        return self.state == "in sync"

    def to_json(self) -> dict[str, Any]:
        """The result as JSON, for ``--json`` and the journal."""
        return {
            "run": self.run,
            "state": self.state,
            "pipeline": self.plan.name,
            "engine": self.engine,
            "rows": self.rows,
            "failed": self.failed,
            "rows_resumed": self.rows_resumed,
            "increment": self.increment,
            "put_off": self.put_off,
            "earlier": list(self.earlier),
            "seconds": round(self.seconds, 3),
            "startup_seconds": round(self.startup_seconds, 3),
            "writes": [
                {
                    "step": name,
                    "dataset": self.uris[name],
                    "version": self.versions.get(name),
                    "kept": self.kept.get(name),
                }
                for name in self.uris
            ],
            "stages": [use.to_json() for use in self.stages],
            "slow_side": slow_side(self.stages),
            "steps": {name: asdict(line) for name, line in self._steps().items()},
            "samples": list(self.samples),
            "incidents": list(self.incidents),
            "gates": self.gates.to_json(),
            "recomputed": {name: done.to_json() for name, done in self.recomputed.items()},
        }


class Listener:
    """Hears how a run goes. Progress displays derive from it; this one is silent."""

    def notice(self, text: str) -> None:
        """Something a person wants to know before the work starts."""

    def engine_started(self, engine: str, seconds: float) -> None:
        """The engine is there; next the plan is made and the source is listed."""

    def started(self, plan: Plan, run: str, rows: int, rows_done: int) -> None:
        """Work begins; `rows` are to be read in all, `rows_done` were in an earlier attempt."""

    def advanced(self, rows_done: int, books: Books, samples: Sequence[dict[str, str]]) -> None:
        """A unit ended. `books` are summed over all units so far."""

    def finished(self, result: RunResult) -> None:
        """The run is published."""
