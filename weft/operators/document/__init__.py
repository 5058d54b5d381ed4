"""Operators on documents; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

_HOME = {
    "PDF": "pdf",
    "Probe": "probe",
}

__all__ = list(_HOME)

__getattr__ = attributes(__name__, _HOME)
