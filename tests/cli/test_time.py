"""`weft diff`, `rollback`, `retry`, `compact`, `gc` and `history`: going to and fro in time."""

from __future__ import annotations

from pathlib import Path

import pytest

RUN = ("run", "--engine", "local")


@pytest.fixture
def ran(weft, answer, photos: Path, work: Path) -> tuple[Path, str, str]:
    """A dataset of two runs, the second with a picture more and one less; and their ids."""
    first = answer(*RUN, "tiny.py:small")["run"]
    (photos / "p009.jpg").rename(photos / "q.jpg")
    second = answer(*RUN, "tiny.py:small")["run"]
    return work / "small.lance", first, second


def test_diff_says_what_the_last_run_changed(weft, answer, ran: tuple[Path, str, str]) -> None:
    dataset, first, second = ran
    found = answer("diff", dataset)
    assert (found["before"], found["after"], found["same"]) == (2, 3, False)
    rows = {"before": 5, "after": 5, "added": 1, "removed": 1, "changed": 0, "same": 4}
    assert found["rows"] == rows
    assert [(e["what"], e["key"]) for e in found["examples"]] == [
        ("added", "q.jpg"),
        ("removed", "p009.jpg"),
    ]
    assert weft("diff", dataset, first, second).stdout == (
        f"{dataset}: version 2 → 3\n"
        "5 → 5 rows: 1 added, 1 removed, 4 as they were\n"
        "+ q.jpg\n"
        "- p009.jpg\n"
    )
    for one, other in [("2", "3"), ("2", "latest"), (f"run-{first}", second)]:
        assert answer("diff", dataset, one, other)["before"] == 2
    assert weft("diff", dataset, 2, 2).stdout.endswith("\nThe same 5 rows and columns.\n")


@pytest.mark.usefixtures("ran")
def test_diff_shows_values(weft, photos: Path, work: Path) -> None:
    from PIL import Image

    Image.new("RGB", (28, 16)).save(photos / "p006.jpg")
    weft(*RUN, "tiny.py:small")
    lines = weft("diff", "small.lance").stdout.splitlines()
    assert lines[1] == "5 → 5 rows: 1 changed, 4 as they were"
    assert [line.split()[:2] for line in lines[2:5]] == [
        ["_source", "1"],
        ["width", "1"],
        ["copy", "1"],
    ]
    assert "at most 2 apart" not in lines[3]  # of floats only
    assert lines[5] == "~ p006.jpg"
    assert "    width: 26 → 28" in lines
    assert lines[-1].startswith("    copy: ")
    assert lines[-1].endswith(" bytes")


@pytest.mark.usefixtures("ran")
def test_versions_that_are_not_there(weft, ran: tuple[Path, str, str]) -> None:
    dataset, first, _ = ran
    for command in (("diff", dataset, "9"), ("rollback", dataset, "9")):
        assert f"{dataset} has no version 9; the newest is 3" in weft(*command, code=2).stderr
    said = weft("diff", dataset, "latst", code=2).stderr
    assert f"{dataset} has no version, tag or run 'latst'." in said
    assert "Did you mean 'latest'?" in said
    said = weft("rollback", dataset, first[:4], code=2).stderr
    assert f"has 2 runs that begin with '{first[:4]}': {first}, " in said
    assert "is not what a run left" in weft("rollback", dataset, "1", code=2).stderr
    said = weft("diff", dataset, "1", "2", code=0).stdout
    assert "0 → 5 rows: 5 added" in said


def test_a_first_run_has_nothing_to_be_compared_with(weft, photos: Path) -> None:
    weft(*RUN, "tiny.py:small")
    said = weft("diff", "small.lance", code=2).stderr
    assert "has no run before version 2 to compare with. Name two versions" in said


def test_rollback(weft, answer, ran: tuple[Path, str, str]) -> None:
    dataset, first, second = ran
    looked = weft("rollback", dataset, first, "--dry-run").stdout
    assert looked == (
        f"{dataset} would go back from run {second} (version 3, 5 rows) to run {first} (5 rows).\n"
    )
    assert answer("history", dataset)["versions"][0]["version"] == 3
    text = weft("rollback", dataset, "2").stdout
    assert text.splitlines() == [
        f"{dataset} went back from run {second} (version 3, 5 rows) to run {first} (5 rows), "
        "now version 4.",
        f"Undo: weft rollback {dataset} {second}",
    ]
    newest = answer("history", dataset)["versions"][0]
    assert (newest["what"], newest["tags"]) == ("version 2 again", ["latest"])
    assert answer("diff", dataset, first)["same"] is True
    assert "already" in weft("rollback", dataset, first).stdout
    found = answer("rollback", dataset, second)
    assert found["datasets"][0]["after"] == 5
    assert answer("diff", dataset, second)["same"] is True


def test_retry_processes_what_failed(weft, answer, photos: Path, work: Path) -> None:
    weft(*RUN, "tiny.py:small")
    assert weft("errors", "small.lance").stdout.startswith("1 row failed")
    (photos / "x0.jpg").write_bytes((photos / "p008.jpg").read_bytes())
    found = answer("retry", "small.lance", "--engine", "local")
    assert (found["state"], found["rows"]) == ("published", 1)
    run = found["run"]
    text = f"Nothing failed in run {run}, which readers of {work}/small.lance see.\n"
    assert weft("retry", "small.lance").stdout == text
    assert answer("retry", "small.lance")["state"] == "nothing failed"


