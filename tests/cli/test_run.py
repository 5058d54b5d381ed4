"""`weft run`: what it says, what it leaves, and every exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

RUN = ("run", "--engine", "local")


def test_a_run_ends_in_a_summary(weft, photos: Path, work: Path) -> None:
    result = weft(*RUN, "tiny.py:small")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("small: run ")
    assert " published in " in lines[0]
    assert lines[1] == f"  {work}/small.lance: version 2, 5 rows"
    assert lines[2].startswith("  rows     11 read, 5 kept, 5 dropped, 1 failed; ")
    assert lines[3].startswith("  dropped  5 by where: ")
    assert "width" in lines[3]
    assert lines[4].startswith("  failed   1 at probe: RowError: image.Probe: not an image")
    assert lines[4].endswith("(row x0.jpg)")
    assert lines[5].startswith("  time     ")
    assert lines[6] == f'  read it  lance.dataset("{work}/small.lance", version="latest")'
    assert lines[7] == '           media columns: .to_table(blob_handling="all_binary")'
    assert lines[8] == f"  why      weft errors {work}/small.lance"
    assert len(lines) == 9
    assert ", 11 rows" in result.stderr


def test_what_the_summary_says_to_read_can_be_read(weft, photos: Path) -> None:
    import lance

    line = weft(*RUN, "tiny.py:small").stdout.splitlines()[6]
    table = eval(line.removeprefix("  read it  "), {"lance": lance}).to_table(columns=["width"])
    assert sorted(table["width"].to_pylist()) == [25, 26, 27, 28, 29]


def test_the_second_run_is_in_sync(weft, answer, photos: Path, work: Path) -> None:
    first = answer(*RUN, "tiny.py:small")
    assert (first["state"], first["rows"], first["failed"]) == ("published", 11, 1)
    assert first["writes"] == [
        {"step": "write", "dataset": f"{work}/small.lance", "version": 2, "kept": 5}
    ]
    assert answer(*RUN, "tiny.py:small")["state"] == "in sync"
    assert weft(*RUN, "tiny.py:small").stdout == (
        f"In sync: same pipeline, same source. Nothing was run.\n  {work}/small.lance version 2\n"
    )
    assert answer(*RUN, "tiny.py:small", "--fresh")["writes"][0]["version"] == 3


def test_parameters_are_set_as_text(answer, photos: Path, work: Path) -> None:
    found = answer(*RUN, "tiny.py:small", "--set", "least=28", "--set", f"out={work}/o.lance")
    assert found["writes"] == [
        {"step": "write", "dataset": f"{work}/o.lance", "version": 2, "kept": 2}
    ]


def test_what_the_users_code_prints_is_not_in_the_document(weft, photos: Path) -> None:
    result = weft(*RUN, "tiny.py:chosen", "--json")
    assert json.loads(result.stdout)["state"] == "published"
    assert "a print of the user's" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "least"), "--set least: expected NAME=VALUE, such as --set out=a.lance"),
        (("--set", "out=a", "--set", "out=b"), "--set gives 'out' twice: 'a' and 'b'."),
        (("--set", "least=few"), "Parameter 'least' of pipeline 'small' is int; given 'few'."),
        (("--max-failed", "some"), "'some' is not an error budget. "),
        (("--address", "auto"), "--address is of a Ray cluster; --engine local has none."),
        (("--set", "source=none/*.jpg"), "the folder "),
    ],
)
def test_wrong_arguments_are_exit_2(weft, photos, work, arguments, message) -> None:
    result = weft(*RUN, "tiny.py:small", *arguments, code=2)
    assert result.stderr.splitlines()[0].startswith("error: ") or "listing" in result.stderr
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (work / "small.lance").exists()


def test_an_unknown_parameter_is_told_the_nearest(weft, photos: Path) -> None:
    result = weft(*RUN, "tiny.py:small", "--set", "leest=1", code=2)
    assert "has no parameter 'leest'" in result.stderr
    assert result.stderr.endswith("Did you mean 'least'?\n")


def test_a_failed_run_is_exit_1_and_says_how_to_go_on(weft, photos: Path, work: Path) -> None:
    (work / "tiny.py").write_text((work / "tiny.py").read_text().replace("> 40", "> 25"))
    result = weft(*RUN, "tiny.py:chosen", "--set", "on_error=raise", code=1)
    said = r"error: picky: row .p00[6-9]\.jpg.: ValueError: 2[6-9] is too wide\n"
    assert re.search(said, result.stderr)  # whichever of two threads comes to one first
    assert result.stderr.endswith(f"  Go on with it: weft resume {work}/chosen.lance\n")
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(weft, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Traceback" in weft("check", "nothing.py", "--debug", code=2).stderr
    assert "Traceback" in weft("--debug", "check", "nothing.py", code=2).stderr
    monkeypatch.setenv("WEFT_DEBUG", "1")
    assert "Traceback" in weft("check", "nothing.py", code=2).stderr


def test_a_defect_shows_its_traceback_and_is_exit_1(
    weft, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from weft.pipelines.runs import publish

    def defect(*_: object, **__: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr(publish, "publish", defect)
    result = weft(*RUN, "tiny.py:small", code=1)
    assert "Traceback (most recent call last)" in result.stderr
    assert "KeyError: 'a defect'" in result.stderr
    assert "Go on with it: weft resume" in result.stderr


def test_a_held_dataset_is_exit_3(weft, answer, photos: Path, work: Path) -> None:
    from weft.pipelines.runs.lease import hold

    with hold(f"{work}/small.lance.weft", "other"):
        result = weft(*RUN, "tiny.py:small", code=3)
        document = answer(*RUN, "tiny.py:small", code=3)
    assert "error: Run other is working on this dataset (process " in result.stderr
    assert "weft resume" not in result.stderr
    assert document["error"]["type"] == "Held"
    assert document["exit_code"] == 3


def test_over_budget_is_exit_4(weft, answer, photos: Path, work: Path) -> None:
    result = weft(*RUN, "tiny.py:small", "--max-failed", "0", code=4)
    assert "error: 1 of 11 rows failed, more than the error budget of 0 rows" in result.stderr
    assert result.stderr.endswith(f"  See why: weft errors {work}/small.lance\n")
    assert answer("errors", "small.lance")["groups"] == [
        {
            "step": "probe",
            "operator": "image.Probe",
            "error": "RowError",
            "outcome": "failed",
            "rows": 1,
        }
    ]
    assert weft("resume", "small.lance").stdout.endswith(
        f"the newest of {work}/small.lance, is over budget. Start again with `weft run`.\n"
    )


def test_an_error_leaves_a_document_too(answer, work: Path) -> None:
    assert answer("run", "tini.py", code=2) == {
        "error": {
            "type": "DefinitionError",
            "message": f"There is no file {work}/tini.py. Did you mean 'tiny.py'?",
        },
        "exit_code": 2,
    }


def test_readers_see_the_first_rows_early(
    weft, answer, photos: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weft.pipelines.runs.parts._FIRST_ROWS", 2)
    result = weft(*RUN, "tiny.py:waits", "--publish-every", "10m")
    assert "Processed 2 rows and published what came of them; 9 are to come." in result.stderr
    assert "  parts    2 runs published one after the other; this is the last\n" in result.stdout
    assert [r["rows"] for r in answer("runs", "waits.lance")["runs"]] == [9, 2]
    made = [v["what"] for v in answer("history", "waits.lance")["versions"]]
    assert made == ["9 new", "the first rows; 9 were to come", "made, empty"]
    assert weft(*RUN, "tiny.py:waits").stdout.startswith("In sync: ")
    said = weft(*RUN, "tiny.py:waits", "--publish-every", "often", code=2).stderr
    assert "--publish-every 'often'; expected a time such as 90s, 10m or 2h." in said
