"""What datasets hold of some rows, and of what was made of them: found by ledgers, from dataset
to dataset.

From the named dataset the way goes to those that the same runs write, since one row of a source
is in all of them; and to those that read it, and on to their readers. A ledger tells which rows
of a dataset were made of which, and the note of its run which of its reads read what. Every run
that is still there is asked, so that what an old version alone holds is found too.

What nobody can find are readers that could not register (see `readers`), and rows that a dataset
had only in versions that are gone and that others made something of: name these datasets.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from weft.errors import DefinitionError, PlanError, nearest
from weft.pipelines import erasing, tables
from weft.pipelines.batch import KEY, PARENT
from weft.pipelines.observe import record
from weft.pipelines.runs.family import LINE, NAME, family, roots_of, with_names
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.readers import readers

_ROW_BY_ROW = {"read", "apply", "where", "with_columns", "select", "union", "write"}
"""Steps that make nothing of several rows together."""

Steps = Mapping[str, Mapping[str, Any]]

ANY = ""
"""Stands for every read of a pipeline."""


@dataclass(frozen=True)
class Holding:
    """What one dataset holds of the rows to forget.

    `roots` are the keys under which they were read, by read or by `ANY`; `keys` those of all
    rows that any version has of them, `mixed` those among these that were made of other rows,
    too, by groups and joins. `rows` and `lines` are what readers see of them and what the newest
    ledger has. With `together` the next run makes the dataset anew.
    """

    dataset: str
    why: str
    roots: Mapping[str, Sequence[str]]
    keys: Sequence[str] = ()
    mixed: Sequence[str] = ()
    rows: int = 0
    lines: int = 0
    versions: int = 0
    bytes: int = 0
    barred: bool = False
    together: bool = False

    @property
    def state(self) -> str:
        """The dataset's state folder."""
        return f"{self.dataset}.weft"

    @property
    def tables(self) -> tuple[str, str, str]:
        """Errors, dataset and ledger, in the order in which rows are erased: what is in the
        ledger leads to the others."""
        return errors_uri(self.state), self.dataset, ledger_uri(self.state)

    def to_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


@dataclass(frozen=True)
class Holdings:
    """What there is to forget of `keys`: by dataset, what was made of others first.

    `absent` are keys that the named datasets do not hold. `beyond` are readers that are no Lance
    datasets of weft, which weft cannot erase from.
    """

    keys: tuple[str, ...]
    absent: tuple[str, ...]
    parts: tuple[Holding, ...]
    beyond: tuple[str, ...] = ()


def find(dataset: str, keys: Sequence[str], also: Sequence[str] = ()) -> Holdings:
    """Everything that datasets hold of the rows `keys` of `dataset`, and of those `also` named.

    Raises:
        DefinitionError: a dataset has no ledger, or a key is of a row that was made of others.
    """
    search = _Search(also)
    for name in (dataset, *also):
        if not _has_ledger(name):
            raise DefinitionError(
                f"{name} has no ledger, so no run of weft made it, or {name}.weft is gone. Which "
                "rows were made of which is not known: delete them by other means."
            )
    for name in _written_together(dataset):
        why = "named" if name == dataset else f"written by the runs of {dataset}"
        search.visit(name, why, {ANY: list(keys)})
    for name in also:
        search.visit(name, "named", {ANY: list(keys)})
    search.follow()
    named = [h for h in search.found.values() if h.barred]
    absent = [k for k in keys if not any(k in h.held for h in named)]
    for key in absent:
        _refuse_made(dataset, key)
    parts = [search.found[name].holding() for name in reversed(search.order())]
    return Holdings(tuple(keys), tuple(absent), tuple(parts), tuple(sorted(search.beyond)))


