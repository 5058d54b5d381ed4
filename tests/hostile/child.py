"""Run hostile files through pipelines, in a process of its own, under limits.

Operators run in this process, where they can be watched, though weft would isolate them; files
that none survives are run as weft runs them.

A script: it reads a job from its standard input, notes in a file what it is about to do, so that
whoever finds it dead or stuck knows at which file, and writes at the end what became of each.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import json
import math
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import weft
from weft.connectors import MCAP, Files, Lance
from weft.errors import DefinitionError
from weft.operators import audio, document, image, sensor, video
from weft.pipelines import tables
from weft.pipelines.batch import KEY
from weft.pipelines.operator import Expand, Later, Operator
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.places import errors_uri
from weft.pipelines.types import Type

MEMORY_BYTES = 5 * 2**30
"""Addresses, most of them never touched: threads and allocators reserve much."""

SAID = {"turn": weft.Float64() | None, "note": weft.Text() | None}
ALIGN = sensor.Align(
    "/camera",
    {"/camera": {"": weft.Binary()}, "/imu": SAID},
    tolerance_seconds=1.0,
    direction="nearest",
)  # fmt: skip
PARSE = sensor.Parse(SAID)

STEPS: dict[str, tuple[str, dict[str, Operator]]] = {
    # family -> the kind of its files, and what each is given to
    "images": ("image", {
        "probe": image.Probe(), "decode": image.Decode(size=64),
        "exact": image.Decode(size=32, mode="RGBA", exact=True),
    }),
    "media": ("video", {
        "probe": video.Probe(count=True), "sample": video.Sample(count=3, size=32),
        "frames": video.Frames(every=0.5, size=32), "shots": video.Shots(),
        "track": video.AudioTrack(),
    }),
    "sounds": ("audio", {
        "probe": audio.Probe(count=True), "decode": audio.Decode(max_seconds=600.0),
    }),
    "papers": ("pdf", {
        "probe": document.Probe(), "pages": document.PDF(size=64, max_pages=50),
    }),
    "logs": ("mcap", {"align": ALIGN}),
}  # fmt: skip


@weft.pipeline
def hostile(files: tuple[str, ...], family: str, out: str, row_seconds: float = 0.0) -> Any:
    """Every operator of a family on every file; isolated, if there is a limit for a row."""
    kind, operators = STEPS[family]
    rows = weft.read(Files(list(files), kind=kind))
    how: dict[str, Any] = {"row_seconds": row_seconds} if row_seconds else {"isolated": False}
    return [
        rows.apply(operator, **how)
        .select("key", *operator.writes)
        .write(Lance(f"{out}/{name}.lance"))
        for name, operator in operators.items()
    ]


@weft.pipeline
def messages(files: tuple[str, ...], out: str) -> Any:
    """Every message of logs."""
    rows = weft.read(MCAP(list(files))).apply(PARSE)
    return rows.select("topic", "data", *PARSE.writes).write(Lance(f"{out}/messages.lance"))


class Notes:
    """Where each thread is, line by line, for whoever watches; and what was slow or large."""

    def __init__(self, path: str, files: list[str]) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._names = {hashlib.sha1(Path(f).read_bytes()).digest(): f for f in files}
        self.seconds: dict[tuple[str, str], float] = collections.defaultdict(float)
        self.bytes: dict[tuple[str, str], int] = collections.defaultdict(int)

    @contextlib.contextmanager
    def at(self, operator: str, content: bytes | None, name: str = "") -> Iterator[None]:
        """While a thread is at a file."""
        if content is not None:
            name = self._names[hashlib.sha1(content).digest()]
        began, most = time.process_time(), peak()
        self._write([time.monotonic(), began, threading.get_ident(), operator, name])
        try:
            yield
        finally:
            self._write([0, 0, threading.get_ident(), "", ""])
            self.seconds[operator, name] += time.process_time() - began
            self.bytes[operator, name] += peak() - most

    def _write(self, line: list[Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def watch(self, operator: Operator) -> None:
        """Have the class of `operator` note every row it is given."""
        kind: Any = type(operator)
        method = "expand_row" if isinstance(operator, Expand) else "map_row"
        plain = getattr(kind, method)

        def mapped(this: Any, row: Any, loaded: Any) -> Any:
            with self.at(this.name, row["content"]):
                return plain(this, row, loaded)

        def expanded(this: Any, row: Any, loaded: Any) -> Iterator[Any]:
            def late(value: Later) -> Any:
                with self.at(this.name, row["content"]):
                    return value.make()

            with self.at(this.name, row["content"]):
                children = list(plain(this, row, loaded))
            for child in children:
                yield {
                    port: Later(functools.partial(late, value))
                    if isinstance(value, Later)
                    else value
                    for port, value in child.items()
                }

        setattr(kind, method, expanded if isinstance(operator, Expand) else mapped)


def peak() -> int:
    """Bytes of memory that this process has touched at most; its parent's do not count."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> None:
    """The job on the standard input."""
    job = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    notes = Notes(job["notes"], job["files"])
    before = peak()
    family, out, files = job["family"], job["out"], job["files"]
    refused: dict[str, str] = {}
    if family == "messages":
        refused = unlisted(files, notes)
        files = [file for file in files if file not in refused]
        pipeline, written = messages(tuple(files), out), {"messages": dict(PARSE.writes)}
    else:
        for kind in {type(operator): operator for operator in STEPS[family][1].values()}.values():
            notes.watch(kind)
        pipeline = hostile(tuple(files), family, out, job["row_seconds"])
        written = {n: dict(o.infer(o.reads)) for n, o in STEPS[family][1].items()}
    result = pipeline.run(engine="local", budget=Budget(10**9, 1.0), fresh=True)
    found = {
        "rows": result.rows,
        "refused": refused,
        "bytes": peak() - before,
        "slow": [(*k, round(v, 2)) for k, v in notes.seconds.items() if v > 1],
        "large": [(*k, v) for k, v in notes.bytes.items() if v > 100 * 2**20],
        "steps": {n: outcomes(f"{out}/{n}.lance", kinds, job) for n, kinds in written.items()},
    }
    Path(job["result"]).write_text(json.dumps(found))


