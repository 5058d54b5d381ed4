"""Datasets whose runs are killed, beside twins whose runs are not."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import mortal
from harness import contents

from weft.pipelines import tables
from weft.pipelines.runs.result import RunResult

FILES = 24


class Home:
    """A folder of texts that changes, a dataset whose runs are killed, and one whose are not."""

    def __init__(self, path: Path, files: int = FILES) -> None:
        self.path = path
        self.texts = path / "texts"
        self.texts.mkdir(parents=True)
        self.killed, self.twin = str(path / "killed.lance"), str(path / "twin.lance")
        self.edits = 0
        for number in range(files):
            self.write(number, f"{number} a\n{number} b")

    def write(self, number: int, text: str) -> None:
        file = self.texts / f"{number:04d}.txt"
        file.write_text(text)
        self.edits += 1
        os.utime(file, (0, 10**9 + self.edits))

    def edit(self) -> None:
        """Change three files, one of them so that it fails, take one away and add one."""
        names = sorted(int(p.stem) for p in self.texts.iterdir())
        (self.texts / f"{names[0]:04d}.txt").unlink()
        self.write(names[2], f"bad {self.edits}")
        for number in (names[7], names[20], names[-1] + 1):
            self.write(number, f"{number} {self.edits}\nmore\n")

    def run(self, out: str) -> RunResult:
        return mortal.run(f"{self.texts}/*", out)

    def check(self) -> None:
        """Both datasets hold the same, in as many versions, and nothing is left to do."""
        assert contents(self.killed) == contents(self.twin)
        assert len(tables.history(self.killed)) == len(tables.history(self.twin))
        assert self.run(self.killed).in_sync


class Victims:
    """Runs of `mortal.verses` in processes of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, home: Home, out: str, **how: object) -> int:
        asked = {"source": f"{home.texts}/*", "out": out, **how}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def steps(self, home: Home) -> list[str]:
        """The steps that an undisturbed run of the twin takes."""
        notes = home.path / "steps.json"
        assert self.run(home, home.twin, steps=str(notes)) == 0
        found: list[str] = json.loads(notes.read_text())
        return found
