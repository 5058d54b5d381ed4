"""`weft schedule`: what it writes and shows, and real runs that are due, killed and resumed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

BERLIN = ("--timezone", "Europe/Berlin")

JOB = """\
# ours
[waits]
target = "tiny.py:waits"
cron = "0 * * * *"
timezone = "Europe/Berlin"
engine = "local"
"""


def add(weft, *more: object, code: int = 0, name: str = "photos"):
    return weft("schedule", "add", name, "tiny.py:small", *more, code=code)


def rewind(work: Path, **ago: float) -> None:
    """Let every job have been looked at last so long ago."""
    cursor = (datetime.now(UTC) - timedelta(**ago)).isoformat()
    with sqlite3.connect(work / ".weft/schedule/jobs.db") as db:
        db.execute("UPDATE jobs SET cursor = ?", (cursor,))
    db.close()


def test_add_writes_a_table_and_shows_the_next_times(weft, answer, work: Path) -> None:
    (work / "jobs.toml").write_text("# mine, kept as it is\n")
    said = add(weft, "--cron", "30 4 * * *", *BERLIN, "--set", "out={nominal:%Y}.lance").stdout
    lines = said.splitlines()
    assert lines[0] == f"photos is in {work}/jobs.toml. It runs 30 4 * * * Europe/Berlin:"
    assert len(lines) == 6
    assert all(" 04:30 +0" in line for line in lines[1:])
    assert (work / "jobs.toml").read_text() == (
        "# mine, kept as it is\n\n[photos]\n"
        'target = "tiny.py:small"\ncron = "30 4 * * *"\ntimezone = "Europe/Berlin"\n'
        'set.out = "{nominal:%Y}.lance"\n'
    )
    add(weft, "--on-files", "photos/*.jpg", "--engine", "local", name="inbox")
    found = answer("schedule", "ls")["jobs"]
    assert [(j["job"], j["state"]) for j in found] == [("photos", None), ("inbox", None)]
    assert found[1]["trigger"] == f"files {work}/photos/*.jpg"
    times = answer("schedule", "next", "-n", 3)["next"]
    assert [t["job"] for t in times] == ["photos"] * 3
    assert "inbox   files" in weft("schedule", "ls").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cron", "0 2 * * *"), "and no timezone. The same hour is another moment in each zone"),
        ((), "has nothing that starts it. Give one: cron = "),
        (("--cron", "0 2 * * *", *BERLIN, "--set", "outt=a"), "Did you mean 'out'?"),
        (("--cron", "0 2 * * *", *BERLIN, "--set", "out={nomnal}"), "Did you mean 'nominal'?"),
        (("--on-files", "*", "--tag", "a"), "tag = 'a' is of a dataset; files have none."),
    ],
)
def test_add_refuses_and_writes_nothing(weft, work: Path, arguments, message: str) -> None:
    assert message in add(weft, *arguments, code=2).stderr
    assert not (work / "jobs.toml").exists()


def test_add_refuses_names_and_targets(weft, work: Path) -> None:
    cron = ("--cron", "0 2 * * *", *BERLIN)
    assert "'a b' cannot name a job" in add(weft, *cron, name="a b", code=2).stderr
    said = weft("schedule", "add", "a", "tiny.py:smal", *cron, code=2).stderr
    assert "has no pipeline 'smal'" in said
    add(weft, *cron)
    assert "has a job 'photos' already. Edit it there." in add(weft, *cron, code=2).stderr
    assert "No such command 'nxt'. Did you mean 'next'?" in weft("schedule", "nxt", code=2).stderr


def test_a_due_run_end_to_end(weft, answer, photos: Path, work: Path) -> None:
    add(
        weft, "--cron", "0 * * * *", *BERLIN, "--engine", "local", "--set", "out={nominal:%H}.lance"
    )
    rewind(work, hours=3)
    document = answer("schedule", "tick")
    [run] = document["runs"]
    assert (run["state"], run["attempt"], run["exit_code"]) == ("succeeded", 1, 0)
    assert run["run"] in answer("runs", next(iter(run["versions"])))["runs"][0]["run"]
    (dataset,) = run["versions"]
    assert dataset == f"{work}/{run['nominal'][11:13]}.lance"
    assert Path(run["log"]).exists()
    history = answer("schedule", "history", "photos")["runs"]
    assert [r["state"] for r in history] == ["succeeded", "skipped", "skipped"]
    assert 'missed, and catchup = "latest"' in weft("schedule", "history").stdout


def test_a_failed_run_is_exit_1_and_names_its_log(weft, work: Path) -> None:
    (work / "jobs.toml").write_text(JOB.replace("waits", "small"))
    said = weft("schedule", "run-now", "small", code=1)
    assert ": failed: " in said.stdout
    assert "photos does not exist" in said.stdout
    assert f"({work}/.weft/schedule/small/" in said.stdout
    assert "There is no job 'smal'" in weft("schedule", "run-now", "smal", code=2).stderr


def test_pause_and_resume(weft, answer, work: Path) -> None:
    (work / "jobs.toml").write_text(JOB)
    assert "Go on: weft schedule resume waits" in weft("schedule", "pause", "waits").stdout
    assert "paused" in weft("schedule", "ls").stdout
    rewind(work, hours=1)
    assert answer("schedule", "tick")["runs"] == []
    assert answer("schedule", "history")["runs"][0]["reason"] == "paused: by hand"
    assert weft("schedule", "resume", "waits").stdout == "waits goes on.\n"
    assert answer("schedule", "ls")["jobs"][0]["paused"] is None


def midway(process: subprocess.Popen[str], work: Path) -> int:
    """Wait until the run that a daemon started has done a unit or more; the run's process."""
    until = time.monotonic() + 60
    while not list(work.glob("waits.lance.weft/runs/*/receipts/*.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    with sqlite3.connect(work / ".weft/schedule/jobs.db") as db:
        (child,) = db.execute("SELECT child FROM runs WHERE state = 'running'").fetchone()
    db.close()
    return int(child)


@pytest.mark.usefixtures("many")
def test_a_killed_daemon_and_run_are_resumed_by_the_next_tick(
    weft, answer, start, work: Path
) -> None:
    (work / "jobs.toml").write_text(JOB)
    weft("schedule", "ls")
    rewind(work, hours=1)
    process = start("schedule", "tick", slow=0.03)
    child = midway(process, work)
    process.kill()
    os.killpg(child, signal.SIGKILL)
    process.communicate(timeout=60)
    [killed] = answer("schedule", "history", "waits")["runs"]
    assert killed["state"] == "running"
    with sqlite3.connect(work / ".weft/schedule/jobs.db") as db:  # so that no other time is due
        db.execute("UPDATE jobs SET cursor = ?", ("2999-01-01T00:00:00+00:00",))
    db.close()
    [run] = answer("schedule", "tick")["runs"]
    assert (run["state"], run["attempt"]) == ("succeeded", 2)
    assert run["nominal"] == killed["nominal"]
    document = Path(run["log"]).with_suffix(".json").read_text()
    assert '"rows_resumed": 0' not in document
    assert len(answer("runs", "waits.lance")["runs"]) == 1  # it went on with the same run
    import lance

    table = lance.dataset(str(work / "waits.lance"), version="latest").to_table(columns=["slow"])
    assert sorted(table["slow"].to_pylist()) == list(range(20, 100))


@pytest.mark.usefixtures("many")
def test_a_stopped_serve_stops_its_run_in_order(weft, answer, start, work: Path) -> None:
    (work / "jobs.toml").write_text(JOB)
    weft("schedule", "ls")
    rewind(work, hours=1)
    process = start("schedule", "serve", slow=0.05)
    midway(process, work)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out == "Stopped; runs are kept to be gone on with.\n"
    assert f"serving 1 jobs of {work}/jobs.toml" in err
    run = answer("schedule", "history")["runs"][-1]
    assert (run["state"], run["exit_code"]) == ("interrupted", 1)
    assert answer("show", "waits.lance")["state"]["state"] == "interrupted"
