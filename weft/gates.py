"""Quality gates: what a new version is expected to be like before readers see it.

>>> from weft.gates import Drift, NullShare, RowCount
>>> gates = [RowCount(max_drop=0.1), NullShare("caption", max=0.01), Drift("clip", "mmd", max=0.05)]

Give them to a write: ``rows.write(Lance("photos.lance"), gates=gates)``. See ``docs/gates.md``.
"""

from __future__ import annotations

from weft.pipelines.gates.expectations import (
    Between,
    Drift,
    FailedShare,
    NullShare,
    RowCount,
    Unique,
)

__all__ = ["Between", "Drift", "FailedShare", "NullShare", "RowCount", "Unique"]
