"""What is to be done since the version that readers see, and what stays as it is.

The listing of the source, keys and versions, is compared with the ledger, which has every row
that was read and the version of it. New and changed rows are processed; what was made of
changed and of deleted rows, children and their children too, goes in the same commit. Rows that
failed stay failed until they change, or until a retry is asked for.

The recipes are compared with those of the dataset. Where some differ, rows that a filter that
changed had dropped, or that failed on the way, are processed too, and the fields that changed
are computed for all rows: see `weft.pipelines.runs.backfill`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from weft.errors import Refused
from weft.pipelines import tables
from weft.pipelines.batch import KEY
from weft.pipelines.connector import Source
from weft.pipelines.graph import Read
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs.backfill import Case, backfill
from weft.pipelines.runs.base import Base, Everything, find_base, reshapes
from weft.pipelines.runs.listing import COUNTS, Lines, above, chosen, compare, lines_of, staying
from weft.pipelines.runs.places import errors_uri, ledger_uri, sink_of
from weft.pipelines.runs.sifting import leaving_keys
from weft.pipelines.runs.updates import Update, Updates


@dataclass(frozen=True)
class Increment:
    """Some rows are to be processed.

    `base` is the run whose rows stay, except those made of the rows `removed`, by read: keys of
    rows that changed, were deleted, or are tried again. `sources` deliver what is to be
    processed, by read. `updates` says what the rows that stay get. What is `put_off` is new or
    changed, too, and for a later run.
    """

    base: str
    sources: Mapping[str, Source]
    removed: Mapping[str, Sequence[str]]
    counts: Mapping[str, int] = field(default_factory=dict)
    updates: Updates = field(default_factory=Updates)
    put_off: int = 0

    @property
    def recomputed(self) -> int:
        """How many rows are processed again though their source is as it was."""
        return self.updates.rows + self.counts.get("retried", 0)

    def __str__(self) -> str:
        told = [f"{count:,} {what}" for what, count in self.counts.items() if count]
        source = ", ".join(told) or "nothing changed"
        return "; ".join([source, *self.updates.reasons])


def find_increment(
    plan: Plan, *, retry_failed: bool = False, rows: int | None = None
) -> Increment | Everything:
    """What a run of `plan`, which is as `plain_plan` made it, has to do.

    With `rows`, not more than so many new and changed ones, if there is nothing else to do.

    Raises:
        DefinitionError: a source lists nothing.
    """
    together = next((s for s in plan.steps if plan.enters(s)), None)
    if together is not None:
        return Everything(f"{together.id} works on rows that are together, not one by one")
    bases: dict[str, Base] = {}
    for write in plan.writes():
        found = find_base(plan, write)
        if isinstance(found, Everything):
            return found
        bases[write.id] = found
    if len({base.run for base in bases.values()}) > 1:
        return Everything("its datasets were not made by the same run")
    sources: dict[str, Source] = {}
    removed: dict[str, Sequence[str]] = {}
    stay: dict[str, dict[str, Sequence[str]]] = {name: {} for name in bases}
    counts, put_off = dict.fromkeys(COUNTS, 0), 0
    if retry_failed or not all(_same(base) for base in bases.values()):
        rows = None  # a part would be of the new pipeline, and what is put off of the old one
    for read in plan.reads():
        assert isinstance(read.action, Read)
        listed = read.action.source.listing()
        if listed is None:
            return Everything(f"{read.action.source.name} does not list its rows one by one")
        writes = [w for w in plan.writes() if read.id in plan.upstream(w.id)]
        ledgers = {w.id: _ledger(w, bases[w.id].run) for w in writes}
        again = [_again(w, bases[w.id], ledgers[w.id], retry_failed) for w in writes]
        differ = compare(listed, list(ledgers.values()), read.id, pl.concat(again))
        if differ is None:
            source = read.action.source.name
            return Everything(f"some rows of {source}, or made of them, have the same key")
        if rows is not None:
            put_off += max(0, len(differ.todo) - rows)
            differ = differ.first(rows)
            rows -= len(differ.todo)
        removed[read.id] = differ.gone.to_list()
        sources[read.id] = read.action.source.only(differ.todo)
        counts = {name: counts[name] + differ.counts[name] for name in COUNTS}
        for write in writes:
            changes = bases[write.id].changes
            if changes.fields or changes.steps:
                lines = ledgers[write.id]
                stay[write.id][read.id] = staying(lines, read.id, differ.gone).to_list()
    by_write = {w.id: _update(plan, w, bases[w.id], stay[w.id], removed) for w in plan.writes()}
    base = next(iter(bases.values())).run
    return Increment(base, sources, removed, counts, Updates(by_write), put_off)


def anything_failed(plan: Plan) -> bool:
    """Whether a retry of what failed has anything to do."""
    found = find_increment(plan, retry_failed=True)
    return isinstance(found, Everything) or found.counts["retried"] > 0


def refuse_too_much(plan: Plan, found: Increment | None, rows: int, limit: int | None) -> None:
    """Refuse what computes more rows again, whose source did not change, than `limit`.

    Args:
        plan: as it is compiled.
        found: what the run does; ``None``: everything.
        rows: how many rows of the source it processes.
        limit: ``None``: there is none.

    Raises:
        Refused: it is more.
    """
    if limit is None:
        return
    if found is None:
        sinks = [sink_of(s) for s in plan.writes()]
        made = [tables.latest(s.uri) for s in sinks if s.state is not None]
        if not any(m and m[1].get("weft.recipe") != plan.recipe for m in made):
            return  # it would process all of them though nothing changed: it always does
    if (count := rows if found is None else found.recomputed) > limit:
        why = f": {'; '.join(found.updates.reasons)}" if found else ""
        raise Refused(
            f"The pipeline changed, and {count:,} rows whose source did not would be computed "
            f"again, which is more than {limit:,}{why}. `weft plan` says what and why. To do "
            "it, run with --yes or a larger --max-recompute. If the change changes no value: "
            "`weft accept`."
        )


def _update(
    plan: Plan,
    write: Step,
    base: Base,
    stay: Mapping[str, Sequence[str]],
    removed: Mapping[str, Sequence[str]],
) -> Update:
    leaving = frozenset[str]()
    if stay and any(removed.values()):
        leaving = leaving_keys(plan, write, base.run, removed)
    work = backfill(Case(plan, write, base.changes, base.recipes, base.version, stay, leaving))
    reshaped = reshapes(plan, write, base.changes)
    return Update(base.version, base.recipes, base.accepted, base.changes, reshaped, work)


def _same(base: Base) -> bool:
    """Whether the pipeline is the one that made what is there."""
    before, now = base.recipes, base.changes.recipes
    steps = [[(s.id, s.recipe, s.above) for s in each.steps] for each in (before, now)]
    same = steps[0] == steps[1] and dict(before.fields) == dict(now.fields)
    return same and not base.changes.asked


def _ledger(write: Step, run: str) -> Lines:
    state = sink_of(write).state
    assert state is not None
    return lines_of(ledger_uri(state), run)


def _again(write: Step, base: Base, ledger: Lines, retry_failed: bool) -> pl.Series:
    """Rows of the source to process again, though they are as they were."""
    if not base.changes.asked and not retry_failed:
        return pl.Series(KEY, [], pl.String)
    ended = pl.col("outcome").is_in(["dropped", "failed"])
    again = ended & pl.col("step").is_in(list(base.changes.asked))
    if retry_failed:
        nulled = _nulled(write, base.run)
        again |= (pl.col("outcome") == "failed") | pl.col(KEY).is_in(nulled.implode())
    return above(ledger, chosen(ledger, again, ["outcome", "step"]))


def _nulled(write: Step, run: str) -> pl.Series:
    """The keys of rows that failed at a step on the way to `write` and went on with nulls."""
    state = sink_of(write).state
    assert state is not None
    found = tables.read(errors_uri(state), f"run-{run}", [KEY], "outcome = 'nulled'")
    return pl.DataFrame(found)[KEY]
