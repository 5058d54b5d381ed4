"""Metrics of a run for Prometheus: served while it lasts, left in a file when it ends.

Labels are bounded: pipelines, steps, stages, outcomes and states, never keys or addresses.
What the metrics say of rows is what the books say, at the end of the last unit. Outcomes do not
overlap, so their sum over a step is the rows that it took.

A batch run may end before anybody scrapes it. `Metrics.write` therefore leaves a file for the
node exporter's textfile collector; a failed run keeps there the time of the last success.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from weft.errors import DefinitionError, GateFailed, Interrupted, OverBudget
from weft.pipelines.engines.books import Books, Count
from weft.pipelines.observe.stages import StageUse
from weft.pipelines.plan import Plan
from weft.pipelines.runs.result import Listener, RunResult

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

STATES = (
    "starting", "running", "published", "in sync", "failed", "over budget", "gated", "interrupted",
)  # fmt: skip
"""What `weft_run_state` may be; one of them is 1, the others are 0."""

_LAST_SUCCESS = "weft_run_last_success_timestamp_seconds"


class Metrics(Listener, Collector):
    """Follows a run of `pipeline`. A context manager: leaving it notes how the run ended.

    `clock` is Unix time in seconds. One thread may tell it news while others scrape.
    """

    def __init__(self, pipeline: str, clock: Callable[[], float] = time.time) -> None:
        self.pipeline = pipeline
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._clock = clock
        self._began = clock()
        self._ended: float | None = None
        self._last_success: float | None = None
        self._state = "starting"
        self._rows = 0
        self._rows_done = 0
        self._books: Mapping[str, Count] = {}
        self._expands: frozenset[str] = frozenset()
        self._stages: tuple[StageUse, ...] = ()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._end(_state_of(error))

    def started(self, plan: Plan, run: str, rows: int, rows_done: int) -> None:
        with self._lock:
            self._state, self._rows, self._rows_done = "running", rows, rows_done
            self._expands = frozenset(s.id for s in plan.steps if s.expands)

    def advanced(self, rows_done: int, books: Books, samples: Sequence[dict[str, str]]) -> None:
        seen = {name: replace(line) for name, line in books.items()}  # the run goes on adding
        with self._lock:
            self._rows_done, self._books = rows_done, seen

    def finished(self, result: RunResult) -> None:
        """The run is published, or there was nothing to do."""
        with self._lock:
            self._rows = self._rows_done = result.rows
            self._books, self._stages = dict(result.books), result.stages
            self._last_success = self._clock()
        self._end("in sync" if result.in_sync else "published")

    def _end(self, state: str) -> None:
        with self._lock:
            self._state, self._ended = state, self._clock()

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        with self._lock:
            found = [*self._rows_families(), *self._step_families(), *self._run_families()]
        yield from found

    def _rows_families(self) -> Iterator[Metric]:
        rows = CounterMetricFamily(
            "weft_rows",
            "Rows that steps took, by what became of them: kept, nulled (kept with nulls for "
            "what failed), dropped or failed.",
            labels=("pipeline", "step", "outcome"),
        )
        children = CounterMetricFamily(
            "weft_children",
            "Rows that steps made of the rows they took, by what became of them: kept or failed.",
            labels=("pipeline", "step", "outcome"),
        )
        for step, line in self._books.items():
            kept = line.passed - line.nulled
            for outcome, count in (
                ("kept", kept), ("nulled", line.nulled), ("dropped", line.dropped),
                ("failed", line.failed),
            ):  # fmt: skip
                rows.add_metric((self.pipeline, step, outcome), count)
            if step in self._expands:
                children.add_metric((self.pipeline, step, "kept"), line.emitted)
                children.add_metric((self.pipeline, step, "failed"), line.children_failed)
        yield from (rows, children)

    def _step_families(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily(
            "weft_step_seconds",
            "Time spent in steps, over all workers.",
            labels=("pipeline", "step"),
        )
        for step, line in self._books.items():
            seconds.add_metric((self.pipeline, step), line.seconds)
        busy = GaugeMetricFamily(
            "weft_stage_busy_ratio",
            "Share of its workers' time that a stage worked, 0 to 1; known when a run is "
            "published. Stages count from 1, as in the plan.",
            labels=("pipeline", "stage"),
        )
        for index, use in enumerate(self._stages):
            busy.add_metric((self.pipeline, str(index + 1)), use.busy)
        yield from (seconds, busy)

    def _run_families(self) -> Iterator[Metric]:
        duration = (self._clock() if self._ended is None else self._ended) - self._began
        yield self._gauge(
            "weft_run_rows", "Rows of the source that the run is to read.", self._rows
        )
        yield self._gauge(
            "weft_run_rows_done",
            "Rows of the source that are through, of earlier attempts too.",
            self._rows_done,
        )
        yield self._gauge(
            "weft_run_duration_seconds", "Time since this attempt began, or that it took.", duration
        )
        state = GaugeMetricFamily(
            "weft_run_state", "How the run is: 1 for its state.", labels=("pipeline", "state")
        )
        for name in STATES:
            state.add_metric((self.pipeline, name), float(name == self._state))
        yield state
        if self._last_success is not None:
            yield self._gauge(
                _LAST_SUCCESS,
                "Unix time when the pipeline was last published or found in sync.",
                self._last_success,
            )

    def _gauge(self, name: str, words: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, words, labels=("pipeline",))
        family.add_metric((self.pipeline,), value)
        return family

    @contextmanager
    def served(self, port: int) -> Iterator[int]:
        """Serve ``/metrics`` on 127.0.0.1 while this lasts; gives the port, found if it is 0.

        Raises:
            DefinitionError: the port is not free.
        """
        try:
            server, thread = start_http_server(port, addr="127.0.0.1", registry=self.registry)
        except OSError as error:
            raise DefinitionError(
                f"Metrics cannot be served on 127.0.0.1:{port}: {error.strerror}. Take another "
                "port, or 0 for any that is free."
            ) from error
        try:
            yield server.server_port
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def write(self, path: Path) -> None:
        """Leave the metrics in a file, whole or not at all.

        Of a run that did not succeed, the file keeps the time of the last that did.
        """
        if self._last_success is None:
            self._last_success = _last_success(path, self.pipeline)
        write_to_textfile(str(path), self.registry)


def check_file(path: Path) -> None:
    """Refuse, before a run, a file that could not be written after it.

    Raises:
        DefinitionError: the name does not end in ``.prom``, or its folder is not there or may
            not be written to.
    """
    if path.suffix != ".prom":
        raise DefinitionError(
            f"{path}: the textfile collector reads only files named *.prom. "
            f"Call it {path.with_suffix('.prom').name}."
        )
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise DefinitionError(f"{path}: the folder {folder} is not there or not writable.")


def _last_success(path: Path, pipeline: str) -> float | None:
    """When a pipeline last succeeded, by the file of an earlier run."""
    try:
        families = list(text_string_to_metric_families(path.read_text()))
    except FileNotFoundError:
        return None
    except ValueError:  # not ours, or cut short: it is about to be replaced
        return None
    samples = (s for f in families for s in f.samples if s.name == _LAST_SUCCESS)
    return next((s.value for s in samples if s.labels.get("pipeline") == pipeline), None)


def _state_of(error: BaseException) -> str:
    if isinstance(error, OverBudget):
        return "over budget"
    if isinstance(error, GateFailed):
        return "gated"
    return "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
