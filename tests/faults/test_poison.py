"""Rows that end or stop the process that works on them: F6 to F10 of the fault table."""

from __future__ import annotations

import gc
import io
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import poisons
import psutil
import pytest
from harness import photographs, share
from PIL import Image

import weft
from weft.connectors import Files, Lance
from weft.errors import OverBudget, RowError
from weft.operators import image
from weft.pipelines import tables
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.places import errors_uri

ENGINES = ["local", "ray"]
TWO = Cluster((Machine(cpus=2),))
LENIENT = Budget(rows=10**6)

POISONS = {
    "abort": ("RowCrashed", "SIGABRT", 2),
    "segfault": ("RowCrashed", "SIGSEGV", 2),
    "exit": ("RowCrashed", "exit 0", 2),
    "killed": ("RowCrashed", "SIGKILL", 2),
    "sleep": ("RowTimeout", "timeout", 1),
    "loop": ("RowTimeout", "timeout", 1),
    "hog": ("RowOutOfMemory", None, 1),
    "leave": ("SystemExit", None, 1),
    "interrupt": ("KeyboardInterrupt", None, 1),
    "huge": ("ValueError", None, 1),
    "unpicklable": ("UnpicklableError", None, 1),
}
"""What a row says -> the error, what ended the process, how often it was tried."""


