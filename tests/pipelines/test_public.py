"""The public names: what they are, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import weft

HEAVY = ("PIL", "av", "cv2", "lance", "ray", "torch")


def test_names() -> None:
    assert weft.__all__ == [
        "Binary", "Bool", "Cluster", "Compose", "Embedding", "Encoded", "Expand", "Filter",
        "Float32", "Float64", "Frames", "Group", "Image", "Int16", "Int32", "Int64", "Int8",
        "Keep", "Later", "Machine", "Map", "Order", "Pick", "Resources", "Tensor", "Text",
        "Timestamp", "UInt16", "UInt32", "UInt64", "UInt8", "Waveform", "WeftError",
        "__version__", "fields", "gates", "operator", "pipeline", "read", "union",
    ]  # fmt: skip
    assert dir(weft) == weft.__all__


@pytest.mark.parametrize("name", weft.__all__)
def test_name_loads(name: str) -> None:
    assert getattr(weft, name) is getattr(weft, name) is not None


def test_gates() -> None:
    assert weft.gates.__all__ == [
        "Between", "Drift", "FailedShare", "NullShare", "RowCount", "Unique",
    ]  # fmt: skip
    assert fresh("import weft; print(weft.gates.RowCount(min=1))") == "RowCount(min=1)"


def test_no_other_name() -> None:
    with pytest.raises(AttributeError, match=r"^module 'weft' has no attribute 'Imaeg'$"):
        _ = weft.Imaeg  # type: ignore[attr-defined]


def fresh(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True,
        cwd=Path(__file__).parent,
    )  # fmt: skip
    return done.stdout.strip()


def test_import_is_quick() -> None:
    code = "import time; t = time.perf_counter(); import weft; print(time.perf_counter() - t)"
    assert min(float(fresh(code)) for _ in range(3)) < 0.5


@pytest.mark.parametrize(
    "code",
    ["import weft", "import weft; [getattr(weft, n) for n in weft.__all__]",
     "import weft.operators, weft.connectors"],
)  # fmt: skip
def test_import_loads_nothing_heavy(code: str) -> None:
    found = fresh(f"import sys\n{code}\nprint(*[m for m in {HEAVY} if m in sys.modules])")
    assert found == ""
