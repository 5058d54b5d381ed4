"""A run: from a pipeline to published versions, or to a journal that resume goes on with.

The order of things is the promise. Nothing starts before the plan, the cluster and the targets
are checked. Nothing is staged before the journal says what the run sets out to do. Nothing is
committed before every unit has its receipt and the books balance. Nothing is shown before it is
committed.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version as installed
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import weft
from weft.errors import (
    DataError,
    DefinitionError,
    Interrupted,
    OverBudget,
    PlanError,
    names_a_secret,
    redact,
)
from weft.pipelines import tables
from weft.pipelines.compile import compile_plan
from weft.pipelines.engines.books import Books, balance, new_books, sum_books
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Context, Target, Unit, dataset_schema
from weft.pipelines.lowering import lower
from weft.pipelines.observe import record
from weft.pipelines.observe.outline import outline
from weft.pipelines.observe.stages import stage_use
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster, this_machine
from weft.pipelines.runs import publish
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.increment import (
    STEPS_PROPERTY,
    Increment,
    anything_failed,
    find_increment,
    steps_property,
)
from weft.pipelines.runs.journal import Journal, journal_of, journals, new_run_id, whoami
from weft.pipelines.runs.lease import Lease, hold, refuse_if_held
from weft.pipelines.runs.phases import (
    exchanges,
    in_order,
    kept_files,
    refuse_many,
    units_of_phase,
)
from weft.pipelines.runs.result import Listener, RunResult
from weft.pipelines.runs.work import cut, input_digest, nothing_to_do, unfinished

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline

Engine = Literal["ray", "local"]


def run(
    pipeline: Pipeline,
    *,
    engine: Engine = "ray",
    address: str | None = None,
    cluster: Cluster | None = None,
    fresh: bool = False,
    retry_failed: bool = False,
    budget: Budget | None = None,
    listener: Listener | None = None,
    target: str | None = None,
) -> RunResult:
    """Run a pipeline and publish what it wrote.

    An unfinished run of the same recipe on the same dataset is gone on with. A dataset that
    the same recipe made of the same input is in sync, and nothing runs. If only the input has
    changed, the new and the changed rows are processed, and what was made of changed and of
    deleted ones goes.

    Args:
        pipeline: what to run.
        engine: ``"ray"``, or ``"local"``: this process.
        address: of a Ray cluster; without one Ray is started on this machine.
        cluster: plan for this shape instead of what the engine finds.
        fresh: start anew, whatever is there.
        retry_failed: process rows that failed again, though nothing has changed.
        budget: how many rows may fail.
        listener: hears how it goes.
        target: how the command line names the pipeline, for `weft resume`.

    Raises:
        DefinitionError, PlanError: it cannot start; nothing was written.
        Busy: another run holds a dataset.
        OverBudget: too many rows failed.
        Interrupted: stopped by the user.
        WeftError: it failed; its finished units are kept for resume.
    """
    graph = pipeline.graph.afresh()
    plain = lower(graph)
    _check_targets(plain)
    versions = None if fresh else nothing_to_do(plain)
    if versions is not None and not (retry_failed and anything_failed(plain)):
        return RunResult(
            "", "in sync", plain, 0, new_books(plain), versions=versions, uris=_uris(plain)
        )
    began = perf_counter()
    execute, found = _engine(engine, address, cluster)
    startup = perf_counter() - began
    listener = listener or Listener()
    listener.engine_started(engine, startup)
    plan = compile_plan(graph, found)
    attempt = _Attempt(pipeline, plan, found, listener, budget or Budget())
    attempt.engine, attempt.target, attempt.startup = engine, target, startup
    attempt.plain, attempt.retry_failed = plain, retry_failed
    with ExitStack() as stack:
        return attempt.run(execute, stack, fresh=fresh)


def _check_targets(plan: Plan) -> None:
    """Refuse what the targets cannot take, and targets that another run is working on."""
    for step in plan.writes():
        sink = publish.sink_of(step)
        if sink.state is not None:
            refuse_if_held(sink.state)
        try:
            sink.check(dataset_schema(plan, step))
        except PlanError:
            if sink.state is not None:
                refuse_if_held(sink.state)  # it may be another run that is making the table
            raise


def _engine(engine: Engine, address: str | None, cluster: Cluster | None) -> tuple[Any, Cluster]:
    if engine == "local":
        from weft.pipelines.engines import local

        return local.execute, cluster or this_machine()
    if engine == "ray":
        from weft.pipelines.engines import ray

        cpus = cluster.cpus if cluster and address is None else None
        live = ray.start(address, cpus)
        return ray.execute, cluster or live
    raise DefinitionError(f"engine={engine!r}; expected 'ray' or 'local'.")


@dataclass(frozen=True)
class _Job:
    """The work of a run: what there is to do, and what is done already.

    `units` are those that read sources; later phases have more, cut when they begin.
    """

    journal: Journal | None
    units: list[Unit]
    targets: dict[str, Target]
    receipts: list[Receipt]
    about: dict[str, Any]


class _Attempt:
    """One attempt at a run, with what it needs at hand."""

    engine: str
    target: str | None
    startup: float
    plain: Plan
    retry_failed: bool

    def __init__(
        self, pipeline: Pipeline, plan: Plan, cluster: Cluster, listener: Listener, budget: Budget
    ) -> None:
        self.pipeline = pipeline
        self.plan = plan
        self.cluster = cluster
        self.listener = listener
        self.budget = budget
        self.states = [
            s for step in plan.writes() if (s := publish.sink_of(step).state) is not None
        ]
        self.leases: list[Lease] = []

    def run(self, execute: Any, stack: ExitStack, *, fresh: bool) -> RunResult:
        if not self.states:
            return self._run_without_journal(execute)
        run = new_run_id()
        old = unfinished(self.states[0])
        label = run if old is None or self._given_up(old, fresh=fresh) else old.run
        for state in sorted(self.states):
            self.leases.append(stack.enter_context(hold(state, label)))
        old = unfinished(self.states[0])  # again: whoever held the lease may have finished it
        if old is not None:
            if (why := self._given_up(old, fresh=fresh)) is None:
                return self._go_on(execute, old)
            self._abandon(old, why)
        return self._begin(execute, run, fresh=fresh)

    def _given_up(self, old: Journal, *, fresh: bool) -> str | None:
        """Why this run does not go on with an unfinished one; ``None``: it does."""
        if fresh:
            return "a fresh start was asked for"
        about = old.about()
        if about["recipe"] != self.plan.recipe:
            return "the pipeline has changed since"
        if about.get("exchanges", []) != exchanges(self.plan):
            return "what its units kept is cut in another way than this plan would"
        if old.lost():
            return "rows that its units kept are gone"
        uri = publish.overtaken(_targets(about), old.run)
        return None if uri is None else f"something else changed {uri} since"

    def _abandon(self, old: Journal, why: str) -> None:
        self.listener.notice(f"Run {old.run} was not finished and is abandoned: {why}.")
        for journal in (journal_of(state, old.run) for state in self.states):
            if journal.path.is_dir():  # a dataset may be gone
                journal.set_state("abandoned", reason=why)
        old.drop_kept()

    def _begin(self, execute: Any, run: str, *, fresh: bool) -> RunResult:
        for old in journals(self.states[0]):
            old.drop_kept()  # of runs that were over budget or refused
        inputs = input_digest(self.plan)
        found = self._increment(fresh=fresh)
        units = cut(self.plan, self.cluster, found.sources if found else None)
        targets = publish.prepare(self.plan)
        journal = journal_of(self.states[0], run)
        about = self._about(run, inputs, targets, units)
        about |= {"base": found.base, "increment": dict(found.counts)} if found else {}
        for state in self.states[1:]:
            journal_of(state, run).begin({**about, "journal": str(journal.path)}, [])
        journal.begin(about, units, found.removed if found else None)  # last: it makes it a run
        return self._work(execute, _Job(journal, units, targets, [], about))

    def _increment(self, *, fresh: bool) -> Increment | None:
        """What changed since the last run, if the rest of its rows can stay."""
        if fresh:
            return None
        found = find_increment(self.plain, retry_failed=self.retry_failed)
        sinks = [publish.sink_of(s) for s in self.plain.writes()]
        published = any(tables.latest(s.uri) for s in sinks if s.state is not None)
        if isinstance(found, Increment):
            self.listener.notice(f"Since run {found.base}: {found}.")
            return found
        if published:
            self.listener.notice(f"All rows are processed: {found.why}.")
        return None

    def _go_on(self, execute: Any, journal: Journal) -> RunResult:
        about = journal.about()
        units, receipts = journal.units(), list(journal.receipts())
        targets = _targets(about)
        self.listener.notice(
            f"Going on with run {journal.run}: {len(receipts)} of {journal.known()} units are done."
        )
        return self._work(execute, _Job(journal, units, targets, receipts, about))

    def _work(self, execute: Any, job: _Job) -> RunResult:
        journal, receipts = job.journal, job.receipts
        assert journal is not None
        folder = str(journal.kept_path)
        context = Context(journal.run, str(journal.receipts_path), job.targets, folder)
        self._set_state(journal, "running", **whoami())
        try:
            unchanged = job.about.get("increment", {}).get("unchanged", 0)
            result = self._execute(execute, context, job, unchanged)
            self._set_state(journal, "publishing")
            properties = self._properties(result, job.about["input"])
            versions = publish.publish(
                self.plan,
                journal.run,
                job.targets,
                receipts,
                properties,
                leases=self.leases,
                base=job.about.get("base"),
                removed=journal.removed(),
            )
            result = replace(result, increment=job.about.get("increment", {}))
        except KeyboardInterrupt:
            self._set_state(journal, "interrupted")
            done = len(list(journal.receipts()))  # some may have ended since the last was seen
            raise Interrupted(
                f"Run {journal.run} was stopped; {done} of {journal.known()} units are "
                "done and kept. `weft resume` goes on with the rest."
            ) from None
        except OverBudget as error:
            for step in self.plan.writes():
                publish.commit_errors(step, journal.run, job.targets[step.id], receipts, {})
            self._set_state(journal, "over budget", error=str(error))
            raise
        except DataError as error:  # it would be so again: a new run looks at the data anew
            self._set_state(journal, "refused", error=redact(str(error), 2000))
            raise
        except Exception as error:
            text = redact(f"{type(error).__name__}: {error}", 2000)
            self._set_state(journal, "failed", error=text)
            raise
        return self._done(result, versions, journal)

    def _done(
        self, result: RunResult, versions: dict[str, int], journal: Journal | None = None
    ) -> RunResult:
        done = replace(result, state="published", versions=versions)
        if journal is not None:
            journal.drop_kept()  # first, so that nothing is left of a run that is published
            self._set_state(journal, "published", result=done.to_json())
        self.listener.finished(done)
        return done

    def _run_without_journal(self, execute: Any) -> RunResult:
        """For sinks that keep no state, such as memory: no lease, no journal, no resume."""
        run, receipts = new_run_id(), list[Receipt]()
        targets = publish.prepare(self.plan)
        units = cut(self.plan, self.cluster)
        with tempfile.TemporaryDirectory(prefix="weft-") as folder:
            context = Context(run, None, targets, folder)
            result = self._execute(execute, context, _Job(None, units, targets, receipts, {}))
        versions = publish.publish(self.plan, run, targets, receipts, {}, leases=[])
        return self._done(result, versions)

    def _execute(self, execute: Any, context: Context, job: _Job, unchanged: int = 0) -> RunResult:
        """Run the units that have no receipt yet, phase by phase; the job's receipts grow to one
        for each unit.

        Rows of the source that are `unchanged` count for the share of the error budget.
        """
        receipts = job.receipts
        done = {r["unit"] for r in receipts}
        before = len(receipts)
        resumed = sum(r["rows"] for r in receipts)
        rows = sum(u.split.rows for u in job.units)
        books = sum_books(self.plan, (r["books"] for r in receipts))
        samples = [s for r in receipts for s in r["samples"]]
        self.listener.started(self.plan, context.run, rows, resumed)
        began, reached = perf_counter(), resumed
        order: dict[str, int] = {}
        for phase in range(self.plan.phases):
            units, context = self._phase(phase, context, job, order)
            waiting = [u for u in units if u.id not in done]
            for receipt in execute(self.plan.phase(phase), waiting, context, self.cluster):
                if receipt["unit"] in done:
                    continue
                done.add(receipt["unit"])
                receipts.append(receipt)
                reached += receipt["rows"]
                samples += receipt["samples"]
                for name, line in sum_books(self.plan, [receipt["books"]]).items():
                    books[name].add(line)
                self.listener.advanced(reached, books, samples)
                self.budget.check(failures(books), rows + unchanged, reasons(samples))
            refuse_many(self.plan, receipts)
        use = stage_use(self.plan, receipts[before:], self.cluster)
        receipts.sort(key=lambda r: order[r["unit"]])  # the dataset in the order of the source
        kept = {s.id: sum(r["writes"][s.id]["rows"] for r in receipts) for s in self.plan.writes()}
        self.budget.check(failures(books), rows + unchanged, reasons(samples))
        balance(self.plan, books, rows, kept)
        return RunResult(
            run=context.run,
            state="executed",
            plan=self.plan,
            rows=rows,
            books=books,
            kept=kept,
            uris=_uris(self.plan),
            samples=tuple(samples[:50]),
            seconds=perf_counter() - began,
            startup_seconds=self.startup,
            rows_resumed=resumed,
            engine=self.engine,
            stages=use,
        )

    def _phase(
        self, phase: int, context: Context, job: _Job, order: dict[str, int]
    ) -> tuple[list[Unit], Context]:
        """The units of a phase, which `order` is extended by, and the context they run in."""
        units = [u for u in job.units if self.plan.phase_of(u.read) == phase]
        if phase:
            known = sorted(
                (r for r in job.receipts if r["unit"] in order), key=lambda r: order[r["unit"]]
            )
            context = replace(context, kept=kept_files(self.plan, known))
            taken = job.journal.phase_units(phase) if job.journal else None
            if taken is None:
                taken = units_of_phase(self.plan, phase, context.kept, self.cluster)
                if job.journal:
                    job.journal.begin_phase(phase, taken)
            units = in_order(self.plan, [*units, *taken])
            many = f"{len(units):,} unit{'s' * (len(units) != 1)}"
            self.listener.notice(f"Phase {phase + 1} of {self.plan.phases}: {many}.")
        for unit in units:
            order[unit.id] = len(order)
        return units, context

    def _set_state(self, journal: Journal, state: str, **more: Any) -> None:
        for other in self.states[1:]:
            journal_of(other, journal.run).set_state(state, **more)
        journal.set_state(state, **more)  # last: a run is finished when this one says so

    def _properties(self, result: RunResult, inputs: str) -> dict[str, str]:
        return {
            "weft.pipeline": self.plan.name,
            "weft.recipe": self.plan.recipe,
            STEPS_PROPERTY: steps_property(self.plain),
            "weft.input": inputs,
            "weft.rows": str(result.rows),
            "weft.failed": str(result.failed),
            "weft.version": weft.__version__,
            **record.properties(self.plan),
        }

    def _about(
        self, run: str, inputs: str, targets: dict[str, Target], units: list[Unit]
    ) -> dict[str, Any]:
        return {
            "run": run,
            "pipeline": self.plan.name,
            "target": self.target,
            "folder": os.getcwd(),
            "parameters": {
                k: "***" if names_a_secret(k) else _recorded(v)
                for k, v in self.pipeline.parameters.items()
            },
            "recipe": self.plan.recipe,
            "input": inputs,
            "exchanges": exchanges(self.plan),
            "rows": sum(u.split.rows for u in units),
            "units": len(units),
            "engine": self.engine,
            "plan": redact(str(self.plan), limit=10**6),
            "outline": outline(self.plan),
            "targets": {name: asdict(t) for name, t in targets.items()},
            "datasets": list(_uris(self.plan).values()),
            "process": whoami(),
            "versions": {
                "weft": weft.__version__,
                "python": platform.python_version(),
                **{p: installed(p) for p in ("ray", "pyarrow", "polars", "pylance", "pillow")},
            },
            "command": ["weft", *(redact(a) for a in sys.argv[1:])],
        }


def _targets(about: Mapping[str, Any]) -> dict[str, Target]:
    return {name: Target(**tokens) for name, tokens in about["targets"].items()}


def _uris(plan: Plan) -> dict[str, str]:
    return {s.id: publish.sink_of(s).uri for s in plan.writes()}


def _recorded(value: Any) -> Any:
    """A parameter as JSON, without secrets; what is no JSON, as text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_recorded(v) for v in value]
    return redact(str(value), limit=100_000)


def failures(books: Books) -> int:
    """Rows that failed, at whatever step."""
    return sum(line.failures for line in books.values())


def reasons(samples: Sequence[dict[str, str]]) -> str:
    """The first failures, in words."""
    shown = [f"{s['key']}: {s['step']}: {s['message']}" for s in samples[:3]]
    return "First failures: " + " | ".join(shown) if shown else ""
