"""Files by pattern: what is there, in one fixed order, with one stat per file.

A path is a glob, a folder or a file. The *root* of a glob is what stands before its first
``*``, ``?`` or ``[``; of a folder, itself; of a file, its folder. A file's key is its path below
the root, so it stays the same when the folder moves. Several paths share one root, the folder
they have in common: two files can then never have the same key, and no key depends on which
files happen to be there.

A name that is no UTF-8 appears in keys with its odd bytes as ``\\xff``; `path` keeps the bytes.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from weft.connectors.nothing import explain
from weft.errors import DefinitionError

SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), False),
        pa.field("path", pa.binary(), False),
        pa.field("size", pa.int64(), False),
        pa.field("mtime_ns", pa.int64(), False),
    ]
)

_CHUNK = 65_536
"""Files gathered as Python objects before they become Arrow, in about 20 MB; a million files
as Arrow take 100 to 200 MB, by the length of their paths."""

_MAGIC = re.compile(r"[*?\[]")

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
_Found = tuple[str, int, int]


@dataclass(frozen=True)
class Pattern:
    """A path, understood: where to look (`root`) and what for, folder by folder (`parts`).

    ``**`` stands for any number of folders. `literal` is a file named as it is.
    """

    text: str
    root: str
    parts: tuple[str, ...]
    literal: bool = False


def absolute(source: str, paths: Paths) -> tuple[str, ...]:
    """`paths` made absolute where the user stands now, so that a worker or a resumed run that
    stands elsewhere looks in the same place.

    Raises:
        DefinitionError: not a path, no path at all, or a path that is not local.
    """
    single = isinstance(paths, str | os.PathLike)
    given = [paths] if single else list(paths) if isinstance(paths, list | tuple) else []
    if not given:
        raise DefinitionError(
            f"{source}: {paths!r} is no path. Expected a glob like 'photos/**/*.jpg', a folder, "
            "a file, or a list of these."
        )
    made = []
    for path in given:
        text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
        if not isinstance(text, str) or not text or "\0" in text:
            raise DefinitionError(f"{source}: {path!r} is no path. Expected text like 'photos'.")
        if re.match(r"\w+://", text):
            raise DefinitionError(
                f"{source}: {text} is not on a local file system. Mount it, and give its path."
            )
        made.append(os.path.abspath(os.path.expanduser(text)))
    return tuple(made)


def list_files(source: str, paths: Sequence[str], inside: str = "*") -> pa.Table:
    """The regular files that `paths`, all absolute, stand for: a table of `SCHEMA` by key.

    Hidden files and folders are left out unless the pattern names them. Links are followed, but
    not into a folder that the way already leads through. A link to nothing is listed: reading
    it fails, on the books. `inside` is what a folder given as such is searched for.

    Raises:
        DefinitionError: a path stands for no file, with what is there instead; or a folder may
            not be listed.
    """
    patterns = [_understand(path, inside) for path in paths]
    base = os.path.commonpath([p.root for p in patterns])
    tables = []
    for pattern in patterns:
        table = _table(source, pattern, os.path.relpath(pattern.root, base))
        if not table.num_rows:
            message = explain(source, pattern.text, pattern.root, pattern.parts[-1])
            raise DefinitionError(readable(message))
        tables.append(table)
    if len(tables) == 1:
        return tables[0]
    frame = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
    frame = frame.unique("path", keep="first", maintain_order=True).sort("key", maintain_order=True)
    return frame.to_arrow().cast(SCHEMA)


def _understand(path: str, inside: str) -> Pattern:
    if os.path.isdir(path):
        return Pattern(path, path, ("**", inside))
    head, name = os.path.split(path)
    if os.path.lexists(path) or not _MAGIC.search(path):
        return Pattern(path, head, (name,), literal=True)
    whole = path.split("/")
    fixed = next(i for i, part in enumerate(whole) if _MAGIC.search(part))
    parts = whole[fixed:]
    if parts[-1] == "**":
        parts.append("*")
    return Pattern(path, "/".join(whole[:fixed]) or "/", tuple(parts))


def _table(source: str, pattern: Pattern, prefix: str) -> pa.Table:
    before = "" if prefix == "." else prefix + "/"
    below = pattern.root.rstrip("/") + "/"
    chunks: list[pa.RecordBatch] = []
    rows: list[_Found] = []
    escaped = False
    for found in _walk(source, pattern):
        rows.append(found)
        if len(rows) == _CHUNK:
            escaped |= _append(chunks, rows, before, below)
            rows = []
    escaped |= _append(chunks, rows, before, below)
    table = pa.Table.from_batches(chunks, SCHEMA)
    if escaped:
        _refuse_same_keys(source, table)
    return table


def _append(chunks: list[pa.RecordBatch], rows: list[_Found], before: str, below: str) -> bool:
    """Add `rows` as Arrow; whether a key had to be escaped."""
    keys = [before + name for name, *_ in rows]
    escaped = False
    try:
        key_array = pa.array(keys, pa.string())
    except UnicodeEncodeError:
        escaped = True
        key_array = pa.array([readable(key) for key in keys], pa.string())
    arrays = [
        key_array,
        pa.array([os.fsencode(below + name) for name, *_ in rows], pa.binary()),
        pa.array([size for _, size, _ in rows], pa.int64()),
        pa.array([mtime_ns for _, _, mtime_ns in rows], pa.int64()),
    ]
    chunks.append(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA))
    return escaped


def readable(name: str | bytes) -> str:
    """A file name as text: bytes that are no UTF-8 become ``\\xff``.

    >>> readable(b"caf\\xc3\\xa9"), readable(b"caf\\xe9.jpg")
    ('café', 'caf\\\\xe9.jpg')
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _refuse_same_keys(source: str, table: pa.Table) -> None:
    counts = table["key"].value_counts()
    double = [c["values"] for c in counts.to_pylist() if c["counts"] > 1]
    if double:
        raise DefinitionError(
            f"{source}: two files have the key {double[0]!r}: one has bytes in its name that are "
            "no UTF-8, the other a name that spells them out. Rename one."
        )


