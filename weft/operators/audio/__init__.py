"""Operators on sound; loaded when first used."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Channels": "channels",
    "Decode": "decode",
    "Loudness": "loudness",
    "MelSpectrogram": "mel_spectrogram",
    "Probe": "probe",
    "Resample": "resample",
    "Transcribe": "transcribe",
    "Trim": "trim",
    "VoiceActivity": "voice_activity",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'weft.operators.audio' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
