"""Forgetting rows: they, and all that was made of them, go from every dataset that weft knows of,
from its ledger, errors and indexes, and from what runs wrote down; and they stay out.

The order is the promise. Nothing starts before every dataset is under a lease and no run of any
is unfinished. What is going to go is written down first, in clear, as the rows are still there:
``forgotten/pending.json`` of the named dataset. Then the keys are barred, then dataset by dataset
is erased, what was made of others first, as the ledgers of those lead to it. Last comes the
proof, the receipt is written, and the pending note goes. A process that dies anywhere in between
is gone on with by forgetting the same keys again.

The proof has three parts. Of each table one version is left, and it is asked for the rows. No
file is left that this version does not name. And all files are searched for the bytes of keys,
texts and media, which were taken, and found, before. What no program can prove from here: copies,
backups, and blocks of a disk that a file has left.
"""

from __future__ import annotations

import getpass
import importlib
import json
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import polars as pl

import weft
from weft.errors import Busy, Refused
from weft.pipelines import erasing, tables
from weft.pipelines.batch import KEY, SOURCE
from weft.pipelines.engines.ledger import as_errors
from weft.pipelines.engines.sealed import read_json, sealed_json
from weft.pipelines.runs import sums, traces
from weft.pipelines.runs.family import LINE, NAME, family
from weft.pipelines.runs.forgotten import bar, forgotten_of, pending_of
from weft.pipelines.runs.holdings import Holding, Holdings, absent, begin, find
from weft.pipelines.runs.journal import journal_of, journals, write_whole
from weft.pipelines.runs.lease import hold
from weft.pipelines.runs.scrub import Scrubber
from weft.pipelines.runs.work import unfinished

_INPUT_PROPERTY = "weft.input"

_SAMPLED = 256
"""Rows of a dataset whose texts, media and vectors are searched for: a video may have 100,000
frames, and 256 of 100 KB are in memory at once."""

_SERVING = ("online.json", "weft.connectors.feast_forget")
"""A file in the state folder of a dataset that is served online, and the module that erases there:
by name, as no pipeline knows of connectors."""


@dataclass(frozen=True)
class Receipt:
    """What was done, and whether all of it is proved; `path` is where that is written."""

    path: Path
    complete: bool
    document: Mapping[str, Any]


def look(
    dataset: str, keys: Sequence[str], also: Sequence[str] = (), *, even_if_absent: bool = False
) -> Holdings:
    """What `forget` would do. Writes nothing.

    Raises:
        DefinitionError: no dataset holds one of the keys, or it is of a row that was made of
            others; a dataset has no ledger.
        Refused: other rows are being forgotten.
    """
    dataset, also = tables.local_path(dataset), [tables.local_path(a) for a in also]
    found = _pending(dataset, keys)
    if found is not None:
        return found
    found = find(dataset, keys, also)
    before = forgotten_of(f"{dataset}.weft")
    for key in found.absent:
        if not even_if_absent and not before.has(key):
            raise absent(dataset, key)
    return found


def forget(
    dataset: str,
    keys: Sequence[str],
    also: Sequence[str] = (),
    *,
    even_if_absent: bool = False,
    abandon: bool = False,
) -> Receipt:
    """Forget the rows `keys` of a dataset; with `abandon`, give up unfinished runs for it.

    Raises:
        DefinitionError, Refused: as `look`; or a run is unfinished, or withheld by its gates.
        Busy: a run works on one of the datasets.
        CommitConflict: somebody else wrote to one of them.
        OSError: the storage failed. Forget the same keys again: it goes on.
    """
    began, name = perf_counter(), f"forget-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    dataset, also = tables.local_path(dataset), [tables.local_path(a) for a in also]
    before = look(dataset, keys, also, even_if_absent=even_if_absent)
    with ExitStack() as stack:
        for state in sorted(h.state for h in before.parts):
            stack.enter_context(hold(state, name))
        found = look(dataset, keys, also, even_if_absent=even_if_absent)
        if {h.dataset for h in found.parts} != {h.dataset for h in before.parts}:
            raise Busy("A run has begun to read one of these datasets meanwhile. Try again.")
        _refuse_open_runs(found, abandon=abandon)
        return _Forgetting(name, dataset, found).run(began)


