"""Executing the units of a run: phase by phase, and after that its backfills."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from weft.pipelines.engines.books import Books, balance, sum_books
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Context, Unit
from weft.pipelines.plan import Plan
from weft.pipelines.resources import Cluster
from weft.pipelines.runs import sharing
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.journal import Journal
from weft.pipelines.runs.phases import in_order, kept_files, refuse_many, units_of_phase
from weft.pipelines.runs.result import Listener, Recomputed
from weft.pipelines.runs.updates import Updates


class Tally:
    """The receipts of a plan's units, and what they amount to; `rows` are to be read in all, and
    `counted` are the receipts that came since."""

    def __init__(self, plan: Plan, receipts: list[Receipt], rows: int) -> None:
        self.plan = plan
        self.receipts = receipts
        self.rows = rows
        self.done = {r["unit"] for r in receipts}
        self.books: Books = sum_books(plan, (r["books"] for r in receipts))
        self.samples: list[dict[str, str]] = [s for r in receipts for s in r["samples"]]
        self.reached: int = sum(r["rows"] for r in receipts)
        self.counted: list[Receipt] = []

    def add(self, receipt: Receipt) -> bool:
        """Count a unit that ended; whether it was not counted yet."""
        if receipt["unit"] in self.done:
            return False
        self.done.add(receipt["unit"])
        self.receipts.append(receipt)
        self.counted.append(receipt)
        self.reached += receipt["rows"]
        self.samples += receipt["samples"]
        for name, line in sum_books(self.plan, [receipt["books"]]).items():
            self.books[name].add(line)
        return True

    def written(self) -> dict[str, int]:
        """Rows that were staged, by write."""
        writes = [step.id for step in self.plan.writes()]
        return {w: sum(r["writes"][w]["rows"] for r in self.receipts) for w in writes}


@dataclass(frozen=True)
class Executor:
    """What executes plans, and what is asked and told between two units."""

    execute: Any
    cluster: Cluster
    listener: Listener
    budget: Budget
    check: Callable[[], None] = field(default=lambda: None)

    def phases(
        self,
        tally: Tally,
        context: Context,
        units: Sequence[Unit],
        journal: Journal | None,
        *,
        unchanged: int = 0,
    ) -> None:
        """Run the units that have no receipt yet; the tally's receipts grow to one for each unit,
        in the order of the source.

        Rows of the source that are `unchanged` count for the share of the error budget.
        """
        plan, order = tally.plan, dict[str, int]()
        self.listener.started(plan, context.run, tally.rows, tally.reached)
        for phase in range(plan.phases):
            begin = [u for u in units if plan.phase_of(u.read) == phase]
            if phase:
                known = [r for r in tally.receipts if r["unit"] in order]
                known.sort(key=lambda r: order[r["unit"]])
                context = replace(context, kept=kept_files(plan, known))
                begin = self._later(plan, phase, begin, context, journal)
            for unit in begin:
                order[unit.id] = len(order)
            self._run(plan.phase(phase), begin, context, tally, unchanged)
            refuse_many(plan, tally.receipts)
        self._within_budget(tally, unchanged)
        tally.receipts.sort(key=lambda r: order[r["unit"]])
        balance(plan, tally.books, tally.rows, tally.written())

    def backfills(
        self,
        updates: Updates,
        context: Context,
        journal: Journal,
        receipts: Mapping[str, list[Receipt]],
    ) -> dict[str, Recomputed]:
        """Run the units of backfills that have no receipt yet; their `receipts` grow likewise."""
        found = {}
        for name, plan, units in updates.parts(journal, self.cluster):
            journal.kept_path.mkdir(exist_ok=True)
            rows = sum(u.split.rows for u in units)
            tally = Tally(plan, receipts[name], rows)
            work = replace(updates.backfills[name], rows=rows)
            self.listener.notice(f"Computing anew: {work}.")
            self.listener.started(plan, context.run, rows, tally.reached)
            mine = replace(context, targets=updates.target(name, journal))
            self._run(plan, units, mine, tally)
            self._within_budget(tally)
            order = {unit.id: number for number, unit in enumerate(units)}
            tally.receipts.sort(key=lambda r: order[r["unit"]])  # values in the order of the rows
            balance(plan, tally.books, rows, tally.written())
            failed, written = failures(tally.books), tally.written()[name]
            done = Recomputed(work.fields, rows, written, failed, work.stored, tally.books)
            found[name] = done
        return found

    def _run(
        self,
        part: Plan,
        units: Iterable[Unit],
        context: Context,
        tally: Tally,
        unchanged: int = 0,
    ) -> None:
        waiting = [u for u in units if u.id not in tally.done]
        gathered = sharing.gather(
            self.execute, part, waiting, context, self.cluster, check=self.check
        )
        with closing(gathered) as receipts:  # workers stop before the lease is given back
            for receipt in receipts:
                if tally.add(receipt):
                    self.listener.advanced(tally.reached, tally.books, tally.samples)
                    self._within_budget(tally, unchanged)

    def _within_budget(self, tally: Tally, unchanged: int = 0) -> None:
        self.budget.check(failures(tally.books), tally.rows + unchanged, reasons(tally.samples))

    def _later(
        self,
        plan: Plan,
        phase: int,
        units: Sequence[Unit],
        context: Context,
        journal: Journal | None,
    ) -> list[Unit]:
        """The units of a later phase: `units`, and those cut from what earlier ones kept."""
        taken = journal.phase_units(phase) if journal else None
        if taken is None:
            taken = units_of_phase(plan, phase, context.kept, self.cluster)
            if journal:
                journal.begin_phase(phase, taken)
        both = in_order(plan, [*units, *taken])
        many = f"{len(both):,} unit{'s' * (len(both) != 1)}"
        self.listener.notice(f"Phase {phase + 1} of {plan.phases}: {many}.")
        return both


def failures(books: Books) -> int:
    """Rows that failed, at whatever step."""
    return sum(line.failures for line in books.values())


def reasons(samples: Sequence[dict[str, str]]) -> str:
    """The first failures, in words."""
    shown = [f"{s['key']}: {s['step']}: {s['message']}" for s in samples[:3]]
    return "First failures: " + " | ".join(shown) if shown else ""
