"""Tests that do harm: helpers beside them can be imported (`from harness import share`)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import STARTED, kill_all, program
from homes import Victims


@pytest.fixture(autouse=True)
def nobody_stays() -> Iterator[None]:
    """End what a test has started and not ended, also if it failed."""
    before = len(STARTED)
    yield
    for process in STARTED[before:]:
        if process.poll() is None:
            kill_all(process)
    del STARTED[before:]


@pytest.fixture(scope="session")
def victims() -> Iterator[Victims]:
    with program(
        "import mortal; mortal.main()", stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
    ) as process:
        yield Victims(process)
        assert process.stdin is not None
        process.stdin.close()
