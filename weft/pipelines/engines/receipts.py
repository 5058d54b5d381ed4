"""The receipt of a unit: its rows are staged, and it is never run again.

A receipt is put only if there is none, so that of two workers on one unit the first counts and
the other's files are orphans, never duplicates. One that is damaged does not count.
"""

from __future__ import annotations

import json
import os
import secrets
from pathlib import Path
from typing import Any

from weft.errors import CorruptState
from weft.pipelines.engines.sealed import read_json, sealed_json, write_synced

Receipt = dict[str, Any]
"""The end of a unit, as JSON: books, what was staged for each write, some failures."""


def receipt_bytes(receipt: Receipt) -> bytes:
    """A receipt as the bytes it is sent as, and, with their digest, stored."""
    return json.dumps(receipt, separators=(",", ":")).encode()


def put_receipt(folder: str, unit: str, receipt: Receipt) -> Receipt:
    """Leave a unit's receipt if there is none yet; returns the one that counts."""
    path = Path(folder) / f"{unit}.json"
    temporary = path.with_suffix(f".{secrets.token_hex(4)}")
    write_synced(temporary, sealed_json(receipt_bytes(receipt)))
    try:
        os.link(temporary, path)  # atomic, and refuses to replace
    except FileExistsError:
        try:
            return read_json(path)
        except CorruptState:
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return receipt
