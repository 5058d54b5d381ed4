"""`weft forget`: what it says before, what it asks, and what it says after."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RUN = ("run", "--engine", "local")
KEY = "p003.jpg"


@pytest.fixture
def dataset(weft: Callable[..., Any], photos: Path) -> Path:
    weft(*RUN, "tiny.py:waits")
    return Path("waits.lance")


def test_nothing_is_done_before_somebody_says_yes(weft: Callable[..., Any], dataset: Path) -> None:
    before = sorted(p for p in Path().rglob("*") if "lease" not in p.name)
    dry = weft("forget", dataset, KEY, "--dry-run").stdout
    assert "waits.lance (named): 1 row and 1 line of the ledger go, and of 2 versions one" in dry
    assert "To rewrite:" in dry
    assert "Copies, backups and the source itself are beyond weft" in dry
    refused = weft("forget", dataset, KEY, code=3)
    assert refused.stderr.startswith(dry.rstrip())
    assert (
        "error: Nothing was done. To erase what is listed above for good: --yes" in refused.stderr
    )
    assert sorted(p for p in Path().rglob("*") if "lease" not in p.name) == before


def test_the_receipt_and_what_is_said_of_it(weft: Callable[..., Any], dataset: Path) -> None:
    told = weft("forget", dataset, KEY, "--yes")
    assert "Erased from 1 dataset. Their tables have one version each, with none" in told.stdout
    assert "were there before: found in none." in told.stdout
    path = Path(told.stdout.rstrip().rpartition("Receipt: ")[2].removesuffix("."))
    receipt = json.loads(path.read_text())
    assert receipt["complete"]
    assert receipt["proof"]["scan"]["found"] == []
    assert KEY not in path.read_text()
    assert path.parent == dataset.absolute().with_name("waits.lance.weft") / "forgotten"
    assert weft(*RUN, "tiny.py:waits").stdout.startswith("In sync")
    weft("plan", "tiny.py:waits")
    assert "kept" not in weft("why", dataset, KEY, code=2).stderr


def test_what_other_commands_say_after_it(
    weft: Callable[..., Any], answer: Callable[..., Any], dataset: Path
) -> None:
    weft("forget", dataset, "x0.jpg", "--yes")
    assert "No row failed" in weft("errors", dataset).stdout
    assert len(answer("history", dataset)["versions"]) == 1
    assert [r["state"] for r in answer("runs", dataset)["runs"]] == ["published"]
    assert "x0.jpg" not in weft("show", dataset).stdout
    weft("report", dataset)
    assert "x0.jpg" not in Path(weft("report", dataset).stdout.strip()).read_text()


def test_as_json(answer: Callable[..., Any], weft: Callable[..., Any], dataset: Path) -> None:
    found = answer("forget", dataset, KEY, "p004.jpg", "--dry-run")
    assert [(d["rows"], d["versions"]) for d in found["datasets"]] == [(2, 2)]
    done = answer("forget", dataset, KEY, "p004.jpg", "--yes")
    assert done["complete"]
    assert len(done["keys"]) == 2
    assert Path(done["path"]).exists()


def test_a_key_that_is_not_there(weft: Callable[..., Any], dataset: Path, photos: Path) -> None:
    error = weft("forget", dataset, "p033.jpg", "--yes", code=2).stderr
    assert "holds no row 'p033.jpg', and nothing made of it. Did you mean 'p003.jpg'?" in error
    assert "--even-if-absent" in error
    told = weft("forget", dataset, "p033.jpg", "--yes", "--even-if-absent")
    assert "Held by none of these, and kept out from now on: 'p033.jpg'." in told.stderr
    (photos / KEY).rename(photos / "p033.jpg")
    ran = weft(*RUN, "tiny.py:waits")
    assert "1 row is forgotten and not read." in ran.stdout + ran.stderr
    assert weft(*RUN, "tiny.py:waits").stdout.startswith("In sync")


def test_a_dataset_that_is_not_there(weft: Callable[..., Any], dataset: Path) -> None:
    assert "Did you mean 'waits.lance'?" in weft("forget", "wait.lance", KEY, code=2).stderr
    assert "Missing argument 'KEY...'" in weft("forget", dataset, code=2).stderr


def test_what_could_not_be_done_is_an_error(weft: Callable[..., Any], dataset: Path) -> None:
    folder = Path("waits.lance.weft/readers")
    folder.mkdir()
    (folder / "x.json").write_text('{"dataset": "bigquery://project/table"}')
    told = weft("forget", dataset, KEY, "--yes", code=1)
    assert "bigquery://project/table: not a dataset of weft's" in told.stderr
    assert "Not erased: bigquery://project/table" in told.stdout
