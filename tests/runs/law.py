"""Random edits of a source and of the pipeline that reads it, crashes among them.

A `World` has sources in a folder, a `Spec` that says what the pipeline is at present, and a
dataset that is kept up to date by incremental runs. `edits` draws what happens next. The law is
that after each run the dataset is what a full run of the present pipeline makes.

A crash is what SIGKILL leaves: from a random moment on nothing that the process does to the
world's files has an effect, except that the lease is given back, which a dead process need not do.
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import lance
import polars as pl
import pyarrow as pa

import weft
from weft.connectors import Files, Lance
from weft.pipelines import tables
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.compact import compact
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.result import Listener
from weft.pipelines.runs.rollback import rollback

BUDGET = Budget(rows=10**6)

BODIES = ["", "a", "b c", "skip", "d e\nf", "mute g", "h\nskip\ni j k", "bad", "l bad\nm", "n" * 40]
"""What the files of a source say."""


@dataclass(frozen=True)
class Code:
    """An operator's code at present: what it adds, and which rows it fails on."""

    log: str
    version: int = 1
    adds: int = 1
    bad: int = 7


@dataclass(frozen=True)
class Spec:
    """What the pipeline is at present.

    `codes` are the operators', `by` a parameter, `limit` the filter's, `on_error` of what fails,
    `extra` the columns that are there besides, `first` where the filter is.
    """

    shape: str
    codes: dict[str, Code]
    by: int = 0
    limit: int = 3
    on_error: str = "quarantine"
    extra: frozenset[str] = frozenset()


def note(code: Code, name: str, value: Any) -> None:
    """Write down that an operator was asked, in whatever process that was."""
    with Path(code.log).open("a") as file:
        file.write(f"{name} {value!r}\n")


def hated(value: int, code: Code) -> bool:
    return value % 7 == code.bad


def add(code: Code, by: int) -> Any:
    """An operator with a parameter, and a version of its own."""

    @weft.operator(version=str(code.version))
    def add(n: int, by: int = 0) -> int:
        note(code, "add", n)
        if hated(n, code):
            raise ValueError(f"{n} is not to be added to")
        return n + by + code.adds

    return add.replace(by=by)


