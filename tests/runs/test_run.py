"""A run from files to published versions: what it promises when things go wrong."""

from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import lance
import numpy as np
import pytest
from PIL import Image

import weft
from weft.connectors import Files, Lance
from weft.errors import Busy, OverBudget
from weft.pipelines import tables
from weft.pipelines.runs.budget import Budget
from weft.pipelines.runs.journal import Journal, journals
from weft.pipelines.runs.places import errors_uri, ledger_uri
from weft.pipelines.runs.result import Listener

sys.path.insert(0, str(Path(__file__).parent))

import program


def picture(seed: int, size: tuple[int, int] = (32, 24)) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def bomb() -> bytes:
    """A valid PNG of 20000 x 20000 pixels in some hundred bytes per megapixel."""
    import struct

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = zlib.compress(b"\0" * (20000 // 8 + 1) * 20000, 9)
    head = struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(60):
        (folder / f"{i:03d}.jpg").write_bytes(picture(i))
    return folder


def build(photos: Path, out: Path, seconds: float = 0.0):
    return program.measured(source=f"{photos}/*", out=str(out), seconds=seconds)


def rows(out: Path, version: int | str = "latest") -> dict[str, tuple[float, bytes]]:
    table = tables.read(str(out), version)
    keys, slow, content = (table[c].to_pylist() for c in ("key", "slow", "content"))
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, zip(slow, content, strict=True), strict=True))