def _open_runs(found: Holdings) -> list[tuple[str, str, str]]:
    """Unfinished runs, and those that gates withhold: dataset, run and which it is."""
    runs = []
    for part in found.parts:
        if (journal := unfinished(part.state)) is not None:
            runs.append((part.dataset, journal.run, "unfinished"))
        for journal in journals(part.state):
            if journal.state()["state"] == "gated" and _has_tag(part.dataset, journal.run):
                runs.append((part.dataset, journal.run, "gated"))
    return runs


def _refuse_open_runs(found: Holdings, *, abandon: bool) -> None:
    for dataset, run, what in _open_runs(found):
        if what == "gated":
            raise Refused(
                f"Run {run} of {dataset} is withheld by its gates and may hold the rows. First: "
                f"weft promote {dataset} {run}, or weft reject {dataset} {run}"
            )
        if not abandon:
            raise Refused(
                f"Run {run} of {dataset} is not finished and may hold the rows. Go on with it: "
                f"weft resume {dataset}. Or give it up: --abandon"
            )
        journal = journal_of(f"{dataset}.weft", run)
        for other in journal.about()["datasets"]:
            one = journal_of(f"{other}.weft", run)
            if one.path.is_dir():
                one.drop_kept()
                one.set_state("abandoned", reason="rows of it had to be forgotten")


def _has_tag(dataset: str, run: str) -> bool:
    return f"run-{run}" in tables.open_table(dataset).tags.list()


