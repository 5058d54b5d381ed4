"""Hold an operator to what it declares: the number of values, their type, nulls and NaN.

What an operator returns for a whole batch and does not fit is a `ContractError`: there is no
row to blame. What does not fit in single rows is told row by row, so that those rows fail and
the others go on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from weft.errors import ContractError
from weft.pipelines.batch import Column
from weft.pipelines.types import Tensor, Timestamp, Type, Values

Faults = dict[int, str]
"""Row number -> what is wrong with its value."""


def conform(what: str, kind: Type, values: Any, rows: int) -> tuple[Column, Faults]:
    """`values` as a column of `kind`, and the rows whose value is not one of that type.

    Args:
        what: operator and port, for messages.
        kind: the declared type.
        values: what the operator returned: list, NumPy array, Arrow array or Polars series.
        rows: how many values there must be.

    Raises:
        ContractError: another number of values, or another type throughout.
    """
    if isinstance(values, pl.Series):
        values = values.to_arrow()
    try:
        given = len(values)
    except TypeError:
        raise ContractError(
            f"{what} is a {type(values).__name__}; expected {rows} values, one for each row."
        ) from None
    if given != rows:
        raise ContractError(
            f"{what} has {given} values for a batch of {rows} rows. Return one for each row; "
            "drop rows with a Filter, make more of them with an Expand."
        )
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return _from_arrow(what, kind, values)
    if isinstance(values, np.ndarray) and values.dtype != object:
        return _from_numpy(what, kind, values)
    if isinstance(kind, Tensor):
        return _from_tensors(kind, values)
    return _from_list(kind, values)


def _from_arrow(what: str, kind: Type, values: pa.Array) -> tuple[Column, Faults]:
    if values.type != kind.storage:
        try:
            values = values.cast(kind.storage)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractError(
                f"{what} is declared {kind}, stored as {kind.storage}; the operator returned "
                f"{values.type}: {error}"
            ) from error
    column = Column(kind, array=values)
    if isinstance(kind, Tensor):  # shapes and NaN are told by its values
        return conform(what, kind, column.values, len(values))
    return column, _faults(kind, column.array)


def _from_numpy(what: str, kind: Type, values: npt.NDArray[Any]) -> tuple[Column, Faults]:
    if isinstance(kind, Tensor):
        wanted, shape = np.dtype(kind.dtype), kind.shape
        fits = len(shape) == values.ndim - 1 and all(
            w is None or w == g for w, g in zip(shape, values.shape[1:], strict=True)
        )
        if values.dtype != wanted or not fits:
            raise ContractError(
                f"{what} is declared {kind} (rows, {', '.join(map(str, shape))}) of {wanted}; "
                f"the operator returned shape {values.shape} of {values.dtype}."
            )
        if not kind.fixed:
            return _from_tensors(kind, list(values))
        faults = _nan_rows(values) if wanted.kind == "f" else {}
        return Column(kind, values=values), faults
    if values.ndim != 1:
        raise ContractError(
            f"{what} is declared {kind}, one value a row; the operator returned an array of "
            f"shape {values.shape}."
        )
    if values.dtype.kind in "mM":
        return _from_arrow(what, kind, pa.array(values))
    if values.dtype.kind not in "biuf" or isinstance(kind, Timestamp):
        return _from_list(kind, values.tolist())
    wanted = np.dtype(kind.storage.to_pandas_dtype())
    cast = values if values.dtype == wanted else _cast(what, kind, values, wanted)
    faults = {} if wanted.kind != "f" or getattr(kind, "nan", True) else _nan_rows(cast)
    if wanted.kind == "f" and cast is not values:
        lost = np.flatnonzero(np.isinf(cast) & np.isfinite(values))
        faults |= {int(row): f"{values[row]} is beyond what {kind} holds" for row in lost}
    return Column(kind, values=cast), faults


def _cast(
    what: str, kind: Type, values: npt.NDArray[Any], wanted: np.dtype[Any]
) -> npt.NDArray[Any]:
    """`values` as `wanted`, if no value changes but by rounding to a smaller float."""
    kinds = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}.get(wanted.kind, "")
    with np.errstate(over="ignore"):  # the caller tells rows that became infinite
        cast = values.astype(wanted) if values.dtype.kind in kinds else None
    if cast is None or (wanted.kind in "iu" and not np.array_equal(cast, values)):
        raise ContractError(
            f"{what} is declared {kind}; the operator returned {values.dtype}, which does not "
            f"fit. Return {wanted} values."
        )
    return cast


def _from_tensors(kind: Tensor, values: Values) -> tuple[Column, Faults]:
    faults: Faults = {}
    floats = np.dtype(kind.dtype).kind == "f"
    for row, value in enumerate(values):
        if value is None:
            if not kind.nullable:
                faults[row] = f"null where {kind} is not nullable"
            continue
        try:
            checked = kind._checked(value)
        except (TypeError, ValueError) as error:
            faults[row] = str(error)
            continue
        if floats and np.isnan(checked).any():
            faults[row] = "NaN in the array"
    if faults:
        values = [None if row in faults else v for row, v in enumerate(values)]
    return Column(kind.or_null() if faults else kind, values=values), faults


def _from_list(kind: Type, values: Values) -> tuple[Column, Faults]:
    try:
        array = kind.to_arrow(values)
        faults = _faults(kind, array)
        return Column(kind.or_null() if faults else kind, array=array), faults
    except (pa.ArrowException, TypeError, OverflowError, ValueError):
        faults = {}
    good: list[Any] = []
    for row, value in enumerate(values):
        try:
            kind.to_arrow([value])
            good.append(value)
        except (pa.ArrowException, TypeError, OverflowError, ValueError) as error:
            faults[row] = (
                f"declared {kind}; the operator returned a {type(value).__name__}: {error}"
            )
            good.append(None)
    array = pa.array(good, kind.storage)
    faults = _faults(kind, array) | faults  # what is null because it was refused says why
    return Column(kind.or_null(), array=array), faults


def _faults(kind: Type, array: pa.Array) -> Faults:
    faults: Faults = {}
    if array.null_count and not kind.nullable:
        nulls = np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))
        faults = {int(row): f"null where {kind} is not nullable" for row in nulls}
    if pa.types.is_floating(array.type) and not getattr(kind, "nan", True):
        nan = pc.fill_null(pc.is_nan(array), False)
        if pc.any(nan).as_py():
            rows = np.flatnonzero(nan.to_numpy(zero_copy_only=False))
            faults |= {int(row): _NAN for row in rows}
    return faults


_NAN = "NaN; declare nan=True if that is meant"


def _nan_rows(values: npt.NDArray[Any]) -> Faults:
    # One sum over the batch costs a tenth of a test of every value, and is NaN if one is
    # (or if infinities cancel, which the second look then clears).
    with np.errstate(all="ignore"):
        if not np.isnan(np.sum(values)):
            return {}
    bad = np.isnan(values).reshape(len(values), -1).any(axis=1)
    return {int(row): _NAN for row in np.flatnonzero(bad)}
