"""The updates of datasets whose rows stay: what a run sets out to do, writes down, goes on with.

Backfills run after everything else, one after the other, and end in receipts like all units. Their
units are written down as those of later phases: a pipeline that has phases has no backfills.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weft.pipelines import recipes
from weft.pipelines.compile import PASSES, compile_plan
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.worker import Target, Unit
from weft.pipelines.passes.order_filters import order_filters
from weft.pipelines.plan import Plan
from weft.pipelines.recipes import Recipes
from weft.pipelines.resources import Cluster
from weft.pipelines.runs.accepted import Change
from weft.pipelines.runs.backfill import Backfill, Case, backfill
from weft.pipelines.runs.changes import Changes, compare, stamp
from weft.pipelines.runs.journal import Journal
from weft.pipelines.runs.sifting import Backfilled
from weft.pipelines.runs.work import cut


@dataclass(frozen=True)
class Update:
    """What one dataset, of which rows stay, gets: how it was made, and what changed since.

    `reshaped` says whether it gets other columns, or values for those of rows that stay.
    """

    version: int
    before: Recipes
    accepted: frozenset[Change]
    changes: Changes
    reshaped: bool
    backfill: Backfill | None = None

    def to_json(self) -> dict[str, Any]:
        """All that cannot be told from the plan."""
        return {
            "version": self.version,
            "before": self.before.to_json(),
            "accepted": sorted(self.accepted),
            "reshaped": self.reshaped,
        }


@dataclass(frozen=True)
class Updates:
    """The updates of a run, by write; a run that makes its datasets as a whole has none."""

    by_write: Mapping[str, Update] = field(default_factory=dict)

    @property
    def backfills(self) -> Mapping[str, Backfill]:
        """The backfills, by write."""
        found = {name: update.backfill for name, update in self.by_write.items()}
        return {name: work for name, work in found.items() if work is not None}

    @property
    def reasons(self) -> tuple[str, ...]:
        """What changed by itself of the pipeline, in words."""
        told = (reason for update in self.by_write.values() for reason in update.changes.told)
        return tuple(dict.fromkeys(told))

    @property
    def rows(self) -> int:
        """About how many rows the backfills process."""
        return sum(work.rows for work in self.backfills.values())

    def to_json(self) -> dict[str, Any]:
        """What the journal says, from which `from_json` makes the same."""
        return {name: update.to_json() for name, update in self.by_write.items()}

    @staticmethod
    def from_json(plan: Plan, given: Mapping[str, Mapping[str, Any]]) -> Updates:
        """The updates that a run of the same plan, as `plain_plan` made it, wrote down."""
        found = {}
        for name, said in given.items():
            write, before = plan.step(name), Recipes.from_json(said["before"])
            accepted = frozenset((a, b, c) for a, b, c in said["accepted"])
            changes = compare(plan, write, before, accepted)
            assert isinstance(changes, Changes)
            work = backfill(Case(plan, write, changes, before, said["version"]))
            found[name] = Update(said["version"], before, accepted, changes, said["reshaped"], work)
        return Updates(found)

    def properties(self, plan: Plan) -> dict[str, dict[str, str]]:
        """By write, what its version says of how it was made."""
        found = {}
        for write in plan.writes():
            update = self.by_write.get(write.id)
            made = update.changes.recipes if update else stamp(plan, write)
            found[write.id] = {recipes.PROPERTY: made.to_json()}
        return found

    def units(self, cluster: Cluster) -> list[list[Unit]]:
        """The units of each backfill, which the journal has before any of them runs: what a row
        of the source is later, another run sees to."""
        return [cut(_compiled(work, cluster), cluster) for work in self.backfills.values()]

    def parts(self, journal: Journal, cluster: Cluster) -> Iterator[tuple[str, Plan, list[Unit]]]:
        """Of each backfill its write, its plan and its units, as they were written down."""
        for phase, (name, work) in enumerate(self.backfills.items(), 1):
            units = journal.phase_units(phase)
            assert units is not None
            yield name, _compiled(work, cluster), units

    def target(self, name: str, journal: Journal) -> dict[str, Target]:
        """Where the backfill of a write stages."""
        folder = str(journal.kept_path)
        return {name: Target({"folder": folder}, aside=folder)}

    def done(self, receipts: Mapping[str, Sequence[Receipt]]) -> dict[str, Backfilled]:
        """What there is to sift, by write, when the backfills have run."""
        found = {}
        for name, update in self.by_write.items():
            work, changes = update.backfill, update.changes
            found[name] = Backfilled(
                fields=changes.fields,
                steps=work.steps if work else (),
                cut_off=work.cut_off if work else (),
                names=changes.names,
                above={s.id: s.above for s in changes.recipes.steps},
                receipts=receipts.get(name, ()),
                reshaped=update.reshaped,
            )
        return found


def _compiled(work: Backfill, cluster: Cluster) -> Plan:
    """Its filters stand where they do in the pipeline: what kept one from moving up there, such as
    another write, may not be in the backfill."""
    return compile_plan(work.graph, cluster, [p for p in PASSES if p is not order_filters])


def split(
    journal: Journal, updates: Updates, receipts: Sequence[Receipt]
) -> tuple[list[Receipt], dict[str, list[Receipt]]]:
    """The receipts of a run's own units, and those of its backfills, by write."""
    of: dict[str, str] = {}
    for phase, name in enumerate(updates.backfills, 1):
        of |= {unit.id: name for unit in journal.phase_units(phase) or ()}
    own = [r for r in receipts if r["unit"] not in of]
    found: dict[str, list[Receipt]] = {name: [] for name in updates.backfills}
    for receipt in receipts:
        if receipt["unit"] in of:
            found[of[receipt["unit"]]].append(receipt)
    return own, found
