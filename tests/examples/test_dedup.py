"""The example on 3,000 texts; truth: the clusters it planted, and datasketch beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "dedup.py"


def test_dedup() -> None:
    command = [sys.executable, str(EXAMPLE), "--texts", "3000"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    planted = re.search(r"^3,000 texts, (\d+) of them copies; (\d+) are near dup", output)
    assert planted is not None
    copies, near = map(int, planted.groups())
    assert 400 < near < copies

    table = {
        name: [float(n) for n in numbers]
        for name, *numbers in re.findall(r"(?m)^(weft|datasketch) +(\S+) +(\S+) +(\S+)", output)
    }
    dropped, precision, recall = table["weft"]
    assert table["datasketch"] == table["weft"]
    assert abs(dropped - near) < 0.05 * near
    assert precision > 0.94
    assert recall > 0.94
    assert "\n0 texts are dropped by one of them and not by the other." in output
