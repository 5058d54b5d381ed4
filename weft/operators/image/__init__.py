"""Operators on images; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

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

__getattr__ = attributes(__name__, _HOME)
