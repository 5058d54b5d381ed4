"""Operators on recordings of sensors; loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Align": "align",
    "Parse": "parse",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft.operators.sensor' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