def test_retry_processes_what_failed_and_has_not_changed(weft, answer, many: Path) -> None:
    """It is tried again even so: what it failed of may be gone, such as a service's outage."""
    weft(*RUN, "tiny.py:chosen", "--max-failed", "100")
    failed = answer("errors", "chosen.lance")["failed"]
    assert failed == 59
    found = answer("retry", "chosen.lance", "--max-failed", "100")
    assert (found["rows"], found["increment"]["unchanged"]) == (failed, 80 - failed)
    assert answer("errors", "chosen.lance")["failed"] == failed


def test_retry_of_rows_that_became_null(weft, answer, many: Path) -> None:
    settings = ("--set", "on_error=null", "--max-failed", "100")
    weft(*RUN, "tiny.py:chosen", *settings)
    found = answer("retry", "chosen.lance", "--max-failed", "100")
    assert (found["rows"], found["increment"]["retried"]) == (59, 59)


def test_retry_is_refused(weft, photos: Path, work: Path) -> None:
    said = weft("retry", "small.lance", code=2).stderr
    assert "There is no dataset" in said
    weft(*RUN, "tiny.py:small")
    text = (work / "tiny.py").read_text()
    (work / "tiny.py").write_text(text.replace('Encode("jpeg")', 'Encode("png")'))
    said = weft("retry", "small.lance", code=2).stderr
    assert "now has another: its code or what it is called with has changed." in said


def test_compact(weft, answer, ran: tuple[Path, str, str]) -> None:
    dataset, *_ = ran
    looked = weft("compact", dataset, "--dry-run").stdout.splitlines()
    assert looked[0].startswith(f"{dataset}: ")
    assert "would become about 1; " in looked[0]
    found = answer("compact", dataset)
    assert [t["after"] for t in found["tables"]][:2] == [1, 1]
    assert (
        weft("compact", dataset).stdout.splitlines()[0] == f"{dataset}: nothing to do; 1 fragment"
    )
    newest = answer("history", dataset)["versions"][0]
    assert newest["what"] == "compacted"
    assert "latest" in newest["tags"]
    assert answer(*RUN, "tiny.py:small")["state"] == "in sync"
    assert answer("diff", dataset, 3)["same"] is True


def test_gc(weft, answer, ran: tuple[Path, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from weft.pipelines.runs import garbage

    dataset, first, second = ran
    assert weft("gc", dataset).stdout == f"Nothing to remove of {dataset}.\n"
    weft("compact", dataset)
    waits = weft("gc", dataset, "--keep", 1).stdout
    assert "1 run replaced within the last hour stay for now" in waits
    monkeypatch.setattr(garbage, "REPLACED", timedelta(0))
    looked = answer("gc", dataset, "--keep", 1, "--dry-run")
    assert (looked["runs"], looked["dry_run"]) == ([first], True)
    assert answer("history", dataset)["versions"][-1]["version"] == 1
    text = weft("gc", dataset, "--keep", 1).stdout
    assert f" of {dataset}:\n" in text
    assert " versions, of 1 run\n" in text
    left = answer("history", dataset)["versions"]
    assert [v["tags"] for v in left] == [["latest", f"run-{second}"]]
    assert answer(*RUN, "tiny.py:small")["state"] == "in sync"
    assert weft("gc", dataset, "--older-than", "30d").stdout == f"Nothing to remove of {dataset}.\n"
    said = weft("gc", dataset, "--older-than", "soon", code=2).stderr
    assert "'soon'; expected a number and m, h, d or w, such as 30d." in said


def test_gc_of_what_weft_did_not_write(weft, work: Path) -> None:
    import lance
    import pyarrow as pa

    lance.write_dataset(pa.table({"x": [1]}), "plain.lance")
    assert "has no runs: no run of weft wrote it" in weft("gc", "plain.lance", code=2).stderr
    said = weft("compact", "plain.lance", code=2).stderr
    assert f"{work}/plain.lance was not published by a run of weft" in said
    said = weft("retry", "plain.lance", code=2).stderr
    assert f"No run has published {work}/plain.lance" in said
    said = weft("diff", "plain.lance", 1, 1, code=2).stderr
    assert "has no column '_key'" in said
    assert not Path("plain.lance.weft").exists()


def test_history_says_what_made_each_version(
    weft, answer, ran: tuple[Path, str, str], photos: Path
) -> None:
    dataset, *_ = ran
    found = {v["version"]: v["what"] for v in answer("history", dataset)["versions"]}
    assert found == {1: "made, empty", 2: "all rows", 3: "1 new, 1 deleted"}
    lines = weft("history", dataset, "--limit", 2).stdout.splitlines()
    assert lines[1].split("  ")[-2:] == ["1 new, 1 deleted", "latest"]
    assert lines[-1] == "and older ones: --limit 10"


def test_a_dataset_that_is_not_there(weft, photos: Path, work: Path) -> None:
    weft(*RUN, "tiny.py:small")
    for name, *more in (("diff",), ("rollback", "1"), ("retry",), ("compact",), ("gc",)):
        assert weft(name, "smal.lance", *more, code=2).stderr == (
            f"error: There is no dataset {work}/smal.lance. Did you mean 'small.lance'?\n"
        )
