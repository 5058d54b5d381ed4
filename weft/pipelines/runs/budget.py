"""The error budget: how many rows may fail before a run is not worth publishing."""

from __future__ import annotations

from dataclasses import dataclass

from weft.errors import DefinitionError, OverBudget


@dataclass(frozen=True)
class Budget:
    """A run stops when more than `rows` rows and more than `share` of all rows have failed.

    Both must be passed: a few broken files never stop a run, nor a few in a thousand.

    >>> Budget(rows=0, share=0.0).exceeded(failed=1, rows=1000)
    True
    >>> Budget().exceeded(failed=9, rows=10)
    False
    """

    rows: int = 10
    share: float = 0.10

    @staticmethod
    def parse(text: str) -> Budget:
        """A budget from ``"5%"`` or ``"100"`` (rows).

        >>> Budget.parse("5%"), Budget.parse("100")
        (Budget(rows=0, share=0.05), Budget(rows=100, share=0.0))
        """
        try:
            if text.endswith("%"):
                return Budget(0, float(text[:-1]) / 100)
            return Budget(int(text), 0.0)
        except ValueError:
            raise DefinitionError(
                f"{text!r} is not an error budget. Expected a share such as 5% or rows such as 50."
            ) from None

    def exceeded(self, failed: int, rows: int) -> bool:
        """Whether `failed` of `rows` is too many."""
        return failed > self.rows and failed > self.share * rows

    def check(self, failed: int, rows: int, reasons: str) -> None:
        """Stop the run if too many of its rows failed; `rows` is all that the source has.

        Raises:
            OverBudget: they did; the message says why they failed.
        """
        if self.exceeded(failed, rows):
            raise OverBudget(
                f"{failed} of {rows} rows failed, more than the error budget of {self} allows. "
                f"Nothing was published. {reasons}"
            )

    def __str__(self) -> str:
        share = f"{self.share * 100:g}%" if self.share else ""
        rows = f"{self.rows} rows" if self.rows or not self.share else ""
        return " and ".join(filter(None, [rows, share]))
