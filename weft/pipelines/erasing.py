"""Rows erased from a Lance table for good: no version, no file and no index has them.

Lance deletes softly: the bytes stay in data files, in older versions and in indexes. `erase`
takes four steps. The rows are deleted from what readers see. Every fragment that has deleted
rows, also those that earlier runs deleted, is written anew without them, blobs too: a sidecar
file holds many rows' bytes. Every index is made anew, as its files hold keys, words and vectors.
Then the tags move, and all other versions and all files that no version names are removed.

Row ids and the versions that wrote the rows stay, so that rows that were read from the table are
not taken for changed. The order of the rows does not stay: rewritten fragments come last.

Until the tags move, readers at a tag see what they saw. A process that dies on the way leaves
that, or the whole; doing it again completes it. The caller holds the dataset's lease, and no run
is unfinished, as what it staged would be removed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from weft.errors import CommitConflict, Refused
from weft.pipelines import blobs, tables
from weft.pipelines.batch import KEY
from weft.pipelines.fence import check_fence
from weft.pipelines.fragments import content
from weft.pipelines.restoring import restore
from weft.pipelines.tags import whole_tags

_FILE_BYTES = 512 << 20
"""Where a rewritten data file ends, as in `weft.pipelines.tables`."""

_ROWS, _BLOB_ROWS = 8192, 32
"""Rows that are in memory at a time while fragments are rewritten: without media, and with."""

_CREATED = {
    "BTree": "BTREE", "Bitmap": "BITMAP", "Inverted": "INVERTED", "LabelList": "LABEL_LIST",
    "NGram": "NGRAM",
}  # fmt: skip
"""Indexes that pylance 14 does not retrain, though it is asked to, by how they are created."""


@dataclass(frozen=True)
class Erased:
    """What became of a table: `rows` removed, versions `before`, the one that is left, bytes and
    files removed, and indexes that could not be made anew and were dropped."""

    rows: int
    before: tuple[int, ...]
    version: int
    files: int
    bytes: int
    dropped_indexes: tuple[str, ...] = ()


def erase(uri: str, places: Sequence[int], tags: Mapping[str, Mapping[str, str]]) -> Erased:
    """Erase the rows at `places`, row addresses of the newest version, which `settle` has made.

    Of the tags only `tags` stay, with what they say.

    Raises:
        CommitConflict: somebody else wrote to the table meanwhile.
        OSError: the storage failed; doing it again goes on.
    """
    dataset = tables.open_table(uri)
    before = _versions(dataset)
    if len(places):
        dataset = _delete(dataset, places)
    dataset = _rewrite(uri, dataset)
    dropped = _reindex(uri) if len(places) or _has_history(dataset) else ()
    dataset = tables.open_table(uri)
    _retag(dataset, tags)
    files, size = _clean(dataset)
    return Erased(len(places), before, int(dataset.version), files, size, tuple(dropped))


def settle(uri: str) -> None:
    """Make the newest version of a table what readers see, and refuse what cannot be erased from.

    What was committed after it and never shown to readers goes with the old versions: an errors
    table of a run that went over its budget, or what a dead process left half done.

    Raises:
        Refused: the table has branches, whose rows are beyond reach.
    """
    dataset = tables.open_table(uri)
    if found := dataset.branches.list():
        raise Refused(
            f"{uri} has branches: {', '.join(sorted(found))}. Rows cannot be erased from them. "
            "Delete the branches first."
        )
    if tables.LATEST in dataset.tags.list():
        shown = tables.open_table(uri, tables.LATEST)
        if content(shown) != content(dataset):
            restore(uri, tables.LATEST)


def tidy(uri: str) -> None:
    """Remove files that no version names, such as those that a run staged and never committed."""
    check_fence()
    tables.open_table(uri).cleanup_old_versions(
        older_than=timedelta(days=36_500),
        delete_unverified=True,
        error_if_tagged_old_versions=False,
    )


def places(uri: str, keys: Collection[str], version: int | str | None = None) -> list[int]:
    """The addresses of the rows of `keys` in a version. Reads the keys of all rows."""
    dataset = tables.open_table(uri, version)
    rows = pl.DataFrame(dataset.scanner(columns=[KEY], with_row_address=True).to_table())
    wanted = pl.Series(list(keys), dtype=pl.String).implode()
    return rows.filter(pl.col(KEY).is_in(wanted))["_rowaddr"].to_list()


def lines(uri: str, version: int | str | None = None) -> pl.DataFrame:
    """A small table, such as a ledger, with the address of each row as ``_rowaddr``."""
    dataset = tables.open_table(uri, version)
    return pl.DataFrame(dataset.scanner(with_row_address=True).to_table())


def lines_ever(uri: str) -> pl.DataFrame:
    """The rows that any version of a small table has: each of its files is read once, where it
    comes first, as later versions may have fewer of its rows. ``_rowaddr`` numbers them."""
    parts, seen = [], set[tuple[str, ...]]()
    for version in versions(uri):
        dataset = tables.open_table(uri, version)
        new = [f for f in dataset.get_fragments() if _files(f) not in seen]
        seen |= {_files(f) for f in new}
        parts.append(pl.DataFrame(dataset.scanner(fragments=new).to_table()))
    found = pl.concat([part for part in parts if part.schema == parts[-1].schema])
    return found.with_row_index("_rowaddr")


def rows(
    uri: str,
    keys: Collection[str],
    version: int | str | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """The rows of `keys` in a version; media come as bytes."""
    found = places(uri, keys, version)
    if not found:
        return tables.read(uri, version, columns, where="false")
    dataset = tables.open_table(uri, version)
    names = list(columns) if columns is not None else dataset.schema.names
    by = {f.fragment_id: f for f in dataset.get_fragments()}
    parts = []
    for number, positions in _by_fragment(found).items():
        clause = f"_rowaddr IN ({', '.join(str(number << 32 | p) for p in positions)})"
        given = {"fragments": [by[number]], "filter": clause, "blob_handling": "all_binary"}
        parts.append(dataset.scanner(names, **given).to_table())
    table = pa.concat_tables(parts)
    plain = blobs.plain_schema(dataset.schema)
    return pa.table(table.columns, schema=pa.schema([plain.field(name) for name in names]))


def versions(uri: str) -> tuple[int, ...]:
    """The versions of a table that are there."""
    return _versions(tables.open_table(uri))


def size_to_rewrite(uri: str, found: Sequence[int]) -> int:
    """The bytes of the files that `erase` of these places would write anew, more or less."""
    dataset, data = tables.open_table(uri), Path(tables.local_path(uri), "data")
    touched = set(_by_fragment(found))
    total = 0
    for fragment in dataset.get_fragments():
        if fragment.fragment_id in touched or fragment.metadata.num_deletions:
            total += sum(_size(data, f.path) for f in fragment.metadata.files)
    return total


def strays(uri: str) -> list[str]:
    """Files of data, deletions and indexes that the newest version does not name: none, after
    `erase`."""
    dataset, root = tables.open_table(uri), Path(tables.local_path(uri))
    named = set[str]()
    for fragment in dataset.get_fragments():
        for file in fragment.metadata.files:
            named |= {f"data/{file.path}", f"data/{file.path.removesuffix('.lance')}"}
        deletion = fragment.metadata.to_json()["deletion_file"]
        if deletion:
            named.add(f"_deletions/{fragment.fragment_id}-{deletion['read_version']}")
    for index in dataset.describe_indices():
        named |= {f"_indices/{segment.uuid}" for segment in index.segments}
    folders = ("data", "_deletions", "_indices")
    there = [p for folder in folders for p in root.glob(f"{folder}/**/*") if p.is_file()]
    names = [str(p.relative_to(root)) for p in there]
    return sorted(n for n in names if not any(n.startswith(known) for known in named))


def holding(uri: str, found: Collection[bytes]) -> set[bytes]:
    """Which strings of bytes the rows of the newest version have in their values. Reads them all,
    a few at a time."""
    dataset, seen = tables.open_table(uri), set[bytes]()
    scan = dataset.scanner(
        dataset.schema.names, batch_size=_batch_rows(dataset), blob_handling="all_binary"
    )
    for batch in scan.to_batches():
        for column in batch.columns:
            values = [b.to_pybytes() for b in column.buffers() if b is not None]
            seen |= {f for f in found if any(f in v for v in values)}
    return seen


def replace_rows(uri: str, table: pa.Table) -> None:
    """Commit `table`, of the same columns, as all rows of a small table: its newest version.

    Raises:
        CommitConflict: somebody else wrote to the table.
    """
    from lance import LanceOperation
    from lance.fragment import write_fragments

    dataset = tables.open_table(uri)
    made = write_fragments(
        table.cast(dataset.schema),
        dataset.uri,
        mode="overwrite",
        data_storage_version=dataset.data_storage_version,
    )
    _commit(dataset, LanceOperation.Overwrite(dataset.schema, made))


def _versions(dataset: Any) -> tuple[int, ...]:
    return tuple(sorted(int(ref["version"]) for ref in dataset.version_refs()))


def _files(fragment: Any) -> tuple[str, ...]:
    return tuple(file.path for file in fragment.metadata.files)


def _has_history(dataset: Any) -> bool:
    return len(_versions(dataset)) > 1


def _by_fragment(found: Sequence[int]) -> dict[int, list[int]]:
    """Positions by fragment: a row's address has both."""
    by: dict[int, list[int]] = {}
    for address in sorted(found):
        by.setdefault(address >> 32, []).append(address & 0xFFFFFFFF)
    return by


