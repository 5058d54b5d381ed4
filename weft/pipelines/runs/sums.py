"""Digests of the files of ledgers and errors tables, on which increments stand.

Lance has no checksums: of eight bytes altered in a data file, four changed up to 1,016 of 2,000
rows and were read without a word (pylance 14.0.2). Rows of a dataset are the user's; but a ledger
that says something else than it did would have a run leave out rows, or write them twice. So the
digest of each of its files is noted beside it when a run is published, and compared before a run
takes its word. Lance never writes a file twice, so a file is digested once, at 1.1 GB/s; a ledger
has some 25 bytes for each row.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weft.errors import CorruptState
from weft.pipelines import tables
from weft.pipelines.engines.sealed import read_json, sealed_json
from weft.pipelines.runs.journal import write_whole


def note(uri: str, version: int | str) -> None:
    """Note the digests of the files of a version, and forget those of files it does not have."""
    before = _noted(uri)
    found = {file: before.get(file) or _digest(Path(uri, file)) for file in _files(uri, version)}
    sums = {file: digest for file, digest in found.items() if digest is not None}
    write_whole(_path(uri), sealed_json(json.dumps({"files": sums}, indent=1).encode()))


def altered(uri: str, version: int | str) -> str | None:
    """A file of a version that is not what was noted of it; ``None``: all are. What a command
    such as a compaction wrote anew, and nobody noted, is not compared.

    Raises:
        CorruptState: the digests themselves are damaged.
    """
    sums = _noted(uri)
    for file in _files(uri, version):
        if file in sums and _digest(Path(uri, file)) != sums[file]:
            return file
    return None


def _path(uri: str) -> Path:
    return Path(f"{uri.removesuffix('.lance')}.sums.json")


def _noted(uri: str) -> dict[str, str]:
    path = _path(uri)
    if not path.exists():
        return {}
    try:
        found: dict[str, str] = read_json(path)["files"]
    except CorruptState as error:
        raise CorruptState(
            f"{error} It only tells whether {uri} is as it was written. To go on without: "
            f"rm {shlex.quote(str(path))}"
        ) from error
    return found


def _files(uri: str, version: int | str) -> Iterator[str]:
    """The files that the rows of a version are in, by their paths in the table."""
    dataset = tables.open_table(uri, version)
    yield f"_versions/{2**64 - 1 - dataset.version}.manifest"
    for fragment in dataset.get_fragments():
        about: dict[str, Any] = fragment.metadata.to_json()
        yield from (f"data/{file['path']}" for file in about["files"])
        if gone := about["deletion_file"]:
            kind = "bin" if gone["file_type"] == "bitmap" else "arrow"
            yield f"_deletions/{about['id']}-{gone['read_version']}-{gone['id']}.{kind}"


def _digest(file: Path) -> str | None:
    """The sha256 of a file, ``None`` if there is none."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None
