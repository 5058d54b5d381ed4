"""The gates: what is expected of a new version before readers see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import polars as pl
import pyarrow as pa

from weft.errors import DefinitionError, redact
from weft.pipelines.batch import KEY
from weft.pipelines.fields import Fields
from weft.pipelines.gates import drift
from weft.pipelines.gates.gate import Gate, Unmeasurable, Verdict
from weft.pipelines.gates.snapshot import Snapshot, is_missing
from weft.pipelines.types import Embedding, Type

Method = Literal["psi", "ks", "mmd", "frechet"]

SAMPLE_ROWS = {"psi": 100_000, "ks": 100_000, "mmd": 2_000, "frechet": 20_000}
"""Rows of each version that drift is measured on, drawn with a fixed seed. `mmd` takes the square
of them in time and memory."""

_EXAMPLES = 3
"""Rows told of those that are not as expected."""

_MOST_LETTERS = 60
"""Of a key that is told. Values are not: they may be anybody's, and `weft forget` finds keys."""


@dataclass(frozen=True)
class RowCount(Gate):
    """How many rows there are, and how many compared with the version accepted last.

    `max_drop` and `max_growth` are shares of the rows accepted last: of 1000 rows, 0.1 asks for
    at least 900, or for at most 1100. Where nothing was accepted yet, these two pass.

    >>> print(RowCount(min=1, max_drop=0.1))
    RowCount(min=1, max_drop=0.1)

    Raises:
        DefinitionError: no limit is given, or one that nothing can pass.
    """

    min: int | None = None
    max: int | None = None
    max_drop: float | None = None
    max_growth: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.min, self.max, self.max_drop, self.max_growth) if v is not None]
        if not given:
            raise DefinitionError(
                "RowCount() expects nothing. Give min, max, max_drop or max_growth."
            )
        if any(not limit >= 0 for limit in given) or (self.max_drop or 0) > 1:
            raise DefinitionError(f"{self}: expected numbers of 0 or more, and max_drop up to 1.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise DefinitionError(f"{self}: min is more than max.")

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """See `Gate.measure`."""
        before = None if accepted is None else accepted.rows
        limits = list(self._limits(new.rows, before))
        was = "" if before is None else f", {before:,} before"
        told = f"{new.rows:,} rows{was}; expected {', '.join(text for _, text in limits)}"
        passed = all(ok for ok, _ in limits)
        return self.verdict(told, passed=passed, rows=new.rows, accepted_rows=before)

    def _limits(self, rows: int, before: int | None) -> Iterator[tuple[bool, str]]:
        """Each limit: whether it holds, and in words."""
        if self.min is not None:
            yield rows >= self.min, f"at least {self.min:,}"
        if self.max is not None:
            yield rows <= self.max, f"at most {self.max:,}"
        if self.max_drop is not None:
            holds = before is None or rows >= before * (1 - self.max_drop)
            yield holds, f"at most {self.max_drop:.4g} of those before to be gone"
        if self.max_growth is not None:
            holds = before is None or rows <= before * (1 + self.max_growth)
            yield holds, f"at most {self.max_growth:.4g} of those before to be added"


@dataclass(frozen=True)
class NullShare(Gate):
    """At most a share `max` of a column's values is missing: null, NaN, a vector that has either.

    Media are counted without being read.

    Raises:
        DefinitionError: `max` is no share.
    """

    column: str
    max: float

    def __post_init__(self) -> None:
        if not 0 <= self.max <= 1:
            raise DefinitionError(f"{self}: max is a share, 0 to 1.")

    def check(self, columns: Fields) -> None:
        """See `Gate.check`."""
        columns.require(self.column)

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """See `Gate.measure`."""
        missing, rows = new.missing(self.column), new.rows
        if not rows:
            raise Unmeasurable("there are no rows")
        share = missing / rows
        told = f"{missing:,} of {rows:,} are missing, {share:.4g}; expected at most {self.max:.4g}"
        return self.verdict(told, passed=share <= self.max, missing=missing, null_share=share)


@dataclass(frozen=True)
class Unique(Gate):
    """No two rows have the same value in a column, or the same values in several.

    Rows in which one of them is missing are left out, as in SQL. Exact: 64-bit digests of all
    rows are held, 8 bytes each, and rows whose digests meet are read again and compared.

    Raises:
        DefinitionError: no column is named.
    """

    columns: str | tuple[str, ...]

    def __post_init__(self) -> None:
        names = (self.columns,) if isinstance(self.columns, str) else tuple(self.columns)
        if not names:
            raise DefinitionError("Unique(): expected a column, or several.")
        object.__setattr__(self, "columns", names)

    def check(self, columns: Fields) -> None:
        """See `Gate.check`."""
        for name in self.columns:
            _check_type(columns, name, _is_value, "one value a row, such as text or a number")

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """See `Gate.measure`."""
        digests = pl.concat([pl.Series(dtype=pl.UInt64), *(d for _, d in self._present(new))])
        if not len(digests):
            raise Unmeasurable(f"all of {new.rows:,} rows are missing")
        meeting = digests.filter(digests.is_duplicated()).unique()
        repeated = self._repeated(new, meeting)
        rows = sum(times - 1 for _, times in repeated)
        told = f"{rows:,} rows repeat another; expected none"
        if rows:
            shown = [f"{n} are as {redact(k, _MOST_LETTERS)}" for k, n in repeated[:_EXAMPLES]]
            told += f". The most: {', '.join(shown)}"
        return self.verdict(told, passed=not rows, repeating=rows)

    def _present(self, new: Snapshot) -> Iterator[tuple[pl.DataFrame, pl.Series]]:
        """The rows that have all values, with their keys; and a digest of the values of each."""
        for batch in new.batches(self.columns, keys=True):
            values = batch.select(self.columns)
            missing = pl.DataFrame([is_missing(c) for c in values]).max_horizontal()
            yield batch.filter(~missing), values.filter(~missing).hash_rows()

    def _repeated(self, new: Snapshot, meeting: pl.Series) -> list[tuple[str, int]]:
        """The first key of rows that have the same values, and how many have them; the most
        first."""
        if not len(meeting):
            return []
        rows = pl.concat(
            some.filter(digests.is_in(meeting.implode())) for some, digests in self._present(new)
        )
        alike = rows.group_by(self.columns).agg(pl.min(KEY), pl.len().alias("times"))
        repeated = alike.filter(pl.col("times") > 1).select(KEY, "times")
        return repeated.sort("times", KEY, descending=[True, False]).rows()


@dataclass(frozen=True)
class Between(Gate):
    """All numbers of a column lie between `low` and `high`, both included; missing ones are left
    out.

    Raises:
        DefinitionError: neither is given, or nothing is between them.
    """

    column: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise DefinitionError(f"{self} expects nothing. Give low, high or both.")
        if self.low is not None and self.high is not None and not self.low <= self.high:
            raise DefinitionError(f"{self}: nothing is between low and high.")

    def check(self, columns: Fields) -> None:
        """See `Gate.check`."""
        _check_type(columns, self.column, _is_number, "numbers")

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """See `Gate.measure`."""
        ends, outside, examples = list[float](), 0, list[str]()
        for batch in new.batches([self.column], keys=True):
            present = batch.filter(~is_missing(batch[self.column]))
            if len(present):
                ends += present.select(low=pl.min(self.column), high=pl.max(self.column)).row(0)
            wrong = present.filter(~self._holds())
            outside += len(wrong)
            for value, key in wrong.head(_EXAMPLES - len(examples)).iter_rows():
                examples.append(f"{value:,.6g} in {redact(key, _MOST_LETTERS)}")
        if not ends:
            raise Unmeasurable(f"all of {new.rows:,} values are missing")
        low, high = min(ends), max(ends)
        told = f"{low:,.6g} to {high:,.6g}; expected {self._limits()}"
        if outside:
            told += f". {outside:,} outside: {', '.join(examples)}"
        return self.verdict(told, passed=not outside, low=low, high=high, outside=outside)

    def _holds(self) -> pl.Expr:
        column = pl.col(self.column)
        above = pl.lit(value=True) if self.low is None else column >= self.low
        return above & (pl.lit(value=True) if self.high is None else column <= self.high)

    def _limits(self) -> str:
        if self.low is None:
            return f"at most {self.high:,.6g}"
        return f"at least {self.low:,.6g}" if self.high is None else (
            f"{self.low:,.6g} to {self.high:,.6g}"
        )  # fmt: skip


@dataclass(frozen=True)
class FailedShare(Gate):
    """At most `max` rows failed for each row of the source, at whatever step.

    Counted in the ledger, so rows that failed in earlier runs and have not changed since are
    among them. As in the error budget, one row of the source may fail many times by its children.

    Raises:
        DefinitionError: `max` is below 0.
    """

    max: float

    def __post_init__(self) -> None:
        if not self.max >= 0:
            raise DefinitionError(f"{self}: max is 0 or more.")

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """See `Gate.measure`."""
        failed, read = new.failures()
        if not read:
            raise Unmeasurable("no row was read")
        share = failed / read
        told = f"{failed:,} failed of {read:,} read, {share:.4g}; expected at most {self.max:.4g}"
        return self.verdict(told, passed=share <= self.max, failed=failed, failed_share=share)


@dataclass(frozen=True)
class Drift(Gate):
    """A column's values are at most `max` away from those of the version accepted last.

    =============  =================================  ==========================================
    `method`       of                                 what is measured
    =============  =================================  ==========================================
    ``"psi"``      numbers, text, truth values        population stability index; 0.1 is usually
                                                      read as stable, 0.25 as a shift
    ``"ks"``       numbers                            Kolmogorov-Smirnov statistic, 0 to 1
    ``"mmd"``      `Embedding`                        squared maximum mean discrepancy, 0 to 2
    ``"frechet"``  `Embedding`                        squared Fréchet distance, as FID
    =============  =================================  ==========================================

    See `weft.pipelines.gates.drift` for each. Measured on samples of both versions, `SAMPLE_ROWS`
    rows at most; missing values are left out. Where nothing was accepted yet, or not with this
    column, it passes.

    Raises:
        DefinitionError: there is no such method, or `max` is below 0.
    """

    column: str
    method: Method
    max: float

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            expected = ", ".join(map(repr, get_args(Method)))
            raise DefinitionError(f"{self}: expected a method of {expected}.")
        if not self.max >= 0:
            raise DefinitionError(f"{self}: max is 0 or more.")

    def check(self, columns: Fields) -> None:
        """See `Gate.check`."""
        if self.method == "psi":
            _check_type(columns, self.column, _is_value, "numbers, text or truth values")
        elif self.method == "ks":
            _check_type(columns, self.column, _is_number, "numbers")
        else:
            _check_type(columns, self.column, _is_vector, "vectors of one length")

    def measure(self, new: Snapshot, accepted: Snapshot | None) -> Verdict:
        """See `Gate.measure`."""
        if accepted is None or not accepted.has(self.column):
            what = "no version" if accepted is None else f"no version with column {self.column!r}"
            return self.verdict(f"{what} was accepted before", passed=True)
        most = SAMPLE_ROWS[self.method]
        before, after = accepted.sample(self.column, most), new.sample(self.column, most)
        if before.dtype != after.dtype:
            raise Unmeasurable(f"the column was {before.dtype} and is {after.dtype}")
        found = _distance(self.method, before, after)
        sizes = f"{len(before):,} and {len(after):,} values"
        told = f"{found:.4g} between {sizes}; expected at most {self.max:.4g}"
        return self.verdict(
            told, passed=found <= self.max, **{self.method: found},
            sampled=[len(before), len(after)],
        )  # fmt: skip


def _distance(method: Method, before: pl.Series, after: pl.Series) -> float:
    if method != "psi":
        found: float = getattr(drift, method)(before.to_numpy(), after.to_numpy())
        return found
    few = before.dtype.is_integer() and before.n_unique() <= drift.CATEGORIES
    if before.dtype.is_numeric() and not few:
        return drift.psi(before.to_numpy(), after.to_numpy())
    return drift.psi_of_categories(before, after)


def _check_type(columns: Fields, name: str, fits: Callable[[Type], bool], expected: str) -> None:
    kind = columns.require(name)
    if not fits(kind):
        raise DefinitionError(f"column {name!r} is {kind}; expected {expected}.")


def _is_number(kind: Type) -> bool:
    storage = kind.storage
    return bool(pa.types.is_integer(storage) or pa.types.is_floating(storage))


def _is_value(kind: Type) -> bool:
    """Whether values can be alike, and are small."""
    storage = kind.storage
    text = pa.types.is_string(storage) or pa.types.is_large_string(storage)
    return bool(text or pa.types.is_boolean(storage) or _is_number(kind))


def _is_vector(kind: Type) -> bool:
    return isinstance(kind, Embedding) and kind.dim is not None