def isolated_processes() -> list[psutil.Process]:
    """Those of this process."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "engines import confine" in " ".join(process.cmdline()):
                found.append(process)
    return found


def patience() -> float:
    """How many times longer a second is on a machine with more to do than it can, which in CI it
    may have had just now."""
    return share(1, 3) * max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0)))


def errors(out: Path) -> list[dict[str, Any]]:
    return tables.read(errors_uri(f"{out}.weft"), "latest").sort_by("_key").to_pylist()


@pytest.mark.parametrize("engine", ENGINES)
def test_each_costs_its_row_and_no_other(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_engine")
    out = tmp_path / "out.lance"
    others = {process.pid for process in isolated_processes()}  # of tests before, not yet collected
    hows = [f"fine {i}" for i in range(40)]
    for place, how in enumerate(POISONS):
        hows.insert(4 * place + 1, how)
    began = time.monotonic()
    result = poisons.tasting(tuple(hows), str(out)).run(engine=engine, cluster=TWO, budget=LENIENT)
    seconds = time.monotonic() - began
    kept = {row["_key"]: row["tasted"] for row in tables.read(str(out), "latest").to_pylist()}
    assert kept == {str(i): how.upper() for i, how in enumerate(hows) if how not in POISONS}
    told = {hows[int(e["_key"])]: e for e in errors(out)}
    assert {n: (e["error"], e["signal"], e["attempts"]) for n, e in told.items()} == POISONS
    assert {(e["step"], e["operator"], e["outcome"]) for e in told.values()} == {
        ("tasted", "tasted", "failed")
    }
    assert len(told["huge"]["message"]) == 500
    assert "hunter2" not in told["huge"]["message"]
    assert (result.books["tasted"].failed, result.books["tasted"].passed) == (len(POISONS), 40)
    assert seconds < 15 * patience()  # of which 4 are the two timeouts
    gc.collect()
    if engine == "local":  # Ray's workers stay for a while
        ours = [process for process in isolated_processes() if process.pid not in others]
        assert not psutil.wait_procs(ours, timeout=2)[1]


@pytest.mark.parametrize("how", [how for how in POISONS if POISONS[how][1] != "timeout"])
def test_one_alone_is_no_matter_of_seconds(how: str, tmp_path: Path) -> None:
    began = time.monotonic()
    hows = ("fine", how, "fine too")
    poisons.tasting(hows, str(tmp_path / "out.lance")).run(
        engine="local", cluster=TWO, budget=LENIENT
    )
    assert time.monotonic() - began < 5 * patience()
    assert [e["error"] for e in errors(tmp_path / "out.lance")] == [POISONS[how][0]]


def test_one_in_a_hundred_is_counted_exactly(tmp_path: Path) -> None:
    many = share(10_000, 1_000)
    hows = ["abort" if i % 100 == 17 else f"fine {i}" for i in range(many)]
    out = tmp_path / "out.lance"
    result = poisons.tasting(tuple(hows), str(out)).run(
        engine="local", cluster=TWO, budget=Budget.parse("2%")
    )
    assert result.failed == many // 100
    assert result.kept["write"] == many - many // 100
    assert [int(e["_key"]) % 100 for e in errors(out)] == [17] * (many // 100)


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_but_poison_ends_by_the_error_budget(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_engine")
    began = time.monotonic()
    with pytest.raises(OverBudget, match="rows failed, more than the error budget"):
        poisons.tasting(("abort",) * 60, str(tmp_path / "out.lance")).run(
            engine=engine, cluster=TWO, budget=Budget.parse("5%")
        )
    assert time.monotonic() - began < 15 * patience()


def test_a_crash_can_be_null_or_the_end_of_the_run(tmp_path: Path) -> None:
    out = tmp_path / "out.lance"
    hows = ("fine", "abort", "fine too")
    poisons.tasting(hows, str(out), on_error="null").run(
        engine="local", cluster=TWO, budget=LENIENT
    )
    rows = tables.read(str(out), "latest").sort_by("_key").to_pylist()
    assert [row["tasted"] for row in rows] == ["FINE", None, "FINE TOO"]
    assert [(e["outcome"], e["signal"]) for e in errors(out)] == [("nulled", "SIGABRT")]
    with pytest.raises(RowError, match=r"tasted: row '1': RowCrashed: .* ended by SIGABRT"):
        poisons.tasting(hows, str(tmp_path / "other.lance"), on_error="raise").run(
            engine="local", cluster=TWO
        )


# -- real decoders ---------------------------------------------------------------------------------


@weft.pipeline
def decoded(source: str, out: str):
    """Photographs, small."""
    rows = weft.read(Files(source)).apply(image.Probe()).apply(image.Decode(size=64))
    return rows.select("key", "width", "image").write(Lance(out))


def test_a_decoder_that_is_killed_while_it_works_loses_no_row(tmp_path: Path) -> None:
    """As by the kernel when memory is short. No row is at fault, and none is said to be."""
    folder, kills = photographs(tmp_path / "photos", share(300, 60)), share(10, 2)
    stop, killed = threading.Event(), list[int]()

    def kill() -> None:
        while not stop.wait(0.3) and len(killed) < kills:
            for process in isolated_processes()[-1:]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
                    killed.append(process.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        result = decoded(f"{folder}/*.jpg", str(tmp_path / "out.lance")).run(
            engine="local", cluster=TWO
        )
    finally:
        stop.set()
        killer.join()
    assert killed
    assert result.failed == 0
    assert result.kept["write"] == len(list(folder.iterdir()))


def test_isolation_changes_no_answer(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 5)
    (folder / "broken.jpg").write_bytes((folder / "0000.jpg").read_bytes()[:2000])
    grey = io.BytesIO()
    Image.new("L", (70, 50), 9).save(grey, "PNG")
    (folder / "grey.png").write_bytes(grey.getvalue())

    @weft.pipeline
    def here(source: str, out: str) -> Any:
        rows = weft.read(Files(source)).apply(image.Probe(), isolated=False)
        rows = rows.apply(image.Decode(size=64), isolated=False)
        return rows.select("key", "width", "image").write(Lance(out))

    found = []
    for pipeline in (decoded, here):
        out = tmp_path / f"{pipeline.name}.lance"
        pipeline(f"{folder}/*", str(out)).run(engine="local", cluster=TWO, budget=LENIENT)
        rows = tables.read(str(out), "latest").drop_columns("_source").sort_by("_key").to_pylist()
        found.append((rows, [(e["_key"], e["error"], e["message"]) for e in errors(out)]))
    assert found[0] == found[1]
    assert len(found[0][0]) == 6
    assert [key for key, *_ in found[0][1]] == ["broken.jpg"]
