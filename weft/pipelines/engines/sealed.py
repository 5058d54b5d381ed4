"""Files that tell when they are not as they were written: each ends with the sha256 of the rest.

JSON stays JSON: the digest is the last member of the object. To anything else a line with the
digest is added, which readers of Arrow streams do not look at. One that was cut short or altered
is never taken for what it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from weft.errors import CorruptState

_DIGEST = re.compile(rb',"sha256":"([0-9a-f]{64})"\}\s*\Z')
_LINE = re.compile(rb"\nsha256:([0-9a-f]{64})\n\Z")


def sealed_json(text: bytes) -> bytes:
    """A JSON object, not an empty one, with its digest as the last member.

    >>> sealed_json(b'{"state": "running"}')[:38]
    b'{"state": "running","sha256":"65ae762c'
    """
    start = text.rstrip()[:-1].rstrip()
    return start + f',"sha256":"{hashlib.sha256(start).hexdigest()}"}}'.encode()


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file, without its digest. Without a digest, as an older weft wrote it or a
    person edited it, it is read as it is.

    Raises:
        CorruptState: it is cut short, altered or gone.
    """
    data = _read(path)
    if end := _DIGEST.search(data):
        _check(path, data[: end.start()], end[1])
    try:
        found: dict[str, Any] = json.loads(data)
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise CorruptState(f"{path} is not JSON: it was cut short or altered.") from error
    found.pop("sha256", None)
    return found


def sealed(data: bytes) -> bytes:
    """`data` with a line after it that has its digest."""
    return data + f"\nsha256:{hashlib.sha256(data).hexdigest()}\n".encode()


def read_sealed(path: Path) -> bytes:
    """What was `sealed` into a file.

    Raises:
        CorruptState: it is cut short, altered or gone.
    """
    data = _read(path)
    end = _LINE.search(data, max(0, len(data) - 73))
    if end is None:
        raise CorruptState(f"{path} does not end with its digest: it was cut short or altered.")
    _check(path, data[: end.start()], end[1])
    return data[: end.start()]


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk; nothing of it stays if that fails."""
    try:
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # writing, unlike opening, does not tell
        raise


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptState(f"{path} is gone.") from error


def _check(path: Path, data: bytes, digest: bytes) -> None:
    if hashlib.sha256(data).hexdigest().encode() != digest:
        raise CorruptState(f"{path} is not as it was written: its digest is another one.")
