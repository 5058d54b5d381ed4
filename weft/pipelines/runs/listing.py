"""What changed in a source: its listing compared with the ledger, as tables.

The listing is a table in memory. The ledger, which has a line for each row and for all that was
made of it, is not: its lines come from the table on storage batch by batch. Where both together
would not fit, they are cut into buckets by a hash of the key: lines of the ledger go to files by
bucket, and one bucket after the other is compared. The answer is the same for any number of them.

A million rows, keys and versions of 20 bytes, whose ledger has as many lines take some 1.4 s of
CPU time and 500 MiB at once, 300 MiB in four buckets; ten million, in six, 15 s and 1.5 GiB.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from weft.pipelines import tables
from weft.pipelines.batch import KEY, PARENT, SOURCE

FITS = 2**28
"""Bytes that the columns compared may have to be compared at once, listing and ledgers; what a
comparison takes besides is about twice as much."""

COUNTS = ("new", "changed", "deleted", "retried", "unchanged")
"""What the rows of a source can be, compared with the ledger."""

Lines = Callable[[Sequence[str]], Iterator[pl.DataFrame]]
"""The lines of a ledger with some of its columns, batch by batch, as often as it is called."""

_COLUMNS = (KEY, SOURCE, PARENT, "outcome", "read")
_AT = "_at"
_EMPTY = pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.String))
_SCHEMA = pa.schema([pa.field(name, pa.string()) for name in _COLUMNS])

_SLICE_ROWS = 2**18
"""Rows that are hashed and cut at a time."""


@dataclass(frozen=True)
class Difference:
    """What of a source is not as the ledger has it.

    Attributes:
        todo: keys of rows to process: new, changed, and retried ones.
        gone: keys of rows of the ledger whose results go: changed, deleted, and retried ones.
        counts: how many rows are what, by `COUNTS`.
    """

    todo: pa.Array
    gone: pl.Series
    counts: Mapping[str, int]

    def first(self, rows: int) -> Difference:
        """The same, but only so many rows to process: the others stay as the ledger has them.
        Only where no row is retried."""
        assert not self.counts["retried"]
        now, later = (
            pl.Series(KEY, part, pl.String) for part in (self.todo[:rows], self.todo[rows:])
        )
        changed = int(now.is_in(self.gone.implode()).sum())
        counts = {**self.counts, "changed": changed, "new": len(now) - changed}
        return Difference(
            self.todo[:rows], self.gone.filter(~self.gone.is_in(later.implode())), counts
        )


def lines_of(uri: str, run: str) -> Lines:
    """The lines of the ledger at `uri`, as `run` left it."""

    def lines(columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        table = tables.open_table(uri, f"run-{run}")
        for batch in table.to_batches(
            columns=list(columns), batch_size=_SLICE_ROWS, batch_readahead=2
        ):
            yield pl.DataFrame(pa.Table.from_batches([batch]))

    return lines


def compare(
    listing: pa.Table,
    ledgers: Sequence[Lines],
    read: str,
    again: pl.Series,
    *,
    buckets: int | None = None,
) -> Difference | None:
    """Compare what a source lists with what was read of it.

    Args:
        listing: key and version of each row, as `Source.listing` has them.
        ledgers: those of the writes that rows of the read come to; each has all of its rows.
        read: the step.
        again: keys of rows to process again, though they are as they were.
        buckets: how many; as many as it takes to fit, if it is not said.

    Returns:
        The difference; ``None``, if some key does not tell which row it names: two rows of the
        source have it, or two rows that were made of them.
    """
    if buckets is None:
        buckets = _buckets(listing, ledgers)
    with tempfile.TemporaryDirectory(prefix="weft-listing-") as folder:
        cuts = [_cut(lines, buckets, Path(folder, str(n))) for n, lines in enumerate(ledgers)]
        places = _places(listing, buckets)
        retry = pl.DataFrame({KEY: again.cast(pl.String)}).unique()
        retried = _bucket_of(retry[KEY], buckets)
        found: list[_Part] = []
        for bucket in range(buckets):
            at = np.flatnonzero(places == bucket)
            rows = pl.DataFrame(listing.take(at) if buckets > 1 else listing)
            rows = rows.select(KEY, SOURCE).with_columns(pl.Series(_AT, at))
            lines = [cut(bucket) for cut in cuts]
            if _repeats(rows) or any(map(_ambiguous, lines)):
                return None
            found.append(_compare(rows, _roots(lines[0], read), retry.filter(retried == bucket)))
    todo = np.sort(np.concatenate([part.todo for part in found]))
    counts = {name: sum(part.counts[name] for part in found) for name in COUNTS}
    keys = listing[KEY].take(todo).combine_chunks()
    return Difference(keys, pl.concat([part.gone for part in found]), counts)


def chosen(lines: Lines, where: pl.Expr, columns: Sequence[str]) -> pl.DataFrame:
    """The keys and parents of lines; `columns` are those that `where` reads besides."""
    each = (b.filter(where).select(KEY, PARENT) for b in lines([KEY, PARENT, *columns]))
    return pl.concat([_EMPTY.select(KEY, PARENT), *each])


def above(lines: Lines, found: pl.DataFrame) -> pl.Series:
    """The rows of the source that rows are, or were made of; `found` has their keys and parents."""
    roots = [found.filter(pl.col(PARENT).is_null())[KEY]]
    while len(found := found.filter(pl.col(PARENT).is_not_null())):
        parents = found.select(pl.col(PARENT).alias(KEY)).unique()
        each = (b.join(parents, on=KEY, how="semi") for b in lines([KEY, PARENT]))
        found = pl.concat([_EMPTY.select(KEY, PARENT), *each])
        roots.append(found.filter(pl.col(PARENT).is_null())[KEY])
    return pl.concat(roots).unique()


def staying(lines: Lines, read: str, gone: pl.Series) -> pl.Series:
    """Rows that came by `read` of which something is in the dataset, and stays."""
    mine = pl.col(PARENT).is_null() & (pl.col("read") == read)
    there = mine & pl.col("outcome").is_in(["kept", "expanded"])
    lost = pl.DataFrame({KEY: gone.cast(pl.String)})
    each = (
        b.filter(there).select(KEY).join(lost, on=KEY, how="anti")
        for b in lines([KEY, PARENT, "outcome", "read"])
    )
    return pl.concat([_EMPTY.select(KEY), *each])[KEY].unique()


def _buckets(listing: pa.Table, ledgers: Sequence[Lines]) -> int:
    """How many buckets it takes, each of which fits. Keys of rows that were made of others are a
    little longer than those of the source, and so are their lines."""
    listed = listing.select([KEY, SOURCE]).nbytes
    each = listed / max(1, listing.num_rows) + 40
    lines = sum(sum(len(b) for b in ledger(["read"])) for ledger in ledgers)
    return max(1, -(-int(listed + each * lines) // FITS))


def _bucket_of(keys: pl.Series, buckets: int) -> pl.Series:
    return (keys.cast(pl.String).hash(seed=0) % buckets).cast(pl.UInt16)


def _places(listing: pa.Table, buckets: int) -> npt.NDArray[np.uint16]:
    """The bucket of each row, found a slice at a time: Polars has text in another form."""
    cuts = range(0, listing.num_rows, _SLICE_ROWS)
    slices = (pl.Series(listing[KEY].slice(at, _SLICE_ROWS)) for at in cuts)
    found = [_bucket_of(keys, buckets).to_numpy() for keys in slices]
    return np.concatenate([np.zeros(0, np.uint16), *found])


def _cut(lines: Lines, buckets: int, folder: Path) -> Callable[[int], pl.DataFrame]:
    """A ledger by bucket: in memory if there is one, else in files."""
    if buckets == 1:
        whole = pl.concat([_EMPTY, *lines(_COLUMNS)])
        return lambda _: whole
    folder.mkdir()
    with ExitStack() as stack:
        files = [stack.enter_context((folder / str(n)).open("wb")) for n in range(buckets)]
        writers = [stack.enter_context(pa.ipc.new_stream(file, _SCHEMA)) for file in files]
        for batch in lines(_COLUMNS):
            placed = batch.with_columns(_bucket_of(batch[KEY], buckets).alias(_AT))
            parts = placed.partition_by(_AT, as_dict=True, include_key=False)
            for (bucket, *_), part in parts.items():
                writers[bucket].write_table(part.to_arrow().cast(_SCHEMA))
    return lambda bucket: _read(folder / str(bucket))


def _read(file: Path) -> pl.DataFrame:
    with file.open("rb") as stream:
        return pl.DataFrame(pa.ipc.open_stream(stream).read_all())


@dataclass(frozen=True)
class _Part:
    """The difference of a bucket; `todo` are places in the listing."""

    todo: npt.NDArray[np.int64]
    gone: pl.Series
    counts: Mapping[str, int]


def _compare(rows: pl.DataFrame, done: pl.DataFrame, retry: pl.DataFrame) -> _Part:
    was, now = pl.col(f"{SOURCE}_done"), pl.col(SOURCE)
    both = rows.join(done, on=KEY, how="full", coalesce=True, suffix="_done")
    new = both.filter(was.is_null())
    changed = both.filter(was != now)
    deleted = both.filter(now.is_null())
    retried = both.filter(was == now).join(retry, on=KEY, how="semi")
    todo = pl.concat([new[_AT], changed[_AT], retried[_AT]])
    gone = pl.concat([changed[KEY], deleted[KEY], retried[KEY]])
    differ = (len(new), len(changed), len(deleted), len(retried))
    counts = (*differ, len(both) - sum(differ))
    return _Part(todo.to_numpy(), gone, dict(zip(COUNTS, counts, strict=True)))


def _roots(lines: pl.DataFrame, read: str) -> pl.DataFrame:
    """The rows that came by `read`; one whose children were brought back to it is there twice."""
    mine = pl.col(PARENT).is_null() & (pl.col("read") == read)
    roots = lines.filter(mine).select(KEY, SOURCE)
    return roots.unique() if _repeats(roots) else roots


def _repeats(rows: pl.DataFrame) -> bool:
    return rows[KEY].n_unique() < len(rows)


def _ambiguous(lines: pl.DataFrame) -> bool:
    """Whether a key does not tell which row it names."""
    if not _repeats(lines):
        return False
    kept = lines.filter(pl.col("outcome") == "kept")
    # A row that got its children back is there twice: as their parent, and kept.
    return _repeats(kept) or _repeats(lines.select(KEY, SOURCE, PARENT, "read").unique())
