"""`weft resume`: a run that was killed or stopped goes on, and nothing is done twice."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

RUN = ("run", "--engine", "local")


def receipts(dataset: Path) -> int:
    return len(list(dataset.parent.glob(f"{dataset.name}.weft/runs/*/receipts/*.json")))


def stop_midway(process: subprocess.Popen[str], dataset: Path, how: signal.Signals) -> str:
    """Signal a run when a unit or more is done; what it said."""
    until = time.monotonic() + 60
    while receipts(dataset) < 1:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(how)
    return process.communicate(timeout=60)[1]


def widths(dataset: Path) -> list[int]:
    import lance

    table = lance.dataset(str(dataset), version="latest").to_table(columns=["slow"])
    return sorted(table["slow"].to_pylist())


def test_a_killed_run_goes_on(weft, answer, start, many: Path, work: Path) -> None:
    dataset = work / "waits.lance"
    process = start(*RUN, "tiny.py:waits", slow=0.03)
    stop_midway(process, dataset, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    (run,) = answer("runs", dataset)["runs"]
    assert (run["state"], run["version"]) == ("killed", None)
    done = receipts(dataset)
    assert 1 <= done < 10
    assert answer("plan", "tiny.py:waits", code=10)["resumes"] == run["run"]
    result = weft("resume", dataset)
    assert f"Going on with run {run['run']}: {done} of 10 units are done." in result.stderr
    assert f"{8 * done} from an earlier attempt" in result.stdout
    assert widths(dataset) == list(range(20, 100))
    assert [r["state"] for r in answer("runs", dataset)["runs"]] == ["published"]
    assert "is published." in weft("resume", dataset).stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("many")
def test_a_stopped_run_says_how_to_go_on(
    weft, answer, start, work: Path, how: signal.Signals
) -> None:
    dataset = work / "waits.lance"
    process = start(*RUN, "tiny.py:waits", slow=0.03)
    said = stop_midway(process, dataset, how)
    assert process.returncode == 1
    assert " was stopped; " in said
    assert f"Go on with it: weft resume {dataset}\n" in said
    assert "Traceback" not in said
    assert answer("show", dataset)["state"]["state"] == "interrupted"
    assert weft("errors", dataset).stdout.endswith(" so far; it is not finished.\n")
    assert answer("resume", dataset)["state"] == "published"
    assert widths(dataset) == list(range(20, 100))


@pytest.mark.usefixtures("many")
def test_a_run_of_two_datasets_is_resumed_by_either(
    answer, start, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = work / "twice" / "a.lance", work / "twice" / "b.lance"
    stop_midway(start(*RUN, "tiny.py:twice", slow=0.03), first, signal.SIGKILL)
    (shown,) = answer("runs", second)["runs"]
    assert shown["state"] == "killed"
    assert answer("show", second)["units_done"] == receipts(first) >= 1
    (work / "elsewhere").mkdir()
    monkeypatch.chdir(work / "elsewhere")  # its parameters are relative to where it began
    writes = answer("resume", second)["writes"]
    assert [w["dataset"] for w in writes] == [str(first), str(second)]
    assert widths(first) == list(range(20, 100))


def interrupted(weft, work: Path, *settings: str, name: str = "chosen") -> None:
    """A run of pictures 20 to 29 wide that failed at the row that is too wide."""
    text = (work / "tiny.py").read_text().replace("> 40", "> 25")
    (work / "tiny.py").write_text(text)
    weft(*RUN, f"tiny.py:{name}", "--set", "on_error=raise", *settings, code=1)


def test_a_changed_pipeline_is_refused(weft, photos: Path, work: Path) -> None:
    interrupted(weft, work)
    text = (work / "tiny.py").read_text()
    (work / "tiny.py").write_text(text.replace('"uri", "picky"', '"uri", "picky", "height"'))
    said = weft("resume", "chosen.lance", code=2).stderr
    assert f"{work}/tiny.py:chosen now has another: its code or what it is called with" in said
    assert "on_error=raise" in said
    assert said.endswith("To start anew and give up what is done: weft run --fresh\n")


def test_a_failed_run_fails_again_and_starts_fresh(weft, answer, photos: Path, work: Path) -> None:
    interrupted(weft, work)
    said = weft("resume", "chosen.lance", code=1).stderr
    assert re.search("2[6-9] is too wide", said)  # whichever of two threads comes to one first
    assert answer("runs", "chosen.lance")["runs"][0]["state"] == "failed"
    for wide in photos.glob("p00[6-9].jpg"):
        wide.unlink()
    result = weft(*RUN, "tiny.py:chosen", "--set", "on_error=raise", "--fresh")
    assert "was not finished and is abandoned: a fresh start was asked for." in result.stderr


def test_a_run_that_ended_between_two_parts(
    weft, photos: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weft.pipelines.runs import parts

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "_FIRST_ROWS", 2)
    monkeypatch.setattr(parts.Pace, "learn", killed)
    weft(*RUN, "tiny.py:waits", "--publish-every", "10m", code=1)
    said = weft("resume", "waits.lance").stdout
    assert "published a part and is over. 9 rows of the source were put off: `weft run`" in said


def test_a_pipeline_that_is_gone(weft, photos: Path, work: Path) -> None:
    interrupted(weft, work)
    (work / "tiny.py").unlink()
    assert f"There is no file {work}/tiny.py." in weft("resume", "chosen.lance", code=2).stderr


def test_a_run_that_python_started(weft, photos: Path, work: Path) -> None:
    from weft.cli.target import load

    interrupted_by_python = load("tiny.py:chosen", {"on_error": "raise"})[0]
    (photos / "p999.jpg").write_bytes((photos / "p000.jpg").read_bytes())
    text = (work / "tiny.py").read_text().replace("> 40", "> 25")
    (work / "tiny.py").write_text(text)
    interrupted_by_python = load("tiny.py:chosen", {"on_error": "raise"})[0]
    with pytest.raises(Exception, match=r"2[6-9] is too wide"):
        interrupted_by_python.run(engine="local")
    said = weft("resume", "chosen.lance", code=2).stderr
    assert "was started from Python. Run the same pipeline there again" in said
