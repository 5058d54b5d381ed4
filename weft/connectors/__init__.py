"""Where rows come from and go to; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

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

__getattr__ = attributes(__name__, _HOME)
