"""Operators that drop rows which say the same as others; loaded when first used."""

from __future__ import annotations

from weft.lazy import attributes

_HOME = {
    "ContentHash": "content_hash",
    "Exact": "exact",
    "NearImages": "near_images",
    "NearText": "near_text",
    "NearVectors": "near_vectors",
}

__all__ = list(_HOME)

__getattr__ = attributes(__name__, _HOME)
