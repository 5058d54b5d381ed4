"""Failed rows by reason: the same step, the same error, the same message but for its values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_VALUES = re.compile(
    r"""\w+://[^\s'"]+      # a URL
      | '[^']*' | "[^"]*"   # what is quoted
      | (?<![\w<])/[^\s:,;]+   # a path
      | \b0x[0-9a-fA-F]+\b | \b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b
      | (?<![\w.])[-+]?\d[\d,_]*(?:\.\d+)?(?:e[-+]?\d+)?""",
    re.VERBOSE,
)

_MOST_KEYS = 5
"""Rows named of one reason; `weft errors` lists them all."""

_MOST_REASONS = 10_000
"""Reasons told apart; messages that are all different must not fill the memory."""


@dataclass
class Reason:
    """Rows that failed in the same way; `message` is of the first, `keys` are of some."""

    step: str
    operator: str
    error: str
    outcome: str
    pattern: str
    message: str
    rows: int = 0
    keys: list[str] = field(default_factory=list)


def reasons(rows: Iterable[Mapping[str, str]]) -> list[Reason]:
    """The reasons of failed rows, the most frequent first.

    Each row has ``key``, ``step``, ``operator``, ``error``, ``outcome`` and ``message``. From
    the ten thousandth on, a new message counts with the others of its step and error.
    """
    found: dict[tuple[str, ...], Reason] = {}
    for row in rows:
        kind = (row["step"], row["operator"], row["error"], row["outcome"])
        seen = pattern(row["message"])
        if (*kind, seen) not in found and len(found) >= _MOST_REASONS:
            seen = "other messages"
        reason = found.setdefault((*kind, seen), Reason(*kind, seen, row["message"]))
        reason.rows += 1
        if len(reason.keys) < _MOST_KEYS:
            reason.keys.append(row["key"])
    return sorted(found.values(), key=lambda r: (-r.rows, r.step, r.error, r.pattern))


def pattern(message: str) -> str:
    """A message without its values: numbers, paths, addresses, what is quoted.

    >>> pattern("/data/a.jpg: 41 bytes of 1,024; expected 'JFIF' at 0x1f")
    '…: … bytes of …; expected … at …'
    """
    return _VALUES.sub("…", " ".join(message.split()))
