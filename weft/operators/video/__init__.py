"""Operators on videos; loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "AudioTrack": "audio_track",
    "Embed": "embed",
    "Frames": "frames",
    "Probe": "probe",
    "Resize": "resize",
    "Sample": "sample",
    "Shots": "shots",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft.operators.video' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
