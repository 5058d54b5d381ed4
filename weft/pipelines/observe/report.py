"""What a report tells of a run: the journal's facts, cleaned of secrets, and the accounts of rows.

`report_page` writes the page, `report_graph` draws the plan; both take a `Report` and nothing
else. Everything that enters it goes through `redact`, as what enters a journal does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weft.errors import redact
from weft.pipelines.engines.books import Count
from weft.pipelines.observe.failures import Reason, reasons

_SECRET_NAME = re.compile(r"(?i)token|secret|passw|api_?key|authorization|credential")

_HIDDEN = "***"

_LONGEST = 100_000
"""Characters of one text: a plan of some hundred steps. Keys and messages are cut where shown."""


@dataclass(frozen=True)
class Account:
    """Rows that came to a step or a filter, and what became of them.

    `of` is how many rows there were to begin with: those read, or after an `Expand` its
    children. What is missing of it in `taken` ended earlier.
    """

    name: str
    taken: int
    passed: int
    dropped: int
    failed: int
    nulled: int
    of: int
    children: int | None = None


@dataclass(frozen=True)
class Report:
    """A run: what was asked, how far it is, its books, and why rows failed.

    `whole` says whether `failed` tells of all failed rows, or only of the first of each unit.
    """

    about: Mapping[str, Any]
    state: Mapping[str, Any]
    books: Mapping[str, Count]
    failed: tuple[Reason, ...]
    whole: bool
    units_done: int
    rows_done: int
    began: str

    @property
    def result(self) -> Mapping[str, Any]:
        """What a published run says of itself; empty of any other."""
        found: Mapping[str, Any] = self.state.get("result", {})
        return found

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The steps of the plan; none, if the journal is of a weft that noted only its text."""
        found: list[dict[str, Any]] = self.about.get("outline", {}).get("steps", [])
        return found

    @property
    def stages(self) -> list[dict[str, Any]]:
        """The stages of the plan."""
        found: list[dict[str, Any]] = self.about.get("outline", {}).get("stages", [])
        return found

    def count(self, name: str) -> Count:
        """A step's line in the books; an empty one before the first unit has ended."""
        return self.books.get(name, Count())

    def total(self, kind: str, what: str) -> int:
        """The sum of one count over the steps of one kind."""
        return sum(getattr(self.count(s["id"]), what) for s in self.steps if s["kind"] == kind)

    def busy(self, index: int) -> float | None:
        """The share of its workers' time that a stage worked; known when the run is published."""
        uses = self.result.get("stages", [])
        return float(uses[index]["busy"]) if index < len(uses) else None

    def accounts(self) -> list[Account]:
        """A line for each step that can lose rows or ends them, and for each filter within one."""
        out: dict[str, int] = {}
        lines: list[Account] = []
        for step in self.steps:
            of = sum(out[i] for i in step["inputs"]) or self.count(step["id"]).taken
            out[step["id"]] = self._listed(step) if step["expands"] else of
            if step["kind"] != "select":
                lines += self._step_accounts(step, of, out[step["id"]])
        return lines or [_account(name, line, line.taken) for name, line in self.books.items()]

    def _listed(self, step: Mapping[str, Any]) -> int:
        """The children of an `Expand`, before its filters."""
        if step["filters"]:
            return self.count(step["filters"][0]["id"]).taken
        line = self.count(step["id"])
        return line.emitted + line.children_failed

    def _step_accounts(self, step: Mapping[str, Any], of: int, after: int) -> Iterator[Account]:
        line = self.count(step["id"])
        yield _account(step["id"], line, of, after if step["expands"] else None)
        for predicate in step["filters"]:
            yield _account(predicate["id"], self.count(predicate["id"]), after)
        if line.children_failed:
            made, lost = line.emitted, line.children_failed
            yield Account(f"{step['id']}: children", made + lost, made, 0, lost, 0, after)


def make_report(
    *,
    about: Mapping[str, Any],
    state: Mapping[str, Any],
    books: Mapping[str, Mapping[str, float]],
    failed: Iterable[Mapping[str, str]],
    whole: bool,
    units_done: int,
    rows_done: int,
    began: str,
) -> Report:
    """A report of what a journal, its receipts and the errors tables say.

    Args:
        about: the journal's ``run.json``.
        state: its ``state.json``; ``killed`` if the process is gone.
        books: the lines of the books, by step, of all units that are done.
        failed: rows of the errors tables, or the samples of the receipts.
        whole: whether `failed` are all of them.
        units_done: units with a receipt.
        rows_done: source rows in them.
        began: when the run began, in words.
    """
    return Report(
        about=clean(about),
        state=clean(state),
        books={name: Count(**line) for name, line in books.items()},  # type: ignore[arg-type]
        failed=tuple(reasons(clean(row) for row in failed)),
        whole=whole,
        units_done=units_done,
        rows_done=rows_done,
        began=began,
    )


def clean(value: Any, name: str = "") -> Any:
    """JSON without secrets: credentials and queries of addresses, and what a name calls secret.

    >>> clean({"source": "s3://me:pw@host/a?sig=1", "hf_token": "x", "max_tokens": 8})
    {'source': 's3://***@host/a?***', 'hf_token': '***', 'max_tokens': 8}
    """
    match value:
        case str():
            return _HIDDEN if value and _SECRET_NAME.search(name) else redact(value, _LONGEST)
        case dict():
            return {k: clean(v, k) for k, v in value.items()}
        case list() | tuple():
            return [clean(v, name) for v in value]
        case _:
            return value


def _account(name: str, line: Count, of: int, children: int | None = None) -> Account:
    nulled, passed = line.nulled, line.passed
    return Account(name, line.taken, passed, line.dropped, line.failed, nulled, of, children)
