"""Where rows come from and go to; loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Arrow": "arrow",
    "FeatureStore": "feast",
    "Feed": "feed",
    "Files": "files",
    "Lance": "lance",
    "MCAP": "mcap",
    "Memory": "memory",
    "Parquet": "parquet",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft.connectors' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
