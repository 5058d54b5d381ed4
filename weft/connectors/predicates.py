"""Pushed predicates: which rows of a table pass, which are dropped, and by which predicate.

A predicate is a Polars expression that answers true, false or null for each row by itself; null
drops the row, as false does. Predicates apply one after the other: a row counts as dropped by
the first that drops it, and later ones never see it, as in a chain of ``where``. A row that
makes a predicate raise, such as ``"n/a"`` in a strict cast, is alone at fault: the others of its
batch are judged without it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from weft.errors import DefinitionError, RowError, redact
from weft.pipelines.connector import DroppedRows, FailedRow
from weft.pipelines.expressions import is_row_by_row
from weft.pipelines.fields import Fields, arrow_schema
from weft.pipelines.types import Tensor

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Sifted:
    """Rows of a table by what the predicates say; indices ascend within each part.

    `kept` is ``None`` when all rows are. `dropped` has one entry for each predicate that drops
    something: its number and the rows. `failed` has rows and the message of what they raise.
    """

    kept: Indices | None = None
    dropped: tuple[tuple[int, Indices], ...] = ()
    failed: tuple[tuple[int, str], ...] = ()

    def dropped_rows(self, keys: pa.Array, sources: pa.Array) -> tuple[DroppedRows, ...]:
        """The dropped rows by key and version."""
        return tuple(
            DroppedRows(number, keys.take(at).to_pylist(), sources.take(at).to_pylist())
            for number, rows in self.dropped
            for at in [pa.array(rows)]
        )

    def failed_rows(self, keys: pa.Array, sources: pa.Array) -> tuple[FailedRow, ...]:
        """The failed rows by key and version."""
        return tuple(
            FailedRow(keys[row].as_py(), sources[row].as_py(), RowError(message))
            for row, message in self.failed
        )


def reads_only(predicate: pl.Expr, columns: Collection[str]) -> bool:
    """Whether `predicate` needs nothing but `columns`, row by row."""
    try:
        roots = predicate.meta.root_names()
    except pl.exceptions.PolarsError:
        return False
    return set(roots) <= set(columns) and is_row_by_row(predicate)


def pushable(predicate: pl.Expr, types: Fields) -> bool:
    """Whether `predicate` can be judged on columns of these types, as `sift` does it.

    Tensors cannot: Polars sees their rows flat. Nor can Arrow types that Polars has not.
    """
    plain = [
        name
        for name, kind in types.items()
        if not isinstance(kind, Tensor) and not isinstance(kind.storage, pa.BaseExtensionType)
    ]
    if not reads_only(predicate, plain):
        return False
    try:
        pl.from_arrow(arrow_schema(types.only(columns_read([predicate]))).empty_table())
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException):
        return False
    return True


def columns_read(predicates: Sequence[pl.Expr]) -> list[str]:
    """The columns that `predicates` read, each once, in the order of first use."""
    return list(dict.fromkeys(name for p in predicates for name in p.meta.root_names()))


def sift(
    columns: Mapping[str, pa.Array | pa.ChunkedArray], rows: int, predicates: Sequence[pl.Expr]
) -> Sifted:
    """Judge `rows` rows of `columns`, which hold at least what `predicates` read.

    >>> sifted = sift({"x": pa.array([1, 5, None, 9])}, 4, [pl.col("x") > 1, pl.col("x") < 9])
    >>> sifted.kept.tolist(), [(number, at.tolist()) for number, at in sifted.dropped]
    ([1], [(0, [0, 2]), (1, [3])])

    Raises:
        DefinitionError: a predicate is not Boolean.
    """
    names = columns_read(predicates)
    # The extra column gives the frame its height where a predicate is a constant.
    frame = pl.DataFrame([pl.Series("_row", np.arange(rows))]).with_columns(
        *(pl.Series(name, columns[name]) for name in names)
    )
    dropped: list[tuple[int, Indices]] = []
    failed: dict[int, str] = {}
    for number, predicate in enumerate(predicates):
        mask, faults = _judge(frame, predicate)
        at = frame.get_column("_row").to_numpy()
        failed |= {int(at[row]): message for row, message in faults.items()}
        if mask.all() and not faults:
            continue
        mask[list(faults)] = True  # neither kept nor dropped
        if not mask.all():
            dropped.append((number, at[~mask]))
        mask[list(faults)] = False
        frame = frame.filter(pl.Series(mask))
    kept = None if len(frame) == rows else frame.get_column("_row").to_numpy()
    return Sifted(kept, tuple(dropped), tuple(sorted(failed.items())))


def _judge(frame: pl.DataFrame, predicate: pl.Expr) -> tuple[npt.NDArray[np.bool_], dict[int, str]]:
    """Which rows pass, and what the rows that cannot be judged raise.

    A frame that raises is halved until the rows at fault are alone: k of them among n rows cost
    about k * log2(n) evaluations, and no row but these is touched.
    """
    mask = np.zeros(len(frame), np.bool_)
    faults: dict[int, str] = {}
    spans = [(0, len(frame))]
    while spans:
        start, stop = spans.pop()
        try:
            mask[start:stop] = _mask(frame.slice(start, stop - start), predicate)
        except pl.exceptions.PolarsError as error:
            if stop - start == 1:
                faults[start] = _message(predicate, error)
            elif stop > start:
                middle = (start + stop) // 2
                spans += [(middle, stop), (start, middle)]
    return mask, faults


def _mask(frame: pl.DataFrame, predicate: pl.Expr) -> npt.NDArray[np.bool_]:
    answer = frame.with_columns(predicate.alias("_answer")).get_column("_answer")
    if answer.dtype == pl.Null:  # a constant null drops every row
        return np.zeros(len(frame), np.bool_)
    if answer.dtype != pl.Boolean:
        raise DefinitionError(
            f"{predicate} is {answer.dtype}, and a predicate must be Boolean. "
            'Compare it with something: pl.col("x") > 0'
        )
    mask: npt.NDArray[np.bool_] = answer.fill_null(value=False).to_numpy()
    return mask


def _message(predicate: pl.Expr, error: Exception) -> str:
    first = redact(str(error).split("\n", 1)[0], 300)
    return (
        f"the predicate {predicate} cannot be judged: {first}. Mend the value, or make the "
        "predicate lenient, as by cast(…, strict=False)."
    )
