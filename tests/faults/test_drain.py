"""SIGTERM: what was begun ends, what was done is kept, and another machine goes on at once."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lines
import psutil
import pytest
from harness import ALL, alive, program, share

from weft.pipelines import tables
from weft.pipelines.runs.journal import Journal, journals
from weft.pipelines.runs.lease import holder

ELSEWHERE = ("unshare", "--uts", "--pid", "--mount", "--fork", "--mount-proc", "sh", "-c")
"""Another machine, as far as a process can tell: a name and processes of its own."""

MOVE = 'hostname elsewhere && exec "$0" "$@"'


def needs_namespaces() -> Any:
    """Whether this machine lets us make them."""
    able = shutil.which("unshare") and subprocess.run(
        [*ELSEWHERE, "hostname elsewhere"], capture_output=True, check=False
    )
    return pytest.mark.skipif(
        not able or able.returncode != 0, reason="needs namespaces (run as root)"
    )


def weft(*arguments: str, before: str = "", prefix: tuple[str, ...] = ()) -> Any:
    """The command line as a process of its own, with something changed `before`."""
    call = f"sys.argv[1:] = {list(arguments)!r}\n{before}\nfrom weft.cli.main import main\nmain()"
    return program(call, prefix=prefix, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(folder: Path, out: Path, name: str = "lines", *more: str, engine: str = "local") -> Any:
    target = f"{Path(lines.__file__)}:{name}"
    settings = ("--set", f"folder={folder}", "--set", f"out={out}")
    return ("run", target, "--engine", engine, *settings, *more)


def until_begun(folder: Path, process: subprocess.Popen[str], rows: int = 20) -> None:
    end = time.monotonic() + 150
    while len(lines.done(folder)) < rows:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def stop(process: subprocess.Popen[str], times: int = 1) -> tuple[float, str, list[str]]:
    """SIGTERM to a process: the seconds it took to end, what it said, which of its own are left."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    began = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
    said = process.communicate(timeout=60)[1]
    return time.monotonic() - began, said, alive(family)


def journal_of(out: Path) -> Journal:
    return journals(f"{out}.weft")[0]


def units_begun(journal: Journal) -> set[str]:
    return {p.name for p in (journal.path / "claims").iterdir() if not p.suffix}


def receipts(journal: Journal) -> set[str]:
    return {p.stem for p in journal.receipts_path.glob("*.json")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lines.files(tmp_path / "lines", 160)


@needs_namespaces()
def test_what_was_begun_ends_and_another_machine_goes_on(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    process = weft(*run(folder, out, "lines", "--set", "seconds=0.03"))
    until_begun(folder, process)
    seconds, said, left = stop(process)
    assert (process.returncode, left) == (1, [])
    assert seconds < 5
    assert "SIGTERM: no more units are begun; those under way may end, for 20 s." in said
    assert f"Go on with it: weft resume {out}\n" in said
    journal = journal_of(out)
    state = journal.state()
    assert (state["state"], state["reason"]) == ("interrupted", "SIGTERM")
    assert units_begun(journal) == receipts(journal)
    assert 0 < len(receipts(journal)) < journal.known()
    assert holder(f"{out}.weft") is None
    began = time.monotonic()
    process = weft("resume", str(out), "--json", prefix=(*ELSEWHERE, MOVE))
    answer, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert json.loads(answer)["run"] == journal.run
    assert time.monotonic() - began < 20  # it waits for nobody's lease
    done = lines.done(folder)
    assert {key: len(pids) for key, pids in done.items()} == dict.fromkeys(done, 1)
    assert len(done) == tables.read(str(out), "latest").num_rows == 160


@pytest.mark.parametrize("how", ["in time", "native", "twice"][: share(3, 2)])
def test_what_does_not_end_is_left(folder: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "o.lance"
    limits = {"in time": "GRACE_SECONDS = 1", "native": "LAST_SECONDS = 2", "twice": "OTHER = 0"}
    before = f"from weft.pipelines.runs import drain\ndrain.{limits[how]}"
    native = f"native={how == 'native'}"
    process = weft(*run(folder, out, "minutes", "--set", native), before=before)
    until_begun(folder, process, rows=1)
    time.sleep(0.3)
    seconds, said, left = stop(process, times=1 + (how == "twice"))
    assert left == []
    assert seconds < 10
    assert process.returncode == 1
    if how != "native":  # there nothing of ours could run any more
        assert "0 of" in said
        assert journal_of(out).state()["state"] == "interrupted"
        assert holder(f"{out}.weft") is None


def test_a_run_that_publishes_goes_on_to_its_end(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    before = f"""
import time
from pathlib import Path
from weft.pipelines import tables
commit = tables.commit
def slow(*arguments, **more):
    Path({str(tmp_path)!r}, "publishing").touch()
    time.sleep(0.5)
    return commit(*arguments, **more)
tables.commit = slow
"""
    process = weft(*run(folder, out, "lines", "--set", "seconds=0", "--json"), before=before)
    while not (tmp_path / "publishing").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    answer, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert json.loads(answer)["state"] == journal_of(out).state()["state"] == "published"


@pytest.mark.timeout(300)
def test_ray_ends_what_was_begun_and_leaves_no_process(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    more = ("--set", "seconds=0.05")
    process = weft(*run(folder, out, "lines", *more, engine="ray"))
    until_begun(folder, process)
    seconds, said, left = stop(process)
    assert seconds < 30
    assert process.returncode == 1, said
    end = time.monotonic() + 30 - seconds
    while (left := [name for name in left if alive_still(name)]) and time.monotonic() < end:
        time.sleep(0.2)
    assert left == []
    journal = journal_of(out)
    assert journal.state()["reason"] == "SIGTERM"
    assert units_begun(journal) == receipts(journal)
    assert 0 < len(receipts(journal)) < journal.known()
    assert holder(f"{out}.weft") is None
    lines.lines(str(folder), str(out), 0.05).run(engine="local")
    assert {len(pids) for pids in lines.done(folder).values()} == {1}
    assert tables.read(str(out), "latest").num_rows == 160


def alive_still(name: str) -> bool:
    return psutil.pid_exists(int(name.split(maxsplit=1)[0]))


def test_one_that_waits_is_stopped_at_once(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    first = weft(*run(folder, out, "minutes"))
    until_begun(folder, first, rows=1)
    second = weft(*run(folder, out, "lines", "--if-busy", "wait"))
    assert second.stderr is not None
    assert "Waiting for run" in second.stderr.readline()
    _, said, left = stop(second)
    assert (second.returncode, left) == (1, [])
    assert "Stopped while waiting for run" in said
    assert "Nothing was begun." in said
    first.kill()
    first.communicate()
    assert len(journals(f"{out}.weft")) == 1


@pytest.mark.skipif(not ALL, reason="make faults")
def test_a_program_of_ones_own_hears_it_too(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    text = f"""
import signal
import lines
from weft.errors import Interrupted
from weft.pipelines.runs.drain import on_sigterm
signal.signal(signal.SIGTERM, on_sigterm)
try:
    lines.lines({str(folder)!r}, {str(out)!r}, 0.03).run(engine="local")
except Interrupted as error:
    print(error)
"""
    process = program(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until_begun(folder, process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)
    assert "units are done and kept" in said[0], said
    assert process.returncode == 0
    assert units_begun(journal_of(out)) == receipts(journal_of(out))


assert sys.platform == "linux"
