"""Metrics against the books, read by Prometheus's own parser."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError, Interrupted, OverBudget
from weft.pipelines.engines.books import Books, Count
from weft.pipelines.observe.listeners import Listeners
from weft.pipelines.observe.metrics import STATES, Metrics, check_file
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.result import Listener, RunResult
from weft.pipelines.runs.run import run

ROWS = [{"id": f"secret-key-{i:03d}", "n": i} for i in range(600)]


@weft.operator(version="1")
def picky(n: int) -> int:
    if n % 50 == 4:
        raise ValueError(f"{n} is not to my liking")
    return n


@weft.operator(version="1")
def unsure(n: int) -> int | None:
    if n % 40 == 2:
        raise ValueError("no idea")
    return n


@weft.operator(version="1")
def copies(n: int) -> Iterator[weft.fields(copy=int)]:  # type: ignore[valid-type]
    return ({"copy": 10 * n + i} for i in range(n % 3))


@weft.operator(version="1", resources=weft.Resources(workers=1, cpus=0.5))
def pooled(copy: int) -> float:
    return copy / 2


@weft.pipeline
def counted(out: str = "counted"):
    rows = weft.read(Arrow(ROWS, key="id")).where(pl.col("n") >= 100)
    rows = rows.apply(picky).apply(unsure, on_error="null").where(pl.col("n") % 2 == 0)
    return rows.apply(copies).apply(pooled).select("copy", "pooled").write(Memory(out))


Values = dict[tuple[str, ...], float]


class Exposition:
    """The text of a scrape, as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.families: dict[str, Metric] = {f.name: f for f in text_string_to_metric_families(text)}

    def values(self, sample: str, *labels: str) -> Values:
        """The samples of a name, by the values of these labels."""
        return {
            tuple(s.labels[label] for label in labels): s.value
            for family in self.families.values()
            for s in family.samples
            if s.name == sample
        }

    def value(self, sample: str) -> float:
        (value,) = self.values(sample).values()
        return value

    @property
    def state(self) -> str:
        states = self.values("weft_run_state", "state")
        assert set(states) == {(s,) for s in STATES}
        ((state,),) = [name for name, value in states.items() if value == 1]
        return state


def expose(metrics: Metrics) -> Exposition:
    return Exposition(generate_latest(metrics.registry).decode())


def equal_books(found: Exposition, books: Books) -> None:
    """What the exposition says of every step is what the books say."""
    rows = found.values("weft_rows_total", "step", "outcome")
    seconds = found.values("weft_step_seconds_total", "step")
    assert {step for step, _ in rows} == set(books)
    for step, line in books.items():
        told = {outcome: rows[step, outcome] for outcome in ("kept", "nulled", "dropped", "failed")}
        assert sum(told.values()) == line.taken
        assert told["kept"] + told["nulled"] == line.passed
        assert told["nulled"] == line.nulled
        assert (told["dropped"], told["failed"]) == (line.dropped, line.failed)
        assert seconds[step,] == pytest.approx(line.seconds)


@pytest.fixture(scope="module")
def ran() -> tuple[RunResult, Metrics]:
    """A run with all outcomes there are."""
    with Metrics("counted") as metrics:
        result = run(counted(), engine="local", listener=metrics)
    return result, metrics


def test_metrics_say_what_the_books_say(ran: tuple[RunResult, Metrics]) -> None:
    result, metrics = ran
    found = expose(metrics)
    equal_books(found, result.books)
    assert sum(line.nulled for line in result.books.values()) > 0
    children = found.values("weft_children_total", "step", "outcome")
    assert children["copies", "kept"] == result.books["copies"].emitted == result.kept["write"]
    assert children["copies", "failed"] == 0
    assert found.value("weft_run_rows") == found.value("weft_run_rows_done") == 600
    assert found.state == "published"
    busy = found.values("weft_stage_busy_ratio", "stage")
    assert busy == {(str(i + 1),): use.busy for i, use in enumerate(result.stages)}
    assert len(busy) > 1
    assert 0 < found.value("weft_run_duration_seconds") < 300


def test_names_and_labels(ran: tuple[RunResult, Metrics]) -> None:
    families = expose(ran[1]).families
    for family in families.values():
        assert family.name.startswith("weft_")
        assert family.documentation
        assert {s.labels["pipeline"] for s in family.samples} == {"counted"}
        labels = {name for s in family.samples for name in s.labels}
        assert labels <= {"pipeline", "step", "outcome", "stage", "state"}
        if family.type == "counter":
            assert {s.name for s in family.samples} <= {f"{family.name}_total"}
    kinds = {name for name, f in families.items() if f.type == "counter"}
    assert kinds == {"weft_rows", "weft_children", "weft_step_seconds"}
    assert "secret-key" not in generate_latest(ran[1].registry).decode()


