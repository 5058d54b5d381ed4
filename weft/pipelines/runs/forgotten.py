"""Rows that are forgotten: digests of their keys, and sources that deliver no such row.

``forgotten.json`` in the state folder of a dataset has a random salt and, for each key, its
HMAC-SHA256. The key itself is nowhere: it may be personal, such as an address in a path. Who has
the file and a list of all keys that there can be finds out which are forgotten; who has the file
alone does not.

A run replaces the sources of its graph by those of `without`, so whatever asks them, for a
listing, for splits or for rows, sees no forgotten row, and nothing is to be taken out of the books.
A source that lists its rows is cut down by `only`. Of any other, the keys are read when it is cut
into splits, and forgotten rows are taken out of what it delivers: twice the keys are read, and
only for datasets with forgotten rows.
"""

from __future__ import annotations

import functools
import hmac
import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from weft.errors import CorruptState
from weft.pipelines.batch import KEY
from weft.pipelines.connector import Chunk, DroppedRows, Source, Split
from weft.pipelines.engines.sealed import read_json, sealed_json
from weft.pipelines.fence import check_fence
from weft.pipelines.graph import Graph, Read, Write
from weft.pipelines.runs.journal import write_whole

if TYPE_CHECKING:
    import numpy.typing as npt

    from weft.pipelines.fields import Fields
    from weft.pipelines.plan import Plan

_READ_ROWS = 65_536
"""Keys read at a time of a source that does not list them."""


@dataclass(frozen=True)
class Forgotten:
    """Digests of the keys that a dataset has forgotten.

    >>> some = Forgotten(b"salt").adding(["ann@example.org/1.jpg"])
    >>> some.has("ann@example.org/1.jpg"), some.has("bob@example.org/1.jpg")
    (True, False)
    """

    salt: bytes
    digests: frozenset[str] = frozenset()

    def digest(self, key: str) -> str:
        """What is written down of a key, as hex. 1 us."""
        return hmac.digest(self.salt, key.encode(), "sha256").hex()

    def has(self, key: str) -> bool:
        """Whether a key is forgotten."""
        return self.digest(key) in self.digests

    def adding(self, keys: Iterable[str]) -> Forgotten:
        """These and `keys`."""
        return replace(self, digests=self.digests | {self.digest(key) for key in keys})


def forgotten_of(state: str | Path) -> Forgotten:
    """What the dataset of a state folder has forgotten; with a new salt if that is nothing yet.

    Raises:
        CorruptState: the file is damaged.
    """
    path = _path(state)
    if not path.exists():
        return Forgotten(secrets.token_bytes(32))
    try:
        found = read_json(path)
    except CorruptState as error:
        raise CorruptState(
            f"{error} It says which rows must not be read again. Put it back from a copy. Without "
            "one, move it away and forget all keys again that were ever forgotten: "
            "--even-if-absent"
        ) from error
    return Forgotten(bytes.fromhex(found["salt"]), frozenset(found["digests"]))


def bar(state: str | Path, keys: Iterable[str]) -> Forgotten:
    """Keep `keys` from being read into the dataset of a state folder, from the next run on.

    The caller holds the lease.
    """
    check_fence()
    made = forgotten_of(state).adding(keys)
    about = {"salt": made.salt.hex(), "digests": sorted(made.digests)}
    _path(state).parent.mkdir(parents=True, exist_ok=True)
    write_whole(_path(state), sealed_json(json.dumps(about, indent=1).encode()))
    return made


def without(graph: Graph) -> Graph:
    """`graph` with sources that deliver no row that one of its datasets has forgotten."""
    states = [n.action.sink.state for n in graph.nodes if isinstance(n.action, Write)]
    there = [s for s in states if s is not None and _path(s).exists()]
    if not there:
        return graph
    bars = [forgotten_of(state) for state in there]
    erased = not any(pending_of(state).exists() for state in there)
    nodes = [
        replace(n, action=Read(Without(n.action.source, bars, erased=erased)))
        if isinstance(n.action, Read)
        else n
        for n in graph.nodes
    ]
    return replace(graph, nodes=tuple(nodes))


def pending_of(state: str | Path) -> Path:
    """Where it is written down what is being forgotten, until it is: see `forget`."""
    return Path(state, "forgotten", "pending.json")


def whole(source: Source) -> Source:
    """A source with its forgotten rows, if these were erased from the dataset.

    By it a run says whether the input is what it was: such rows make no difference between the
    two. Where a process died before they were erased they do, and the run takes them out.
    """
    return source.source if isinstance(source, Without) and source.erased else source


def told(plan: Plan) -> str | None:
    """What a run says of forgotten rows; ``None``: its sources have none. Looks at the sources."""
    found = [s.action.source for s in plan.reads() if isinstance(s.action, Read)]
    count = sum(s.left_out() for s in found if isinstance(s, Without))
    if not count:
        return None
    return f"{count:,} row{'s are' if count > 1 else ' is'} forgotten and not read."