def absent(dataset: str, key: str) -> DefinitionError:
    """What to say of a key that no dataset holds."""
    ledger = erasing.lines(ledger_uri(f"{dataset}.weft"))
    near = nearest(key, ledger[KEY].head(10_000).to_list())
    return DefinitionError(
        f"{dataset} holds no row {key!r}, and nothing made of it. {near} To keep it from being "
        "read in the future all the same: --even-if-absent".replace("  ", " ")
    )


@dataclass
class _Found:
    """What is known of a dataset while the search goes on."""

    dataset: str
    why: str
    barred: bool
    roots: dict[str, set[str]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    mixed: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)  # of the roots
    together: bool = False
    behind: set[str] = field(default_factory=set)  # readers of it

    def look(self) -> None:
        """Note what any version of the ledger has of the rows that were read under the roots."""
        ledger = erasing.lines_ever(ledger_uri(f"{self.dataset}.weft"))
        begun = begin(ledger, self.roots)
        lines = family(ledger, begun)
        self.keys = set(lines[KEY])
        self.kept = set(lines.filter(pl.col("outcome") == "kept")[KEY])
        self.mixed = self.keys - set(family(ledger, begun, alone=True)[KEY])
        self.held = set(begun[NAME])
        steps = (step for noted in _noted(self.dataset).values() for step in noted.values())
        self.together = any(step["kind"] not in _ROW_BY_ROW for step in steps)

    def holding(self) -> Holding:
        ledger = erasing.lines(ledger_uri(f"{self.dataset}.weft"), _seen(self.dataset))
        lines = family(ledger, begin(ledger, self.roots))
        wanted = (self.keys - self.mixed) | set(lines[KEY])
        places = erasing.places(self.dataset, wanted, _seen(self.dataset)) if wanted else []
        return Holding(
            dataset=self.dataset,
            why=self.why,
            roots={read: sorted(keys) for read, keys in self.roots.items()},
            keys=sorted(self.keys),
            mixed=sorted(self.mixed),
            rows=len(places),
            lines=len(lines),
            versions=len(erasing.versions(self.dataset)),
            bytes=erasing.size_to_rewrite(self.dataset, places) if self.keys else 0,
            barred=self.barred,
            together=self.together and bool(self.keys),
        )


class _Search:
    """A walk over datasets; one is visited again where more rows of it are found."""

    def __init__(self, also: Sequence[str]) -> None:
        self.found: dict[str, _Found] = {}
        self.beyond: set[str] = set()
        self._also = also
        self._waiting: list[str] = []

    def visit(self, dataset: str, why: str, roots: Mapping[str, Iterable[str]]) -> None:
        """Look into a dataset for rows that were read under these keys."""
        barred = ANY in roots
        here = self.found.setdefault(dataset, _Found(dataset, why, barred))
        for read, keys in roots.items():
            here.roots.setdefault(read, set()).update(keys)
        here.look()
        self._waiting.append(dataset)

    def follow(self) -> None:
        """Visit the readers of what was found, and theirs."""
        while self._waiting:
            here = self.found[self._waiting.pop()]
            for reader in {*readers(here.dataset), *self._also} - {here.dataset}:
                if not _is_there(reader):
                    continue
                if not _has_ledger(reader):
                    self.beyond.add(reader)
                    continue
                roots = _read_from(reader, here.dataset, here.kept)
                if roots or reader in readers(here.dataset):
                    here.behind.add(reader)
                    if reader not in self.found or _more(self.found[reader].roots, roots):
                        self.visit(reader, _how(reader, here.dataset), roots)

    def order(self) -> list[str]:
        """The datasets, each before its readers."""
        done: list[str] = []

        def add(name: str) -> None:
            if name not in done:
                for reader in sorted(self.found[name].behind):
                    add(reader)
                done.append(name)

        for name in self.found:
            add(name)
        return done[::-1]


def begin(ledger: pl.DataFrame, roots: Mapping[str, Collection[str]]) -> pl.DataFrame:
    """The lines of a ledger of rows that were read under these keys, by read or by `ANY`."""
    found = [roots_of(ledger, keys, None if r == ANY else [r]) for r, keys in roots.items()]
    return pl.concat([roots_of(ledger, [], None), *found]).unique(LINE)


