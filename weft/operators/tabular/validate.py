"""Rules that every row must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from weft.errors import DefinitionError, RowError
from weft.operators.tabular.ports import AnyColumn, cut, to_array
from weft.pipelines.expressions import Expression, check_predicate
from weft.pipelines.fields import Fields
from weft.pipelines.operator import BatchView, Filter

Rules = tuple[tuple[str, Expression], ...]


@dataclass(frozen=True)
class Validate(Filter):
    """Fail the rows that break a rule, with the name of the rule and the values at hand.

    `rules` are Polars expressions by name, row by row and boolean, as `where` takes them:
    ``Validate({"has a price": pl.col("price") > 0})``. The operator has a port for each column
    that they name. No row is dropped in silence: one that breaks rules goes to the errors
    table with all of them, or stops the run with ``on_error="raise"``. Use `where` to drop.

    A rule must be true: null is not, as in `where`. So a rule on a column that may be null says
    what null means: ``(pl.col("price") > 0).fill_null(True)``, ``pl.col("price").is_not_null()``.

    >>> check = Validate({"paid": pl.col("price") > 0, "net": pl.col("net") <= pl.col("price")})
    >>> check(price=2.0, net=1.5)
    True
    >>> check(price=0.0, net=-1.0)
    Traceback (most recent call last):
    weft.errors.RowError: tabular.Validate: 'paid' is broken: col("price") > 0; given price=0.0.

    Raises:
        DefinitionError: no rule, or one that is no expression, names no column, is not boolean
            or not row by row.
        RowError: a row breaks a rule.
    """

    rules: Mapping[str, pl.Expr] | Rules

    version = "1"

    def __post_init__(self) -> None:
        rules = tuple((name, self._rule(name, rule)) for name, rule in dict(self.rules).items())
        if not rules:
            raise DefinitionError(
                f"{self.name}: no rules given. Expected some by name: "
                'Validate({"positive": pl.col("price") > 0})'
            )
        roots = dict.fromkeys(root for _, rule in rules for root in rule.roots)
        object.__setattr__(self, "rules", rules)
        object.__setattr__(self, "reads", Fields(dict.fromkeys(roots, AnyColumn(nullable=True))))

    def _rule(self, name: str, rule: Any) -> Expression:
        if isinstance(rule, pl.Expr):
            rule = Expression(rule)
        if not isinstance(rule, Expression) or not rule.roots:
            raise DefinitionError(
                f"{self.name}: rule {name!r} is {rule}; expected a Polars expression on columns, "
                'such as pl.col("price") > 0.'
            )
        return rule

    def params(self) -> dict[str, Any]:
        """The rules as Polars serializes them."""
        return {"rules": {name: rule.identity() for name, rule in self._named()}}

    def infer(self, inputs: Fields) -> Fields:
        """Nothing, if Polars takes the rules for these columns."""
        for name, rule in self._named():
            try:
                check_predicate(rule, inputs)
            except DefinitionError as error:
                raise DefinitionError(f"{self.name}: rule {name!r}: {error}") from error
        return self.writes

    def keep(self, batch: BatchView, loaded: Any) -> list[bool]:
        """A batch. One row that breaks a rule fails it, and then that row alone."""
        frame = pl.DataFrame({port: pl.Series(to_array(batch[port])) for port in self.reads})
        answers = frame.select(
            rule.expr.fill_null(value=False).alias(name) for name, rule in self._named()
        )
        broken = [name for name in answers.columns if not answers[name].all()]
        if not broken:
            return [True] * len(frame)
        if len(frame) > 1:  # the engine asks again for fewer rows, until the one at fault is alone
            raise RowError(f"{self.name}: a row among {len(frame)} breaks {broken}.")
        values = frame.row(0, named=True)
        told = "; ".join(_told(n, rule, values) for n, rule in self._named() if n in broken)
        raise RowError(f"{self.name}: {told}.")

    def _named(self) -> Rules:
        assert isinstance(self.rules, tuple)
        return self.rules

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}: {rule}' for name, rule in self._named())})"


def _told(name: str, rule: Expression, values: Mapping[str, Any]) -> str:
    given = ", ".join(f"{root}={cut(repr(values[root]))}" for root in rule.roots)
    return f"{name!r} is broken: {rule}; given {given}"
