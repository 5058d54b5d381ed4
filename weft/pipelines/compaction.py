"""Fewer, larger files for a Lance table: the same rows in them.

Every run leaves fragments of its own, and every deleted row stays in its file. `compact` merges
neighbours that are small, and writes fragments anew of which a tenth is deleted. How large is by
bytes, media included: a target in rows, as Lance has it, is never reached by wide rows, so that
each compaction would merge everything once more, in batches that do not fit into memory.

Values, row ids, the versions that wrote the rows and indices stay. Lance puts what is written
anew behind what is not, so the order of rows can change. Where one run wrote all rows, their
order is what that run made, and only fragments at the end are merged, which keeps it.

Each merged fragment is a commit of its own. It is compared with what it was made of before tags
move to it, so a process that dies leaves tags at rows that are whole, and doing it again goes on
from there. The caller holds the dataset's lease.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from weft.errors import BooksError, CommitConflict, Refused
from weft.pipelines import blobs, tables
from weft.pipelines.batch import KEY
from weft.pipelines.fence import check_fence
from weft.pipelines.fragments import content, written
from weft.pipelines.restoring import restore
from weft.pipelines.tags import whole_tags

TARGET_BYTES = 512 << 20
"""What a merged fragment has, more or less: up to twice that. Half of it is large enough."""

TARGET_ROWS = 1 << 20
"""The same of narrow rows."""

_DELETED = 0.1
"""The share of deleted rows from which a fragment is written anew."""

_BATCH_BYTES = 64 << 20
"""What is read at once while a fragment is written."""

_CHANGED = "_row_last_updated_at_version"
_CREATED = "_row_created_at_version"

_SAME_ROWS = {"Rewrite", "CreateIndex", "UpdateConfig", "BaseOperation"}
"""Operations that leave the rows what they are. The last is what pylance 14 makes of those that
it does not know; a compaction reserves numbers of fragments by one."""

_SEGMENTS = 1 << 16
"""Parts of an index that are merged: all."""


@dataclass(frozen=True)
class Compaction:
    """What became of a table, or would: fragments `before` and `after`, how many of those before
    are written anew, and their bytes. `version` is the newest."""

    uri: str
    version: int
    before: int
    after: int
    rewritten: int
    bytes: int
    order_kept: bool = True


def compact(uri: str, tags: Sequence[str], *, dry_run: bool = False) -> Compaction:
    """Merge small fragments of a table, and move `tags` to the version that has them.

    Raises:
        Refused: the newest version has other rows than the tags name.
        BooksError: the rows are not what they were; the tags are where they were.
        OSError: the storage failed; doing it again goes on.
    """
    if not arranged(uri, tags[0]):
        raise Refused(
            f"The newest version of {uri} has other rows than tag {tags[0]!r} names, so it is not "
            "compacted. Run the pipeline again, or go back: weft rollback."
        )
    since = int(tables.open_table(uri).version)
    if not dry_run:
        _move(uri, tags, since)
        _merge_indices(uri, tags, since)
    dataset = tables.open_table(uri)
    plan, tasks = _plan(dataset)
    ids = {fragment.id for task in tasks for fragment in task.fragments}
    sizes = _sizes(dataset)
    found = Compaction(
        uri=uri,
        version=int(dataset.version),
        before=len(sizes),
        after=len(sizes) - len(ids) + len(tasks),
        rewritten=len(ids),
        bytes=sum(sizes[i] for i in ids),
        order_kept=len(tasks) == len(_at_the_end(dataset, tasks)),
    )
    if dry_run or not tasks:
        return found
    for task in tasks:
        _rewrite(uri, plan.read_version, task)
        _move(uri, tags, since)
    dataset = tables.open_table(uri)
    return replace(found, version=int(dataset.version), after=len(dataset.get_fragments()))


def arranged(uri: str, tag: int | str) -> bool:
    """Whether the newest version has the rows of another, whatever became of files and indices."""
    newest, seen = tables.open_table(uri), tables.open_table(uri, tag)
    if content(newest) == content(seen):
        return True
    between = [v["version"] for v in newest.versions() if v["version"] > seen.version]
    if not all(_operation(newest, number) in _SAME_ROWS for number in between):
        return False
    return newest.schema.equals(seen.schema) and _rows(newest).equals(_rows(seen))


def _operation(dataset: Any, version: int) -> str:
    try:
        return type(dataset.read_transaction(version).operation).__name__
    except TypeError:  # see `tables._properties`: a compaction that remapped an index
        return "Rewrite"


def _move(uri: str, tags: Sequence[str], since: int) -> None:
    """Move tags to the newest version, if nothing but a compaction wrote `since` a version that
    has their rows. What they say stays."""
    dataset = tables.open_table(uri)
    there = dataset.tags.list()
    old = [t for t in tags if t in there and there[t]["version"] != dataset.version]
    if old:
        check_fence()
        between = [v["version"] for v in dataset.versions() if v["version"] > since]
        if not all(_operation(dataset, number) in _SAME_ROWS for number in between):
            raise CommitConflict(
                f"{uri}: something else than a compaction wrote to it meanwhile. Readers see what "
                "they saw. Compact it again."
            )
        with whole_tags(uri, old):
            for tag in old:
                dataset.tags.update(tag, dataset.version)


def _merge_indices(uri: str, tags: Sequence[str], since: int) -> None:
    """Make each index one again: it has a part for every run, and Lance does not merge fragments
    of different parts."""
    dataset = tables.open_table(uri)
    names = [i.name for i in dataset.describe_indices() if len(i.segments) > 1]
    if names:
        check_fence()
        dataset.optimize.optimize_indices(index_names=names, num_indices_to_merge=_SEGMENTS)
        _move(uri, tags, since)


def _plan(dataset: Any) -> tuple[Any, list[Any]]:
    """What Lance would do, and of that what is to be done."""
    from lance.optimize import Compaction as Plan

    sizes = _sizes(dataset)
    large = [
        f.fragment_id
        for f in dataset.get_fragments()
        if (sizes[f.fragment_id] >= TARGET_BYTES // 2 or f.physical_rows >= TARGET_ROWS // 2)
        and f.metadata.num_deletions <= _DELETED * f.physical_rows
    ]
    rows = sum(f.physical_rows for f in dataset.get_fragments())
    each = max(1.0, sum(sizes.values()) / max(1, rows))
    plan = Plan.plan(
        dataset,
        {
            "target_rows_per_fragment": max(1, min(TARGET_ROWS, int(TARGET_BYTES / each))),
            "max_bytes_per_file": TARGET_BYTES,
            "materialize_deletions_threshold": _DELETED,
            "batch_size": max(1, min(8192, int(_BATCH_BYTES / each))),
            "num_threads": 1,
            "excluded_fragment_ids": large,
        },
    )
    tasks = list(plan.tasks)
    return plan, _at_the_end(dataset, tasks) if _in_order(dataset) else tasks


def _sizes(dataset: Any) -> dict[int, int]:
    """The bytes of each fragment, with those of media, which Lance does not count."""
    data = Path(dataset.uri, "data")
    return {
        f.fragment_id: sum(s for _, s in written(data, [d.path for d in f.metadata.files]))
        for f in dataset.get_fragments()
    }


def _in_order(dataset: Any) -> bool:
    """Whether one commit wrote all rows, so that their order is its own."""
    first = None
    for batch in dataset.scanner([_CREATED]).to_batches():
        for made in batch[_CREATED].unique().to_pylist():
            first = made if first is None else first
            if made != first:
                return False
    return True


def _at_the_end(dataset: Any, tasks: Sequence[Any]) -> list[Any]:
    """The tasks behind which no fragment stays as it is."""
    all_of = {fragment.id for task in tasks for fragment in task.fragments}
    end = set[int]()
    for fragment in reversed(dataset.get_fragments()):
        if fragment.fragment_id not in all_of:
            break
        end.add(fragment.fragment_id)
    return [task for task in tasks if {f.id for f in task.fragments} <= end]


def _rewrite(uri: str, version: int, task: Any) -> None:
    """Write the fragments of a task anew, and compare."""
    from lance.optimize import Compaction as Plan

    dataset = tables.open_table(uri)
    ids = {fragment.id for fragment in task.fragments}
    before = _rows(dataset, [f for f in dataset.get_fragments() if f.fragment_id in ids])
    known = {f.fragment_id for f in dataset.get_fragments()}
    made = task.execute(tables.open_table(uri, version))
    check_fence()
    Plan.commit(dataset, [made])
    done = tables.open_table(uri)
    new = [f for f in done.get_fragments() if f.fragment_id not in known]
    if not _rows(done, new).equals(before):
        restore(uri, int(dataset.version))
        raise BooksError(
            f"{uri}: Lance compacted fragments {sorted(ids)} to other rows than they had. What was "
            "there is restored, and readers never saw anything else. Please report it."
        )


def _rows(dataset: Any, fragments: Sequence[Any] | None = None) -> pl.DataFrame:
    """What tells whether rows are the same: ids, which commit wrote them, keys, length of media;
    by id."""
    if fragments is not None and not fragments:
        return pl.DataFrame()
    media = [f.name for f in dataset.schema if blobs.is_blob(f)]
    names = [KEY] if KEY in dataset.schema.names else []
    scan = dataset.scanner(
        [*names, _CHANGED, *media], fragments=fragments, with_row_id=True, batch_size=65_536
    )
    return pl.concat(map(pl.DataFrame, _lengths(scan, media))).sort("_rowid")


def _lengths(scan: Any, media: Sequence[str]) -> Iterator[pa.Table]:
    """Batches of a scan, with the lengths of media instead of where they are."""
    empty = True
    for batch in scan.to_batches():
        table, empty = pa.Table.from_batches([batch]), False
        for name in media:
            at = table.column_names.index(name)
            column = pl.Series(table[name])
            sizes = pl.select(pl.when(column.is_null()).then(None).otherwise(column.struct["size"]))
            table = table.set_column(at, name, sizes.to_series().to_arrow())
        yield table
    if empty:
        yield pa.table({"_rowid": pa.array([], pa.uint64())})