def _more(have: Mapping[str, set[str]], roots: Mapping[str, Iterable[str]]) -> bool:
    return any(set(keys) - have.get(read, set()) for read, keys in roots.items())


def _is_there(dataset: str) -> bool:
    """Whether something may be there; of other storages than paths nobody knows."""
    return "://" in dataset or Path(dataset).exists()


def _has_ledger(dataset: str) -> bool:
    try:
        return tables.exists(dataset) and tables.exists(ledger_uri(f"{dataset}.weft"))
    except PlanError:  # on another storage
        return False


def _seen(dataset: str) -> str | None:
    """The tag that readers see, if there is one."""
    return tables.LATEST if tables.latest(dataset) is not None else None


def _noted(dataset: str) -> dict[str, Steps]:
    """The steps that runs noted, by tag."""
    tags = tables.open_table(dataset).tags.list()
    return {n: json.loads(t["metadata"].get(record.PROPERTY, "{}")) for n, t in tags.items()}


def _read_from(reader: str, dataset: str, kept: Collection[str]) -> dict[str, set[str]]:
    """The keys under which `reader` reads the rows `kept` of a dataset, by read."""
    roots: dict[str, set[str]] = {}
    for steps in _noted(reader).values():
        for name, step in steps.items():
            source = step.get("source", {})
            if source.get("type") == "Lance" and source.get("path") == dataset:
                roots.setdefault(name, set()).update(_named(dataset, source.get("key"), kept))
    return roots


def _how(reader: str, dataset: str) -> str:
    """How a dataset reads another one, and whether it will go on to be able to."""
    sources = (s.get("source", {}) for s in _noted(reader).get(tables.LATEST, {}).values())
    versions = {s.get("version") for s in sources if s.get("path") == dataset}
    pinned = sorted(str(v) for v in versions - {tables.LATEST})
    return f"reads {dataset}" + (f" at version {pinned[0]}, which goes" if pinned else "")


def _named(dataset: str, column: str | None, kept: Collection[str]) -> set[str]:
    """What rows are called by those who name them by another column, in any version."""
    if column is None:
        return set(kept)
    found = set[str]()
    for version in erasing.versions(dataset):
        rows = erasing.rows(dataset, kept, version, [column])
        found.update(str(value) for value in rows[column].to_pylist())
    return found


def _written_together(dataset: str) -> list[str]:
    """The dataset, and those that its runs wrote beside it."""
    found = [dataset]
    for journal in journals(f"{dataset}.weft"):
        found += [d for d in journal.about()["datasets"] if d not in found and _has_ledger(d)]
    return found


def _refuse_made(dataset: str, key: str) -> None:
    """Refuse a key of a row that the next run would make again: what it was made of must go."""
    ledger = with_names(erasing.lines(ledger_uri(f"{dataset}.weft")))
    mine, members = ledger.filter(pl.col(KEY) == key), ledger.filter(pl.col("into") == key)
    if len(members):
        of, which = f"{len(members):,} rows, as a group", members[KEY][0]
    elif len(parent := mine[PARENT].drop_nulls()):
        of = which = _top(ledger, parent[0])
    elif len(joined := mine.filter(pl.col(NAME) != key)[NAME]):
        of, which = f"{joined[0]!r}, by a join", joined[0]
    else:
        return
    raise DefinitionError(
        f"{dataset}: {key!r} was made of {of}, and the next run would make it again. Forget what "
        f"it was made of: weft forget {dataset} {which!r}"
    )


def _top(ledger: pl.DataFrame, key: str) -> str:
    """The row that was read, of which a row was made, however many steps ago."""
    while len(above := ledger.filter(pl.col(KEY) == key)[PARENT].drop_nulls()):
        key = above[0]
    return key
