"""`weft check`, `weft plan` and `weft preview`: nothing is written by any of them."""

from __future__ import annotations

from pathlib import Path
from shutil import copyfile

RUN = ("run", "--engine", "local")


def test_check_prints_the_columns_of_each_write(weft, photos: Path, work: Path) -> None:
    lines = weft("check", "tiny.py:twice").stdout.splitlines()
    assert lines[0].startswith("twice is right, and fits this machine (1 node: ")
    assert lines[1:] == [
        f"write -> {work}/twice/a.lance",
        "  uri   Text",
        "  slow  Int32",
        f"write_2 -> {work}/twice/b.lance",
        "  uri     Text",
        "  height  Int32",
    ]
    assert not (work / "twice").exists()


def test_check_as_json(answer, photos: Path, work: Path) -> None:
    found = answer("check", "tiny.py:small")
    assert found["target"] == f"{work}/tiny.py:small"
    (write,) = found["writes"]
    assert write["columns"]["width"] == "Int32"


def test_check_refuses_what_a_run_would(weft, work: Path) -> None:
    text = (work / "tiny.py").read_text().replace('select("uri", "width"', 'select("uri", "wide"')
    (work / "wrong.py").write_text(text)
    result = weft("check", "wrong.py:small", code=2)
    assert f"error: {work}/wrong.py:" in result.stderr
    assert "There is no column 'wide'." in result.stderr


def test_plan_is_10_while_there_is_work(weft, answer, photos: Path, work: Path) -> None:
    text = weft("plan", "tiny.py:small", code=10).stdout
    assert text.startswith("small: units of ")
    assert "\nTo do: 11 rows in " in text
    assert text.endswith(f" ({work}/small.lance is not published yet).\n")
    assert not (work / "small.lance").exists()
    weft(*RUN, "tiny.py:small")
    assert weft("plan", "tiny.py:small").stdout.endswith(
        "In sync: same pipeline, same source. Nothing to do.\n"
    )
    assert answer("plan", "tiny.py:small")["versions"] == {"write": 2}
    changed = answer("plan", "tiny.py:small", "--set", "least=1", code=10)
    assert changed["why"].endswith('; where was col("width") >= 25, is col("width") >= 1')
    (photos / "p000.jpg").unlink()
    copyfile(photos / "p001.jpg", photos / "q.jpg")
    todo = answer("plan", "tiny.py:small", code=10)
    counts = {"new": 1, "changed": 0, "deleted": 1, "retried": 0, "unchanged": 10}
    assert (todo["rows"], todo["rows_of_source"], todo["increment"]) == (1, 11, counts)
    assert todo["why"].startswith("since run ")
    assert todo["why"].endswith(": 1 new, 1 deleted, 10 unchanged")


def test_preview_tells_media_and_prints_the_rest(weft, answer, photos: Path, work: Path) -> None:
    text = weft("preview", "tiny.py:small", "--rows", 2).stdout
    assert text.startswith(f"write -> {work}/small.lance: 2 rows\n")
    assert f"{photos}/p005.jpg" in text
    assert "<image 25x16 jpeg " in text
    assert "p007" not in text
    (write,) = answer("preview", "tiny.py:small", "--rows", 2)["writes"]
    assert [row["width"] for row in write["rows"]] == [25, 26]
    assert write["rows"][0]["copy"].startswith("<image 25x16 jpeg ")
    assert not (work / "small.lance").exists()


def test_a_preview_too_wide_is_a_block_for_each_row(weft, photos: Path, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = weft("preview", "tiny.py:small", "--rows", 1).stdout.splitlines()
    assert lines[1:4] == ["  _key   p005.jpg", f"  uri    {photos}/p005.jpg", "  width  25"]


def test_what_bytes_and_arrays_are_told_as() -> None:
    import polars as pl

    from weft.cli.preview import _told

    assert _told(b"\x00" * 34_100) == "<34.1 kB>"
    assert _told(b"\xab\xcd") == "<abcd>"
    assert _told(None) is None
    assert _told({"data": [1, 2], "shape": [2, 1]}) == "<2 x 1>"
    assert _told(pl.Series([0.5, 1.0])) == "[0.5, 1.0]"
    assert _told(pl.Series([0.5] * 512, dtype=pl.Float32)) == "<512 float32>"
    assert _told(pl.Series([[1, 2, 3], [4, 5, 6]], dtype=pl.List(pl.UInt8))) == "<2 x 3 uint8>"
