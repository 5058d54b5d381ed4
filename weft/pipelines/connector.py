"""What a source and a sink are: where rows come from, where they go.

A source is cut into *splits*. A split's id depends only on what is in it, so that the unit of
work made of it has the same id in every run, on every machine: it is what resume stands on.
Reading yields batches along with the rows that a pushed predicate dropped and those that could
not be read, so that all of them stay on the books.

A sink is written in two steps. Workers *stage*: files are written and nothing is visible. The
driver *commits* once, and committing the same run again changes nothing. Then the version is
*tagged*, which is the moment readers see it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from weft.errors import RowError
from weft.pipelines.batch import Batch
from weft.pipelines.fields import Fields


@dataclass(frozen=True)
class Split:
    """A slice of a source: what one unit of work reads.

    `id` is a digest of the keys and versions in it. `payload` is what the source needs to read
    it, in the source's own form (Arrow IPC or JSON, never a pickle, never a secret).
    `content_bytes` is what reading all columns would fetch, where that is known.
    """

    id: str
    rows: int
    payload: bytes
    content_bytes: int = 0


@dataclass(frozen=True)
class FailedRow:
    """A row that could not be read: its key, its version and why."""

    key: str
    source: str
    error: RowError


@dataclass(frozen=True)
class DroppedRows:
    """Rows that the pushed predicate number `predicate` dropped: keys and versions."""

    predicate: int
    keys: Sequence[str]
    sources: Sequence[str]


@dataclass(frozen=True)
class Chunk:
    """What a source yields: a batch, and the rows that will not be in any."""

    batch: Batch
    dropped: Sequence[DroppedRows] = ()
    failed: Sequence[FailedRow] = ()


@dataclass(frozen=True)
class Replacement:
    """New values of the columns `names`, by key: Arrow IPC files with ``_key`` and these columns.

    A row in none of the files keeps its values; of a column that is new, none may be missing.
    """

    names: tuple[str, ...]
    files: tuple[str, ...] = ()

    def table(self) -> pa.Table | None:
        """The new values, mapped from the files, not read; ``None``: there are none."""
        parts = [pa.ipc.open_file(pa.memory_map(file)).read_all() for file in self.files]
        return pa.concat_tables(parts) if parts else None


class Source:
    """Base of all sources; a frozen dataclass of parameters, like an operator.

    What it knows of the data, such as a listing, it may keep: a run sees one state of the data.
    A copy (``copy.copy``) or a pickle knows nothing and looks again.
    """

    @property
    def columns(self) -> Fields:
        """The columns it can deliver. May look at the data, cheaply."""
        raise NotImplementedError

    @property
    def uri(self) -> str | None:
        """What it reads, if a pipeline could also write there: a dataset's absolute path."""
        return None

    @property
    def name(self) -> str:
        """The name in plans and errors."""
        return type(self).__name__

    def identity(self) -> dict[str, Any]:
        """What makes two sources the same source, as canonical JSON, without secrets."""
        raise NotImplementedError

    def accepts_predicate(self, predicate: pl.Expr) -> bool:
        """Whether `read` can apply `predicate` before it reads what the predicate drops."""
        return False

    def row_bytes(self) -> Mapping[str, int]:
        """Average bytes per value of columns whose type cannot tell, if listing shows it."""
        return {}

    def count(self) -> int | None:
        """How many rows `splits` has, without reading them; ``None``: it cannot say.

        What is to be read for it is small: a listing, footers, an index.

        Raises:
            DefinitionError: there is nothing there, with what was looked for.
        """
        return None

    def listing(self) -> pa.Table | None:
        """Key and version of every row, as columns ``_key`` and ``_source``, in the order of the
        source and without reading the rows; ``None``: it cannot say.

        What an incremental run compares with the ledger.

        Raises:
            DefinitionError: there is nothing there, with what was looked for.
        """
        return None

    def only(self, keys: pa.Array) -> Source:
        """This source with no other rows than those of `keys`, which are from its `listing`.

        The same keys are read with the same versions. It may have no rows at all.
        """
        raise NotImplementedError

    def splits(self, rows: int) -> Iterator[Split]:
        """The source cut into slices of at most `rows` rows, in a fixed order.

        Raises:
            DefinitionError: there is nothing there, with what was looked for.
        """
        raise NotImplementedError

    def read(
        self,
        split: Split,
        columns: Sequence[str],
        predicates: Sequence[pl.Expr],
        batch_rows: int,
    ) -> Iterator[Chunk]:
        """The rows of `split` that pass all `predicates`, with `columns`, in batches.

        Runs in a worker. Each row of the split is in exactly one chunk: in its batch, among its
        dropped or among its failed. A row's key is the same whatever split it is read by.
        """
        raise NotImplementedError


class Sink:
    """Base of all sinks; a frozen dataclass of parameters, like an operator."""

    @property
    def uri(self) -> str:
        """What it writes: an absolute path or URI. No two writes may share one."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name in plans and errors."""
        return type(self).__name__

    def identity(self) -> dict[str, Any]:
        """What makes two sinks the same sink, as canonical JSON, without secrets."""
        raise NotImplementedError

    incremental = False
    """Whether `commit` can change some rows and leave the others."""

    columnar = False
    """Whether `commit` can change some columns of the rows that it leaves."""

    @property
    def state(self) -> str | None:
        """The folder beside it for journals, ledger and errors; ``None``: it keeps no state."""
        return None

    def check(self, schema: pa.Schema) -> None:
        """Look at what is there, before anything starts; write nothing.

        Raises:
            PlanError: the sink cannot take `schema`.
        """
        raise NotImplementedError

    def prepare(self, schema: pa.Schema) -> dict[str, Any]:
        """Make the target ready for `schema`; returns the JSON token that workers stage with."""
        raise NotImplementedError

    def stage(self, token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
        """Write rows where nobody sees them yet; returns JSON that `commit` takes. In a worker."""
        raise NotImplementedError

    def commit(
        self,
        token: Mapping[str, Any],
        staged: Sequence[Mapping[str, Any]],
        run: str,
        properties: Mapping[str, str],
        *,
        removed: Collection[str] | None = None,
        replacement: Replacement | None = None,
    ) -> int:
        """Make what is staged the content, in one step; returns the version.

        Without `removed` it is the whole content. With it, which an `incremental` sink must be
        for, the rows of these keys go and all others stay. A `replacement`, which a `columnar`
        one must be for, has new values for columns of those that stay.

        Committing a run that is already committed returns its version and changes nothing.

        Raises:
            CommitConflict: somebody else committed in between.
        """
        raise NotImplementedError

    def complete(self, version: int) -> bool:
        """Whether a published version has all that this sink makes besides the rows."""
        return True

    def publish(self, version: int, run: str, properties: Mapping[str, str]) -> None:
        """Show `version` to readers: tag it ``run-<run>``, then move ``latest`` to it."""
        raise NotImplementedError