class _Forgetting:
    """What is done under the leases."""

    def __init__(self, name: str, dataset: str, found: Holdings) -> None:
        self.name = name
        self.dataset = dataset
        self.found = found
        self.keys = {*found.keys, *(k for h in found.parts for k in h.keys)}
        self.folder = Path(f"{dataset}.weft", "forgotten")
        self.note = pending_of(f"{dataset}.weft")
        self.roots = [Path(p) for h in found.parts for p in (h.dataset, h.state)]
        for part in filter(_is_served, found.parts):
            self.roots += _serving().online_files(part.dataset)

    def run(self, began: float) -> Receipt:
        noted = self._begin()
        for part in self.found.parts:
            if part.barred:
                bar(part.state, self.found.keys)
        scrubber = Scrubber(self.keys)
        done = [self._erase(part, scrubber) for part in self.found.parts]
        beyond = [*self.found.beyond, *self._serve()]
        seek = {bytes.fromhex(t) for t in noted["traces"]}
        proof = self._prove(seek, noted["seen_before"])
        return self._receipt(began, done, proof, beyond)

    def _begin(self) -> dict[str, Any]:
        """Write down what is going to go, unless a process that died has."""
        if self.note.exists():
            return read_json(self.note)
        seek = traces.of_keys(self.keys)
        for part in self.found.parts:
            for version in erasing.versions(part.dataset) if part.keys else ():
                some = part.keys[:: -(-len(part.keys) // _SAMPLED)]
                seek |= traces.of_rows(erasing.rows(part.dataset, some, version))
        noted: dict[str, Any] = {
            "keys": sorted(self.found.keys),
            "absent": list(self.found.absent),
            "beyond": list(self.found.beyond),
            "parts": [part.to_json() for part in self.found.parts],
            "traces": sorted(t.hex() for t in seek),
            "seen_before": len(traces.scan(self.roots, seek).found),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_whole(self.note, sealed_json(json.dumps(noted).encode()))
        return noted

    def _erase(self, part: Holding, scrubber: Scrubber) -> dict[str, Any]:
        """Erase from the three tables of a dataset, and from its journals."""
        errors, dataset, ledger = part.tables
        scrubber.state(part.state)
        if not part.keys:
            for uri in part.tables:
                erasing.tidy(uri)
            if not _mentions(errors, scrubber):
                return {}
            return {"errors": vars(_erase_errors(errors, _lines(ledger, part), scrubber))}
        for uri in part.tables:
            erasing.settle(uri)
        lines = _lines(ledger, part)
        done = {
            "errors": _erase_errors(errors, lines, scrubber),
            "rows": erasing.erase(dataset, _places(part, lines), _tags(dataset, part)),
            "ledger": erasing.erase(ledger, lines[LINE].to_list(), _tags(ledger)),
        }
        for uri in (errors, ledger):
            if tables.latest(uri) is not None:
                sums.note(uri, tables.LATEST)
        return {name: vars(erased) for name, erased in done.items()}

    def _prove(self, seek: set[bytes], seen_before: int) -> dict[str, Any]:
        found = _without(traces.scan(self.roots, seek), self.note)
        shared = self._shared(set(found.found))
        left = {t: paths for t, paths in found.found.items() if t not in shared}
        return {
            "versions_too_many": [
                uri for uri in self._tables() if len(erasing.versions(uri)) > 1
            ],
            "rows_left": sum(_rows_left(part) for part in self.found.parts),
            "unnamed_files": [
                f"{uri}/{file}" for uri in self._tables() for file in erasing.strays(uri)
            ],
            "scan": {
                "files": found.files,
                "bytes": found.size,
                "traces": len(seek),
                "seen_before": seen_before,
                "in_rows_that_stay": len(shared),
                "found": sorted({path for paths in left.values() for path in paths}),
                "keys_too_short": sum(len(k.encode()) < traces.KEY_BYTES for k in self.keys),
            },
        }  # fmt: skip

    def _tables(self) -> Iterator[str]:
        for part in self.found.parts:
            yield from part.tables if part.keys else ()

    def _shared(self, found: set[bytes]) -> set[bytes]:
        """Traces that rows which stay have too: a key that begins like another one, a copy."""
        return (
            {t for uri in self._tables() for t in erasing.holding(uri, found)} if found else found
        )

    def _serve(self) -> list[str]:
        """Take the rows out of what is served online; what could not be done."""
        told = (_serving().erase(part.dataset) for part in self.found.parts if _is_served(part))
        return [text for text in told if text is not None]

    def _receipt(
        self,
        began: float,
        done: Sequence[Mapping[str, Any]],
        proof: Mapping[str, Any],
        beyond: Sequence[str],
    ) -> Receipt:
        proved = not (
            proof["rows_left"]
            or proof["unnamed_files"]
            or proof["versions_too_many"]
            or proof["scan"]["found"]
        )
        digests = forgotten_of(f"{self.dataset}.weft")
        document = {
            "receipt": self.name,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "by": f"{getpass.getuser()}@{socket.gethostname()}",
            "weft": weft.__version__,
            "dataset": self.dataset,
            "complete": proved and not beyond,
            "keys": sorted(digests.digest(key) for key in self.found.keys),
            "absent": len(self.found.absent),
            "datasets": [
                _told(part, erased, digests)
                for part, erased in zip(self.found.parts, done, strict=True)
            ],
            "not_erased": list(beyond),
            "proof": proof,
            "seconds": round(perf_counter() - began, 3),
        }
        path = self.folder / f"{self.name.removeprefix('forget-')}.json"
        write_whole(path, json.dumps(document, indent=1, ensure_ascii=False).encode())
        if proved:
            self.note.unlink(missing_ok=True)
        return Receipt(path, proved and not beyond, document)


def _is_served(part: Holding) -> bool:
    return Path(part.state, _SERVING[0]).exists()


def _serving() -> Any:
    return importlib.import_module(_SERVING[1])


def _told(part: Holding, erased: Mapping[str, Any], digests: Any) -> dict[str, Any]:
    """What a receipt says of a dataset: counts, and digests of what had other rows in it too."""
    return {
        "dataset": part.dataset,
        "why": part.why,
        "barred": part.barred,
        "rows": part.rows,
        "ledger_lines": part.lines,
        "keys": len(part.keys),
        "of_several_rows": sorted(digests.digest(key) for key in part.mixed),
        "made_anew_by_the_next_run": part.together,
        "tables": dict(erased),
    }


def _pending(dataset: str, keys: Sequence[str]) -> Holdings | None:
    """What a process that died set out to forget.

    Raises:
        Refused: other keys.
    """
    path = pending_of(f"{dataset}.weft")
    if not path.exists():
        return None
    noted = read_json(path)
    if set(noted["keys"]) != set(keys):
        raise Refused(
            f"Other rows of {dataset} are half forgotten. First forget these again: "
            f"{' '.join(map(repr, noted['keys']))}"
        )
    parts = tuple(Holding(**part) for part in noted["parts"])
    there = tuple(part for part in parts if tables.exists(part.dataset))
    return Holdings(tuple(noted["keys"]), tuple(noted["absent"]), there, tuple(noted["beyond"]))


def _tags(uri: str, part: Holding | None = None) -> dict[str, dict[str, str]]:
    """The tags that stay, `latest` and that of its run, and what they say.

    Where rows were made of several, the dataset says that it was made of another input: no run
    is in sync with it, and the next one makes them anew.
    """
    found = tables.open_table(uri).tags.list()
    if tables.LATEST not in found:
        return {}
    latest = dict(found[tables.LATEST]["metadata"])
    if part is not None and part.together:
        latest[_INPUT_PROPERTY] = "forgotten"
    run = latest.get(tables.RUN_PROPERTY)
    return {tables.LATEST: latest} | ({f"run-{run}": latest} if f"run-{run}" in found else {})


def _lines(ledger: str, part: Holding) -> pl.DataFrame:
    """What the newest ledger has of the rows; `NAME` is added, as by `roots_of`."""
    lines = erasing.lines(ledger)
    return family(lines, begin(lines, part.roots))


def _places(part: Holding, lines: pl.DataFrame) -> list[int]:
    """Where the newest version of a dataset has the rows. A row of a group, or of a join, goes by
    the newest ledger alone: that of an old version may have had one of the rows, and no more."""
    return erasing.places(part.dataset, {*part.keys} - {*part.mixed} | {*lines[KEY]})


def _erase_errors(uri: str, lines: pl.DataFrame, scrubber: Scrubber) -> erasing.Erased:
    """Take the rows out of an errors table, and what mentions them out of its messages. These
    are few rows, written whole. A row's key and source tell it from one of another read.

    Errors of runs that were never shown go all: no ledger says what of them is of which row.
    """
    erasing.settle(uri)
    before = pl.DataFrame(tables.read(uri))
    theirs = pl.concat([lines.select(pl.col(name).alias(KEY), SOURCE) for name in (KEY, NAME)])
    after = before.join(theirs, on=[KEY, SOURCE], how="anti")
    if tables.latest(uri) is None:
        after = after.clear()
    messages = pl.Series([scrubber.text(m) for m in after["message"]], dtype=pl.String)
    after = after.with_columns(message=messages)
    if not after.equals(before):
        erasing.replace_rows(uri, as_errors(after.to_arrow()))
    erased = erasing.erase(uri, [], _tags(uri))
    return replace(erased, rows=len(before) - len(after))


def _mentions(uri: str, scrubber: Scrubber) -> bool:
    """Whether a version of an errors table has one of the keys."""
    for version in erasing.versions(uri):
        rows = tables.read(uri, version, [KEY, "message"])
        texts = (text for column in rows.columns for text in column.to_pylist())
        if any(scrubber.text(text) != text for text in texts):
            return True
    return False


def _rows_left(part: Holding) -> int:
    """The rows that the newest versions of a dataset and of its ledger have of what is to go."""
    lines = _lines(part.tables[2], part)
    return len(_places(part, lines)) + len(lines)


def _without(found: traces.Scan, note: Path) -> traces.Scan:
    """A scan without the note of what is being forgotten, which goes when all is proved."""
    kept = {t: tuple(p for p in paths if p != str(note)) for t, paths in found.found.items()}
    return replace(found, found={t: paths for t, paths in kept.items() if paths})
