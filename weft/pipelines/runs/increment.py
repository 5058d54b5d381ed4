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
import pyarrow as pa

from weft.pipelines import tables
from weft.pipelines.batch import KEY, PARENT, SOURCE
from weft.pipelines.connector import Source
from weft.pipelines.graph import Read
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs.backfill import Case, backfill
from weft.pipelines.runs.base import Base, Everything, find_base, reshapes
from weft.pipelines.runs.filling import Fill, Filling
from weft.pipelines.runs.places import errors_uri, sink_of
from weft.pipelines.runs.sifting import ledger_at


@dataclass(frozen=True)
class Increment:
    """Some rows are to be processed.

    `base` is the run whose rows stay, except those made of the rows `removed`, by read: keys of
    rows that changed, were deleted, or are tried again. `sources` deliver what is to be
    processed, by read. `filling` says what the rows that stay get.
    """

    base: str
    sources: Mapping[str, Source]
    removed: Mapping[str, Sequence[str]]
    counts: Mapping[str, int] = field(default_factory=dict)
    filling: Filling = field(default_factory=Filling)

    @property
    def recomputed(self) -> int:
        """How many rows are processed again though their source is as it was."""
        return self.filling.rows + self.counts.get("retried", 0)

    def __str__(self) -> str:
        told = [f"{count:,} {what}" for what, count in self.counts.items() if count]
        source = ", ".join(told) or "nothing changed"
        return "; ".join([source, *self.filling.reasons])


COUNTS = ("new", "changed", "deleted", "retried", "unchanged")
"""What the rows of a source can be, compared with the ledger."""


def find_increment(plan: Plan, *, retry_failed: bool = False) -> Increment | Everything:
    """What a run of `plan`, which is as `plain_plan` made it, has to do.

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
    counts = dict.fromkeys(COUNTS, 0)
    for read in plan.reads():
        assert isinstance(read.action, Read)
        listed = read.action.source.listing()
        if listed is None:
            return Everything(f"{read.action.source.name} does not list its rows one by one")
        writes = [w for w in plan.writes() if read.id in plan.upstream(w.id)]
        listing = pl.DataFrame(listed)
        ledgers = {w.id: ledger_at(w, bases[w.id].run) for w in writes}
        if any(map(_ambiguous, ledgers.values())) or not listing[KEY].is_unique().all():
            source = read.action.source.name
            return Everything(f"some rows of {source}, or made of them, have the same key")
        again = [_again(w, bases[w.id], ledgers[w.id], retry_failed) for w in writes]
        first = ledgers[writes[0].id]
        todo, removed[read.id], seen = _compare(listing, _roots(first, read.id), pl.concat(again))
        sources[read.id] = read.action.source.only(todo.to_arrow().cast(pa.string()))
        counts = {name: counts[name] + seen[name] for name in COUNTS}
        for write in writes:
            stay[write.id][read.id] = _staying(ledgers[write.id], read.id, removed[read.id])
    fills = {w.id: _fill(plan, w, bases[w.id], stay[w.id]) for w in plan.writes()}
    base = next(iter(bases.values())).run
    return Increment(base, sources, removed, counts, Filling(fills))


def anything_failed(plan: Plan) -> bool:
    """Whether a retry of what failed has anything to do."""
    found = find_increment(plan, retry_failed=True)
    return isinstance(found, Everything) or found.counts["retried"] > 0


def _fill(plan: Plan, write: Step, base: Base, stay: Mapping[str, Sequence[str]]) -> Fill:
    work = backfill(Case(plan, write, base.changes, base.recipes, base.version, stay))
    reshaped = reshapes(plan, write, base.changes)
    return Fill(base.version, base.recipes, base.accepted, base.changes, reshaped, work)


def _staying(ledger: pl.DataFrame, read: str, removed: Sequence[str]) -> Sequence[str]:
    """Rows of the source of which something is in the dataset, and stays."""
    mine = pl.col(PARENT).is_null() & (pl.col("read") == read)
    there = ledger.filter(mine & pl.col("outcome").is_in(["kept", "expanded"]))[KEY].unique()
    gone = pl.Series(removed, dtype=pl.String)
    return there.filter(~there.is_in(gone.implode())).to_list()


def _again(write: Step, base: Base, ledger: pl.DataFrame, retry_failed: bool) -> pl.DataFrame:
    """Rows of the source to process again, though they are as they were."""
    ended = pl.col("outcome").is_in(["dropped", "failed"])
    again = ended & pl.col("step").is_in(list(base.changes.asked))
    if retry_failed:
        nulled = _nulled(write, base.run)
        again |= (pl.col("outcome") == "failed") | pl.col(KEY).is_in(nulled.implode())
    return _above(ledger, ledger.filter(again).select(KEY, PARENT))


def _roots(ledger: pl.DataFrame, read: str) -> pl.DataFrame:
    """The rows that came by `read`; one whose children were brought back to it is there twice."""
    mine = pl.col(PARENT).is_null() & (pl.col("read") == read)
    return ledger.filter(mine).select(KEY, SOURCE).unique()


def _ambiguous(ledger: pl.DataFrame) -> bool:
    """Whether a key does not tell which row it names."""
    kept = ledger.filter(pl.col("outcome") == "kept")[KEY]
    # A row that got its children back is there twice: as their parent, and kept.
    rows = ledger.select(KEY, SOURCE, PARENT, "read").unique()
    return kept.n_unique() < len(kept) or rows[KEY].n_unique() < len(rows)


def _nulled(write: Step, run: str) -> pl.Series:
    """The keys of rows that failed at a step on the way to `write` and went on with nulls."""
    state = sink_of(write).state
    assert state is not None
    found = tables.read(errors_uri(state), f"run-{run}", [KEY], "outcome = 'nulled'")
    return pl.DataFrame(found)[KEY]


def _above(ledger: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The rows of the source that rows are or were made of."""
    roots = [found.filter(pl.col(PARENT).is_null()).select(KEY)]
    while len(found := found.filter(pl.col(PARENT).is_not_null())):
        above = found.select(pl.col(PARENT).alias(KEY)).unique()
        found = above.join(ledger.select(KEY, PARENT), on=KEY)
        roots.append(found.filter(pl.col(PARENT).is_null()).select(KEY))
    return pl.concat(roots).unique()


def _compare(
    listing: pl.DataFrame, done: pl.DataFrame, retry: pl.DataFrame
) -> tuple[pl.Series, list[str], dict[str, int]]:
    """Keys to process, keys whose rows go, and how many rows of the source are what."""
    both = listing.join(done, on=KEY, how="left", suffix="_done", maintain_order="left")
    was = pl.col(f"{SOURCE}_done")
    new = both.filter(was.is_null())[KEY]
    changed = both.filter(was != pl.col(SOURCE))[KEY]
    same = both.filter(was == pl.col(SOURCE))
    retried = same.join(retry, on=KEY, how="semi")[KEY]
    deleted = done.join(listing, on=KEY, how="anti")[KEY]
    todo = pl.concat([new, changed, retried])
    counts = (len(new), len(changed), len(deleted), len(retried), len(same) - len(retried))
    gone = pl.concat([changed, deleted, retried]).to_list()
    return todo, gone, dict(zip(COUNTS, counts, strict=True))
