"""What starts a job besides the time: new files, or a new version of a dataset.

A trigger looks and says what it sees as a mark: equal marks, nothing has changed.
"""

from __future__ import annotations

import glob
import hashlib
import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime

from weft.errors import DefinitionError
from weft.pipelines import tables

SETTLE_SECONDS = 5.0
"""Files that were written to more lately are not seen yet: they may be half there."""


@dataclass(frozen=True)
class Mark:
    """What a trigger saw: `key` to compare, `text` for people."""

    key: str
    text: str


@dataclass(frozen=True)
class OnFiles:
    """The files that match a glob, by name, size and time of change.

    Patterns mean what they mean to the `Files` source: ``**`` is any number of folders, a folder
    stands for all files below it, hidden names are left out. A listing costs one `stat` a file.
    """

    pattern: str

    def __str__(self) -> str:
        return f"files {self.pattern}"

    def look(self, now: datetime) -> Mark | None:
        """The files there are; ``None`` for none, which starts nothing."""
        files = sorted(self._files(now))
        if not files:
            return None
        digest = hashlib.sha256("\n".join(map(repr, files)).encode()).hexdigest()
        newest = datetime.fromtimestamp(max(ns for *_, ns in files) / 1e9, UTC)
        count = f"{len(files):,} file{'s' * (len(files) != 1)}"
        return Mark(f"files:{digest}", f"{count}, newest {newest:%Y-%m-%d %H:%M:%S} UTC")

    def _files(self, now: datetime) -> list[tuple[str, int, int]]:
        folder = os.path.isdir(self.pattern)
        pattern = os.path.join(glob.escape(self.pattern), "**") if folder else self.pattern
        whole = pattern + "/*" if os.path.basename(pattern) == "**" else pattern
        found = []
        for path in glob.iglob(whole, recursive=True):
            try:
                seen = os.stat(path)
            except OSError:  # gone by now, or a link to nothing
                continue
            settled = not 0 <= now.timestamp() - seen.st_mtime < SETTLE_SECONDS
            if stat.S_ISREG(seen.st_mode) and settled:
                found.append((path, seen.st_size, seen.st_mtime_ns))
        return found


@dataclass(frozen=True)
class OnDataset:
    """The version of a Lance dataset that a tag names."""

    path: str
    tag: str = tables.LATEST

    def __str__(self) -> str:
        return f"dataset {self.path} at {self.tag}"

    def look(self, now: datetime) -> Mark | None:
        """The version at the tag; ``None`` while there is no such dataset or tag."""
        if not tables.exists(self.path):
            return None
        try:
            version = tables.open_table(self.path, self.tag).version
        except DefinitionError:  # the tag does not exist yet
            return None
        return Mark(f"version:{version}", f"version {version} at {self.tag}")
