"""Operators that some rows are poison to, and pipelines of them."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import time
from typing import Any

import numpy as np

import weft
from weft.connectors import Arrow, Lance


@weft.operator(version="1")
def tasted(how: str) -> str:
    """As a decoder fares with a file: most are fine."""
    match how:
        case "abort":
            os.abort()
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            os._exit(0)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "sleep":
            time.sleep(1000)
        case "loop":
            re.match(r"(a+)+$", "a" * 40 + "b")  # holds the interpreter's lock for days
        case "hog":
            held = []
            while True:
                held.append(np.empty(1 << 28, np.uint8))
        case "leave":
            raise SystemExit("I leave")
        case "interrupt":
            raise KeyboardInterrupt
        case "huge":
            raise ValueError("password=hunter2 " + "x" * 10**6)
        case "unpicklable":
            raise UnpicklableError(1, 2)
    return how.upper()


class UnpicklableError(Exception):
    def __init__(self, one: int, other: int) -> None:
        super().__init__(lambda: one + other)


@weft.pipeline
def tasting(
    hows: tuple[str, ...], out: str, row_seconds: float = 2.0, on_error: str = "quarantine"
):
    """One row for each of `hows`; its number is its key."""
    rows = weft.read(Arrow({"how": list(hows)}))
    options: dict[str, Any] = {"isolated": True, "row_seconds": row_seconds, "on_error": on_error}
    return rows.apply(tasted, **options).write(Lance(out))
