"""What a run leaves on record of where rows came from, and how that is looked up by key.

The ledger has every row that ended, the row it is a child of, the group it went into and the
rows that joins brought to it. What it does not say, which step takes its rows from which and
what each read has read, a run notes with the version it makes, as the property `PROPERTY`.

A look-up is one scan of a column of the ledger, however many keys are asked for: 0.25 s where it
has 1e7 rows, 0.03 s where it has 1e6 (pylance 14, two cores, files in memory). An index would
answer in less and cost every run that writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from weft.errors import DefinitionError, nearest, redact
from weft.pipelines import tables
from weft.pipelines.batch import KEY, PARENT, SOURCE
from weft.pipelines.graph import Apply, Read, WithColumns
from weft.pipelines.plan import Plan, Step
from weft.pipelines.relations import Group, Join
from weft.pipelines.runs.places import errors_uri, ledger_uri

PROPERTY = "weft.lineage"
"""By step of the plan: kind, inputs, what it says, the columns it makes of which, what it read."""

_FILTER_KEYS = 10_000
"""Keys in one filter: 0.35 s of 1e7 rows, where one key takes 0.25 s."""

_COMPARED = 10_000
"""Keys that a mistyped one is compared with, which takes 0.1 s."""

_WRITTEN = "_row_last_updated_at_version"

_EARLIER = 10
"""Runs that are searched for a row that a version does not have, the newest first: a scan each."""


def properties(plan: Plan) -> dict[str, str]:
    """The property of the versions that a run makes; `plan` is the one that it runs."""
    steps: dict[str, dict[str, Any]] = {}
    for step in plan.steps:
        steps[step.id] = _noted(step)
        for predicate in step.predicates:
            says = redact(str(predicate.expression))
            steps[predicate.node] = {"kind": "where", "says": says, "inputs": [step.id]}
    return {PROPERTY: json.dumps(steps)}


def _noted(step: Step) -> dict[str, Any]:
    kind = "apply" if isinstance(step.action, Apply) else step.action.label
    found: dict[str, Any] = {"kind": kind, "says": redact(str(step.action))}
    found["inputs"] = list(step.inputs)
    if isinstance(step.action, Read):
        source = step.action.source
        found["source"] = {"name": source.name, "uri": source.uri, **source.identity()}
    made = _made(step)
    return found | ({"made": made} if made else {})


def _made(step: Step) -> dict[str, list[str]]:
    """The columns that a step makes, and the columns of its input that each is made of."""
    match step.action:
        case Apply(inputs=inputs, outputs=outputs):
            return {made: [column for _, column in inputs] for _, made in outputs}
        case WithColumns(expressions=expressions):
            return {e.name: list(e.roots) for e in expressions}
        case Join(brings=brings):
            return {new: [column] for column, new in brings}
        case Group(aggregates=aggregates, inputs=inputs, outputs=outputs):
            made = {e.name: list(e.roots) for e in aggregates}
            return made | {name: [column for _, column in inputs] for _, name in outputs}
    return {}


@dataclass(frozen=True)
class End:
    """A line of a ledger: how a row ended."""

    key: str
    source: str
    outcome: str
    step: str
    parent: str | None = None
    children: int | None = None
    read: str | None = None
    into: str | None = None
    joined: tuple[tuple[str, str], ...] = ()  # the join, and the key of the right


@dataclass(frozen=True)
class Fault:
    """What went wrong with a row at a step; a ``nulled`` row went on with nulls."""

    outcome: str
    step: str
    operator: str
    error: str
    message: str


class Record:
    """What a run left on record of a dataset: the steps of its plan, its ledger, its errors.

    Raises:
        DefinitionError: there is no ledger of that run, or the run noted no lineage.
    """

    def __init__(self, uri: str, version: int, run: str, noted: Mapping[str, str]) -> None:
        if PROPERTY not in noted:
            raise DefinitionError(
                f"Run {run}, which made version {version} of {uri}, did not note where rows came "
                "from: it is of an older weft. Make the dataset anew: weft run --fresh"
            )
        self.uri = uri
        self.version = version
        self.run = run
        self.steps: dict[str, dict[str, Any]] = json.loads(noted[PROPERTY])
        self._state = f"{uri}.weft"
        self._ledger = tables.open_table(ledger_uri(self._state), f"run-{run}")

    def ends(self, keys: Iterable[str]) -> list[End]:
        """The ends of the rows of these keys, each once."""
        return list(dict.fromkeys(map(_end, _lines(self._ledger, KEY, keys))))

    def members(self, keys: Iterable[str]) -> list[End]:
        """The ends of the rows that went into groups of these keys."""
        if all(step["kind"] != "group" for step in self.steps.values()):
            return []
        return list(map(_end, _lines(self._ledger, "into", keys)))

    def faults(self, keys: Iterable[str]) -> dict[str, list[Fault]]:
        """What went wrong with the rows of these keys."""
        errors = tables.open_table(errors_uri(self._state), f"run-{self.run}")
        names = [f.name for f in fields(Fault)]
        found: dict[str, list[Fault]] = {}
        for line in _lines(errors, KEY, keys):
            found.setdefault(line[KEY], []).append(Fault(*(line[name] for name in names)))
        return found

    def written(self, key: str) -> str | None:
        """The run that wrote the row `key`, if it was an earlier one whose rows stayed."""
        dataset = tables.open_table(self.uri, self.version)
        found = dataset.to_table([_WRITTEN], filter=f"{KEY} = {sql_text(key)}")[
            _WRITTEN
        ].to_pylist()
        runs = {v.number: v.run for v in tables.history(self.uri)}
        run = runs.get(min(found, default=self.version))
        return None if run == self.run else run

    def near(self, key: str) -> str:
        """The sentence that helps someone who mistyped a key."""
        name = sql_text(key.rstrip("/").rpartition("/")[2].lower())
        like = self._ledger.to_table([KEY], filter=f"contains(lower({KEY}), {name})", limit=100)
        if like.num_rows:
            first = sorted(set(like[KEY].to_pylist()), key=lambda k: (len(k), k))[:3]
            return f"Did you mean {' or '.join(map(repr, first))}?"
        some = self._ledger.to_table([KEY], limit=_COMPARED)
        return nearest(key, some[KEY].to_pylist())

    def step(self, name: str) -> Mapping[str, Any]:
        """What is noted of a step; nothing of one that an earlier run had, of whose rows these
        are, and that the plan of this run did without."""
        return self.steps.get(name, {"kind": "", "says": "", "inputs": []})

    def way(self, end: End) -> frozenset[str]:
        """The steps that a row may have come through, and the one at which it ended."""
        if end.step not in self.steps:
            return frozenset(self.steps)
        right = end.outcome == "joined"
        inputs = self.steps[end.step]["inputs"][right : None if right else 1]
        return frozenset({end.step}.union(*map(self.through, inputs)))

    def through(self, name: str) -> frozenset[str]:
        """`name` and the steps above it; a row goes through a join as one of the left."""
        found, waiting = set[str](), [name]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                step = self.step(name)
                waiting += step["inputs"][: 1 if step["kind"] == "join" else None]
        return frozenset(found)


def record_of(uri: str, version: int | str | None) -> Record:
    """The record of the rows of a version, by its number or tag; of what readers see for ``None``.

    A version without a run of its own, such as an index, has the rows of the run before it.

    Raises:
        DefinitionError: there is no such table or version, or no run of weft made its rows.
    """
    path = tables.local_path(uri)
    if version is None and tables.latest(path) is None and tables.exists(path):
        raise DefinitionError(
            f"{path} has no published version: no run of weft ended well there. "
            f"`weft runs` lists those that began."
        )
    dataset = tables.open_table(path, tables.LATEST if version is None else version)
    for tag in dataset.tags.list().values():
        if tag["version"] == dataset.version and tables.RUN_PROPERTY in tag["metadata"]:
            run = tag["metadata"][tables.RUN_PROPERTY]
            return Record(path, dataset.version, run, tag["metadata"])
    for found in tables.history(path):
        if found.number <= dataset.version and found.run is not None:
            return Record(path, dataset.version, found.run, found.properties)
    raise DefinitionError(f"No run of weft made version {dataset.version} of {path}.")


def record_at(path: str, table: str, version: int) -> Record:
    """The record of the run that committed `version` of the table of that name.

    Raises:
        DefinitionError: there is another table or none, or the version is not there any more.
    """
    dataset = tables.open_table(path)
    name = (dataset.schema.metadata or {}).get(tables.TABLE_ID, b"").decode()
    if name != table:
        raise DefinitionError(f"Another dataset is at {path} now.")
    for found in tables.history(path):
        if found.number == version and found.run is not None:
            return Record(path, version, found.run, found.properties)
    raise DefinitionError(
        f"Version {version} of {path} is not there any more, or no run of weft made it."
    )


def not_seen(record: Record, key: str) -> DefinitionError:
    """What to say of a key that a run did not see."""
    said = (
        f"{record.uri}: run {record.run}, which made version {record.version}, saw no row {key!r}."
    )
    others = [v for v in tables.history(record.uri) if v.run not in (None, record.run)]
    for other in others[:_EARLIER]:
        try:
            there = Record(record.uri, other.number, other.run or "", other.properties)
        except DefinitionError:
            continue  # it is of an older weft, or was never published
        if there.ends([key]):
            return DefinitionError(f"{said} Run {other.run} did: --version {other.number}")
    return DefinitionError(f"{said} {record.near(key)}".rstrip())


def _lines(table: Any, column: str, keys: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The lines of a ledger, or of an errors table, that have one of `keys` in a column."""
    wanted = sorted(set(keys))
    for start in range(0, len(wanted), _FILTER_KEYS):
        literals = ", ".join(map(sql_text, wanted[start : start + _FILTER_KEYS]))
        yield from table.to_table(filter=f"{column} IN ({literals})").to_pylist()


def _end(line: Mapping[str, Any]) -> End:
    return End(
        key=line[KEY],
        source=line[SOURCE],
        outcome=line["outcome"],
        step=line["step"],
        parent=line[PARENT],
        children=line["children"],
        read=line.get("read"),
        into=line.get("into"),
        joined=tuple((met["step"], met["key"]) for met in line.get("joined") or ()),
    )


def sql_text(text: str) -> str:
    """A literal of a Lance filter.

    >>> sql_text("it's")
    "'it''s'"
    """
    return "'" + text.replace("'", "''") + "'"
