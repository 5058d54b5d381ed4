"""What goes wrong with the storage under a run, told by name: full, not writable, damaged.

Python says it with an error number, Lance with text (``(os error 28)``), a worker of a cluster
with text too, so that is where the number is looked for. Lance has no name for a table that it
cannot read, nor says which it was: the tables of the run are looked at, and the first that
cannot be read is named.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from weft.errors import CorruptState, StorageDenied, StorageFull, WeftError, redact
from weft.pipelines import tables
from weft.pipelines.resources import format_bytes
from weft.pipelines.runs.places import errors_uri, ledger_uri

_NUMBER = re.compile(r"\[Errno (\d+)\]|\(os error (\d+)\)")
_PATH = re.compile(r"""(?:: |at path )['"](/[^'"]+)['"]""")
_DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)

_OF_LANCE = re.compile(r"LanceError\(|External error: |Result::unwrap\(\)|Decode error")
"""What is in the text of Lance's own errors, and of a panic of its Rust."""

_KEPT = (
    "What is published stays readable, and finished units are kept: the same `weft run`, or "
    "`weft resume`, goes on with the rest."
)


@contextmanager
def told(states: Collection[str]) -> Iterator[None]:
    """Tell errors of the storage by name; `states` are the state folders of the run's datasets.

    Raises:
        StorageFull, StorageDenied, CorruptState: in place of what was raised inside.
    """
    try:
        yield
    except BaseException as error:  # a panic in Lance is no Exception
        found = named(error, states)
        if found is None:
            raise
        raise found from error


@contextmanager
def despite(error: BaseException) -> Iterator[None]:
    """Write down how it ended with `error`, which is told even if the storage does not let us."""
    try:
        yield
    except OSError as failure:
        error.add_note(f"  Nor could it be written down how the run ended: {redact(str(failure))}")


def named(error: BaseException, states: Collection[str]) -> WeftError | None:
    """The error of the storage that `error` is; ``None``: it is something else."""
    if isinstance(error, WeftError) and type(error) is not WeftError:
        return None  # it has a name
    number, text = _number(error), str(error)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(_full(number, _path(error, states)))
    if number in _DENIED:
        return StorageDenied(
            f"{_path(error, states)}: {os.strerror(number)}. A run writes beside its dataset and "
            f"into it: give this user the right to, or mount it writable. {_KEPT}"
        )
    return _damaged(text, states) if _OF_LANCE.search(text) else None


def _number(error: BaseException) -> int:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _NUMBER.search(str(error))
    return int(found[1] or found[2]) if found else 0


def _full(number: int, path: Path) -> str:
    what = os.strerror(number)
    if number == errno.EFBIG:
        return (
            f"{path}: {what}. Files may not grow further there: a limit of this process "
            f"(`ulimit -f`) or of the file system. Raise it. {_KEPT}"
        )
    there = os.statvfs(_existing(path))
    free, total = (format_bytes(n * there.f_frsize) for n in (there.f_bavail, there.f_blocks))
    if there.f_files and not there.f_favail:
        free += " and no more files"
    return (
        f"{path}: {what}. {free} of {total} are free there now. Free some space, or let the run "
        f"have more. {_KEPT}"
    )


def _path(error: BaseException, states: Collection[str]) -> Path:
    """The path that an error is about; if it does not say, the place with the least space."""
    said = getattr(error, "filename", None) or ((m := _PATH.search(str(error))) and m[1])
    if said:
        path = Path(os.fsdecode(said))
        return path.parent if path.name.startswith(".") else path  # a name for the time being
    datasets = [state.removesuffix(".weft") for state in states]
    places = [Path(place) for place in (*datasets, *states, tempfile.gettempdir())]
    return min(places, key=_free_bytes)


def _free_bytes(path: Path) -> int:
    there = os.statvfs(_existing(path))
    return there.f_bavail * there.f_frsize


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _damaged(text: str, states: Collection[str]) -> CorruptState | None:
    for state in states:
        dataset = state.removesuffix(".weft")
        for uri in (dataset, ledger_uri(state), errors_uri(state)):
            if not _readable(uri, whole=uri != dataset):
                return CorruptState(
                    f"The Lance table {uri} cannot be read: {redact(text, 200)} Put it back from "
                    f"a copy if there is one. {_remedy(uri, dataset)}"
                )
    return None


def _remedy(uri: str, dataset: str) -> str:
    away = f"`mv {shlex.quote(uri)} {shlex.quote(uri)}.damaged`"
    if uri == dataset:
        return f"Or make it anew, if nobody needs its old versions: {away} and run again."
    return (
        f"Or move it away, {away}, and run again: all rows are processed anew, as nothing else "
        "tells what became of them."
    )


def _readable(uri: str, *, whole: bool) -> bool:
    """Whether Lance can open a table and list its tags, and, if `whole`, read all of it."""
    if not any(Path(uri, "_versions").glob("*.manifest")):
        return True  # there is none
    try:
        tables.open_table(uri).tags.list()
        if whole:
            tables.read(uri)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        return False
    return True
