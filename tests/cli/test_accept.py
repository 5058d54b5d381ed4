"""`weft plan`, `run --max-recompute` and `weft accept` when the code of an operator changed."""

from __future__ import annotations

from pathlib import Path

import lance
import pytest

RUN = ("run", "--engine", "local")
WAITS = "tiny.py:waits"


@pytest.fixture
def changed(weft, photos: Path, work: Path) -> Path:
    """A dataset, whose operator has another version since."""
    weft(*RUN, WAITS)
    edited(work, '"1")\ndef slow', '"2")\ndef slow')
    return work / "waits.lance"


def edited(work: Path, before: str, after: str) -> None:
    text = (work / "tiny.py").read_text()
    assert before in text
    (work / "tiny.py").write_text(text.replace(before, after))


def test_plan_says_which_field_why_and_for_how_many_rows(weft, answer, changed: Path) -> None:
    text = weft("plan", WAITS, code=10).stdout
    assert ": 11 unchanged; slow is of version 2, was of 1)." in text
    assert f"For 10 rows that stay in {changed}: slow.\n  It reads the source again." in text
    assert "\n  slow   is of version 2, was of 1, about " in text
    (work,) = answer("plan", WAITS, code=10)["recomputes"]
    assert (work["fields"], work["rows"], work["reads"]) == (["slow"], 10, "source")
    assert [s["step"] for s in work["steps"]] == ["read", "probe", "slow"]


def test_more_than_the_limit_is_refused(weft, changed: Path) -> None:
    before = lance.dataset(str(changed)).version
    error = weft(*RUN, WAITS, "--max-recompute", "9", code=3).stderr
    assert "10 rows whose source did not would be computed again, which is more than 9" in error
    assert "slow is of version 2, was of 1" in error
    assert lance.dataset(str(changed)).version == before
    assert "anew     slow for 10 rows, read again: 0 written" in weft(*RUN, WAITS).stdout
    assert weft("plan", WAITS).stdout.endswith("Nothing to do.\n")


def test_yes_is_no_limit(weft, changed: Path) -> None:
    weft(*RUN, WAITS, "--max-recompute", "0", "--yes")


def test_an_accepted_change_computes_nothing(weft, answer, changed: Path, work: Path) -> None:
    assert "slow@2" in weft("accept", WAITS, "slwo@2", code=2).stderr
    (done,) = answer("accept", WAITS, "slow@2")
    assert done == {"dataset": str(changed), "operator": "slow", "before": "1", "after": "2"}
    result = answer(*RUN, WAITS, "--max-recompute", "0")
    assert (result["rows"], result["recomputed"]) == (0, {})
    assert weft("plan", WAITS).stdout.endswith("Nothing to do.\n")
    edited(work, '"2")\ndef slow', '"3")\ndef slow')
    weft(*RUN, WAITS, "--max-recompute", "0", code=3)