def unlisted(files: list[str], notes: Notes) -> dict[str, str]:
    """The logs that `MCAP` refuses to list, and why."""
    refused = {}
    for file in files:
        with notes.at("MCAP", None, file):
            try:
                MCAP(file).listing()
            except DefinitionError as error:
                refused[file] = str(error)
    return refused


def outcomes(uri: str, types: Mapping[str, Type], job: dict[str, Any]) -> dict[str, Any]:
    """Which rows were kept, which failed and why, and what is wrong with those that were kept."""
    table = tables.read(uri)
    errors = tables.read(errors_uri(str(Lance(uri).state)))
    keys = table[KEY].to_pylist()
    columns = {name: kind.to_values(table[name].combine_chunks()) for name, kind in types.items()}
    return {
        "kept": keys,
        "wrong": [
            [key, f"{name} = {value!r:.100}: {fault}"]
            for name, values in columns.items()
            for key, value in zip(keys, values, strict=True)
            for fault in faults(name, value, job)
        ],
        "failed": [
            [row[KEY], row["operator"], row["error"], row["message"]] for row in errors.to_pylist()
        ],
    }


def faults(name: str, value: Any, job: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a value: it is the canary's, or it is none that an operator may give."""
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        mean = value.reshape(-1, value.shape[-1])[:, :3].mean(axis=0)
        if np.abs(mean - job["colour"]).max() < 40:
            yield "the colour of the canary"
    elif isinstance(value, np.ndarray):
        if not np.isfinite(value).all():
            yield "not finite"
        elif value.size and _sings(value[0], job["hertz"]):
            yield "the tone of the canary"
    elif isinstance(value, str | bytes):
        if job["text"].encode() in (value if isinstance(value, bytes) else value.encode()):
            yield "the text of the canary"
    elif isinstance(value, float) and not math.isfinite(value) and name != "turn":
        yield "not finite"  # a sensor may say that something is infinitely far
    elif isinstance(value, int | float) and value < 0 and name in _POSITIVE:
        yield "negative"


_POSITIVE = {
    "width", "height", "frames", "orientation", "pages", "page", "width_points", "height_points",
    "duration_seconds", "bit_rate", "frame_rate", "frames_probed", "frames_decoded",
    "sample_rate", "audio_channels", "channels", "samples_decoded", "time_seconds",
}  # fmt: skip


def _sings(samples: Any, hertz: float) -> bool:
    """Whether a tone of `hertz`, at 16 kHz, stands out."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    share = power[round(hertz / 8000 * (len(power) - 1)) - 5 :][:10].sum() / (power.sum() + 1e-9)
    return bool(share > 0.5)


if __name__ == "__main__":
    main()
