"""Run a pipeline with progress and a summary: what `weft run` and `weft resume` share."""

from __future__ import annotations

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weft.cli.command import emit
from weft.cli.display import Display
from weft.errors import DefinitionError, GateFailed, Interrupted, OverBudget
from weft.pipelines.graph import Write
from weft.pipelines.observe.summary import summarise
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.result import Listener
from weft.pipelines.runs.run import run

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline
    from weft.pipelines.observe.metrics import Metrics


class _Display(Display):
    """A display that keeps SIGTERM as it was: importing Ray makes it end the process at once,
    with the run noted as running."""

    def __init__(self, engine: str) -> None:
        super().__init__(engine)
        self._on_sigterm = signal.getsignal(signal.SIGTERM)

    def engine_started(self, engine: str, seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_sigterm)
        super().engine_started(engine, seconds)


def execute(
    pipeline: Pipeline,
    target: str,
    *,
    engine: str,
    address: str | None,
    max_failed: str | None,
    metrics_port: int | None = None,
    metrics_file: Path | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
    if_busy: str = "refuse",
    max_recompute: int | None = None,
    publish_every: float | None = None,
) -> None:
    """Run and tell how it went. An error leaves with what to type next."""
    if address is not None and engine != "ray":
        raise DefinitionError(f"--address is of a Ray cluster; --engine {engine} has none.")
    options: dict[str, Any] = {"engine": engine, "address": address}
    options |= {"fresh": fresh, "retry_failed": retry_failed, "if_busy": if_busy}
    options |= {"max_recompute": max_recompute, "publish_every": publish_every}
    if max_failed is not None:
        options["budget"] = Budget.parse(max_failed)
    with (
        _Display(engine) as display,
        _measured(pipeline, display, metrics_port, metrics_file) as listener,
    ):
        try:
            result = run(pipeline, listener=listener, target=target, **options)
        except OverBudget as error:
            _advise(error, pipeline, "See why:", "errors")
            raise
        except GateFailed:  # it says what to type next
            raise
        except (Exception, Interrupted) as error:
            if display.working:
                _advise(error, pipeline, "Go on with it:", "resume")
            raise
        if result.in_sync:
            listener.finished(result)  # nothing ran, so nobody was told; it is a success
    emit(result.to_json(), "\n".join(summarise(result)))


@contextmanager
def _measured(
    pipeline: Pipeline, display: Display, port: int | None, file: Path | None
) -> Iterator[Listener]:
    """Who hears of the run: the display, and metrics if they are asked for."""
    if port is None and file is None:
        yield display
        return
    from weft.pipelines.observe.listeners import Listeners
    from weft.pipelines.observe.metrics import Metrics, check_file

    if file is not None:
        check_file(file)
    metrics = Metrics(pipeline.graph.name)
    with ExitStack() as stack:
        if port is not None:
            found = stack.enter_context(metrics.served(port))
            display.notice(f"Metrics: http://127.0.0.1:{found}/metrics")
        if file is not None:
            stack.callback(_leave, metrics, file, display)
        stack.enter_context(metrics)
        yield Listeners(display, metrics)


def _leave(metrics: Metrics, file: Path, display: Display) -> None:
    """Write the metrics file. If that fails, the run is still what it is: published or not."""
    try:
        metrics.write(file)
    except OSError as error:
        display.notice(f"Metrics were not written: {error}")


def _advise(error: Exception, pipeline: Pipeline, why: str, command: str) -> None:
    for node in pipeline.graph.writes():
        assert isinstance(node.action, Write)
        if node.action.sink.state is not None:
            error.add_note(f"  {why} weft {command} {shlex.quote(node.action.sink.uri)}")
            return
