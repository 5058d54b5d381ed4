"""What is concluded from the notes of workers, and when a cluster is given up."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from weft.errors import Retryable
from weft.pipelines.engines import deaths, ray, reaper, watch
from weft.pipelines.engines.deaths import Notes
from weft.pipelines.engines.watch import Watch

ROW, OTHER = ("decode", "a.jpg"), ("decode", "b.jpg")


def die(notes: Notes, *rows: tuple[str, str]) -> None:
    """Take the unit up, be given some rows, and die with the last of them, if there are any."""
    notes.begin(0)
    for row in rows[:-1]:
        with notes.at(row):
            pass
    for row in rows[-1:]:
        notes._write({"step": row[0], "row": row[1]})


def test_two_deaths_with_the_same_row_make_it_a_killer(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path), "u")
    assert notes.history() == deaths.History()
    die(notes)
    assert (notes.history().deaths, notes.history().killers) == (1, [])
    die(notes, OTHER, ROW)
    assert notes.history().killers == []
    die(notes, OTHER, ROW)
    assert (notes.history().deaths, notes.history().killers) == (3, [ROW])
    assert notes.history().last == ROW
    assert deaths.guilty(deaths.histories(str(tmp_path))) == {}
    notes.begin(0)
    notes.end()
    assert (notes.history().deaths, notes.history().killers) == (3, [ROW])


def test_a_row_that_came_back_is_not_blamed(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path), "u")
    for _ in range(3):
        notes.begin(0)
        with notes.at(ROW):
            pass  # and then the worker dies, of something else
    assert (notes.history().deaths, notes.history().killers) == (3, [])


def test_four_deaths_without_a_reason_are_enough(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path), "u")
    for _ in range(4):
        assert deaths.guilty(deaths.histories(str(tmp_path))) == {}
        die(notes)
    assert list(deaths.guilty(deaths.histories(str(tmp_path)))) == ["u"]


def test_each_row_that_kills_buys_three_more(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path), "u")
    for row in (ROW, ROW, OTHER, OTHER):
        die(notes, row)
    found = deaths.histories(str(tmp_path))
    assert found["u"].killers == [ROW, OTHER]
    assert deaths.guilty(found) == {}
    for _ in range(6):
        die(notes)
    assert list(deaths.guilty(deaths.histories(str(tmp_path)))) == ["u"]


def test_who_was_stopped_has_not_died(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path), "u")
    die(notes, ROW)
    deaths.pardon(str(tmp_path))
    assert notes.history().deaths == 0
    die(notes, ROW)
    assert notes.history().killers == []


def test_half_a_note_is_none(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path), "u")
    die(notes)
    with notes.path.open("a") as file:
        file.write('{"began": 0, "ho')
    assert notes.history().deaths == 1


def test_notes_where_the_folder_is_not(tmp_path: Path) -> None:
    notes = Notes(str(tmp_path / "elsewhere"), "u")
    die(notes, ROW)
    notes.beat()
    assert notes.history() == deaths.History()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def head() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_items_come_in_order_and_errors_after_them(head: socket.socket, tmp_path: Path) -> None:
    def items() -> Iterator[int]:
        yield from range(20)
        raise ValueError("enough")

    seen: list[int] = []
    with pytest.raises(ValueError, match="enough"):
        seen.extend(Watch(address(head), address(head), str(tmp_path)).over(items()))
    assert seen == list(range(20))


def never() -> Iterator[int]:
    queue.Queue[int]().get()
    yield 0


@pytest.mark.parametrize(
    ("which", "name"), [(0, "The head of the Ray cluster"), (1, "The Ray of this machine")]
)
def test_what_is_vital_is_gone(
    head: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int, name: str
) -> None:
    for what in ("LOOK_SECONDS", "HEAD_SECONDS", "OWN_SECONDS"):
        monkeypatch.setattr(watch, what, 0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        gone = address(other)
    both = [address(head), address(head)]
    both[which] = gone
    looking = Watch(*both, str(tmp_path))
    with pytest.raises(Retryable, match=rf"{name}, {gone}, has not answered for 0 s\. Finished"):
        next(looking.over(never()))
    assert looking.lost


def test_nobody_does_anything(
    head: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(watch, "STALLED_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(Retryable, match=r"Nothing has happened on Ray for .* minutes: no worker"):
        next(Watch(address(head), address(head), str(tmp_path)).over(never()))
    assert time.monotonic() - began < 3.4
    Notes(str(tmp_path), "u").begin(0)  # now there is a sign of life
    os.utime(tmp_path / "u", (time.time() + 3,) * 2)
    began = time.monotonic()
    with pytest.raises(Retryable, match="Nothing has happened"):
        next(Watch(address(head), address(head), str(tmp_path)).over(never()))
    assert time.monotonic() - began > 3.4


def test_who_is_left_is_ended_and_the_folder_removed(tmp_path: Path) -> None:
    folder = tmp_path / "ray"
    folder.mkdir()
    (folder / "log").touch()
    idle = "import sys, time; file = open(sys.argv[1]); print(1, flush=True); time.sleep(60)"
    left = subprocess.Popen(
        [sys.executable, "-c", idle, str(folder / "log")], stdout=subprocess.PIPE
    )
    assert left.stdout is not None
    left.stdout.readline()
    assert list(reaper.users(str(folder))) == [left.pid]
    ours = reaper.start(str(folder))
    time.sleep(0.3)
    assert left.poll() is None
    ours.communicate()
    assert left.wait(10) == -9
    assert not folder.exists()


def test_a_ray_that_does_not_start() -> None:
    def init(**_: object) -> None:
        raise Exception("The current node timed out during startup.")  # noqa: TRY002  as Ray does

    with pytest.raises(Retryable, match=r"Ray does not start on this machine: The current node"):
        ray._start_private(SimpleNamespace(init=init, shutdown=lambda: None), 1, {})
