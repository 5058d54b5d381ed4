"""Actions on several rows at once: what a union, a join, a group and an order say.

They are values like the other actions of a graph, which `weft.pipelines.graph` has. What they
do to rows is in `weft.pipelines.engines`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from weft.pipelines.expressions import Expression
from weft.pipelines.operator import Operator

How = Literal["inner", "left", "semi", "anti"]
"""Which rows of the left a join keeps, and whether it brings columns of the right."""

Strategy = Literal["backward", "forward", "nearest"]
"""Which row of the right a time meets: the last before it, the first after it, the nearest."""


@dataclass(frozen=True)
class Union:
    """The rows of all inputs; a column that one of them lacks is null there."""

    label = "union"

    def identity(self) -> Any:
        return {"union": []}

    def __str__(self) -> str:
        return "all rows"


@dataclass(frozen=True)
class AsOf:
    """A row of the left meets the one of the right that is nearest in time.

    `tolerance` is in the unit of the columns, or in microseconds where they are timestamps.
    """

    left: str
    right: str
    strategy: Strategy = "backward"
    tolerance: float | None = None

    def identity(self) -> Any:
        return [self.left, self.right, self.strategy, self.tolerance]

    def __str__(self) -> str:
        columns = self.left if self.left == self.right else f"{self.left}={self.right}"
        within = "" if self.tolerance is None else f" within {self.tolerance:g}"
        return f"{self.strategy} {columns}{within}"


@dataclass(frozen=True)
class Join:
    """Rows of the left with the columns of the rows of the right that have the same key.

    `left_on` and `right_on` are columns, or ``_key``, pair by pair; null meets nothing. `brings`
    are pairs: a column of the right and its name in the result. With `many`, rows may meet many
    to many.
    """

    how: How
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    brings: tuple[tuple[str, str], ...] = ()
    asof: AsOf | None = None
    many: bool = False

    label = "join"

    def identity(self) -> Any:
        asof = self.asof.identity() if self.asof else None
        on = [list(self.left_on), list(self.right_on)]
        brings = [list(pair) for pair in self.brings]
        return {"join": self.how, "on": on, "brings": brings, "asof": asof, "many": self.many}

    def __str__(self) -> str:
        pairs = zip(self.left_on, self.right_on, strict=True)
        on = ", ".join(a if a == b else f"{a}={b}" for a, b in pairs)
        parts = [f"{self.how} on {on}" if on else self.how]
        parts += [str(self.asof)] if self.asof else []
        parts += ["many to many"] if self.many else []
        new = ", ".join(a if a == b else f"{b}={a}" for a, b in self.brings)
        return ", ".join(parts) + (f" -> {new}" if new else "")


@dataclass(frozen=True)
class Group:
    """One row for each key of the columns `by`, or an operator on the rows that share a key.

    Either `aggregates`, or an `operator` with its ports bound to columns, is given. `by` may
    name ``_parent``: children are then brought back to the row they came from.
    """

    by: tuple[str, ...]
    aggregates: tuple[Expression, ...] = ()
    operator: Operator | None = None
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    on_error: Literal["quarantine", "raise"] = "quarantine"

    label = "group"

    def identity(self) -> Any:
        operator = self.operator.identity() if self.operator else None
        writes = self.operator.writes.to_json() if self.operator else None
        ports = {"inputs": dict(self.inputs), "outputs": dict(self.outputs), "writes": writes}
        exprs = [e.identity() for e in self.aggregates]
        given = {"group": list(self.by), "aggregates": exprs, "operator": operator}
        return given | ports | {"on_error": self.on_error}

    def __str__(self) -> str:
        by = ", ".join(self.by) or "all rows"
        if self.operator is None:
            return f"by {by} -> {', '.join(str(e) for e in self.aggregates)}"
        reads = ", ".join(c if p == c else f"{p}={c}" for p, c in self.inputs)
        writes = ", ".join(c if p == c else f"{p}={c}" for p, c in self.outputs)
        ports = f"{reads} -> {writes}" if writes else reads
        policy = "" if self.on_error == "quarantine" else f"  on_error={self.on_error}"
        return f"by {by}: {self.operator}  {ports}{policy}"


@dataclass(frozen=True)
class Order:
    """All rows, sorted by the columns `by`, or as the source has them; at most `limit`.

    Nulls are last. Rows that are equal in `by` stay in the order of the source.
    """

    by: tuple[str, ...] = ()
    descending: bool = False
    limit: int | None = None

    label = "order"

    def identity(self) -> Any:
        return {"order": list(self.by), "descending": self.descending, "limit": self.limit}

    def __str__(self) -> str:
        parts = [f"by {', '.join(self.by)}"] if self.by else []
        parts += ["descending"] if self.descending else []
        parts += [f"first {self.limit:,}"] if self.limit is not None else []
        return ", ".join(parts)


@dataclass(frozen=True)
class Exchange:
    """Rows kept on disk between two phases of a run; the planner puts it in.

    ``shuffle``: cut into `partitions` by a hash of the columns `by`, for a join or a group.
    ``hold``: as they are, for a step of a later phase. ``broadcast``: as they are, for every
    worker of a join. ``sort``: sorted by `by`, each unit for itself, and cut at `limit`.
    """

    kind: Literal["shuffle", "hold", "broadcast", "sort"]
    by: tuple[str, ...] = ()
    partitions: int = 1
    descending: bool = False
    limit: int | None = None

    @property
    def label(self) -> str:
        return self.kind

    def identity(self) -> Any:
        return [self.kind, list(self.by), self.partitions, self.descending, self.limit]

    def __str__(self) -> str:
        kind = "" if self.kind == "sort" and not self.by else self.kind
        by = f"by {', '.join(self.by)}" if self.by else ""
        order = "descending" if self.descending else ""
        cut = f"into {self.partitions}" if self.kind == "shuffle" else ""
        first = f"first {self.limit:,} of each unit" if self.limit is not None else ""
        return " ".join(part for part in (kind, by, order, cut, first) if part)
