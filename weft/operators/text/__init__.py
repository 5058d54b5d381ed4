"""Operators on text; loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Chunk": "chunk",
    "Decode": "decode",
    "Embed": "embed",
    "Language": "language",
    "MinHash": "minhash",
    "Normalize": "normalize",
    "Quality": "quality",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft.operators.text' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
