"""What dropping near duplicates is made of, whatever it is that is near.

Rows become names and signatures; those go to *cells*, each of which has the rows of many
buckets; in a cell pairs are judged and reduced to stars; the stars of all cells are reduced to
those of the whole; and the rows that these name, but the smallest of each, are joined away.

The stars of the whole are made in one worker, from those of the cells: half a GB and two seconds
for a million rows that go. All else is cut into cells and keys, and grows with the workers.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from weft.errors import DefinitionError
from weft.operators.dedup.components import stars
from weft.operators.dedup.linking import Signatures, near_pairs
from weft.pipelines.fields import fields
from weft.pipelines.grouping import Compose, Group
from weft.pipelines.operator import BatchView, Expand, Map, Row
from weft.pipelines.types import Arrow, Float64, Int32, Int64, Text, Type, Values

if TYPE_CHECKING:
    from weft.pipelines.dsl import Rows

CELLS = 4096
"""Groups that buckets are gathered in: few enough to be worked on as arrays where there are
thousands of rows, and enough to be some MB each where there are a hundred million."""

_NAMES = Arrow(pa.large_list(pa.large_string()))

NAME, RANK, LOSER, SURVIVOR = "dedup_name", "dedup_rank", "dedup_loser", "dedup_survivor"
"""Columns that are there in between."""


@dataclass(frozen=True)
class Name(Map):
    """A text for each row that is smaller than those of the rows it is preferred to.

    Held rows come before those of the run, larger ranks before smaller, none and NaN last, and
    then the key decides. A digest of the signature follows, so that two rows of one key, which
    a union may have, are two unless they also look the same.
    """

    kind: Type
    held: bool = False
    ranked: bool = False

    version = "1"
    writes = fields(name=Text())

    def __post_init__(self) -> None:
        rank = {"rank": Float64(nan=True, nullable=True)} if self.ranked else {}
        object.__setattr__(self, "reads", fields(key=Text(), signature=self.kind, **rank))

    def map(self, batch: BatchView, loaded: Any) -> dict[str, list[str]]:
        """A batch."""
        first = "0" if self.held else "1"
        ranks = _orders(batch["rank"]) if self.ranked else itertools.repeat(0)
        rows = zip(ranks, batch["key"], batch["signature"], strict=False)
        return {"name": [f"{first}{r:016x}{k}\0{_digest(s)}" for r, k, s in rows]}


def key_of(name: str) -> str:
    """The key in a name."""
    return name[17:-17]


def is_held(name: str) -> bool:
    """Whether a name is of a held row."""
    return name.startswith("0")


def _digest(signature: Any) -> str:
    data = np.ascontiguousarray(signature).data
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def _orders(ranks: Values) -> list[int]:
    """Whole numbers of 64 bits in the opposite order of floats; nothing and NaN are largest."""
    values = np.array([np.nan if r is None else r for r in ranks], np.float64) + 0.0  # no -0.0
    bits = values.view(np.int64)
    up = np.where(bits < 0, ~bits, bits ^ np.int64(-(2**63))).view(np.uint64)
    orders: list[int] = np.where(np.isnan(values), np.uint64(2**64 - 1), ~up).tolist()
    return orders


class Buckets(Expand):
    """A row for each bucket of a signature."""

    writes = fields(cell=Int32(), bucket=Int64())
    dtype: ClassVar[type[np.generic]]  # of signatures

    def buckets(self, signatures: Signatures, loaded: Any) -> npt.NDArray[np.int64]:
        """Rows x bands: the buckets of some signatures."""
        raise NotImplementedError

    def known(self, signatures: Signatures) -> npt.NDArray[np.bool_]:
        """Which signatures say anything; the others are near to none."""
        return np.ones(len(signatures), np.bool_)

    def expand(self, batch: BatchView, loaded: Any) -> list[list[Row]]:
        """A batch."""
        signatures = np.asarray(batch["signature"], self.dtype)
        known = self.known(signatures)
        buckets = self.buckets(signatures[known], loaded)
        rows = zip((buckets % CELLS).tolist(), buckets.tolist(), strict=True)
        made = ([{"cell": c, "bucket": b} for c, b in zip(*row, strict=True)] for row in rows)
        families: Iterator[list[Row]] = map(list, made)
        return [next(families) if said else [] for said in known.tolist()]


class Link(Group):
    """The stars of the rows of a cell that share a bucket and are near."""

    writes = fields(members=_NAMES, roots=_NAMES)
    dtype: ClassVar[type[np.generic]]  # of signatures

    def near(self, one: Signatures, other: Signatures) -> npt.NDArray[np.bool_]:
        """Whether prepared signatures are near, each of one and each of the other: see
        `linking.Near`."""
        raise NotImplementedError

    def prepare(self, signatures: Signatures) -> Signatures:
        """Signatures as `near` takes them."""
        return signatures

    def group(self, rows: BatchView, loaded: Any) -> dict[str, list[str]]:
        """A cell."""
        signatures = self.prepare(np.asarray(rows["signature"], self.dtype))
        one, other = near_pairs(np.asarray(rows["bucket"]), signatures, self.near)
        names = rows["name"]
        return _stars([names[i] for i in one.tolist()], [names[i] for i in other.tolist()])


@dataclass(frozen=True)
class Merge(Group):
    """The stars of many stars."""

    version = "1"
    reads = fields(members=_NAMES, roots=_NAMES)
    writes = fields(members=_NAMES, roots=_NAMES)

    def group(self, rows: BatchView, loaded: Any) -> dict[str, list[str]]:
        """All of them."""
        chain = itertools.chain.from_iterable
        return _stars(list(chain(rows["members"])), list(chain(rows["roots"])))


@dataclass(frozen=True)
class Losers(Expand):
    """A row for each row of the run that is not the smallest of its component."""

    version = "1"
    reads = fields(members=_NAMES, roots=_NAMES)
    writes = fields(loser=Text(), survivor=Text())

    def expand_row(self, row: Row, loaded: Any) -> Iterator[Row]:
        """Stars."""
        for member, root in zip(row["members"], row["roots"], strict=True):
            if not is_held(member):
                yield {"loser": member, "survivor": key_of(root)}


def _stars(one: Sequence[str], other: Sequence[str]) -> dict[str, list[str]]:
    members, roots = stars(one, other)
    return {"members": members, "roots": roots}


class Near(Compose):
    """What the operators on near rows have in common."""

    prefer: str | None
    against: Rows | None
    cluster: str | None


def drop_near(operator: Near, rows: Rows, column: str, buckets: Buckets, link: Link) -> Rows:
    """`rows` without those of which a better one is near, or with the key of that one.

    Raises:
        DefinitionError: `prefer`, `cluster` or the columns of `against` do not fit.
    """
    against, prefer, cluster = operator.against, operator.prefer, operator.cluster
    if cluster is not None and cluster in rows.columns:
        raise DefinitionError(
            f"{operator.name}: cluster={cluster!r} would overwrite a column. Name another."
        )
    named = ranked(operator.name, rows, prefer)
    name = Name(link.reads["signature"], ranked=prefer is not None)
    given: dict[str, Any] = {"rank": RANK} if prefer is not None else {}
    named = named.apply(name, key="_key", signature=column, name=NAME, on_error="raise", **given)
    signed = named.select(NAME, column)
    if against is not None:
        check_held(operator.name, rows, against, column)
        held = against.apply(
            Name(link.reads["signature"], held=True), key="_key", signature=column, name=NAME
        )
        signed = signed.union(held.select(NAME, column))
    cells = signed.apply(
        buckets, signature=column, cell="dedup_cell", bucket="dedup_bucket", on_error="raise"
    )
    linked = cells.group(
        "dedup_cell", operator=link, on_error="raise",
        name=NAME, bucket="dedup_bucket", signature=column,
    )  # fmt: skip
    merged = linked.group(operator=Merge(), on_error="raise")
    losers = merged.apply(Losers(), loser=LOSER, survivor=SURVIVOR, on_error="raise")
    if cluster is None:
        kept = named.join(losers.select(LOSER), left_on=NAME, right_on=LOSER, how="anti")
        return kept.select(*rows.columns)
    found = named.join(losers.select(LOSER, SURVIVOR), left_on=NAME, right_on=LOSER, how="left")
    marked = found.with_columns(pl.coalesce(SURVIVOR, "_key").alias(cluster))
    return marked.select(*rows.columns, cluster)


def ranked(operator: str, rows: Rows, prefer: str | None) -> Rows:
    """`rows` with the number, a float64, that says which of them is preferred.

    Raises:
        DefinitionError: there is no such column of numbers.
    """
    if prefer is None:
        return rows
    kind = rows.columns.require(prefer)
    if not (pa.types.is_integer(kind.storage) or pa.types.is_floating(kind.storage)):
        raise DefinitionError(f"{operator}: prefer={prefer!r} is {kind}; expected numbers.")
    return rows.with_columns(pl.col(prefer).cast(pl.Float64).alias(RANK))


def check_held(operator: str, rows: Rows, against: Any, column: str) -> None:
    """Refuse what rows cannot be compared with.

    Raises:
        DefinitionError: it is not rows, or has no such column.
    """
    if not isinstance(against, type(rows)):
        raise DefinitionError(
            f"{operator}: against={against!r}; expected rows, such as weft.read(Lance(…))."
        )
    if column not in against.columns:
        raise DefinitionError(
            f"{operator}: the rows in `against` have no column {column!r}. Given: "
            f"{against.columns}. Name theirs so: against.with_columns({column}=pl.col(…))"
        )


def check_share(operator: str, name: str, value: float) -> None:
    """Refuse what is not above 0 and at most 1.

    Raises:
        DefinitionError: it is not.
    """
    if not 0 < value <= 1:
        raise DefinitionError(f"{operator}: {name}={value!r}: expected above 0 and at most 1.")
