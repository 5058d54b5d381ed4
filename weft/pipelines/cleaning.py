"""Files of a Lance table that no version needs, and versions that nobody needs.

What is orphaned Lance says itself: it reads every version and every branch, and names the files
that are in none. It cannot know whose they are. Its own clean-up gives a file that was never in
a version 7 days, because a writer may be about to commit it, or, told not to, takes it away
from under that writer, whose commit then makes a version that nobody can read. So here it is
the caller who says which files go.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from weft.pipelines import tables
from weft.pipelines.fence import check_fence
from weft.pipelines.fragments import written

_EVER = timedelta(days=36_500)
"""No version is as old, so that all of them count."""

_INSIDE = re.compile(r".*/((?:data|_deletions|_indices|_transactions)/.+)")
"""A file of a table, by what Lance calls it: the path without its first slash."""


@dataclass(frozen=True)
class Orphan:
    """A file that no version has. `name` is as receipts have it, `changed` when it was written."""

    path: Path
    name: str
    size: int
    changed: float


@dataclass(frozen=True)
class Lived:
    """A version, when it was made, and when the next one took its place, if one did."""

    number: int
    born: datetime
    ended: datetime | None


def orphans(uri: str) -> Iterator[Orphan]:
    """The files that no version and no branch of a table has, those of writers at work too.

    Raises:
        DefinitionError: there is no such table.
    """
    dataset = tables.open_table(uri)
    found = dataset.explain_cleanup_old_versions(
        older_than=_EVER,
        delete_unverified=True,
        error_if_tagged_old_versions=False,
        include_files=True,
        max_files=2**31,
    )
    for file in found.candidate_files:
        inside = _INSIDE.fullmatch(file.path)
        path = Path(uri, inside[1]) if inside else None
        if path is not None:
            with suppress(FileNotFoundError):  # a writer has just renamed it
                name = path.relative_to(uri).as_posix().removeprefix("data/")
                yield Orphan(path, name, file.size_bytes, path.stat().st_mtime)


def remove(files: Collection[Orphan]) -> None:
    """Remove files, and folders of media and of indices that are empty then."""
    check_fence()
    for file in files:
        file.path.unlink(missing_ok=True)
    for folder in {file.path.parent for file in files}:
        if folder.name != "data" and not folder.name.startswith("_"):
            with suppress(OSError):  # something else is in it
                folder.rmdir()


def lives(uri: str) -> list[Lived]:
    """The versions of a table, the oldest first. Reads no version.

    Raises:
        DefinitionError: there is no such table.
    """
    found = tables.open_table(uri).versions()
    born = {v["version"]: v["timestamp"].astimezone(UTC) for v in found}
    numbers = sorted(born)
    after = dict(itertools.pairwise(numbers))
    return [Lived(n, born[n], born[after[n]] if n in after else None) for n in numbers]


def drop_versions(uri: str, versions: Sequence[int]) -> int:
    """Remove versions, which no tag names, and the files that no other version has; the bytes.

    A version that is the newest or has a tag stays. Files of a writer at work stay too: they
    were never in a version.

    Raises:
        DefinitionError: there is no such table.
        OSError: the storage failed; doing it again removes the rest.
    """
    if not versions:
        return 0
    check_fence()
    stats = tables.open_table(uri).cleanup_old_versions(
        versions=list(versions), error_if_tagged_old_versions=False, delete_unverified=False
    )
    return int(stats.bytes_removed)


def bytes_of(uri: str, versions: Collection[int]) -> int:
    """The bytes of the data files that only these versions have. Reads every version.

    Raises:
        DefinitionError: there is no such table.
    """
    if not versions:
        return 0
    dataset = tables.open_table(uri)
    files: dict[bool, set[str]] = {True: set(), False: set()}
    for number in (v["version"] for v in dataset.versions()):
        files[number in versions] |= set(_files(dataset.checkout_version(number)))
    data = Path(uri, "data")
    return sum(size for _, size in written(data, sorted(files[True] - files[False])))


def untag(uri: str, names: Collection[str]) -> None:
    """Take tags away that are there.

    Raises:
        DefinitionError: there is no such table.
    """
    check_fence()
    tags = tables.open_table(uri).tags
    for name in sorted(set(names) & set(tags.list())):
        tags.delete(name)


def _files(dataset: Any) -> Iterator[str]:
    return (file.path for f in dataset.get_fragments() for file in f.metadata.files)
