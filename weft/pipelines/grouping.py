"""Operators that look at several rows at once, and operators made of verbs.

=========  ==============================  ==========================================
kind       rows                            method
=========  ==============================  ==========================================
`Group`    those that share a key -> 1     ``group(rows, loaded)`` -> dict or value
`Pick`     those that share a key -> some  ``pick(rows, loaded)`` -> bools
`Order`    all -> the same, or the first   none: the engine sorts and cuts
`Compose`  rows -> rows                    ``compose(rows, **columns)`` -> rows
=========  ==============================  ==========================================

`Group` and `Pick` are applied with a key, ``rows.group("label", Top("score", 3))``; the others
with ``rows.apply``. The rows of a group come in the order of the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.pipelines.batch import take_values
from weft.pipelines.operator import BatchView, Operator, booleans


class _Keyed(Operator):
    """What is asked once for each group."""

    _method: ClassVar[str]

    @property
    def rowwise(self) -> bool:
        """Never: a group is asked for as a whole."""
        base = next(b for b in type(self).__mro__ if b.__dict__.get("_method"))
        if getattr(type(self), self._method) is getattr(base, self._method):
            raise DefinitionError(
                f"Operator {self.name} must define {self._method}(rows, loaded); it does not."
            )
        return False


class Group(_Keyed):
    """The rows that share a key in, one row out: its ports, and the columns of the key.

    The new row is named after the key. A group whose call raises fails with all its rows.
    """

    _method = "group"

    def group(self, rows: BatchView, loaded: Any) -> Any:
        """The output ports for one group as a dict, or the value itself if there is one port.

        `rows` has each input port's values, one for each row of the group.
        """
        raise NotImplementedError

    def __call__(self, *values: Any, **named: Any) -> Any:
        """Run on plain values, without an engine: the columns of one group, by port."""
        rows = self._check(values, named)
        return self.group(rows, self.setup("cpu"))


class Pick(_Keyed):
    """The rows that share a key in, some of them out, as they are. The others are dropped."""

    _method = "pick"

    def pick(self, rows: BatchView, loaded: Any) -> Sequence[bool]:
        """For each row of one group, whether to keep it."""
        raise NotImplementedError

    def pick_all(self, rows: BatchView, groups: npt.NDArray[np.int64], loaded: Any) -> Any:
        """For each row of many groups, whether to keep it; row i is of group ``groups[i]``.

        Override it where many small groups are faster together than one by one; `pick` must
        answer the same.
        """
        keep = np.zeros(len(groups), np.bool_)
        order = np.argsort(groups, kind="stable")
        ends = np.flatnonzero(np.diff(groups[order])) + 1
        for members in np.split(order, ends) if len(order) else ():
            part = {port: take_values(values, members) for port, values in rows.items()}
            answers = self.pick(part, loaded)
            keep[members] = booleans(f"{self.name}.pick", answers, len(members))
        return keep

    def __call__(self, *values: Any, **named: Any) -> list[bool]:
        """Run on plain values, without an engine: the columns of one group, by port."""
        rows = self._check(values, named)
        return [bool(kept) for kept in self.pick(rows, self.setup("cpu"))]


class Order(Operator):
    """All rows in; the same rows sorted by the columns `by` out, at most `limit` of them.

    Without columns the order is that of the source. The rows beyond the limit are dropped.
    """

    by: tuple[str, ...] = ()
    descending: bool = False
    limit: int | None = None

    @property
    def rowwise(self) -> bool:
        """Never: the engine sorts."""
        return False


class Compose(Operator):
    """An operator made of verbs: rows in, rows out, and a step of the plan for each verb."""

    @property
    def rowwise(self) -> bool:
        """Never: its steps are."""
        return False

    def compose(self, rows: Any, **columns: str) -> Any:
        """The rows after this operator. `columns` are those that its ports are bound to.

        `rows` is a `weft.pipelines.dsl.Rows`, with all its verbs.
        """
        raise NotImplementedError
