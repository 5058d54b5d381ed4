"""Tags of a Lance table that survive a full disk.

Lance writes a tag to a new file and renames it over the old one, without waiting for the write
to succeed (pylance 14.0.2, measured on a full tmpfs): then the tag is an empty file, nobody is
told, and no reader can list the tags of the table any more. So the files that are about to change
are linked first, which takes no space, and put back if what took their place is no tag.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from weft.pipelines.engines.sealed import write_synced

_ROOM = 64 * 1024
"""Bytes that must be free before a tag is moved: a tag has some hundred to some thousand."""


@contextmanager
def whole_tags(path: str, names: Collection[str]) -> Iterator[None]:
    """Change tags of the table at `path` inside: either they are whole after it, or as before.

    Raises:
        OSError: there is no room, or was none: nothing has changed.
    """
    files = [Path(path, "_refs", "tags", f"{name}.json") for name in names]
    _try_room(Path(path))
    spares = {file: _spare(file) for file in files if file.exists()}
    try:
        try:
            yield
        except (OSError, RuntimeError):
            if _put_back(files, spares):
                _try_room(Path(path))
            raise
        if broken := _put_back(files, spares):
            _try_room(Path(path))
            raise OSError(errno.EIO, "The tag was not written whole", str(broken[0]))
    finally:
        for spare in spares.values():
            spare.unlink(missing_ok=True)


def _spare(file: Path) -> Path:
    """Another name of a tag's file, where Lance does not look for tags."""
    spare = file.parent.with_name(f".{file.name}.{secrets.token_hex(4)}")
    spare.hardlink_to(file)
    return spare


def _put_back(files: Collection[Path], spares: dict[Path, Path]) -> list[Path]:
    """Put back what was there before in the place of files that are no tags; which they are."""
    broken = [file for file in files if file.exists() and not _whole(file)]
    for file in broken:
        if file in spares:
            os.replace(spares[file], file)
        else:
            file.unlink()
    return broken


def _whole(file: Path) -> bool:
    try:
        return "version" in json.loads(file.read_bytes())
    except ValueError:
        return False


def _try_room(path: Path) -> None:
    """Make sure that a tag could be written.

    Raises:
        OSError: it could not.
    """
    probe = path / f".room-{secrets.token_hex(4)}"
    write_synced(probe, bytes(_ROOM))
    probe.unlink()
