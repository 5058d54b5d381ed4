"""A pipeline over many small files that notes who does which row, and how to run it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import polars as pl

import weft
from weft.connectors import Files, Lance
from weft.pipelines.resources import Cluster, Machine


@weft.operator(version="1")
def told(key: str, log: str = "", seconds: float = 0.0) -> str:
    """The key in capitals; leaves a line for each row, and waits while a file is there."""
    with open(log, "a") as file:
        file.write(f"{key} {os.getpid()}\n")
    time.sleep(seconds)
    while os.path.exists(f"{log}.closed"):
        time.sleep(0.01)
    return key.upper()


@weft.operator(version="1")
def stuck(key: str, native: bool = False) -> str:
    """A row that takes a minute, most of it in code that lets no other thread run if `native`."""
    if native:
        import ctypes

        time.sleep(1.5)
        ctypes.PyDLL(None).sleep(60)
    time.sleep(60)
    return key


@weft.pipeline
def lines(folder: str, out: str, seconds: float = 0.01) -> Any:
    """Every file is a row, and quick."""
    rows = weft.read(Files(f"{folder}/*.txt"))
    rows = rows.apply(told.replace(log=f"{folder}/log", seconds=seconds))
    return rows.select("key", "told", "content").write(Lance(out))


@weft.pipeline
def other(folder: str, out: str) -> Any:
    """Another recipe for the same dataset."""
    return weft.read(Files(f"{folder}/*.txt")).select("key").write(Lance(out))


@weft.pipeline
def other_after(folder: str, out: str, seconds: float = 0.0) -> Any:
    """Another recipe, that takes its time."""
    rows = weft.read(Files(f"{folder}/*.txt"))
    rows = rows.apply(told.replace(log=f"{folder}/log", seconds=seconds))
    return rows.select("key", "uri", "told").write(Lance(out))


@weft.pipeline
def grouped(folder: str, out: str, seconds: float = 0.01) -> Any:
    """Rows that are brought together: two phases."""
    rows = weft.read(Files(f"{folder}/*.txt"))
    rows = rows.apply(told.replace(log=f"{folder}/log", seconds=seconds))
    return rows.group("told", rows=pl.len()).write(Lance(out))


@weft.pipeline
def minutes(folder: str, out: str, native: bool = False) -> Any:
    """Every row takes a minute."""
    rows = weft.read(Files(f"{folder}/*.txt"))
    rows = rows.apply(told.replace(log=f"{folder}/log")).apply(stuck.replace(native=native))
    return rows.select("key", "stuck").write(Lance(out))


FORTY = Cluster((Machine(cpus=5),))
"""On it 320 rows are 40 units."""


def files(folder: Path, count: int) -> Path:
    """A folder of `count` files."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:03d}.txt").write_text(str(number))
    return folder


def close(folder: Path) -> Path:
    """Let no row end before the file is gone that this gives."""
    gate = folder / "log.closed"
    gate.touch()
    return gate


def done(folder: Path) -> dict[str, list[int]]:
    """By row, the processes that did it."""
    found: dict[str, list[int]] = {}
    log = folder / "log"
    for line in log.read_text().splitlines() if log.exists() else ():
        key, pid = line.split()
        found.setdefault(key, []).append(int(pid))
    return found
