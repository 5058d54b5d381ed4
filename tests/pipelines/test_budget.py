"""How many rows may fail."""

from __future__ import annotations

import pytest

from weft.errors import DefinitionError, OverBudget
from weft.pipelines.runs.budget import Budget


@pytest.mark.parametrize(
    ("budget", "failed", "rows", "over"),
    [
        (Budget(), 10, 10, False),
        (Budget(), 11, 100, True),
        (Budget(), 11, 1000, False),
        (Budget(), 100, 1000, False),
        (Budget(), 101, 1000, True),
        (Budget(0, 0.0), 0, 10, False),
        (Budget(0, 0.0), 1, 10**9, True),
        (Budget(5, 0.0), 5, 10, False),
        (Budget(5, 0.0), 6, 10, True),
        (Budget(0, 0.5), 5, 10, False),
        (Budget(0, 0.5), 6, 10, True),
    ],
)
def test_exceeded(budget: Budget, failed: int, rows: int, over: bool) -> None:
    assert budget.exceeded(failed, rows) is over


@pytest.mark.parametrize(
    ("text", "budget", "shown"),
    [
        ("5%", Budget(0, 0.05), "5%"),
        ("0.5%", Budget(0, 0.005), "0.5%"),
        ("100", Budget(100, 0.0), "100 rows"),
        ("0", Budget(0, 0.0), "0 rows"),
    ],
)
def test_parse(text: str, budget: Budget, shown: str) -> None:
    assert Budget.parse(text) == budget
    assert str(budget) == shown


@pytest.mark.parametrize("text", ["", "many", "%", "1.5", "5 %%"])
def test_not_a_budget(text: str) -> None:
    with pytest.raises(DefinitionError) as error:
        Budget.parse(text)
    assert str(error.value) == (
        f"{text!r} is not an error budget. Expected a share such as 5% or rows such as 50."
    )


def test_check() -> None:
    Budget().check(10, 10, "")
    with pytest.raises(OverBudget) as error:
        Budget().check(20, 100, "First failures: a: torn")
    assert str(error.value) == (
        "20 of 100 rows failed, more than the error budget of 10 rows and 10% allows. "
        "Nothing was published. First failures: a: torn"
    )
