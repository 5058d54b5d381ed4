"""What a run changes in a dataset, its ledger and its errors, sifted out of what it processed.

A run that processes everything replaces all three. An increment takes the place of the rows that
are removed. A backfill, beside that, gives columns new values, and asks rows again that are in
the dataset: of what it says of them only what is otherwise now is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from weft.pipelines import tables
from weft.pipelines.batch import KEY, PARENT, SOURCE
from weft.pipelines.connector import Replacement
from weft.pipelines.engines.aside import read_aside
from weft.pipelines.engines.ledger import LEDGER_SCHEMA, as_errors
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.plan import Plan, Step
from weft.pipelines.runs.places import errors_uri, ledger_uri, sink_of


@dataclass(frozen=True)
class Backfilled:
    """A backfill that has run: what it was to compute, and the receipts of its units.

    `names` are those that steps have now, by those they had, `above` the steps that the rows of
    each came through, and `reshaped` says whether the dataset gets other columns, or values for
    those of rows that stay.
    """

    fields: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    cut_off: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    above: Mapping[str, Sequence[str]] = field(default_factory=dict)
    receipts: Sequence[Receipt] = ()
    reshaped: bool = False


@dataclass(frozen=True)
class Sifted:
    """What goes and what comes, besides what the units of the run staged themselves.

    `gone` are the keys of rows that the dataset loses, `lost` those of rows that the ledger
    loses; `ledger` and `errors` are rows that come, `errors` those of before that stay, too.
    """

    gone: list[str]
    lost: list[str]
    ledger: pa.Table
    errors: pa.Table
    replacement: Replacement | None = None


def sift(
    plan: Plan,
    write: Step,
    base: str,
    removed: Mapping[str, Sequence[str]],
    done: Backfilled,
) -> Sifted:
    """What an increment on top of run `base` changes for `write`.

    `removed` are keys of rows of each read; they go with everything that was made of them.
    """
    ledger = ledger_at(write, base)
    gone = _gone(plan, write, ledger, removed)
    before = pl.DataFrame(tables.read(errors_uri(_state(write)), f"run-{base}"))
    return _Sieve(write, base, ledger, gone, done).sifted(before)


def leaving_keys(
    plan: Plan, write: Step, base: str, removed: Mapping[str, Sequence[str]]
) -> frozenset[str]:
    """The rows of the dataset of `write`, as run `base` left it, that go with those `removed`."""
    ledger = ledger_at(write, base)
    kept = ledger.filter(pl.col("outcome") == "kept")[KEY]
    gone = _gone(plan, write, ledger, removed)
    return frozenset(kept.filter(kept.is_in(gone.implode())))


def _gone(
    plan: Plan, write: Step, ledger: pl.DataFrame, removed: Mapping[str, Sequence[str]]
) -> pl.Series:
    above = plan.upstream(write.id)
    roots = [key for read, keys in removed.items() if read in above for key in keys]
    return _family(ledger, pl.Series(KEY, roots, dtype=pl.String))


class _Sieve:
    """Tells what a backfill said of rows that is news."""

    def __init__(
        self, write: Step, base: str, ledger: pl.DataFrame, gone: pl.Series, done: Backfilled
    ) -> None:
        self.write, self.base, self.ledger, self.done = write, base, ledger, done
        ended, errors = read_aside(done.receipts, write.id)
        there = ledger.filter(pl.col("outcome").is_in(["kept", "expanded"]) & ~_among(gone))
        self.there = there[KEY].unique()
        known = pl.col("outcome").is_in(["dropped", "failed"]) & pl.col("step").is_in(done.steps)
        self.ended = (
            pl.DataFrame(ended)
            .filter(known)
            .drop(PARENT, "read")
            .join(there.select(KEY, PARENT, "read").unique(KEY), on=KEY)
        )
        self.said = pl.DataFrame(errors).filter(_among(self.there))
        self.gone = pl.concat([gone, _family(ledger, self.ended[KEY])]).unique()
        self.replacement = Replacement(done.fields, tuple(_files(done.receipts, write.id)))

    def sifted(self, errors: pl.DataFrame) -> Sifted:
        """What the dataset, the ledger and the errors table lose and get."""
        named = self._renamed_rows()
        gone = self.gone.to_list()
        lost = [*gone, *named[KEY].unique().to_list()]
        ledger = pl.concat([named, self.ended.select(named.columns)])
        comes = ledger.to_arrow().cast(LEDGER_SCHEMA)
        replacement = self.replacement if self.done.reshaped else None
        return Sifted(gone, lost, comes, as_errors(self._errors(errors).to_arrow()), replacement)

    def _renamed_rows(self) -> pl.DataFrame:
        """The ledger's rows of keys that ended at a step that is called otherwise now."""
        names = {old: new for old, new in self.done.names.items() if old != new}
        if not names:
            return pl.DataFrame(LEDGER_SCHEMA.empty_table())
        rows = pl.DataFrame(tables.read(ledger_uri(_state(self.write)), f"run-{self.base}"))
        old = rows.filter(pl.col("step").is_in([*names]))[KEY]
        stay = rows.filter(_among(old) & ~_among(self.gone))
        return stay.with_columns(pl.col("step").replace(names))

    def _errors(self, before: pl.DataFrame) -> pl.DataFrame:
        """The errors that stay, and those that come."""
        names, nulled = dict(self.done.names), pl.col("outcome") == "nulled"
        lasting = before.filter(~nulled | pl.col("step").is_in([*names]))
        lasting = lasting.with_columns(pl.col("step").replace(names))
        ends, again = self._ends(), self._asked_again()
        stay = lasting.filter(~_among(self.gone) & ~(nulled & (again | _among(ends[KEY]))))
        above = lasting.filter(nulled & ~again).join(ends, on=KEY)
        above = above.join(self._on_the_way(), on=["step", "end"], how="semi").drop("end")
        news = self.said.filter(nulled | _among(self.ended[KEY]))
        return pl.concat([stay, above, news], how="diagonal_relaxed")

    def _asked_again(self) -> pl.Expr:
        """Which errors are of steps that ran again for their rows."""
        late = pl.col("step").is_in(self.done.cut_off)
        early = pl.col("step").is_in(self.done.steps) & ~late & _among(self.there)
        if not self.done.cut_off:
            return early
        table = self.replacement.table()
        passed = pl.Series(KEY, [], pl.String) if table is None else pl.Series(KEY, table[KEY])
        return early | (late & _among(pl.concat([passed, self.ended[KEY]])))

    def _ends(self) -> pl.DataFrame:
        """Rows that are dropped or fail, since now or as before, and the step where they do."""
        ended = pl.col("outcome").is_in(["dropped", "failed"])
        before = self.ledger.filter(ended & ~_among(self.gone) & ~_among(self.there))
        found = before.select(KEY, end=pl.col("step").replace(dict(self.done.names)))
        return pl.concat([found, self.ended.select(KEY, end="step")])

    def _on_the_way(self) -> pl.DataFrame:
        """Each step, with each of those that rows that end there came through."""
        pairs = [(step, end) for end, above in self.done.above.items() for step in above]
        return pl.DataFrame(pairs, schema={"step": pl.String, "end": pl.String}, orient="row")


def ledger_at(write: Step, run: str) -> pl.DataFrame:
    """The ledger of a write as `run` left it: what became of every row, and of which it came."""
    columns = [KEY, SOURCE, PARENT, "outcome", "step", "read"]
    return pl.DataFrame(tables.read(ledger_uri(_state(write)), f"run-{run}", columns))


def _family(ledger: pl.DataFrame, keys: pl.Series) -> pl.Series:
    """`keys`, and those of all rows that were made of them."""
    found = [keys]
    children = ledger.filter(pl.col(PARENT).is_not_null())
    while len(keys):
        keys = children.filter(pl.col(PARENT).is_in(keys.implode()))[KEY].unique()
        found.append(keys)
    return pl.concat(found).unique()


def _among(keys: pl.Series) -> pl.Expr:
    return pl.col(KEY).is_in(keys.implode())


def _files(receipts: Iterable[Receipt], write: str) -> Iterable[str]:
    return (part["file"] for r in receipts for part in r["writes"][write]["staged"])


def _state(write: Step) -> str:
    state = sink_of(write).state
    assert state is not None
    return state