def _delete(dataset: Any, found: Sequence[int]) -> Any:
    """By position: a predicate with a key in it would be kept in the transaction's file."""
    from lance import LanceOperation

    by, gone, thinned = _by_fragment(found), [], []
    for fragment in dataset.get_fragments():
        positions = by.get(fragment.fragment_id, [])
        if len(positions) == fragment.count_rows():
            gone.append(fragment.fragment_id)
        elif positions:
            thinned.append(fragment.delete_rows(positions))
    return _commit(dataset, LanceOperation.Update(gone, thinned, []))


def _rewrite(uri: str, dataset: Any) -> Any:
    """Write fragments with deleted rows anew, and no others."""
    fragments = dataset.get_fragments()
    whole = [f.fragment_id for f in fragments if not f.metadata.num_deletions]
    if len(whole) == len(fragments):
        return dataset
    check_fence()
    dataset.optimize.compact_files(
        materialize_deletions_threshold=0.0,
        excluded_fragment_ids=whole,
        max_bytes_per_file=_FILE_BYTES,
        batch_size=_batch_rows(dataset),
    )
    return tables.open_table(uri)


def _batch_rows(dataset: Any) -> int:
    """Rows to have in memory at a time."""
    return _BLOB_ROWS if any(blobs.is_blob(f) for f in dataset.schema) else _ROWS


