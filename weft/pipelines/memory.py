"""Where an operator's large answers are made.

An operator that fills an array of its own and gives it away makes it with `empty`. Where operators
have a process of their own, that is memory which the engine reads in place; a plain array is
copied there, which is a tenth of the time of decoding a photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Make = Callable[[tuple[int, ...], npt.DTypeLike], npt.NDArray[Any] | None]

_make: Make | None = None


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    """An array of `shape` with any values, to be filled, answered and not written to after that.

    >>> empty((2, 3)).shape
    (2, 3)
    """
    made = None if _make is None else _make(shape, dtype)
    return np.empty(shape, dtype) if made is None else made


def make_with(make: Make) -> None:
    """Have `empty` ask `make` in this process, which answers ``None`` where it has no room."""
    global _make  # noqa: PLW0603  a process makes its answers in one place
    _make = make
