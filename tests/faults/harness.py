"""What tests that do harm share: how much of it, who is killed, and what must be left."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from weft.pipelines import tables
from weft.pipelines.runs.places import errors_uri, ledger_uri

HERE = Path(__file__).parent

ALL = os.environ.get("WEFT_FAULTS") == "all"
"""Whether to do all of the harm (`make faults`), and not only what every change is tested with."""


def share(whole: int, part: int) -> int:
    """How often to do harm: `whole` times if `ALL`, else `part` times."""
    return whole if ALL else part


def contents(uri: str | Path) -> dict[str, Any]:
    """What a dataset holds at `latest`: keys with a checksum of each row, in order; the ledger and
    the errors, in whatever order."""
    rows = [
        (row["_key"], hashlib.sha256(repr(sorted(row.items())).encode()).hexdigest())
        for row in tables.read(str(uri), "latest").to_pylist()
    ]
    assert len({key for key, _ in rows}) == len(rows)
    beside = {"ledger": ledger_uri(f"{uri}.weft"), "errors": errors_uri(f"{uri}.weft")}
    told = {n: sorted(map(repr, tables.read(t, "latest").to_pylist())) for n, t in beside.items()}
    return {"rows": rows, **told}


def photographs(folder: Path, count: int, width: int = 800) -> Path:
    """A folder of `count` JPEG files of which each costs some milliseconds to decode."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (width // 16, width // 12, 3))
        picture = Image.fromarray(noise.astype(np.uint8)).resize((width, 3 * width // 4))
        data = io.BytesIO()
        picture.save(data, "JPEG", quality=85)
        (folder / f"{number:04d}.jpg").write_bytes(data.getvalue())
    return folder


def calls(log: Path) -> Counter[str]:
    """How often each row was processed, by what operators noted."""
    return Counter(log.read_text().split()) if log.exists() else Counter()


def ray_processes(root: int | None = None) -> list[psutil.Process]:
    """The workers of the Ray that a process (this one) has started."""
    found = []
    for process in psutil.Process(root).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("ray::") and "Agent" not in process.name():
                found.append(process)
    return found


class Killer(threading.Thread):
    """Kills workers of this process's Ray with SIGKILL, at random moments, once work has begun.

    `begun` is there when it has. `only` are ids of processes: whatever file of that prefix says.
    """

    def __init__(self, seed: int, kills: int, begun: Path, pause: tuple[float, float]) -> None:
        super().__init__(daemon=True)
        self.chance = random.Random(seed)
        self.left = kills
        self.begun = begun
        self.pause = pause
        self.killed: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.begun.exists() and not self.stop.wait(0.02):
            pass
        while self.left and not self.stop.wait(self.chance.uniform(*self.pause)):
            victims = [p for p in ray_processes() if "IDLE" not in self._title(p)]
            if victims:
                victim = self.chance.choice(victims)
                name = self._title(victim)
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
                    self.killed.append(name)
                    self.left -= 1

    @staticmethod
    def _title(process: psutil.Process) -> str:
        with suppress(psutil.NoSuchProcess):
            return process.name()
        return "IDLE"

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.join()


STARTED: list[subprocess.Popen[str]] = []
"""The programs of the test at hand, which end with it."""


def program(text: str, *, prefix: tuple[str, ...] = (), **more: Any) -> subprocess.Popen[str]:
    """A Python process that can import what is beside this file, in a session of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    process = subprocess.Popen(
        [*prefix, sys.executable, "-c", f"import sys; sys.path.insert(0, {str(HERE)!r})\n{text}"],
        start_new_session=True,
        env=environment | more.pop("env", {}),
        text=True,
        **more,
    )
    STARTED.append(process)
    return process


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 200) -> None:
    """Until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.02)


def kill_all(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Kill a process and all that it has started, at once; those that were."""
    family = [psutil.Process(process.pid)]
    family += family[0].children(recursive=True)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)
    return family


def alive(processes: list[psutil.Process]) -> list[str]:
    """The names of those that still run."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {process.name()}")
    return found


def report(name: str, **figures: Any) -> None:
    """Note what was done and found, for whoever asks (`WEFT_FAULTS_REPORT`, a file)."""
    if path := os.environ.get("WEFT_FAULTS_REPORT"):
        with open(path, "a") as file:
            file.write(json.dumps({"test": name, **figures}) + "\n")
