"""The entry point: help, unknown commands, what is imported."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from weft.cli.main import COMMANDS


def test_help_lists_every_command_and_is_fast(work: Path) -> None:
    program = (
        "import sys\nfrom weft.cli.main import cli\ncli(['--help'], standalone_mode=False)\n"
        "heavy = {'ray', 'lance', 'polars', 'pyarrow', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    began = time.perf_counter()
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    assert all(f"  {name} " in done.stdout for name in COMMANDS)
    assert seconds < 2.0  # 0.1 s when nothing else runs


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(weft, name: str) -> None:
    text = weft(name, "--help").stdout
    assert text.startswith("Usage: ")
    assert "--json" in text
    assert "--debug" in text


def test_a_mistyped_command_is_told_the_nearest(weft) -> None:
    assert "No such command 'rum'. Did you mean 'run'?" in weft("rum", code=2).stderr


def test_a_wrong_option_is_exit_2(weft) -> None:
    assert "No such option" in weft("runs", "--no", "a", code=2).stderr


def test_version(weft) -> None:
    from weft import __version__

    assert weft("--version").stdout == f"weft, version {__version__}\n"


def test_json_has_no_nan() -> None:
    import json

    from weft.cli.command import _plain

    assert json.dumps(_plain({"a": (float("nan"), 1.5, None)})) == '{"a": ["nan", 1.5, null]}'
