"""A run: from a pipeline to published versions, or to a journal that resume goes on with.

The order of things is the promise. Nothing starts before the plan, the cluster and the targets
are checked. Nothing is staged before the journal says what the run sets out to do. Nothing is
committed before every unit has its receipt and the books balance. Nothing is shown before it is
committed.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import weft
from weft.errors import (
    DataError,
    GateFailed,
    Held,
    Interrupted,
    OverBudget,
    PlanError,
    redact,
)
from weft.pipelines import tables
from weft.pipelines.compile import compile_plan, plain_plan
from weft.pipelines.engines.books import new_books
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Context, Target, Unit, dataset_schema
from weft.pipelines.gates.judging import judged
from weft.pipelines.observe import record
from weft.pipelines.observe.stages import stage_use
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster
from weft.pipelines.runs import forgotten, publish, readers, sharing, storage
from weft.pipelines.runs.about import about_run, uris_of
from weft.pipelines.runs.asked import Asked, Engine
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.drain import Drain
from weft.pipelines.runs.executing import Executor, Tally
from weft.pipelines.runs.increment import (
    Increment,
    anything_failed,
    find_increment,
    refuse_too_much,
)
from weft.pipelines.runs.journal import Journal, journal_of, journals, new_run_id, whoami
from weft.pipelines.runs.lease import Lease, hold, refuse_if_held
from weft.pipelines.runs.parts import Pace, Part, check_parts, first_part
from weft.pipelines.runs.phases import exchanges
from weft.pipelines.runs.places import sink_of
from weft.pipelines.runs.result import Listener, RunResult
from weft.pipelines.runs.sharing import IfBusy
from weft.pipelines.runs.updates import Updates, split
from weft.pipelines.runs.work import cut, input_digest, nothing_to_do, unfinished

if TYPE_CHECKING:
    from weft.pipelines.dsl import Pipeline


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
    if_busy: IfBusy = "refuse",
    max_recompute: int | None = None,
    publish_every: float | None = None,
) -> RunResult:
    """Run a pipeline and publish what it wrote.

    An unfinished run of the same recipe on the same dataset is gone on with. A dataset that
    the same recipe made of the same input is in sync, and nothing runs. Otherwise what differs
    is processed: new and changed rows, while what was made of changed and of deleted ones goes;
    and for the rows that stay, the fields whose recipe changed.

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
        if_busy: what to do when somebody else works on a dataset: ``"refuse"``; ``"wait"``, then
            begin as if it were called then; ``"share"`` the units of a run of the same recipe,
            which publishes what both have done, and take its place if it dies.
        max_recompute: of how many rows, whose source is as it was, something may be computed
            again because the pipeline changed.
        publish_every: seconds after which about what is done is shown to readers, as a run of
            its own; the rest follows in the next. Without it all is shown at the end. What the
            pipeline changed for rows that stay, and what is retried, is shown at once.

    Raises:
        DefinitionError, PlanError: it cannot start; nothing was written.
        Busy: another run holds a dataset.
        Refused: more would be computed again than `max_recompute`.
        OverBudget: too many rows failed.
        GateFailed: a dataset is not as expected; none is shown.
        Interrupted: stopped by the user.
        WeftError: it failed; its finished units are kept for resume.
    """
    sharing.check_choice(if_busy)
    pace = None if publish_every is None else Pace(publish_every)
    asked = Asked(
        pipeline=pipeline,
        engine=engine,
        address=address,
        cluster=cluster,
        fresh=fresh,
        retry_failed=retry_failed,
        budget=budget or Budget(),
        listener=listener or Listener(),
        target=target,
        max_recompute=max_recompute,
        publish_every=publish_every,
    )
    published: list[str] = []
    left = math.inf
    while True:
        result = _run_when_free(replace(asked, rows=pace.rows if pace else None), if_busy)
        if not result.put_off:
            return replace(result, earlier=tuple(published))
        published.append(result.run)
        asked.listener.notice(
            f"Processed {result.rows:,} rows and published what came of them; "
            f"{result.put_off:,} are to come."
        )
        if not result.resumed:
            asked = replace(asked, fresh=False, retry_failed=False)
        if pace is not None:
            pace.learn(result)
        # A source that grows as fast, or lists what it does not deliver, has no last part.
        left, pace = result.put_off, pace if result.put_off < left else None


def _run_when_free(asked: Asked, if_busy: IfBusy) -> RunResult:
    while True:
        try:
            return _run(asked)
        except sharing.Overtaken:  # what was looked at may not be so any more
            continue
        except Held as held:
            if if_busy == "refuse":
                raise
            if if_busy == "share":
                _share(asked, held)
            sharing.wait_for(held, asked.listener)


def _run(asked: Asked) -> RunResult:
    with storage.told(()):
        epochs = sharing.epochs(asked.pipeline.graph)  # before anything is looked at
        graph = asked.graph()
        plain = plain_plan(graph)
        if asked.rows is not None:
            check_parts(plain)
    with storage.told(_states(plain)):
        _check_targets(plain)
        versions = None if asked.fresh else nothing_to_do(plain)
    if versions is not None and not (asked.retry_failed and anything_failed(plain)):
        return RunResult(
            "", "in sync", plain, 0, new_books(plain), versions=versions, uris=uris_of(plain)
        )
    began = perf_counter()
    execute, found = asked.start()
    startup = perf_counter() - began
    asked.listener.engine_started(asked.engine, startup)
    attempt = _Attempt(asked, plain, compile_plan(graph, found), found, startup)
    with storage.told(attempt.states), ExitStack() as stack:
        return attempt.run(execute, stack, epochs)


def _share(asked: Asked, held: Held) -> None:
    """Work on the units of the run that holds a dataset."""
    execute, found = asked.start()
    graph = asked.graph()
    plain, plan = plain_plan(graph), compile_plan(graph, found)
    sharing.join(plain, plan, held, execute, found, listener=asked.listener, fresh=asked.fresh)


def _check_targets(plan: Plan) -> None:
    """Refuse what the targets cannot take, and targets that another run is working on."""
    for step in plan.writes():
        sink = sink_of(step)
        if sink.state is not None:
            refuse_if_held(sink.state)
        try:
            sink.check(dataset_schema(plan, step))
        except PlanError:
            if sink.state is not None:
                refuse_if_held(sink.state)  # it may be another run that is making the table
            raise


@dataclass(frozen=True)
class _Job:
    """The work of a run: what there is to do, and what is done already.

    `units` are those that read sources; later phases have more, cut when they begin. `updates`
    is for rows that stay, with the receipts of its units in `backfilled`, by write.
    """

    journal: Journal | None
    units: list[Unit]
    targets: dict[str, Target]
    receipts: list[Receipt]
    about: dict[str, Any]
    updates: Updates = field(default_factory=Updates)
    backfilled: dict[str, list[Receipt]] = field(default_factory=dict)


class _Attempt:
    """One attempt at a run, with what it needs at hand."""

    def __init__(
        self, asked: Asked, plain: Plan, plan: Plan, cluster: Cluster, startup: float
    ) -> None:
        self.asked = asked
        self.plain = plain
        self.plan = plan
        self.cluster = cluster
        self.startup = startup
        self.listener = asked.listener
        self.budget = asked.budget
        self.states = _states(plan)
        self.leases: list[Lease] = []

    def run(self, execute: Any, stack: ExitStack, epochs: Mapping[str, int]) -> RunResult:
        if not self.states:
            return self._run_without_journal(execute)
        run = new_run_id()
        old = unfinished(self.states[0], fresh=self.asked.fresh)
        label = run if old is None or self._given_up(old) else old.run
        for state in sorted(self.states):
            self.leases.append(stack.enter_context(hold(state, label)))
        sharing.check_none_between(self.leases, epochs)
        old = unfinished(
            self.states[0], fresh=self.asked.fresh
        )  # again: whoever held the lease may have finished it
        if old is not None:
            if (why := self._given_up(old)) is None:
                return self._go_on(execute, old)
            self._abandon(old, why)
        return self._begin(execute, sharing.later(run, self.states))

    def _given_up(self, old: Journal) -> str | None:
        """Why this run does not go on with an unfinished one; ``None``: it does."""
        if self.asked.fresh:
            return "a fresh start was asked for"
        about = old.about()
        if about["recipe"] != self.plan.recipe:
            return "the pipeline has changed since"
        if about.get("exchanges", []) != exchanges(self.plan):
            return "what its units kept is cut in another way than this plan would"
        if old.lost():
            return "rows that its units kept are gone"
        if (uri := publish.drifted(self.plan, _targets(about))) is not None:
            return f"the source has other columns now, so that those of {uri} would be others, too"
        uri = publish.overtaken(_targets(about), old.run)
        return None if uri is None else f"something else changed {uri} since"

    def _abandon(self, old: Journal, why: str) -> None:
        self.listener.notice(f"Run {old.run} was not finished and is abandoned: {why}.")
        for journal in (journal_of(state, old.run) for state in self.states):
            if journal.path.is_dir():  # a dataset may be gone
                journal.set_state("abandoned", reason=why)
        old.drop_kept()

    def _begin(self, execute: Any, run: str) -> RunResult:
        for old in journals(self.states[0]):
            old.drop_kept()  # of runs that were over budget or refused
        inputs = input_digest(self.plan)
        found = self._increment()
        part = found or self._first_part()
        units = cut(self.plan, self.cluster, part.sources if part else None)
        if not self.asked.fresh:
            rows = sum(u.split.rows for u in units)
            refuse_too_much(self.plan, found, rows, self.asked.max_recompute)
        targets = publish.prepare(self.plan)
        journal = journal_of(self.states[0], run)
        about = about_run(self.asked, self.plan, run, inputs=inputs, targets=targets, units=units)
        about |= {"base": found.base, "increment": dict(found.counts)} if found else {}
        if part is not None and part.put_off:
            about |= {"put_off": part.put_off, "input": f"part of {inputs}"}
            about["publish_every"] = self.asked.publish_every
        updates = found.updates if found else Updates()
        about["updates"] = updates.to_json()
        about["unregistered"] = readers.register(self.plan)
        if (left_out := forgotten.told(self.plan)) is not None:
            self.listener.notice(left_out)
        for state in self.states[1:]:
            journal_of(state, run).begin({**about, "journal": str(journal.path)}, [])
        later = updates.units(self.cluster)
        removed = found.removed if found else None
        journal.begin(about, units, removed, later)  # last: it makes it a run
        backfilled: dict[str, list[Receipt]] = {name: [] for name in updates.backfills}
        return self._work(execute, _Job(journal, units, targets, [], about, updates, backfilled))

    def _increment(self) -> Increment | None:
        """What changed since the last run, if the rest of its rows can stay."""
        if self.asked.fresh:
            return None
        asked = self.asked
        found = find_increment(self.plain, retry_failed=asked.retry_failed, rows=asked.rows)
        published = self._published()
        if isinstance(found, Increment):
            self.listener.notice(f"Since run {found.base}: {found}.")
            return found
        if published:
            self.listener.notice(f"All rows are processed: {found.why}.")
        return None

    def _published(self) -> bool:
        """Whether readers see something already."""
        sinks = [sink_of(s) for s in self.plain.writes()]
        return any(tables.latest(s.uri) for s in sinks if s.state is not None)

    def _first_part(self) -> Part | None:
        """What is processed of everything; ``None``: all of it, as readers have the old rows."""
        return None if self._published() else first_part(self.plain, self.asked.rows)

    def _go_on(self, execute: Any, journal: Journal) -> RunResult:
        about, units = journal.about(), journal.units()
        journal.removed()  # whether it is whole: it is needed at the very end
        if damaged := journal.put_aside():
            self.listener.notice(f"Damaged receipts: {damaged:,}. Their units are done again.")
        updates = Updates.from_json(self.plain, about.get("updates", {}))
        receipts, targets = list(journal.receipts()), _targets(about)
        own, backfilled = split(journal, updates, receipts)
        self.listener.notice(
            f"Going on with run {journal.run}: {len(receipts)} of {journal.known()} units are done."
        )
        job = _Job(journal, units, targets, own, about, updates, backfilled)
        return replace(self._work(execute, job), resumed=True)

    def _work(self, execute: Any, job: _Job) -> RunResult:
        journal, receipts = job.journal, job.receipts
        assert journal is not None
        folder = str(journal.kept_path)
        claims = sharing.claims_of(journal, self.leases)
        context = Context(
            journal.run, str(journal.receipts_path), job.targets, folder, claims=claims
        )
        self._set_state(journal, "running", **whoami())
        drain = Drain(claims.stop_path, self.listener.notice)
        try:
            with drain:
                check = partial(sharing.check_all, self.leases, drain)
                executor = Executor(execute, self.cluster, self.listener, self.budget, check)
                result = self._execute(executor, context, job)
                drain.publishing()
                self._set_state(journal, "publishing")
                versions = publish.publish(
                    self.plan,
                    journal.run,
                    job.targets,
                    receipts,
                    self._properties(result, job),
                    base=job.about.get("base"),
                    removed=journal.removed(),
                    backfilled=job.updates.done(job.backfilled),
                    folder=journal.path,
                )
                result = replace(
                    result,
                    increment=job.about.get("increment", {}),
                    put_off=job.about.get("put_off", 0),
                    gates=judged(journal.path),
                )
        except KeyboardInterrupt:
            done = len(list(journal.receipts()))  # some may have ended since the last was seen
            stopped = Interrupted(
                f"Run {journal.run} was stopped; {done} of {journal.known()} units are "
                "done and kept. `weft resume` goes on with the rest."
            )
            with storage.despite(stopped):
                self._set_state(journal, "interrupted", **drain.told())
            raise stopped from None
        except OverBudget as error:
            sharing.check_all(self.leases)
            with storage.despite(error):
                for step in self.plan.writes():
                    publish.commit_errors(step, journal.run, job.targets[step.id], receipts)
                self._set_state(journal, "over budget", error=str(error))
            raise
        except GateFailed as error:
            gates = judged(journal.path)
            held = replace(result, state="gated", gates=gates, versions=dict(gates.versions))
            with storage.despite(error):
                self._set_state(journal, "gated", error=str(error), result=held.to_json())
            raise
        except DataError as error:  # it would be so again: a new run looks at the data anew
            with storage.despite(error):
                self._set_state(journal, "refused", error=redact(str(error), 2000))
            raise
        except Exception as error:
            told = storage.named(error, self.states) or error
            text = redact(f"{type(told).__name__}: {told}", 2000)
            with storage.despite(told):
                self._set_state(journal, "failed", error=text, incidents=context.incidents)
            if told is error:
                raise
            raise told from error
        return self._done(result, versions, journal)

    def _done(
        self, result: RunResult, versions: dict[str, int], journal: Journal | None = None
    ) -> RunResult:
        done = replace(result, state="published", versions=versions)
        if journal is not None:
            self._set_state(journal, "published", result=done.to_json())
            journal.drop_kept()  # last: publishing again needs it; the next run drops what is left
            sharing.drop_claims(journal)
        self.listener.finished(done)
        return done

    def _run_without_journal(self, execute: Any) -> RunResult:
        """For sinks that keep no state, such as memory: no lease, no journal, no resume."""
        run, receipts = new_run_id(), list[Receipt]()
        targets = publish.prepare(self.plan)
        units = cut(self.plan, self.cluster)
        with tempfile.TemporaryDirectory(prefix="weft-") as folder:
            context = Context(run, None, targets, folder)
            executor = Executor(execute, self.cluster, self.listener, self.budget)
            result = self._execute(executor, context, _Job(None, units, targets, receipts, {}))
        own: dict[str, dict[str, str]] = {step.id: {} for step in self.plan.writes()}
        versions = publish.publish(self.plan, run, targets, receipts, own)
        return self._done(result, versions)

    def _execute(self, executor: Executor, context: Context, job: _Job) -> RunResult:
        """Run the units that have no receipt yet, of the pipeline itself and of backfills."""
        tally = Tally(self.plan, job.receipts, sum(u.split.rows for u in job.units))
        began, resumed = perf_counter(), tally.reached
        unchanged = job.about.get("increment", {}).get("unchanged", 0)
        executor.phases(tally, context, job.units, job.journal, unchanged=unchanged)
        again = {}
        if job.journal is not None and job.updates.backfills:
            again = executor.backfills(job.updates, context, job.journal, job.backfilled)
        return RunResult(
            run=context.run,
            state="executed",
            plan=self.plan,
            rows=tally.rows,
            books=tally.books,
            kept=tally.written(),
            uris=uris_of(self.plan),
            samples=tuple(tally.samples[:50]),
            seconds=perf_counter() - began,
            startup_seconds=self.startup,
            rows_resumed=resumed,
            engine=self.asked.engine,
            stages=stage_use(self.plan, tally.counted, self.cluster),
            incidents=tuple(context.incidents),
            recomputed=again,
        )

    def _set_state(self, journal: Journal, state: str, **more: Any) -> None:
        if not all(lease.held() for lease in self.leases):
            return  # somebody else goes on with this run, and says how far it is
        for other in self.states[1:]:
            journal_of(other, journal.run).set_state(state, **more)
        journal.set_state(state, **more)  # last: a run is finished when this one says so

    def _properties(self, result: RunResult, job: _Job) -> dict[str, dict[str, str]]:
        """What the version of each write says of itself."""
        all_say = {
            "weft.pipeline": self.plan.name,
            "weft.recipe": self.plan.recipe,
            "weft.input": job.about["input"],
            "weft.rows": str(result.rows),
            "weft.failed": str(result.failed),
            "weft.version": weft.__version__,
            **record.properties(self.plan),
        }
        own = job.updates.properties(self.plain)
        return {name: {**all_say, **said} for name, said in own.items()}


def _targets(about: Mapping[str, Any]) -> dict[str, Target]:
    return {name: Target(**tokens) for name, tokens in about["targets"].items()}


def _states(plan: Plan) -> list[str]:
    """The state folders of a plan's datasets, in the order of its writes."""
    return [s for step in plan.writes() if (s := sink_of(step).state) is not None]
