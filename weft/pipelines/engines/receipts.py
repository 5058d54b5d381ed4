"""The receipt of a unit: its rows are staged, and it is never run again.

A receipt is put only if there is none, so that of two workers on one unit the first counts and
the other's files are orphans, never duplicates.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

Receipt = dict[str, Any]
"""The end of a unit, as JSON: books, what was staged for each write, some failures."""


def receipt_bytes(receipt: Receipt) -> bytes:
    """A receipt as the bytes it is stored and sent as."""
    return json.dumps(receipt, separators=(",", ":")).encode()


def put_receipt(folder: str, unit: str, receipt: Receipt) -> Receipt:
    """Leave a unit's receipt if there is none yet; returns the one that counts."""
    path = Path(folder) / f"{unit}.json"
    temporary = path.with_suffix(f".{secrets.token_hex(4)}")
    write_synced(temporary, receipt_bytes(receipt))
    try:
        os.link(temporary, path)  # atomic, and refuses to replace
    except FileExistsError:
        found: Receipt = json.loads(path.read_bytes())
        return found
    finally:
        temporary.unlink()
    return receipt


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
