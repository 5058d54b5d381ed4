"""A process that dies at a step it is told, of all that leave something on the disk.

`main` takes lines of JSON, ``{"source", "out", "dies"}``, and answers each with how the process
that ran `verses` ended. Each is a fork of this one, which has only imported things: so it costs
no start of Python, and it is killed as any other is.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import lance
from lance.dataset import Tags

import weft
from weft.connectors import Files, Lance
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs import work

ONE = Cluster((Machine(cpus=1),))
"""One unit at a time, so that a run takes the same steps each time."""

STEPS = (
    (lance.LanceDataset, "commit"),
    (Tags, "create"),
    (Tags, "update"),
    (Tags, "replace_metadata"),
    (lance.fragment, "write_fragments"),
    (os, "link"),
    (os, "replace"),
    (os, "rename"),
    (os, "fsync"),
    (os, "unlink"),
    (os, "mkdir"),
)
"""What leaves something on the disk. Everything else does so through these."""

_SECOND = ("os.link", "os.replace", "os.rename", "lance.fragment.write_fragments")
"""Steps whose second argument says where."""


@weft.operator(version="1")
def text(content: weft.Encoded) -> str:
    """The text of a file; one that is bad fails."""
    found = content.decode()
    if found.startswith("bad"):
        raise ValueError(f"bad: {found}")
    return found


@weft.operator(version="1")
def lines(text: str) -> Iterator[weft.fields(line=str)]:  # type: ignore[valid-type]
    return ({"line": line} for line in text.splitlines())


@weft.pipeline
def verses(source: str, out: str) -> Any:
    """The lines of some files."""
    rows = weft.read(Files(source, kind="text")).apply(text).apply(lines)
    return rows.select("uri", "line").write(Lance(out))


def run(source: str, out: str) -> Any:
    """Run `verses` to its end, in units of few rows, so that even an increment has several."""
    with mock.patch.object(work, "_SMALL", 1):
        return verses(source=source, out=out).run(engine="local", cluster=ONE)


class Fate:
    """Counts the steps that this process takes below a folder, and kills it at one of them.

    An even number is the moment before a step, an odd one the moment after.
    """

    def __init__(self, folder: str, dies: int | None) -> None:
        self.folder = folder
        self.dies = dies
        self.taken: list[str] = []
        self.lock = threading.Lock()
        for owner, name in STEPS:
            setattr(owner, name, self._mortal(getattr(owner, name), f"{owner.__name__}.{name}"))

    def _mortal(self, act: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            place = self._place(name, given, more)
            if place is None:
                return act(*given, **more)
            with self.lock:
                number = len(self.taken)
                self.taken += [f"before {place}", f"after {place}"]
            if self.dies == number:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                return act(*given, **more)
            finally:
                if self.dies == number + 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        return call

    def _place(self, name: str, given: tuple[Any, ...], more: dict[str, Any]) -> str | None:
        """What a step does, without what differs from run to run; none: it is not below."""
        first = given[1] if name in _SECOND else given[0]
        if isinstance(first, int):
            first = os.readlink(f"/proc/self/fd/{first}")
        elif isinstance(first, Tags):
            first = f"{first._ds.uri}:{given[1]}"
        path = str(getattr(first, "uri", first))
        if not path.startswith(self.folder):
            return None
        where = re.sub(r"\d{8}-\d{6}-\w{7}", "RUN", path.removeprefix(self.folder))
        return f"{name} {re.sub(r'[0-9a-f]{8,}', 'ID', where)}"


def main() -> None:
    """Answer lines of JSON until there are no more."""
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # nothing of it has run here
    for module in ("weft.pipelines.runs.run", "weft.pipelines.engines.local"):
        importlib.import_module(module)  # here, and not in every child
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            fate = Fate(asked["out"], asked.get("dies"))
            run(asked["source"], asked["out"])
            if "steps" in asked:
                Path(asked["steps"]).write_text(json.dumps(fate.taken))
            os._exit(0)
        if "after" in asked:  # at any moment, in the middle of whatever it does
            time.sleep(asked["after"])
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