def _reindex(uri: str) -> list[str]:
    """Make all indexes anew; the names of those that could not be, and were dropped."""
    dataset, dropped = tables.open_table(uri), []
    for index in dataset.describe_indices():
        check_fence()
        before = _segments(dataset, index.name)
        if index.index_type in _CREATED:
            _create(dataset, index)
        else:
            dataset.optimize.optimize_indices(index_names=[index.name], retrain=True)
        dataset = tables.open_table(uri)
        if not before.isdisjoint(_segments(dataset, index.name)):
            dataset.drop_index(index.name)
            dropped.append(index.name)
            dataset = tables.open_table(uri)
    return dropped


def _create(dataset: Any, index: Any) -> None:
    """Make an index in the place of one of the same name, column, type and parameters."""
    from lance.query import DocumentGranularity

    (column,) = index.field_names
    options = {name: value for name, value in index.details.items() if value is not None}
    if "document_granularity" in options:
        options["document_granularity"] = DocumentGranularity(options["document_granularity"])
    dataset.create_scalar_index(column, _CREATED[index.index_type], index.name, **options)


def _segments(dataset: Any, name: str) -> set[str]:
    (index,) = (i for i in dataset.describe_indices() if i.name == name)
    return {segment.uuid for segment in index.segments}


def _retag(dataset: Any, tags: Mapping[str, Mapping[str, str]]) -> None:
    """Let `tags` name the newest version. What they say goes first: see `restoring.show`."""
    check_fence()
    there = dataset.tags.list()
    with whole_tags(dataset.uri, tags):
        for name in sorted(tags, key=lambda name: name == tables.LATEST):  # it comes last
            if name not in there:
                dataset.tags.create(name, dataset.version)
            dataset.tags.replace_metadata(name, dict(tags[name]))
            dataset.tags.update(name, dataset.version)
    for name in there:
        if name not in tags:
            dataset.tags.delete(name)


def _clean(dataset: Any) -> tuple[int, int]:
    """Remove all versions but the newest, and all files that it does not name."""
    check_fence()
    stats = dataset.cleanup_old_versions(
        older_than=timedelta(microseconds=1),  # zero would be taken for the default, 14 days
        delete_unverified=True,
        error_if_tagged_old_versions=False,
    )
    files = stats.data_files_removed + stats.index_files_removed + stats.deletion_files_removed
    return int(files), int(stats.bytes_removed)


def _size(data: Path, file: str) -> int:
    folder = data / file.removesuffix(".lance")
    beside = sum(p.stat().st_size for p in folder.iterdir()) if folder.is_dir() else 0
    return (data / file).stat().st_size + beside


def _commit(dataset: Any, operation: Any) -> Any:
    """Commit on top of `dataset`, which is the newest version, or not at all."""
    from lance import LanceDataset, Transaction
    from lance.commit import CommitConflictError

    check_fence()
    transaction = Transaction(dataset.version, operation)
    try:
        made = LanceDataset.commit(dataset.uri, transaction, max_retries=0)
    except CommitConflictError:
        made = None
    if made is None or made.version != dataset.version + 1:
        raise CommitConflict(
            f"{dataset.uri}: somebody else wrote to it while rows were erased. Do it again."
        )
    return made
