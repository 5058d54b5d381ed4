"""Operators on columns of numbers, text and times; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

_HOME = {
    "Cast": "cast",
    "Collect": "collect",
    "Limit": "order",
    "Sample": "sample",
    "Sort": "order",
    "Top": "top",
    "Validate": "validate",
}

__all__ = list(_HOME)

__getattr__ = attributes(__name__, _HOME)
