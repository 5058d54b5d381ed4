"""What README.md says is so: its code runs, its commands run, its links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lance
import pytest

from weft.cli.main import COMMANDS
from weft.cli.operators import _homes
from weft.operators import image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OPERATORS = (ROOT / "docs" / "operators.md").read_text()
BLOCKS = re.findall(r"^```(python|sh)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

SETUP = {"make demo", "pip install ."}
"""Commands that .ci/run runs itself, in the repository."""


def run(command: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"


def test_blocks_run_in_their_order(photographs: Callable[..., Path]) -> None:
    folder = photographs(broken=True).parent
    ran = []
    for language, text in BLOCKS:
        if name := re.match(r"# (\w+\.py)\n", text):
            (folder / name[1]).write_text(text)
        elif language == "python":
            run([sys.executable, "-c", text], folder)
        else:
            for line in text.splitlines():
                if line not in SETUP:
                    run(["bash", "-euo", "pipefail", "-c", line], folder)
                    ran.append(line)
    assert len(ran) >= 8
    rows = {
        name: lance.dataset(str(folder / f"{name}.lance"), version="latest").count_rows()
        for name in ("photos", "again", "warmth")
    }
    assert rows["warmth"] == 7
    assert rows["warmth"] > rows["photos"] > rows["again"] > 0


def test_setup_commands_are_in_ci() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert {line for _, text in BLOCKS for line in text.splitlines()} >= SETUP
    for line in SETUP:
        assert line in script


def test_the_table_of_commands_is_whole() -> None:
    assert re.findall(r"^\| `weft (\w+)", README, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))],
)
def test_links_lead_to_files(page: str) -> None:
    path = ROOT / page
    for link in re.findall(r"\]\(([^)#]+)", path.read_text()):
        if not link.startswith("http"):
            assert (path.parent / link).exists(), link


def test_the_tables_of_operators_are_whole() -> None:
    rows = re.findall(r"^\| `(\w+\.\w+)` \| ", OPERATORS, re.MULTILINE)
    assert sorted(set(rows)) == list(_homes())


def test_the_ports_of_image_operators_are_told() -> None:
    rows = re.findall(r"^\| `image\.(\w+)` \| ([\w, ]+) → ([\w, ]+) \|", OPERATORS, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(image.__all__)
    for name, reads, writes in rows:
        operator = getattr(image, name)
        assert (reads, writes) == (", ".join(operator.reads), ", ".join(operator.writes))