def test_publishes_what_the_files_say(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    result = build(photos, out).run(engine="local")
    assert (result.state, result.rows, result.kept) == ("published", 60, {"write": 60})
    found = rows(out)
    for file in photos.iterdir():
        mean, content = found[file.name]
        assert content == file.read_bytes()
        assert mean == pytest.approx(np.asarray(Image.open(file)).mean(), rel=1e-6)
    dataset = lance.dataset(str(out), version="latest")
    assert dataset.version == result.versions["write"]
    assert set(dataset.tags.list()) == {"latest", f"run-{result.run}"}


def test_a_second_run_of_the_same_is_in_sync(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    first = build(photos, out).run(engine="local")
    again = build(photos, out).run(engine="local")
    assert again.in_sync
    assert again.versions == first.versions
    anew = build(photos, out).run(engine="local", fresh=True)
    assert anew.versions["write"] > first.versions["write"]
    assert rows(out) == rows(out, f"run-{first.run}")


def test_a_changed_folder_and_a_changed_recipe_make_new_versions(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "o.lance"
    first = build(photos, out).run(engine="local")
    (photos / "000.jpg").unlink()
    (photos / "new.jpg").write_bytes(picture(99))
    second = build(photos, out).run(engine="local")
    third = build(photos, out, seconds=0.001).run(engine="local")
    assert first.run < second.run < third.run
    assert set(rows(out)) == {f"{i:03d}.jpg" for i in range(1, 60)} | {"new.jpg"}
    assert "000.jpg" in rows(out, f"run-{first.run}")


def test_broken_files_are_in_the_errors_table_and_the_good_ones_in_the_dataset(
    tmp_path: Path,
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "o.lance"
    photos.mkdir()
    for i in range(95):
        (photos / f"{i:03d}.jpg").write_bytes(picture(i))
    png = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(png, "PNG")
    bad = {
        "truncated.jpg": picture(7)[:300],
        "zero.jpg": b"",
        "bomb.png": bomb(),
        "text.jpg": b"this is not a photograph, whatever its name says\n",
        "cut.png": png.getvalue()[:-20],
    }
    for name, data in bad.items():
        (photos / name).write_bytes(data)
    (photos / "really-a-png.jpg").write_bytes(png.getvalue())  # the content counts, not the name
    result = build(photos, out).run(engine="local")
    good = {f"{i:03d}.jpg" for i in range(95)} | {"really-a-png.jpg"}
    assert set(rows(out)) == good
    errors = tables.read(errors_uri(f"{out}.weft"), "latest").to_pylist()
    failed = {e["_key"]: e for e in errors}
    assert set(failed) == set(bad) - {"zero.jpg"}  # where(size > 10) dropped that one
    assert {e["operator"] for e in errors} == {"image.Decode"}
    assert {e["outcome"] for e in errors} == {"failed"}
    assert "400000000 pixels" in failed["bomb.png"]["message"].replace(",", "")
    assert "not an image" in failed["text.jpg"]["message"]
    ledger = tables.read(ledger_uri(f"{out}.weft"), "latest").to_pylist()
    outcome = {row["_key"]: (row["outcome"], row["step"]) for row in ledger}
    assert len(ledger) == result.rows == 101
    assert outcome["zero.jpg"] == ("dropped", "where")
    assert outcome["text.jpg"] == ("failed", "decode")
    assert outcome["000.jpg"] == ("kept", "write")


def test_two_datasets_in_one_run(photos: Path, tmp_path: Path) -> None:
    pipeline = program.two(source=f"{photos}/*", out=str(tmp_path))
    result = pipeline.run(engine="local")
    assert result.kept == {"write": 60, "write_2": 60}
    small = tables.read(str(tmp_path / "small.lance"), f"run-{result.run}")
    sharp = tables.read(str(tmp_path / "sharp.lance"), "latest")
    assert sorted(small["key"].to_pylist()) == sorted(sharp["key"].to_pylist())
    assert Image.open(io.BytesIO(small["encoded"][0].as_py())).size == (16, 12)
    assert pipeline.run(engine="local").in_sync


def test_a_driver_that_dies_before_every_dataset_knows_of_the_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = program.two(source=f"{photos}/*", out=str(tmp_path))
    begin, began = Journal.begin, list[Path]()

    def dying(journal: Journal, *arguments: object) -> None:
        began.append(journal.path)
        if len(began) == 2:
            raise OSError("the driver dies")
        begin(journal, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "begin", dying)
        with pytest.raises(OSError, match="the driver dies"):
            pipeline.run(engine="local")
    assert pipeline.run(engine="local").kept == {"write": 60, "write_2": 60}
    assert pipeline.run(engine="local").in_sync


def test_over_budget_publishes_nothing_and_tells_why(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    first = build(photos, out).run(engine="local")
    for i in range(30):
        (photos / f"{i:03d}.jpg").write_bytes(b"not a picture at all")
    with pytest.raises(OverBudget, match=r"rows failed, more than the error budget of 10 rows and"):
        build(photos, out).run(engine="local")
    assert lance.dataset(str(out), version="latest").version == first.versions["write"]
    journal = journals(f"{out}.weft")[0]
    assert journal.state()["state"] == "over budget"
    errors = tables.read(
        errors_uri(f"{out}.weft"), tables.version_of(errors_uri(f"{out}.weft"), journal.run)
    )
    assert errors.num_rows > 10
    result = build(photos, out).run(engine="local", budget=Budget.parse("60%"))
    assert result.kept == {"write": 0}
    assert set(rows(out)) == {f"{i:03d}.jpg" for i in range(30, 60)}


class Stop(Listener):
    """Ctrl-C after some units."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def advanced(self, *_: object) -> None:
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_was(photos: Path, tmp_path: Path) -> None:
    from weft.errors import Interrupted

    out = tmp_path / "o.lance"
    with pytest.raises(Interrupted, match=r"was stopped; \d+ of \d+ units are done and kept"):
        build(photos, out).run(engine="local", listener=Stop(2))
    assert tables.latest(str(out)) is None
    listener = Stop(-1)
    result = build(photos, out).run(engine="local", listener=listener)
    assert "Going on with run" in listener.notices[0]
    assert result.rows_resumed > 0
    assert len(rows(out)) == 60
    with pytest.raises(Interrupted):
        build(photos, out).run(engine="local", listener=Stop(1), fresh=True)
    changed = Stop(-1)
    build(photos, out, seconds=0.001).run(engine="local", listener=changed)
    assert "is abandoned: the pipeline has changed since" in changed.notices[0]


RUN = """
import sys; sys.path.insert(0, {here!r})
import program
program.measured(source={source!r}, out={out!r}, seconds={seconds}).run(engine={engine!r})
"""


def start(photos: Path, out: Path, engine: str, seconds: float = 0.02) -> subprocess.Popen[bytes]:
    text = RUN.format(
        here=str(Path(__file__).parent), source=f"{photos}/*", out=str(out),
        seconds=seconds, engine=engine,
    )  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", text],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


class Reader(threading.Thread):
    """Looks at `latest` all the time and notes how many rows it ever saw."""

    def __init__(self, out: Path) -> None:
        super().__init__(daemon=True)
        self.out = out
        self.seen: set[int] = set()
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            if tables.exists(str(self.out)) and tables.latest(str(self.out)) is not None:
                self.seen.add(tables.open_table(str(self.out), "latest").count_rows())


@pytest.mark.parametrize(("engine", "kills"), [("local", 10), ("ray", 2)])
def test_sigkill_at_random_moments_loses_and_doubles_nothing(
    photos: Path, tmp_path: Path, engine: str, kills: int
) -> None:
    out, undisturbed = tmp_path / "o.lance", tmp_path / "u.lance"
    build(photos, undisturbed, seconds=0.02).run(engine="local")
    reader = Reader(out)
    reader.start()
    chance = random.Random(20261121)
    killed = 0
    for _ in range(kills):
        process = start(photos, out, engine)
        deadline = time.monotonic() + chance.uniform(0.2, 2.0 if engine == "local" else 12.0)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        killed += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.communicate()
    last = start(photos, out, engine)
    assert last.wait(120) == 0, last.communicate()[1].decode()
    reader.stop.set()
    reader.join()
    assert killed >= kills // 3
    assert rows(out) == rows(undisturbed)
    assert reader.seen <= {60}
    ledger = tables.read(ledger_uri(f"{out}.weft"), "latest")["_key"].to_pylist()
    assert len(ledger) == len(set(ledger)) == 60


def test_no_secret_is_written_down(photos: Path, tmp_path: Path) -> None:
    @weft.operator(version="1")
    def told(key: str, api_key: str = "none") -> str:
        return f"{key} by a service"

    @weft.pipeline
    def asks(api_key: str) -> Any:
        rows = weft.read(Files(f"{photos}/*.jpg")).apply(told.replace(api_key=api_key))
        return rows.select("told").write(Lance(tmp_path / "o.lance"))

    asks(api_key="canary-4711").run(engine="local")
    (photos / "000.jpg").unlink()
    asks(api_key="canary-4711").run(engine="local")
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.parent != photos]
    assert len(files) > 10
    assert [p for p in files if b"canary" in p.read_bytes()] == []


def test_a_second_run_at_the_same_time_is_refused(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.lance"
    process = start(photos, out, "local", seconds=0.2)
    try:
        while not list(Path(f"{out}.weft").glob("lease-*.json")):
            assert process.poll() is None, process.communicate()[1].decode()
            time.sleep(0.01)
        with pytest.raises(Busy, match=rf"is working on this dataset \(process {process.pid} on"):
            build(photos, out).run(engine="local")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_from_one_dataset_to_the_next(photos: Path, tmp_path: Path, engine: str) -> None:
    first, second = tmp_path / "o.lance", tmp_path / "p.lance"
    build(photos, first).run(engine="local")
    pipeline = program.again(source=str(first), out=str(second))
    assert 'only col("slow") > 127.5' in str(pipeline.plan())  # the predicate is the source's now
    result = pipeline.run(engine=engine)
    bright = {key: content for key, (mean, content) in rows(first).items() if mean > 127.5}
    table = tables.read(str(second), "latest")
    assert dict(zip(table["key"].to_pylist(), table["content"].to_pylist(), strict=True)) == bright
    assert set(table["width"].to_pylist()) == {32}
    assert result.books["where"].dropped == 60 - len(bright)
    ledger = tables.read(ledger_uri(f"{second}.weft"), "latest")
    assert sorted(ledger["_key"].to_pylist()) == sorted(rows(first))