def _walk(source: str, pattern: Pattern) -> Iterator[_Found]:
    """Path below the root, size and time of the files that match, in the order of these paths."""
    if pattern.literal:
        single = _stat(functools.partial(os.stat, pattern.text))
        if single is not None:
            yield pattern.parts[0], single.st_size, single.st_mtime_ns
        return
    steps = tuple(_step(part) for part in pattern.parts)
    # A stack instead of recursion: a path may be 2000 folders deep.
    stack = [_enter(source, pattern.root, "", _reached({0}, steps), ())]
    while stack:
        below, entries, reached, way = stack[-1]
        for entry, is_folder in entries:
            name = below + entry.name
            if is_folder:
                inside = _descend(entry.name, reached, steps)
                if inside:
                    stack.append(_enter(source, entry.path, name + "/", inside, way))
                    break
            elif len(steps) - 1 in reached and _matches(entry.name, steps[-1]):
                found = _stat(entry.stat)
                if found is not None:
                    yield name, found.st_size, found.st_mtime_ns
        else:
            stack.pop()


_Step = Callable[[str], object] | None
_Way = tuple[tuple[int, int], ...]
_Level = tuple[str, Iterator[tuple["os.DirEntry[str]", bool]], frozenset[int], _Way]


def _step(part: str) -> _Step:
    """What a name is tested with; ``None`` is ``**``."""
    if part == "**":
        return None
    test = re.compile(fnmatch.translate(part)).match
    if part.startswith("."):
        return test
    return lambda name: not name.startswith(".") and test(name)


def _matches(name: str, step: _Step) -> bool:
    return step is not None and bool(step(name))


def _descend(name: str, reached: frozenset[int], steps: tuple[_Step, ...]) -> frozenset[int]:
    """The steps that can come next inside folder `name`, given those that can match it."""
    inside: set[int] = set()
    for i in reached:
        if steps[i] is None:
            inside |= set() if name.startswith(".") else {i}
        elif i + 1 < len(steps) and _matches(name, steps[i]):
            inside.add(i + 1)
    return _reached(inside, steps)


def _reached(at: set[int], steps: tuple[_Step, ...]) -> frozenset[int]:
    """`at` with what follows each ``**`` in it, which may stand for no folder at all."""
    todo = list(at)
    while todo:
        i = todo.pop()
        if steps[i] is None and i + 1 not in at:
            at.add(i + 1)
            todo.append(i + 1)
    return frozenset(at)


def _enter(source: str, path: str, below: str, reached: frozenset[int], way: _Way) -> _Level:
    """The entries of a folder, none if the way to it already leads through it (a loop)."""
    nothing: Iterator[tuple[os.DirEntry[str], bool]] = iter(())
    try:
        found = os.stat(path)
        here = (found.st_dev, found.st_ino)
        if here in way:
            return below, nothing, reached, way
        with os.scandir(path) as entries:
            known = [(entry, _is_folder(entry)) for entry in entries]
    except (FileNotFoundError, NotADirectoryError):  # deleted while listing, or never there
        return below, nothing, reached, way
    except OSError as error:
        raise DefinitionError(
            f"{source}: the folder {readable(path)} cannot be listed: {error.strerror}. Give read "
            "permission, or a pattern that does not lead there."
        ) from error
    # A folder sorts as its name with a slash: paths then come out in order, whatever the depth.
    known.sort(key=lambda pair: pair[0].name + "/" if pair[1] else pair[0].name)
    return below, iter(known), reached, (*way, here)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _stat(look: Callable[..., os.stat_result]) -> os.stat_result | None:
    """What a file is like; ``None`` for a pipe, a device, or a file that is gone by now."""
    try:
        found = look()
    except OSError:
        try:
            found = look(follow_symlinks=False)
        except OSError:
            return None
        return found if stat.S_ISLNK(found.st_mode) else None
    return found if stat.S_ISREG(found.st_mode) else None
