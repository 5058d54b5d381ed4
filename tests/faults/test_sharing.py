"""A dataset that somebody works on: a second run is refused, waits, or shares the work."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import lance
import lines
import pytest
from harness import ALL, program, share

from weft.errors import Busy, DefinitionError
from weft.pipelines import tables
from weft.pipelines.runs.journal import Journal, journals
from weft.pipelines.runs.lease import holder
from weft.pipelines.runs.result import Listener

RUN = """
import json, lines, signal
from weft.pipelines.runs.drain import on_sigterm
signal.signal(signal.SIGTERM, on_sigterm)
from weft.pipelines.runs.result import Listener
class Told(Listener):
    def notice(self, text):
        print(json.dumps(text), flush=True)
pipeline = lines.{name}({folder!r}, {out!r}, {seconds})
result = pipeline.run(engine="local", cluster=lines.FORTY, if_busy={if_busy!r}, listener=Told())
print(json.dumps({{"run": result.run, "state": result.state}}), flush=True)
"""


class Home:
    """A folder of 320 files, which are 40 units, and a dataset."""

    def __init__(self, path: Path, count: int = 320) -> None:
        self.folder = lines.files(path / "lines", count)
        self.count = count
        self.out = path / "o.lance"

    def start(
        self, if_busy: str, seconds: float = 0.01, name: str = "lines"
    ) -> subprocess.Popen[str]:
        text = RUN.format(
            name=name, folder=str(self.folder), out=str(self.out), seconds=seconds, if_busy=if_busy
        )
        return program(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def pipeline(self, seconds: float = 0.01) -> Any:
        return lines.lines(str(self.folder), str(self.out), seconds)

    @property
    def journal(self) -> Journal:
        return journals(f"{self.out}.weft")[0]

    def until(self, rows: int, process: subprocess.Popen[str]) -> None:
        end = time.monotonic() + 60
        while sum(map(len, lines.done(self.folder).values())) < rows:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)

    def two(self, seconds: float = 0.01) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
        """A run, and one that shares its work; both have begun with their first rows."""
        gate = lines.close(self.folder)
        first = self.start("refuse", seconds)
        self.until(5, first)
        second = self.start("share", seconds)
        self.until(10, second)
        gate.unlink()
        return first, second

    def check(self, seconds: float = 0.01) -> dict[str, list[int]]:
        """That one run published all rows, once; who did which."""
        table = tables.read(str(self.out), "latest")
        keys = sorted(p.name for p in self.folder.glob("*.txt"))
        assert sorted(table["key"].to_pylist()) == keys
        assert table["told"].to_pylist() == [k.upper() for k in table["key"].to_pylist()]
        dataset = lance.dataset(str(self.out))
        assert set(dataset.tags.list()) == {"latest", f"run-{self.journal.run}"}
        assert [v.run for v in tables.history(str(self.out))] == [self.journal.run, None]
        assert [j.state()["state"] for j in journals(f"{self.out}.weft")] == ["published"]
        assert not (self.journal.path / "claims").exists()
        assert holder(f"{self.out}.weft") is None
        assert self.pipeline(seconds).run(engine="local", cluster=lines.FORTY).in_sync
        return lines.done(self.folder)


def ended(process: subprocess.Popen[str]) -> list[Any]:
    """What a run that succeeds says: its notices, then what became of it."""
    told, errors = process.communicate(timeout=90)
    assert process.returncode == 0, (told, errors)
    return [json.loads(line) for line in told.splitlines()]


def test_two_share_forty_units(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first, second = home.two()
    *_, published = ended(first)
    sharing, counted, *waiting, result = ended(second)
    assert sharing == f"Sharing the work of run {published['run']}."
    assert counted.endswith(f" of 40 units of run {published['run']} were done here.")
    assert waiting == [] or waiting[0].startswith(f"Waiting for run {published['run']} (process ")
    assert result["state"] == "in sync"
    done = home.check()
    assert {len(pids) for pids in done.values()} == {1}
    by = [sum(pids == [p.pid] for pids in done.values()) for p in (first, second)]
    assert sum(by) == 320
    assert min(by) >= 40
    assert by[1] == 8 * int(counted.split()[0])


def test_two_share_a_backfill(tmp_path: Path) -> None:
    """Another parameter: what the dataset has of all rows is asked again, by both."""
    home = Home(tmp_path)
    home.pipeline().run(engine="local", cluster=lines.FORTY)
    (home.folder / "log").unlink()
    first, second = home.two(0.02)
    *_, published = ended(first)
    sharing, counted, *_, result = ended(second)
    assert sharing == f"Sharing the work of run {published['run']}."
    assert result["state"] == "in sync"
    done = lines.done(home.folder)
    assert len(done) == 320
    assert {len(pids) for pids in done.values()} == {1}
    by = [sum(pids == [p.pid] for pids in done.values()) for p in (first, second)]
    assert min(by) >= 40
    assert int(counted.split()[0]) >= 5
    table = tables.read(str(home.out), "latest")
    assert table["told"].to_pylist() == [k.upper() for k in table["key"].to_pylist()]
    assert home.pipeline(0.02).run(engine="local", cluster=lines.FORTY).in_sync


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("dies", ["holder", "sharer"][: share(2, 1)])
def test_the_other_finishes_when_one_is_killed(tmp_path: Path, dies: str) -> None:
    chance = random.Random(dies)
    for number in range(share(20, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        home = Home(folder)
        first, second = home.two()
        time.sleep(chance.uniform(0.0, 0.6))
        victim, other = (first, second) if dies == "holder" else (second, first)
        victim.kill()
        victim.communicate()
        *_, result = ended(other)
        done = home.check()
        assert dies == "sharer" or result["state"] in ("published", "in sync")
        assert victim.pid in {pid for pids in done.values() for pid in pids}
        twice = [pids for pids in done.values() if len(pids) > 1]
        assert len(twice) <= 5 * 8  # the units that it had in its hands, on five threads
        assert all(sorted(pids) == sorted([victim.pid, other.pid]) for pids in twice)


@pytest.mark.skipif(not ALL, reason="make faults")
@pytest.mark.parametrize("stops", ["holder", "sharer"])
def test_one_that_is_stopped_hands_over(tmp_path: Path, stops: str) -> None:
    home = Home(tmp_path)
    first, second = home.two(0.02)
    victim, other = (first, second) if stops == "holder" else (second, first)
    victim.send_signal(signal.SIGTERM)
    told, errors = victim.communicate(timeout=30)
    assert "weft.errors.Interrupted" in errors, (told, errors)
    *_, result = ended(other)
    assert result["state"] == "published"
    assert {len(pids) for pids in home.check(0.02).values()} == {1}  # what was begun has ended


class Notices(Listener):
    def __init__(self) -> None:
        self.told: list[str] = []

    def notice(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.usefixtures("ray_engine")
def test_engines_share(tmp_path: Path) -> None:
    home = Home(tmp_path)
    gate = lines.close(home.folder)
    first = home.start("refuse")
    home.until(5, first)

    def let_go() -> None:
        end = time.monotonic() + 200  # Ray takes its time to start where there is much to do
        while len({pid for pids in lines.done(home.folder).values() for pid in pids}) < 2:
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        gate.unlink()

    threading.Thread(target=let_go, daemon=True).start()
    told = Notices()
    assert home.pipeline().run(engine="ray", if_busy="share", listener=told).in_sync
    ended(first)
    assert told.told[0].startswith("Sharing the work of run ")
    assert not told.told[1].startswith("0 of 40 units")
    done = home.check()
    assert {len(pids) for pids in done.values()} == {1}
    assert len({pid for pids in done.values() for pid in pids}) >= 2


def test_what_cannot_be_shared_says_why(tmp_path: Path) -> None:
    home = Home(tmp_path, 16)
    lines.close(home.folder)
    first = home.start("refuse")
    home.until(1, first)
    held = rf"^Run {home.journal.run} is working on this dataset \(process {first.pid} on .*\)\. "
    folder, out = str(home.folder), str(home.out)
    other = lines.other(folder, out)
    with pytest.raises(Busy, match=held + r"Wait for it, or stop it and run again\.$"):
        other.run(engine="local")
    with pytest.raises(Busy, match=held + r".* it is of another pipeline, or of other parameters"):
        other.run(engine="local", if_busy="share")
    with pytest.raises(Busy, match=held + r".* shared: a fresh start was asked for\.$"):
        home.pipeline().run(engine="local", if_busy="share", fresh=True)
    with pytest.raises(DefinitionError, match=r"if_busy='queue'; expected 'refuse', 'wait' or"):
        other.run(engine="local", if_busy="queue")
    first.kill()
    first.communicate()
    home.out = tmp_path / "grouped.lance"
    (home.folder / "log").unlink()
    first = home.start("refuse", name="grouped")
    home.until(1, first)
    with pytest.raises(Busy, match=r"its units have several phases, as it joins, groups or"):
        lines.grouped(folder, str(home.out), 0.01).run(engine="local", if_busy="share")
    first.kill()
    first.communicate()


def test_one_that_waits_begins_as_if_it_were_called_then(tmp_path: Path) -> None:
    home = Home(tmp_path, 40)
    gate = lines.close(home.folder)
    first = home.start("refuse")
    home.until(1, first)
    waiting = [home.start("wait"), home.start("wait", name="other_after")]
    for process in waiting:
        assert process.stdout is not None
        assert "Waiting for run" in process.stdout.readline()
    (home.folder / "new.txt").write_text("new")
    gate.unlink()
    *_, published = ended(first)
    results = [ended(process)[-1] for process in waiting]
    assert all(r["state"] == "published" for r in results)
    runs = sorted([published["run"], *(r["run"] for r in results)])
    found = [v.run for v in tables.history(str(home.out)) if v.run]
    assert sorted(found) == runs
    assert tables.read(str(home.out), "latest").num_rows == 41
    assert holder(f"{home.out}.weft") is None
