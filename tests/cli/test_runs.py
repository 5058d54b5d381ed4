"""`weft runs`, `show`, `errors` and `history`: looking at what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

RUN = ("run", "--engine", "local")


@pytest.fixture
def ran(weft, photos: Path, work: Path) -> Path:
    """A dataset of two runs."""
    weft(*RUN, "tiny.py:small")
    weft(*RUN, "tiny.py:small", "--set", "least=28")
    return work / "small.lance"


def test_runs(weft, answer, ran: Path) -> None:
    newest, oldest = answer("runs", ran)["runs"]
    assert newest["run"] > oldest["run"]
    assert (oldest["state"], oldest["rows"], oldest["failed"]) == ("published", 11, 1)
    assert (newest["version"], oldest["version"]) == (3, 2)
    lines = weft("runs", ran).stdout.splitlines()
    assert lines[0].split() == [
        "run",
        "state",
        "started",
        "(UTC)",
        "rows",
        "failed",
        "version",
        "seconds",
    ]
    assert lines[1].split()[:2] == [newest["run"], "published"]


def test_show(weft, answer, ran: Path, work: Path) -> None:
    found = answer("show", ran)
    assert found["parameters"]["least"] == 28
    assert found["steps"]["where"]["dropped"] == 8
    assert found["target"] == f"{work}/tiny.py:small"
    assert found["units_done"] == found["units"] >= 1
    text = weft("show", ran).stdout
    assert f"dataset    {ran}: version 3, 0 rows" in text  # written: those that stay stay
    assert found["plan"] in text
    first = answer("runs", ran)["runs"][1]["run"]
    assert answer("show", ran, first)["parameters"]["least"] == 25
    begins = first[:19]
    assert answer("show", ran, begins)["run"].startswith(begins)


def test_show_of_an_unknown_run(weft, ran: Path) -> None:
    result = weft("show", ran, "1999", code=2)
    assert f"error: {ran} has no run '1999'. Runs: 2" in result.stderr


def test_errors(weft, answer, ran: Path) -> None:
    found = answer("errors", ran)
    assert found["complete"] is True
    (row,) = found["rows"]
    assert (row["key"], row["step"], row["operator"]) == ("x0.jpg", "probe", "image.Probe")
    lines = weft("errors", ran).stdout.splitlines()
    assert lines[0] == f"1 row failed in run {found['run']}:"
    assert lines[2].split() == ["1", "probe", "image.Probe", "RowError", "failed"]
    assert lines[4] == "x0.jpg  at probe"
    assert weft("errors", ran, "--limit", 0).stdout.endswith("and 1 more: --limit 1\n")


def test_errors_of_a_clean_run(weft, answer, photos: Path) -> None:
    (photos / "x0.jpg").unlink()
    run = answer(*RUN, "tiny.py:small")["run"]
    assert weft("errors", "small.lance").stdout == f"No row failed in run {run}.\n"


def test_history(weft, answer, ran: Path) -> None:
    versions = answer("history", ran)["versions"]
    assert [v["version"] for v in versions] == [3, 2, 1]
    assert [v["rows"] for v in versions] == [2, 5, 0]
    assert "latest" in versions[0]["tags"]
    assert f"run-{versions[1]['run']}" in versions[1]["tags"]
    assert versions[0]["recipe"] != versions[1]["recipe"]
    lines = weft("history", ran, "--limit", 1).stdout.splitlines()
    assert lines[0].split() == ["version", "rows", "time", "(UTC)", "run", "what", "tags"]
    assert lines[1].endswith("  latest")
    assert lines[2:] == ["and older ones: --limit 5"]


@pytest.mark.parametrize("command", ["runs", "show", "errors", "history", "resume"])
def test_a_dataset_that_is_not_there(weft, ran: Path, work: Path, command: str) -> None:
    assert weft(command, "smal.lance", code=2).stderr == (
        f"error: There is no dataset {work}/smal.lance. Did you mean 'small.lance'?\n"
    )
    assert weft(command, "no/a.lance", code=2).stderr == (
        f"error: There is no dataset {work}/no/a.lance: the folder {work}/no does not exist.\n"
    )


def test_a_dataset_that_weft_did_not_write(weft, work: Path) -> None:
    import lance
    import pyarrow as pa

    lance.write_dataset(pa.table({"x": [1]}), "plain.lance")
    assert weft("runs", "plain.lance").stdout == f"{work}/plain.lance has no runs.\n"
    assert (
        "plain.lance has no runs: no run of weft wrote it"
        in weft("show", "plain.lance", code=2).stderr
    )
    assert weft("resume", "plain.lance").stdout == (
        f"Nothing to resume: {work}/plain.lance has no runs.\n"
    )
    assert len(weft("history", "plain.lance").stdout.splitlines()) == 2


def test_the_state_folder_stands_for_its_dataset(answer, ran: Path) -> None:
    assert answer("runs", f"{ran}.weft/")["dataset"] == str(ran)
