"""Operators on videos; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

_HOME = {
    "AudioTrack": "audio_track",
    "Embed": "embed",
    "Frames": "frames",
    "Probe": "probe",
    "Resize": "resize",
    "Sample": "sample",
    "Shots": "shots",
    "Stack": "stack",
}

__all__ = list(_HOME)

__getattr__ = attributes(__name__, _HOME)
