"""Operators on images; loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Crop": "crop",
    "Decode": "decode",
    "Descriptor": "descriptor",
    "Embed": "embed",
    "Encode": "encode",
    "Exposure": "exposure",
    "PerceptualHash": "perceptual_hash",
    "Probe": "probe",
    "Resize": "resize",
    "Sharpness": "sharpness",
    "ZeroShot": "zero_shot",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft.operators.image' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
