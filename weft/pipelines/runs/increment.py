"""What changed in the source since the version that readers see, and what a run does about it.

The listing of the source, keys and versions, is compared with the ledger, which has every row
that was read and the version of it. New and changed rows are processed; what was made of
changed and of deleted rows, children and their children too, goes in the same commit. Rows that
failed stay failed until they change, or until a retry is asked for.

That is right only if all else is as it was: the recipe, and the rows of the dataset, its ledger
and its errors. Otherwise everything is computed anew, and `Everything` says why.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from weft.errors import redact
from weft.pipelines import tables
from weft.pipelines.batch import KEY, PARENT, SOURCE
from weft.pipelines.blobs import stored_schema
from weft.pipelines.connector import Source
from weft.pipelines.engines.ledger import LEDGER_SCHEMA
from weft.pipelines.engines.worker import dataset_schema
from weft.pipelines.fragments import content
from weft.pipelines.graph import Read
from weft.pipelines.operator import digest
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs.publish import errors_uri, ledger_at, ledger_uri, sink_of

STEPS_PROPERTY = "weft.steps"
"""The steps of the recipe with which a version was made, so that a change can be told by name."""


@dataclass(frozen=True)
class Everything:
    """All rows are to be processed, and `why`, in words."""

    why: str


@dataclass(frozen=True)
class Increment:
    """Some rows are to be processed.

    `base` is the run whose rows stay, except those made of the rows `removed`, by read: keys of
    rows that changed, were deleted, or are tried again. `sources` deliver what is to be
    processed, by read.
    """

    base: str
    sources: Mapping[str, Source]
    removed: Mapping[str, Sequence[str]]
    counts: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        told = [f"{count:,} {what}" for what, count in self.counts.items() if count]
        return ", ".join(told) or "nothing changed"


COUNTS = ("new", "changed", "deleted", "retried", "unchanged")
"""What the rows of a source can be, compared with the ledger."""


def find_increment(plan: Plan, *, retry_failed: bool = False) -> Increment | Everything:
    """What a run of `plan`, which is as `lower` made it, has to do.

    Raises:
        DefinitionError: a source lists nothing.
    """
    base = ""
    together = next((s for s in plan.steps if plan.enters(s)), None)
    if together is not None:
        return Everything(f"{together.id} works on rows that are together, not one by one")
    for write in plan.writes():
        found = _base(plan, write)
        if isinstance(found, Everything):
            return found
        if base and base != found:
            return Everything("its datasets were not made by the same run")
        base = found
    sources: dict[str, Source] = {}
    removed: dict[str, Sequence[str]] = {}
    counts = dict.fromkeys(COUNTS, 0)
    for read in plan.reads():
        assert isinstance(read.action, Read)
        listed = read.action.source.listing()
        if listed is None:
            return Everything(f"{read.action.source.name} does not list its rows one by one")
        listing, ledgers = pl.DataFrame(listed), _ledgers_of(plan, read, base)
        if any(_ambiguous(ledger) for ledger in ledgers) or not listing[KEY].is_unique().all():
            source = read.action.source.name
            return Everything(f"some rows of {source}, or made of them, have the same key")
        failed = pl.concat([_failed(ledger) for ledger in ledgers])
        retry = failed if retry_failed else failed.clear()
        todo, removed[read.id], seen = _compare(listing, _roots(ledgers[0], read.id), retry)
        sources[read.id] = read.action.source.only(todo.to_arrow().cast(pa.string()))
        counts = {name: counts[name] + seen[name] for name in COUNTS}
    return Increment(base, sources, removed, counts)


def anything_failed(plan: Plan) -> bool:
    """Whether a retry of what failed has anything to do."""
    found = find_increment(plan, retry_failed=True)
    return isinstance(found, Everything) or found.counts["retried"] > 0


def steps_property(plan: Plan) -> str:
    """`STEPS_PROPERTY` of a plan as `lower` made it."""
    steps = [[s.id, redact(str(s.action)), digest(s.action.identity())] for s in plan.steps]
    return json.dumps(steps)


def _base(plan: Plan, write: Step) -> str | Everything:
    """The run that a run can go on from, as far as `write` is concerned."""
    sink = sink_of(write)
    if sink.state is None or not sink.incremental:
        return Everything(f"{sink.name} keeps no ledger")
    latest = tables.latest(sink.uri)
    if latest is None:
        return Everything(f"{sink.uri} is not published yet")
    version, properties = latest
    if properties.get("weft.recipe") != plan.recipe:
        return Everything(_changed(plan, properties, sink.uri))
    run = properties[tables.RUN_PROPERTY]
    if not _same_rows(sink.uri, version):
        return Everything(f"the rows of {sink.uri} were changed by something else than a run")
    for uri in (ledger_uri(sink.state), errors_uri(sink.state)):
        if not tables.exists(uri):
            return Everything(f"{uri} is gone")
    if not _fits(ledger_uri(sink.state), LEDGER_SCHEMA):
        return Everything(f"the ledger of {sink.uri} is of another weft")
    if not _same_rows(ledger_uri(sink.state), f"run-{run}"):
        return Everything(f"the ledger of {sink.uri} is not that of run {run}")
    if not _fits(sink.uri, dataset_schema(plan, write)):
        return Everything(f"the columns of {sink.uri} are of other types now")
    return run


def _same_rows(uri: str, version: int | str) -> bool:
    """Whether the newest version has the rows of `version`, whatever became of its indices."""
    return content(tables.open_table(uri)) == content(tables.open_table(uri, version))


def _fits(uri: str, schema: pa.Schema) -> bool:
    """Whether the newest version stores just the columns of `schema`, so that rows can be added."""
    stored: bool = stored_schema(schema).equals(tables.open_table(uri).schema)
    return stored


def _changed(plan: Plan, properties: Mapping[str, str], uri: str) -> str:
    """Which steps are not what they were when `uri` was made."""
    if STEPS_PROPERTY not in properties:
        return f"the pipeline that made {uri} was another one"
    before = {name: (text, key) for name, text, key in json.loads(properties[STEPS_PROPERTY])}
    after = {name: (text, key) for name, text, key in json.loads(steps_property(plan))}
    told = list(_differences(before, after))
    return "; ".join(told[:3]) + (f"; and {len(told) - 3} more" if len(told) > 3 else "")


def _differences(
    before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]
) -> Iterator[str]:
    for name in [*after, *(n for n in before if n not in after)]:
        if name not in before:
            yield f"step {name} is new"
        elif name not in after:
            yield f"step {name} is gone"
        elif before[name] != after[name]:
            old, new = before[name][0], after[name][0]
            yield (
                f"step {name} was {old}, is {new}"
                if old != new
                else (f"the code or the version of step {name} changed")
            )


def _ledgers_of(plan: Plan, read: Step, run: str) -> list[pl.DataFrame]:
    """The ledgers of the writes below `read`: each has all of its rows, and what failed on the
    way to that write."""
    return [ledger_at(w, run) for w in plan.writes() if read.id in plan.upstream(w.id)]


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


def _failed(ledger: pl.DataFrame) -> pl.DataFrame:
    """The roots that failed, or one of whose descendants did."""
    found = ledger.filter(pl.col("outcome") == "failed").select(KEY, PARENT)
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