class Scraper(Listener):
    """Scrapes the endpoint whenever the run has news."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"
        self.seen: list[Exposition] = []

    def scrape(self) -> Exposition:
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            return Exposition(answer.read().decode())

    def started(self, *_: object) -> None:
        self.seen.append(self.scrape())

    def advanced(self, rows_done: int, books: Books, samples: Sequence[dict[str, str]]) -> None:
        found = self.scrape()
        equal_books(found, books)
        assert found.value("weft_run_rows_done") == rows_done
        self.seen.append(found)


def test_a_run_is_scraped_while_it_lasts() -> None:
    metrics = Metrics("counted")
    with metrics.served(0) as port, metrics:
        scraper = Scraper(port)
        assert scraper.scrape().state == "starting"
        run(counted(), engine="local", listener=Listeners(metrics, scraper))
    states = [found.state for found in scraper.seen]
    assert len(states) > 2
    assert set(states) == {"running"}
    done = [found.value("weft_run_rows_done") for found in scraper.seen]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 600)
    assert {found.value("weft_run_rows") for found in scraper.seen} == {600}
    with pytest.raises(urllib.error.URLError, match="refused"):
        scraper.scrape()


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(DefinitionError, match=rf"127\.0\.0\.1:{port}: Address already in use"),
            Metrics("a").served(port),
        ):
            pass


def test_a_scrape_never_sees_half_a_unit(ran: tuple[RunResult, Metrics]) -> None:
    """Lines of books grow in place while the run goes on; what is exposed does not."""
    books = {"read": Count(taken=5, passed=5, emitted=5)}
    metrics = Metrics("a")
    metrics.started(ran[0].plan, "1", 10, 0)
    metrics.advanced(5, books, [])
    books["read"].add(Count(taken=1, passed=1))
    found = expose(metrics).values("weft_rows_total", "outcome")
    assert sum(found.values()) == 5


def test_scrapes_and_news_at_once(ran: tuple[RunResult, Metrics]) -> None:
    metrics = Metrics("a")
    metrics.started(ran[0].plan, "1", 1000, 0)
    stop, seen = threading.Event(), list[bool]()

    def scrape() -> None:
        while not (seen and stop.is_set()):
            found = expose(metrics)
            rows = found.values("weft_rows_total", "outcome")
            seen.append(sum(rows.values()) == found.value("weft_run_rows_done"))

    thread = threading.Thread(target=scrape)
    thread.start()
    for i in range(1, 400):
        metrics.advanced(i, {"read": Count(taken=i, passed=i)}, [])
    stop.set()
    thread.join()
    assert seen
    assert all(seen)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_failed_run_keeps_the_time_of_the_last_success(
    tmp_path: Path, ran: tuple[RunResult, Metrics]
) -> None:
    file, clock = tmp_path / "weft.prom", Clock()
    with Metrics("counted", clock) as metrics:
        clock.now = 1012.5
        metrics.finished(ran[0])
    metrics.write(file)
    found = Exposition(file.read_text())
    assert found.value("weft_run_last_success_timestamp_seconds") == 1012.5
    assert found.value("weft_run_duration_seconds") == 12.5

    clock.now = 5000.0
    with pytest.raises(OverBudget), Metrics("counted", clock) as metrics:
        run(counted(), engine="local", listener=metrics, budget=Budget.parse("1"))
    metrics.write(file)
    found = Exposition(file.read_text())
    assert found.state == "over budget"
    assert found.value("weft_run_last_success_timestamp_seconds") == 1012.5
    assert found.values("weft_rows_total", "step", "outcome")["picky", "failed"] > 1
    assert list(tmp_path.iterdir()) == [file]

    with pytest.raises(RuntimeError), Metrics("another", clock) as metrics:
        raise RuntimeError
    metrics.write(file)
    assert "last_success" not in file.read_text()


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (RuntimeError("x"), "failed"),
        (DefinitionError("x"), "failed"),
        (Interrupted("x"), "interrupted"),
        (KeyboardInterrupt(), "interrupted"),
        (OverBudget("x"), "over budget"),
    ],
)
def test_how_a_run_ended(error: BaseException, state: str) -> None:
    metrics = Metrics("a")
    with pytest.raises(type(error)), metrics:
        raise error
    assert expose(metrics).state == state


def test_nothing_to_do_is_a_success(ran: tuple[RunResult, Metrics]) -> None:
    metrics = Metrics("a")
    metrics.finished(replace(ran[0], state="in sync", rows=0))
    assert expose(metrics).state == "in sync"
    assert expose(metrics).value("weft_run_last_success_timestamp_seconds") > 1e9


def test_a_file_that_is_no_metrics_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "a.prom"
    file.write_text("what { is this")
    Metrics("a").write(file)
    assert Exposition(file.read_text()).state == "starting"


def test_files_that_could_not_be_written(tmp_path: Path) -> None:
    check_file(tmp_path / "a.prom")
    with pytest.raises(DefinitionError, match=r"only files named \*\.prom.*Call it a\.prom"):
        check_file(tmp_path / "a.txt")
    with pytest.raises(DefinitionError, match=r"the folder .*/no is not there or not writable"):
        check_file(tmp_path / "no" / "a.prom")


def test_everyone_is_told_everything(ran: tuple[RunResult, Metrics]) -> None:
    told: list[tuple[str, str]] = []

    class Ear(Listener):
        def __init__(self, name: str) -> None:
            self.name = name

        def notice(self, text: str) -> None:
            told.append((self.name, "notice"))

        def engine_started(self, engine: str, seconds: float) -> None:
            told.append((self.name, "engine_started"))

        def started(self, *_: object) -> None:
            told.append((self.name, "started"))

        def advanced(self, *_: object) -> None:
            told.append((self.name, "advanced"))

        def finished(self, result: RunResult) -> None:
            told.append((self.name, "finished"))

    both = Listeners(Ear("a"), Ear("b"))
    both.notice("x")
    both.engine_started("local", 0.0)
    both.started(ran[0].plan, "r", 1, 0)
    both.advanced(1, {}, [])
    both.finished(ran[0])
    hears = [m for m in vars(Listener) if not m.startswith("_")]
    assert told == [(name, method) for method in hears for name in "ab"]
