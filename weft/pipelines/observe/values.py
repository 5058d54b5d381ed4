"""Two values of a field, in a few words each."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

_WIDTH = 40
"""Characters of a value: two of them and a field's name fit a line."""


def told(was: Any, now: Any) -> tuple[str, str]:
    """What was and what is, so that the difference shows.

    Text is cut where it begins to differ, bytes are told by their length and digest, numbers in
    arrays by how far they are apart at most.

    >>> told(0.25, None)
    ('0.25', 'null')
    >>> told([1.0, 2.0], [1.0, 2.5])
    ('2 numbers', '2 numbers, at most 0.5 apart')
    >>> told(b"abc", b"abd")
    ('3 bytes, sha256 ba7816bf', '3 bytes, sha256 a52d159f')
    """
    if isinstance(was, str) and isinstance(now, str):
        return _texts(was, now)
    if isinstance(was, bytes) and isinstance(now, bytes) and len(was) == len(now):
        return _bytes(was, digest=True), _bytes(now, digest=True)
    apart = _apart(was, now)
    return _one(was), _one(now) + (f", at most {apart:.3g} apart" if apart is not None else "")


def _one(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return _bytes(value)
    if (numbers := _numbers(value)) is not None:
        return f"{numbers.size:,} number{'s' * (numbers.size != 1)}"
    return _cut(repr(value) if isinstance(value, str) else str(value))


def _bytes(value: bytes, *, digest: bool = False) -> str:
    size = f"{len(value):,} byte{'s' * (len(value) != 1)}"
    return f"{size}, sha256 {hashlib.sha256(value).hexdigest()[:8]}" if digest else size


def _texts(was: str, now: str) -> tuple[str, str]:
    if max(len(was), len(now)) <= _WIDTH:
        return repr(was), repr(now)
    same = next((i for i, (a, b) in enumerate(zip(was, now, strict=False)) if a != b), None)
    start = max(0, (min(len(was), len(now)) if same is None else same) - _WIDTH // 4)
    return _part(was, start), _part(now, start)


def _part(text: str, start: int) -> str:
    part = text[start : start + _WIDTH]
    return ("…" if start else "") + repr(part) + ("…" if start + _WIDTH < len(text) else "")


def _apart(was: Any, now: Any) -> float | None:
    one, other = _numbers(was), _numbers(now)
    if one is None or other is None or one.shape != other.shape or not one.size:
        return None
    distance = np.abs(one - other)
    return None if np.isnan(distance).all() else float(np.nanmax(distance))


def _numbers(value: Any) -> Any:
    """An array of the numbers in a list, whatever its shape; ``None``: it is something else."""
    if not isinstance(value, list) or not value:
        return None
    try:
        found = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    return found if found.size else None


def _cut(text: str) -> str:
    return text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
