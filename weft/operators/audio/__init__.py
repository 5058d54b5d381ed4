"""Operators on sound; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

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

__getattr__ = attributes(__name__, _HOME)
