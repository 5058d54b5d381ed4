"""All lines of a ledger that are of some rows, or of what was made of them.

The children of a row, and theirs; the row of a group that one of them went into, as a sum or a
mean tells something of each member; the rows of the left that a join brought one of them to; and
what was made of those. The other members of the group, and the left before the join, are not:
the next run makes their part anew.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from weft.pipelines.batch import KEY, PARENT

LINE = "_rowaddr"
"""The column of a ledger's frame that tells its lines apart: where they are in the table."""

NAME = "_name"
"""The column of `roots_of` that has what a row was called when it was read."""


def family(ledger: pl.DataFrame, roots: pl.DataFrame, *, alone: bool = False) -> pl.DataFrame:
    """The lines of `ledger` that are of the lines `roots`, themselves included, with `NAME`.

    `alone` leaves out what was made of other rows, too: of groups and of joins.

    >>> lines = [("a", None, None), ("a#0", "a", "sums"), ("sums", None, None), ("b", None, None)]
    >>> ledger = pl.DataFrame(
    ...     [{LINE: i, KEY: k, PARENT: p, "into": g, "read": None if k == "sums" else "read",
    ...       "outcome": "", "step": "", "joined": None} for i, (k, p, g) in enumerate(lines)],
    ...     schema_overrides={"joined": pl.List(pl.Struct({"step": pl.String, "key": pl.String}))})
    >>> family(ledger, ledger.filter(pl.col(KEY) == "a"))[KEY].to_list()
    ['a', 'a#0', 'sums']
    """
    named = with_names(ledger)
    met = named.select(LINE, "joined").drop_nulls().explode("joined").unnest("joined")
    found = new = named.join(roots.select(LINE), on=LINE, how="semi")
    while len(new):
        made = _same_and_children(named, new)
        made += [] if alone else [_grouped(named, new), _joined(named, met, new)]
        new = pl.concat(made).unique(LINE).join(found, on=LINE, how="anti")
        found = pl.concat([found, new])
    return named.join(found, on=LINE, how="semi")


def roots_of(
    ledger: pl.DataFrame, keys: Collection[str], reads: Collection[str] | None
) -> pl.DataFrame:
    """The lines of rows that were read under `keys`, by one of the steps `reads` or by any.

    `NAME` is added: what each was called when it was read.
    """
    wanted = pl.Series(list(keys), dtype=pl.String).implode()
    lines = with_names(ledger).filter(
        pl.col(NAME).is_in(wanted), pl.col(PARENT).is_null(), pl.col("read").is_not_null()
    )
    if reads is not None:
        lines = lines.filter(pl.col("read").is_in(list(reads)))
    return lines


def _same_and_children(named: pl.DataFrame, new: pl.DataFrame) -> list[pl.DataFrame]:
    """Other lines of the same rows, and their children."""
    rows = new.select(KEY, "read").unique()
    how: Any = {"right_on": [KEY, "read"], "how": "semi", "nulls_equal": True}
    return [named.join(rows, left_on=[name, "read"], **how) for name in (NAME, PARENT)]


def _grouped(named: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The rows of groups that rows went into."""
    groups = new.select(pl.col("into").alias(KEY)).drop_nulls().unique()
    made = named.filter(pl.col(PARENT).is_null(), pl.col("read").is_null())
    return made.join(groups, on=KEY, how="semi")


def _joined(named: pl.DataFrame, met: pl.DataFrame, new: pl.DataFrame) -> pl.DataFrame:
    """The lines of the left that were brought one of the `new` lines, which a join took up."""
    right = new.filter(pl.col("outcome") == "joined").select("step", pl.col(KEY).alias("key"))
    return named.join(met.join(right, on=["step", "key"], how="semi"), on=LINE, how="semi")


def with_names(ledger: pl.DataFrame) -> pl.DataFrame:
    """A ledger with `NAME`: what each row was called before joins. One of the left that meets
    several of the right goes on as ``left*right`` for each."""
    names = ledger[KEY].to_list()
    many = ledger.with_row_index("_at").filter(pl.col("joined").is_not_null())
    for at, key, joined in many.select("_at", KEY, "joined").iter_rows():
        names[at] = functools.reduce(_before, reversed(joined), key)
    return ledger.with_columns(pl.Series(NAME, names, dtype=pl.String))


def _before(key: str, joined: Mapping[str, str]) -> str:
    """What a row was called before a join."""
    return key.removesuffix(f"*{joined['key']}")