class Without(Source):
    """A source without forgotten rows; in all else, its name and its identity too, `source`."""

    def __init__(self, source: Source, bars: Sequence[Forgotten], *, erased: bool = True) -> None:
        self.source = source
        self.bars = tuple(bars)
        self.erased = erased

    def __str__(self) -> str:
        return str(self.source)

    @property
    def columns(self) -> Fields:
        return self.source.columns

    @property
    def uri(self) -> str | None:
        return self.source.uri

    @property
    def name(self) -> str:
        return self.source.name

    def identity(self) -> dict[str, Any]:
        """That of the source: a recipe does not change when a row is forgotten."""
        return self.source.identity()

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        return self.source.accepts_predicate(predicate)

    def row_bytes(self) -> Mapping[str, int]:
        return self.source.row_bytes()

    def count(self) -> int | None:
        """As of the source; ``None`` if that does not list its rows."""
        listing = self.listing()
        return None if listing is None else int(listing.num_rows)

    def listing(self) -> pa.Table | None:
        """The rows that are not forgotten."""
        return None if self._listed is None else self._listed[0]

    def only(self, keys: pa.Array) -> Source:
        """The source with the rows of `keys`, which are of this listing."""
        return self.source.only(keys)

    def splits(self, rows: int) -> Iterator[Split]:
        """Splits of what is not forgotten. Their ids are those of the source where nothing is."""
        if self._listed is not None:
            listing, left_out = self._listed
            source = self.source.only(listing[KEY].combine_chunks()) if left_out else self.source
            yield from source.splits(rows)
            return
        self.__dict__["_left_out"] = 0
        for split in self.source.splits(rows):
            gone = self._gone(split)
            self.__dict__["_left_out"] += len(gone)
            if not gone:
                yield split
            elif len(gone) < split.rows:
                name = sha256("\n".join([split.id, *gone]).encode()).hexdigest()[: len(split.id)]
                yield replace(split, id=name, rows=split.rows - len(gone))

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        """The rows of a split of `splits`."""
        for chunk in self.source.read(split, columns, predicates, batch_rows):
            yield chunk if self._lists else self._thinned(chunk)

    def left_out(self) -> int:
        """How many rows of the source are forgotten."""
        if self._listed is not None:
            return self._listed[1]
        if "_left_out" not in self.__dict__:
            for _ in self.splits(_READ_ROWS):
                pass
        return int(self.__dict__["_left_out"])

    @functools.cached_property
    def _listed(self) -> tuple[pa.Table, int] | None:
        """What the source lists and is not forgotten, and how many rows are."""
        listing = self.source.listing()
        if listing is None:
            return None
        keep = ~self._forgotten(listing[KEY].to_pylist())
        left_out = int(len(keep) - keep.sum())
        return (listing.filter(pa.array(keep)) if left_out else listing), left_out

    @functools.cached_property
    def _lists(self) -> bool:
        return self._listed is not None

    def _forgotten(self, keys: Collection[str]) -> npt.NDArray[np.bool_]:
        return np.fromiter((any(b.has(k) for b in self.bars) for k in keys), bool, len(keys))

    def _gone(self, split: Split) -> list[str]:
        """The digests of the forgotten rows of a split, by reading its keys."""
        found = []
        for chunk in self.source.read(split, [], [], _READ_ROWS):
            keys = [*chunk.batch.keys, *(row.key for row in chunk.failed)]
            found += [
                self.bars[0].digest(key) for key in keys if any(b.has(key) for b in self.bars)
            ]
        return sorted(found)

    def _thinned(self, chunk: Chunk) -> Chunk:
        gone = self._forgotten(list(chunk.batch.keys))
        batch = chunk.batch.take(np.flatnonzero(~gone)) if gone.any() else chunk.batch
        dropped = [self._thinned_dropped(lost) for lost in chunk.dropped]
        failed = [row for row in chunk.failed if not self._forgotten([row.key])[0]]
        return Chunk(batch, [lost for lost in dropped if lost.keys], failed)

    def _thinned_dropped(self, lost: DroppedRows) -> DroppedRows:
        stay = np.flatnonzero(~self._forgotten(lost.keys)).tolist()
        keys, sources = [lost.keys[i] for i in stay], [lost.sources[i] for i in stay]
        return DroppedRows(lost.predicate, keys, sources)

    def __getstate__(self) -> dict[str, Any]:
        """For a worker, which must not list the source to know whether it lists."""
        given = {"source": self.source, "bars": self.bars, "erased": self.erased}
        return {**given, "_lists": self._lists}


def _path(state: str | Path) -> Path:
    return Path(state, "forgotten.json")
