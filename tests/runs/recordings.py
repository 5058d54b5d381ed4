"""Pipelines over recordings on two levels, and a process that dies while it forgets.

`main` takes lines of JSON, ``{"dataset", "keys", "dies"}``, and answers each with how the process
that forgot ended and the durable steps that it took. Each is a fork of this one, which has only
imported things: it costs no start of Python, and is killed as any other is.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lance
import numpy as np
import polars as pl
from lance.dataset import DatasetOptimizer, Tags

import weft
from weft.connectors import Files, Lance
from weft.pipelines.runs import forget, forgotten, scrub

PIECE = 100_000
"""Bytes of a piece of a recording: Lance keeps it in a file beside the table's."""


@weft.operator(version="1")
def pieces(
    content: weft.Encoded, key: str
) -> Iterator[weft.fields(piece=weft.Encoded("audio") | None, note=str)]:  # type: ignore[valid-type]
    if content.startswith(b"broken"):
        raise ValueError(f"{key} cannot be cut")
    for start in range(0, len(content), PIECE):
        piece = content[start : start + PIECE]
        yield {"piece": piece, "note": f"note of {key}: {piece[:16].hex()}"}
    yield {"piece": b"", "note": f"note of {key}: nothing"}
    yield {"piece": None, "note": f"note of {key}: none"}


@weft.operator(version="1")
def vector(note: str) -> weft.Embedding(16):  # type: ignore[valid-type]
    return np.frombuffer(note[-16:].encode() * 4, np.float32) + 1


@weft.operator(version="1")
def speaker(note: str) -> str:
    return note.removeprefix("note of ").partition("-")[0]


@weft.pipeline
def cut(source: str, out: str) -> Any:
    """Recordings to pieces, and their sizes beside them."""
    rows = weft.read(Files(source, kind="audio"))
    found = rows.apply(pieces).select("key", "piece", "note")
    return (
        found.write(Lance(f"{out}/pieces.lance")),
        rows.select("key", "size").write(Lance(f"{out}/sizes.lance")),
    )


@weft.pipeline
def embed(out: str) -> Any:
    """Each piece as a vector, with who speaks."""
    rows = weft.read(Lance(f"{out}/pieces.lance")).apply(vector).apply(speaker)
    return rows.select("vector", "speaker", "note").write(Lance(f"{out}/vectors.lance"))


@weft.pipeline
def count(out: str) -> Any:
    """Who has how many pieces."""
    rows = weft.read(Lance(f"{out}/vectors.lance"))
    counted = rows.group("speaker", n=pl.len(), first=pl.col("note").min())
    return counted.write(Lance(f"{out}/speakers.lance"))


def record(folder: Path, *names: str, seed: int = 0) -> None:
    """Recordings of two and a half pieces, each its own; one that is broken says so."""
    folder.mkdir(exist_ok=True)
    for name in names:
        content = np.random.default_rng([seed, *name.encode()]).bytes(2 * PIECE + 50_000)
        (folder / name).write_bytes(b"broken" + content[:100] if "broken" in name else content)


STEPS: list[str] = []
"""The durable steps of this process so far."""


def die_before(point: str) -> None:
    """Kill this process right before the durable step of that name."""
    for owner, name, what in (
        (lance.LanceDataset, "commit", "commit"),
        (lance.LanceDataset, "cleanup_old_versions", "clean"),
        (DatasetOptimizer, "compact_files", "rewrite"),
        (DatasetOptimizer, "optimize_indices", "index"),
        (lance.LanceDataset, "create_scalar_index", "index"),
        (Tags, "create", "tag"),
        (Tags, "update", "move"),
        (Tags, "replace_metadata", "say"),
        (Tags, "delete", "untag"),
        (forget, "write_whole", "write"),
        (forgotten, "write_whole", "write"),
        (scrub, "write_whole", "write"),
        (Path, "unlink", "remove"),
    ):
        setattr(owner, name, _mortal(getattr(owner, name), what, point))


def _mortal(act: Callable[..., Any], what: str, point: str) -> Callable[..., Any]:
    def call(first: Any, *more: Any, **options: Any) -> Any:
        name = _name(what, first, more)
        if name == point:
            os.kill(os.getpid(), signal.SIGKILL)
        if not name.split()[1].startswith((".", "lease", "report.")):
            STEPS.append(name)
        return act(first, *more, **options)

    return call


_OF_TAGS = ("tag", "move", "say", "untag")


def _name(what: str, first: Any, more: tuple[Any, ...]) -> str:
    if isinstance(first, Path):
        state = next((p.name for p in first.parents if p.suffix == ".weft"), "")
        name = "receipt" if re.fullmatch(r"\d+-\d+-\w+\.json", first.name) else first.name
        return f"{what} {name} of {state.removesuffix('.lance.weft')}"
    given = getattr(first, "_dataset", first)
    path = Path(given if isinstance(given, str) else getattr(given, "_ds", given).uri)
    inside = path.parent.suffix == ".weft"
    where = f"{path.parent.name.removesuffix('.lance.weft')}/{path.stem}" if inside else path.stem
    return (
        f"{what} {more[0].partition('-')[0]} of {where}" if what in _OF_TAGS else f"{what} {where}"
    )


@contextmanager
def _ending() -> Iterator[None]:
    """The end of a process is the end of this: it never goes back to reading lines."""
    try:
        yield
    except Exception:  # noqa: BLE001  told, whatever it is
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def main() -> None:
    """Answer lines of JSON until there are no more."""
    warnings.filterwarnings("ignore", "lance is not fork-safe")  # nothing of it has run here
    importlib.import_module("weft.pipelines.restoring")  # here, and not in every child
    for line in sys.stdin:
        asked = json.loads(line)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with _ending():
                die_before(asked["dies"])
                forget.forget(asked["dataset"], asked["keys"])
                os.write(write, json.dumps(STEPS).encode())
        os.close(write)
        with os.fdopen(read) as steps:
            told = steps.read()
        _, status = os.waitpid(child, 0)
        answer = {"exit": os.waitstatus_to_exitcode(status), "steps": json.loads(told or "[]")}
        print(json.dumps(answer), flush=True)
