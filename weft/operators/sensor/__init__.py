"""Operators on recordings of sensors; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

_HOME = {
    "Align": "align",
    "Parse": "parse",
}

__all__ = list(_HOME)

__getattr__ = attributes(__name__, _HOME)