def twice(code: Code) -> Any:
    """An operator whose version is its source, with a variable of a closure."""
    adds, bad, log = code.adds, code.bad, replace(code, version=0, adds=0, bad=0)

    @weft.operator
    def twice(n: int) -> int:
        note(log, "twice", n)
        if n % 7 == bad:
            raise ValueError(f"{n} is not to be doubled")
        return 2 * (n // 2) + adds  # many inputs give one output

    return twice


@dataclass(frozen=True)
class Third(weft.Map):
    """A class that works by the batch."""

    code: Any
    version = "1"
    reads = weft.fields(n=weft.Int64(nullable=True))
    writes = weft.fields(third=weft.Float64(nullable=True))

    def params(self) -> dict[str, Any]:
        return {"version": self.code.version}

    def map(self, batch: Any, loaded: Any) -> Any:
        for n in batch["n"]:
            note(self.code, "third", n)
        return {"third": [None if n is None else n / 3 + self.code.adds for n in batch["n"]]}


def measure(code: Code) -> Any:
    @weft.operator(version=str(code.version))
    def measure(content: weft.Encoded) -> weft.fields(length=int, first=int):  # type: ignore[valid-type]
        note(code, "measure", len(content))
        if hated(len(content), code):
            raise ValueError("it cannot be measured")
        return {"length": len(content) + code.adds, "first": content[0] if content else 0}

    return measure


def lines(code: Code) -> Any:
    @weft.operator(version=str(code.version))
    def lines(content: weft.Encoded) -> Iterator[weft.fields(line=str, letters=int)]:  # type: ignore[valid-type]
        text = bytes(content).decode()
        note(code, "lines", text)
        if hated(len(text), code):
            raise ValueError("a broken file")
        return ({"line": t, "letters": len(t) + code.adds} for t in text.splitlines())

    return lines


def shout(code: Code) -> Any:
    @weft.operator(version=str(code.version))
    def shout(line: str) -> str:
        note(code, "shout", line)
        if hated(len(line), code):
            raise ValueError("it cannot be shouted")
        return line.upper() + "!" * code.adds

    return shout


def chain(spec: Spec, home: Path, out: Path) -> Any:
    """Map, filter, map: columns in between are kept, or not."""
    codes = spec.codes

    @weft.pipeline
    def law() -> Any:
        rows = weft.read(Lance(str(home / "table"), key="k"))
        rows = rows.apply(add(codes["add"], spec.by), add="y", on_error=spec.on_error)
        if "early" in spec.extra:
            rows = rows.where(pl.col("n") % 4 != 0)
        rows = rows.where(pl.col("y").is_null() | (pl.col("y") % 5 != spec.limit))
        rows = rows.apply(twice(codes["twice"]), n="y", twice="z", on_error=spec.on_error)
        if "third" in spec.extra:
            rows = rows.apply(Third(codes["third"]), n="z")
        if "sum" in spec.extra:
            rows = rows.with_columns(sum=pl.col("z") + pl.col("n"))
        rows = rows.where(pl.col("z").is_null() | (pl.col("z") % 3 != spec.limit % 3))
        more = [c for c in ("third", "sum", "y", "s") if c in spec.extra]
        return rows.select("k", "z", *more).write(Lance(str(out / "rows")))

    return law()


def media(spec: Spec, home: Path, out: Path) -> Any:
    """Files whose bytes go to the dataset, and what is measured of them."""
    codes = spec.codes

    @weft.pipeline
    def law() -> Any:
        rows = weft.read(Files(f"{home}/left/*", kind="image"))
        rows = rows.apply(measure(codes["measure"]), on_error=spec.on_error)
        rows = rows.where(pl.col("length").is_null() | (pl.col("length") > spec.limit))
        if "y" in spec.extra:
            rows = rows.apply(add(codes["add"], spec.by), n="length", add="y", on_error="null")
        if "third" in spec.extra:
            rows = rows.apply(Third(codes["third"]), n="first")
        if "sum" in spec.extra:
            rows = rows.with_columns(sum=pl.col("length") + pl.col("size"))
        more = [c for c in ("y", "third", "sum") if c in spec.extra]
        return rows.select("key", "content", "length", *more).write(Lance(str(out / "rows")))

    return law()


def children(spec: Spec, home: Path, out: Path) -> Any:
    """Files to lines."""

    @weft.pipeline
    def law() -> Any:
        return _words(spec, _lines(spec, home)).write(Lance(str(out / "rows")))

    return law()


def back(spec: Spec, home: Path, out: Path) -> Any:
    """Files to lines, and lines back to files."""

    @weft.pipeline
    def law() -> Any:
        rows = _lines(spec, home)
        files = rows.group("_parent", count=pl.len(), last=pl.col("line").last())
        words = _words(spec, rows)
        return words.write(Lance(str(out / "rows"))), files.write(Lance(str(out / "files")))

    return law()


def _lines(spec: Spec, home: Path) -> Any:
    codes = spec.codes
    rows = weft.read(Files(f"{home}/left/*", kind="text"))
    if "early" in spec.extra:
        rows = rows.where(pl.col("size") > 0)
    rows = rows.apply(lines(codes["lines"])).where(pl.col("line") != "skip")
    rows = rows.apply(shout(codes["shout"]), on_error=spec.on_error)
    return rows.where(pl.col("letters") != spec.limit)


def _words(spec: Spec, rows: Any) -> Any:
    if "y" in spec.extra:
        rows = rows.apply(add(spec.codes["add"], spec.by), n="letters", add="y")
    if "sum" in spec.extra:
        rows = rows.with_columns(sum=pl.col("letters") * 2)
    more = [c for c in ("y", "sum") if c in spec.extra]
    return rows.select("key", "line", "shout", *more)


def union(spec: Spec, home: Path, out: Path) -> Any:
    """Two folders as one stream, and two datasets."""
    codes = spec.codes

    @weft.pipeline
    def law() -> Any:
        left = weft.read(Files(f"{home}/left/*", kind="text"))
        right = weft.read(Files(f"{home}/right/*", kind="text")).where(pl.col("size") > 1)
        rows = left.union(right)
        rows = rows.apply(measure(codes["measure"]), on_error=spec.on_error)
        big = rows.where(pl.col("length").is_null() | (pl.col("length") > spec.limit))
        if "third" in spec.extra:
            big = big.apply(Third(codes["third"]), n="length")
        if "sum" in spec.extra:
            rows = rows.with_columns(sum=pl.col("length") + 1)
        more = [c for c in ("third",) if c in spec.extra]
        also = [c for c in ("sum",) if c in spec.extra]
        return (
            rows.select("key", "length", *also).write(Lance(str(out / "rows"))),
            big.select("key", "first", *more).write(Lance(str(out / "big"))),
        )

    return law()


def fork(spec: Spec, home: Path, out: Path) -> Any:
    """Two datasets, one of which has a filter behind the fork."""
    codes = spec.codes

    @weft.pipeline
    def law() -> Any:
        rows = weft.read(Lance(str(home / "table"), key="k"))
        rows = rows.apply(add(codes["add"], spec.by), add="y", on_error=spec.on_error)
        rows = rows.apply(twice(codes["twice"]), n="y", twice="z", on_error=spec.on_error)
        some = rows.where(pl.col("y").is_null() | (pl.col("y") % 5 != spec.limit))
        if "third" in spec.extra:
            some = some.apply(Third(codes["third"]), n="y")
        if "sum" in spec.extra:
            rows = rows.with_columns(sum=pl.col("z") + pl.col("n"))
        more = [c for c in ("third",) if c in spec.extra]
        also = [c for c in ("sum",) if c in spec.extra]
        return (
            rows.select("k", "z", *also).write(Lance(str(out / "rows"))),
            some.select("k", "y", *more).write(Lance(str(out / "some"))),
        )

    return law()


SHAPES: dict[str, Callable[[Spec, Path, Path], Any]] = {
    "chain": chain, "media": media, "children": children, "union": union, "back": back,
    "fork": fork,
}  # fmt: skip

EXTRAS = {
    "chain": ["early", "third", "sum", "y", "s"],
    "media": ["y", "third", "sum"],
    "children": ["early", "y", "sum"],
    "back": ["early", "y", "sum"],
    "union": ["third", "sum"],
    "fork": ["third", "sum"],
}
OPERATORS = {
    "chain": ["add", "twice", "third"],
    "media": ["measure", "add", "third"],
    "children": ["lines", "shout", "add"],
    "back": ["lines", "shout", "add"],
    "union": ["measure", "third"],
    "fork": ["add", "twice", "third"],
}


class Heard(Listener):
    """Keeps what a run says."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


class Killed(BaseException):
    """The process is dead from here on."""


class Reaper:
    """Counts what a process does to files below a folder, and kills it at the nth."""

    def __init__(self) -> None:
        self.folder = ""
        self.left = 0
        self.count = 0

    def act(self, path: object) -> None:
        """One more thing is about to be done to a file."""
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
        if not self.folder or not str(text).startswith(self.folder) or "lease" in str(text):
            return
        self.count += 1
        if self.left and self.count >= self.left:
            raise Killed

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        writes = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes or event in _CHANGES:
            self.act(arguments[0])


_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "shutil.rmtree"}

REAPER = Reaper()
sys.addaudithook(REAPER.hear)


def _lance_acts(name: str) -> Callable[..., Any]:
    """A function of `tables` before and after which the process may die: what Lance does to
    files, Python does not hear."""
    function = getattr(tables, name)

    def acting(target: Any, *arguments: Any, **more: Any) -> Any:
        uri = target["uri"] if isinstance(target, dict) else target
        REAPER.act(uri)
        made = function(target, *arguments, **more)
        REAPER.act(uri)
        return made

    return acting


@contextmanager
def killing(folder: Path, after: int) -> Iterator[Reaper]:
    """Kill whatever acts on `folder` after so many acts; 0 never."""
    REAPER.folder, REAPER.left, REAPER.count = str(folder), after, 0
    originals = {n: getattr(tables, n) for n in ("commit", "stage", "tag", "ensure")}
    try:
        for name in originals:
            setattr(tables, name, _lance_acts(name))
        yield REAPER
    finally:
        REAPER.folder = ""
        for name, function in originals.items():
            setattr(tables, name, function)


@dataclass
class World:
    """Sources, the pipeline at present, and a dataset that follows them."""

    home: Path
    chance: Random
    shape: str = ""
    engine: str = "local"
    spec: Spec = field(init=False)
    told: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    acts: int = 40
    _clock: Any = field(default_factory=lambda: itertools.count(10**9))
    _names: Any = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        for folder in ("left", "right", "out"):
            (self.home / folder).mkdir(parents=True)
        shape = self.shape or self.chance.choice(list(SHAPES))
        log = str(self.home / "log")
        self.spec = Spec(shape, {name: Code(log) for name in OPERATORS[shape]})
        for folder in ("left", "right"):
            self._file(folder, f"always {folder}", "here")
            for _ in range(5):
                self._insert_file(folder)
        numbers = [self.chance.randrange(60) for _ in range(14)]
        keys = [f"it's {next(self._names)}" for _ in numbers]
        lance.write_dataset(
            pa.table({"k": keys, "n": numbers, "s": [f"s{n}" for n in numbers]}),
            str(self.home / "table"), enable_stable_row_ids=True, max_rows_per_file=5,
        )  # fmt: skip

    @property
    def out(self) -> Path:
        """The folder of the dataset, or datasets."""
        return self.home / "out"

    def pipeline(self, out: Path | None = None) -> Any:
        """The pipeline as it is at present."""
        return SHAPES[self.spec.shape](self.spec, self.home, out or self.out)

    # -- edits ---------------------------------------------------------------------------------

    def edit(self) -> None:
        """Something changes."""
        edits = [
            *[self.edit_rows] * 5, self.bump, self.bump, self.set_parameter, self.flip,
            self.toggle_column, self.toggle_column, self.break_rows, self.toggle_policy,
        ]  # fmt: skip
        self.chance.choice(edits)()

    def edit_rows(self) -> None:
        """Rows are inserted, updated, deleted."""
        for _ in range(self.chance.randint(1, 3)):
            how = self.chance.choice(["insert", "update", "update", "delete"])
            self.told.append(f"{how} a row")
            if self.spec.shape in ("chain", "fork"):
                self._edit_table(how)
            else:
                self._edit_files(how)

    def _edit_table(self, how: str) -> None:
        table = lance.dataset(str(self.home / "table"))
        keys = table.to_table(["k"])["k"].to_pylist()
        key = self.chance.choice(keys).replace("'", "''")
        if how == "insert":
            number = self.chance.randrange(60)
            row = {"k": [f"it's {next(self._names)}"], "n": [number], "s": ["new"]}
            lance.write_dataset(pa.table(row), str(self.home / "table"), mode="append")
        elif how == "update":
            column = self.chance.choice(["n", "n", "s"])
            value = str(self.chance.randrange(60)) if column == "n" else "'other'"
            table.update({column: value}, where=f"k = '{key}'")
        elif len(keys) > 1:
            table.delete(f"k = '{key}'")

    def _edit_files(self, how: str) -> None:
        folder = self.chance.choice(["left", "right"])
        files = sorted(
            p.name for p in (self.home / folder).iterdir() if not p.name.startswith("always")
        )
        if how == "insert" or not files:
            self._insert_file(folder)
        elif how == "update":
            self._file(folder, self.chance.choice(files), self._body())
        else:
            (self.home / folder / self.chance.choice(files)).unlink()

    def _insert_file(self, folder: str) -> None:
        self._file(folder, f"{folder}{next(self._names)}", self._body())

    def _body(self) -> str:
        return self.chance.choice(BODIES) + "x" * self.chance.randrange(3)

    def _file(self, folder: str, name: str, text: str) -> None:
        path = self.home / folder / name
        path.write_text(text)
        os.utime(path, (0, next(self._clock)))

    def bump(self) -> None:
        """New code of an operator; it may answer as before."""
        name = self.chance.choice(OPERATORS[self.spec.shape])
        code = self.spec.codes[name]
        adds = self.chance.choice([code.adds, self.chance.randrange(3)])
        self._code(name, replace(code, version=code.version + 1, adds=adds))

    def break_rows(self) -> None:
        """New code that fails on other rows, or on none."""
        name = self.chance.choice(OPERATORS[self.spec.shape])
        code = self.spec.codes[name]
        bad = self.chance.choice([7, *range(7)])
        self._code(name, replace(code, version=code.version + 1, bad=bad))

    def _code(self, name: str, code: Code) -> None:
        self.told.append(f"{name} becomes {code.version}: adds {code.adds}, fails on {code.bad}")
        self.spec = replace(self.spec, codes=self.spec.codes | {name: code})

    def set_parameter(self) -> None:
        """A parameter changes, perhaps back to what it was."""
        self.spec = replace(self.spec, by=self.chance.randrange(3))
        self.told.append(f"by = {self.spec.by}")

    def flip(self) -> None:
        """A filter keeps other rows."""
        self.spec = replace(self.spec, limit=self.chance.randrange(6))
        self.told.append(f"limit = {self.spec.limit}")

    def toggle_column(self) -> None:
        """A column or a step comes, or goes."""
        extra = self.spec.extra ^ {self.chance.choice(EXTRAS[self.spec.shape])}
        self.spec = replace(self.spec, extra=extra)
        self.told.append(f"with {sorted(extra)}")

    def toggle_policy(self) -> None:
        """What becomes of rows that fail."""
        other = "null" if self.spec.on_error == "quarantine" else "quarantine"
        self.spec = replace(self.spec, on_error=other)
        self.told.append(f"on_error = {other}")

    # -- runs ----------------------------------------------------------------------------------

    def run(self, **more: Any) -> Any:
        """Bring the dataset up to date; returns the result of the run."""
        heard = Heard()
        with killing(self.home, 0) as reaper:
            result = self._run(listener=heard, **more)
        self.acts = max(10, reaper.count)
        self.told.append(f"a run: {result.state}; {' '.join(heard.notices)}")
        self.published += [] if result.in_sync else [*result.earlier, result.run]
        return result

    def crash(self) -> None:
        """Begin to bring the dataset up to date, and die on the way."""
        after = 1 + self.acts * self.chance.randrange(1000) // 1000  # threads: `acts` varies
        try:
            with killing(self.home, after):
                result = self._run(listener=Heard())
            self.told.append(f"a run that lives: {result.state}")
        except Killed:
            self.told.append(f"a run that dies after {after} acts")

    def compact(self) -> None:
        """The files of all datasets are merged."""
        self.told.append("compacted")
        for dataset in datasets(self.out):
            compact(str(dataset), f"{dataset}.weft")

    def roll_back(self) -> None:
        """All datasets go back to a run of before."""
        run = self.chance.choice(self.published)
        self.told.append(f"rolled back to {run}")
        rollback(str(datasets(self.out)[0]), run)

    def settle(self) -> None:
        """Run until nothing is left to do: a run that goes on with another sees an old source."""
        for _ in range(4):
            if self.run().in_sync:
                return
        raise AssertionError("it is never in sync")

    def _run(self, **more: Any) -> Any:
        return self.pipeline().run(engine=self.engine, budget=BUDGET, **more)

    def full(self) -> dict[str, Any]:
        """What a run of the present pipeline makes anew."""
        other = self.home / "full"
        self.pipeline(other).run(engine="local", budget=BUDGET)
        found = contents(other)
        shutil.rmtree(other)
        return found


def datasets(out: Path) -> list[Path]:
    """The datasets in a folder."""
    return sorted(p for p in out.iterdir() if not p.name.endswith(".weft"))


def contents(out: Path) -> dict[str, Any]:
    """All that runs leave in a folder of datasets: rows, ledger and errors, in a fixed order."""
    found = {}
    for dataset in datasets(out):
        state = f"{dataset}.weft"
        for what, uri in {
            "rows": str(dataset), "ledger": ledger_uri(state), "errors": errors_uri(state),
        }.items():  # fmt: skip
            rows = tables.read(uri, "latest").to_pylist()
            found[f"{dataset.name} {what}"] = sorted(map(repr, map(_plain, rows)))
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    return dict(sorted(row.items()))


def calls(home: Path) -> Counter[str]:
    """How often each operator was asked since the last time; the log begins anew."""
    log = home / "log"
    found = Counter(log.read_text().splitlines()) if log.exists() else Counter()
    log.unlink(missing_ok=True)
    return found
