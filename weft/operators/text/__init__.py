"""Operators on text; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

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

__getattr__ = attributes(__name__, _HOME)
