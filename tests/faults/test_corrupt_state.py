"""F22: files of a run's state that were cut short or altered: told by name, never believed."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from harness import ALL

import weft
from weft.cli.main import cli
from weft.connectors import Files, Lance, Parquet
from weft.errors import CorruptState, Interrupted
from weft.pipelines import tables
from weft.pipelines.engines import kept
from weft.pipelines.engines.receipts import put_receipt
from weft.pipelines.engines.sealed import read_json, read_sealed, sealed, sealed_json
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs import phases
from weft.pipelines.runs.journal import Journal, journals
from weft.pipelines.runs.places import ledger_uri
from weft.pipelines.runs.result import Listener

ONE = Cluster((Machine(cpus=1),))
"""One unit at a time, so that some are done when a run is stopped."""


class Stop(Listener):
    """Ctrl-C after some units; hears what a run says."""

    def __init__(self, after: int = -1) -> None:
        self.after = after
        self.heard: list[str] = []

    def notice(self, text: str) -> None:
        self.heard.append(text)

    def advanced(self, *_: object) -> None:
        self.after -= 1
        if self.after == 0:
            raise KeyboardInterrupt


@weft.operator(version="1")
def words(content: weft.Encoded) -> int:
    return len(content.split())


@weft.pipeline
def counted(source: str, out: str) -> Any:
    rows = weft.read(Files(source, kind="text")).apply(words)
    return rows.select("key", "words").write(Lance(out))


@weft.pipeline
def grouped(source: str, out: str) -> Any:
    rows = weft.read(Parquet(source, key="id"))
    return rows.group("town", spent=pl.col("price").sum()).write(Lance(out))


class World:
    """Files, and the dataset of their words: published once, and a second run stopped half-way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source, self.out = path / "source", path / "o.lance"

    @property
    def state(self) -> Path:
        return Path(f"{self.out}.weft")

    @property
    def newest(self) -> Journal:
        return journals(self.state)[0]

    def write(self, numbers: range, word: str) -> None:
        self.source.mkdir(exist_ok=True)
        for i in numbers:
            (self.source / f"{i:03d}.txt").write_text(f"{word} " * (i + 1))

    def run(self, **options: Any) -> Any:
        pipeline = counted(source=f"{self.source}/*", out=str(self.out))
        return pipeline.run(engine="local", cluster=ONE, **options)

    def rows(self) -> dict[str, int]:
        found = tables.read(str(self.out), "latest").to_pylist()
        assert len({row["key"] for row in found}) == len(found)
        return {row["key"]: row["words"] for row in found}

    def truth(self) -> dict[str, int]:
        return {file.name: len(file.read_text().split()) for file in self.source.iterdir()}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = World(tmp_path_factory.mktemp("saved") / "world")
    world.path.mkdir()
    world.write(range(40), "one")
    world.run()
    world.write(range(20, 60), "and more")
    with pytest.raises(Interrupted):
        world.run(listener=Stop(after=2))
    (world.source / "050.txt").unlink()
    # A unit that was under way when it was stopped may still be writing.
    unfinished = shutil.ignore_patterns(".tmp*")
    shutil.copytree(world.path, world.path.with_name("copy"), ignore=unfinished)
    return world


@pytest.fixture
def world(saved: World) -> World:
    """The saved world, anew: in its own place, since a journal knows absolute paths."""
    shutil.rmtree(saved.path)
    shutil.copytree(saved.path.with_name("copy"), saved.path)
    return saved


def halve(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path, at: float = 0.4) -> None:
    data = bytearray(file.read_bytes())
    data[int(len(data) * at)] ^= 1
    file.write_bytes(data)


DAMAGES = (halve, empty, flip)


def test_no_byte_of_a_json_file_can_change_unseen(tmp_path: Path) -> None:
    file, value = tmp_path / "a.json", {"state": "running", "at": "now", "rows": [1, 2.5, "é"]}
    whole = sealed_json(json.dumps(value, ensure_ascii=False).encode())
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        file.write_bytes(data)
        try:
            found = read_json(file)
        except CorruptState:
            pass
        else:
            assert {name: found[name] for name in value} == value  # the digest's name changed
        file.write_bytes(whole[:at])
        with pytest.raises(CorruptState):
            read_json(file)
    file.write_bytes(whole)
    assert read_json(file) == value
    assert json.loads(whole).keys() == {*value, "sha256"}  # to others it is JSON


def test_no_byte_of_another_file_can_change_unseen(tmp_path: Path) -> None:
    file, value = tmp_path / "a.arrow", bytes(range(256))
    whole = sealed(value)
    for at in range(0, len(whole), 1 if ALL else 5):
        data = bytearray(whole)
        data[at] ^= 16
        file.write_bytes(data)
        with pytest.raises(CorruptState, match="digest"):
            read_sealed(file)
        file.write_bytes(whole[:at])
        with pytest.raises(CorruptState, match="digest"):
            read_sealed(file)
    file.write_bytes(whole)
    assert read_sealed(file) == value


def test_json_without_a_digest_is_what_a_person_or_an_older_weft_wrote(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{\n "state": "published"\n}')
    assert read_json(file) == {"state": "published"}


FILES = ("run.json", "units.arrow", "removed.arrow", "state.json")
CASES = [(n, d) for i, n in enumerate(FILES) for j, d in enumerate(DAMAGES) if ALL or i % 3 == j]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_a_damaged_journal_stops_the_run_and_names_the_file(
    world: World, name: str, damage: Callable[[Path], None]
) -> None:
    before, file = world.rows(), world.newest.path / name
    copy = file.read_bytes()
    damage(file)
    with pytest.raises(CorruptState, match=f"{name}.*Put it back from a copy.*`mv ") as caught:
        world.run()
    assert world.rows() == before
    if damage is halve:  # as it says: put it back
        file.write_bytes(copy)
        heard = Stop()
        world.run(listener=heard)
        assert any("Going on with run" in line for line in heard.heard)
        assert world.run().state == "published"  # of what changed since
    elif damage is empty:  # as it says: give up what the run has done
        command = str(caught.value).split("`")[1]
        subprocess.run(shlex.split(command), check=True)
        assert world.run().increment["unchanged"] == 20  # what is published stays
    else:
        world.run(fresh=True)
    assert world.rows() == world.truth()
    assert world.run().in_sync


def test_a_damaged_receipt_is_none(world: World) -> None:
    journal = world.newest
    receipts = sorted(journal.receipts_path.glob("*.json"))
    for receipt, damage in zip(receipts, (flip, halve), strict=False):
        damage(receipt)
    assert len(list(journal.receipts())) == len(receipts) - 2
    heard = Stop()
    result = world.run(listener=heard)
    assert "Damaged receipts: 2. Their units are done again." in heard.heard
    assert result.run == journal.run
    world.run()
    assert world.rows() == world.truth()


def test_a_unit_done_again_replaces_a_receipt_that_is_damaged(tmp_path: Path) -> None:
    put_receipt(str(tmp_path), "u", {"unit": "u", "rows": 1})
    assert put_receipt(str(tmp_path), "u", {"unit": "u", "rows": 2})["rows"] == 1
    flip(tmp_path / "u.json")
    assert put_receipt(str(tmp_path), "u", {"unit": "u", "rows": 3})["rows"] == 3
    assert read_json(tmp_path / "u.json") == {"unit": "u", "rows": 3}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", FILES if ALL else ["run.json", "state.json"])
def test_a_damaged_journal_of_an_old_run_is_in_nobodys_way(world: World, name: str) -> None:
    world.run()
    world.run()
    old = journals(world.state)[-1]
    flip(old.path / name)
    world.write(range(60, 64), "late")
    assert world.run().increment["new"] == 4
    assert world.rows() == world.truth()
    listed = CliRunner().invoke(cli, ["runs", str(world.out)])
    assert listed.exit_code == 0, listed.output
    assert old.run in listed.output
    if name in ("run.json", "state.json"):
        assert "damaged" in listed.output


class Town:
    """Prices, and the dataset of their sums by town: a run of two phases, stopped in the second."""

    def __init__(self, path: Path) -> None:
        self.source, self.out = path / "prices.parquet", path / "towns.lance"
        self.prices = pl.DataFrame(
            {
                "id": [f"o{i}" for i in range(200)],
                "town": [f"town {i % 23}" for i in range(200)],
                "price": range(200),
            }
        )
        pq.write_table(self.prices.to_arrow(), self.source, row_group_size=50)

    def run(self, **options: Any) -> Any:
        pipeline = grouped(source=str(self.source), out=str(self.out))
        return pipeline.run(engine="local", cluster=ONE, **options)

    def rows(self) -> dict[str, int]:
        found = tables.read(str(self.out), "latest").to_pylist()
        return {row["town"]: row["spent"] for row in found}

    def truth(self) -> dict[str, int]:
        return dict(self.prices.group_by("town").agg(pl.col("price").sum()).iter_rows())

    @property
    def newest(self) -> Journal:
        return journals(f"{self.out}.weft")[0]


class StopInPhase2(Stop):
    """Ctrl-C after the first unit of the second phase."""

    def notice(self, text: str) -> None:
        super().notice(text)
        if text.startswith("Phase 2"):
            self.after = 1


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Town]:
    monkeypatch.setattr(phases, "UNIT_BYTES", 1000)  # several units in each phase
    town = Town(tmp_path)
    with pytest.raises(Interrupted):
        town.run(listener=StopInPhase2())
    kept._known_sum.cache_clear()
    yield town
    kept._known_sum.cache_clear()


@pytest.mark.parametrize("damage", [halve, empty] if ALL else [halve])
def test_kept_rows_that_were_cut_short_are_as_good_as_gone(
    town: Town, damage: Callable[[Path], None]
) -> None:
    old = town.newest
    damage(next(old.kept_path.glob("*.arrow")))
    heard = Stop()
    assert town.run(listener=heard).run != old.run
    assert any("abandoned: rows that its units kept are gone" in line for line in heard.heard)
    assert town.rows() == town.truth()


def test_kept_rows_that_were_altered_are_never_met(town: Town) -> None:
    files = sorted(town.newest.kept_path.glob("*.arrow"))
    assert len(files) > 2
    for file in files:
        for at in range(5, 95, 5):  # some is of units that are done
            flip(file, at / 100)
    with pytest.raises(CorruptState, match=r"kept.*not as it was written.*`weft run --fresh`"):
        town.run()
    assert tables.latest(str(town.out)) is None
    town.run(fresh=True)
    assert town.rows() == town.truth()


def read_all(about: kept.Kept) -> list[str]:
    return [key for batch in kept.read_kept([about], {}) for key in batch.keys]


def test_no_byte_of_kept_rows_can_change_unseen(town: Town) -> None:
    file = min(town.newest.kept_path.glob("*.arrow"), key=lambda f: f.stat().st_size)
    [about] = [
        k for r in town.newest.receipts() for k in r["kept"].values() if k["path"] == str(file)
    ]
    rows = read_all(about)
    whole, seen = file.read_bytes(), 0
    for at in range(0, len(whole), 7 if ALL else 61):
        data = bytearray(whole)
        data[at] ^= 32
        file.write_bytes(data)
        kept._known_sum.cache_clear()
        try:
            found = read_all(about)
        except CorruptState:
            seen += 1
        else:
            assert found == rows  # it is in a chunk without rows, which is not looked at
    assert seen > 10


def test_a_damaged_receipt_gives_up_what_was_cut_from_it(town: Town) -> None:
    old = town.newest
    first = next(r["unit"] for r in old.receipts() if r["phase"] == 0)
    flip(old.receipts_path / f"{first}.json")
    heard = Stop()
    assert town.run(listener=heard).run != old.run
    assert any("is abandoned" in line for line in heard.heard)
    assert town.rows() == town.truth()


@pytest.mark.parametrize("damage", DAMAGES if ALL else [flip])
def test_damaged_units_of_a_later_phase_are_named(
    town: Town, damage: Callable[[Path], None]
) -> None:
    damage(town.newest.path / "units-2.arrow")
    with pytest.raises(CorruptState, match=r"units-2\.arrow.*`mv "):
        town.run()
    town.run(fresh=True)
    assert town.rows() == town.truth()


def lance_files(table: str) -> dict[str, Path]:
    """A file of each kind of a Lance table, those that its newest version needs."""
    root = Path(table)
    return {
        "manifest": min((root / "_versions").glob("*.manifest")),  # names count down
        "data": max((root / "data").glob("*.lance"), key=lambda f: f.stat().st_mtime_ns),
        "tag": root / "_refs" / "tags" / "latest.json",
    }


@pytest.mark.parametrize("kind", ["manifest", "tag"])
@pytest.mark.parametrize("damage", [halve, empty] if ALL else [halve])
def test_a_ledger_that_cannot_be_read_is_named(
    world: World, kind: str, damage: Callable[[Path], None]
) -> None:
    world.run()
    before, ledger = world.rows(), ledger_uri(str(world.state))
    damage(lance_files(ledger)[kind])
    world.write(range(60, 64), "late")
    with pytest.raises(CorruptState, match=rf"The Lance table {ledger} cannot be read") as caught:
        world.run()
    assert world.rows() == before
    subprocess.run(shlex.split(str(caught.value).split("`")[1]), check=True)  # as it says
    world.run()
    assert world.rows() == world.truth()


@pytest.mark.parametrize("at", [i / 16 for i in range(16)] if ALL else [0.1, 0.3])
def test_a_ledger_that_was_altered_is_not_believed(world: World, at: float) -> None:
    world.run()
    file = lance_files(ledger_uri(str(world.state)))["data"]
    flip(file, at) if at else halve(file)
    world.write(range(60, 64), "late")
    heard = Stop()
    world.run(listener=heard)
    assert any("ledger.lance is damaged: data/" in line for line in heard.heard)
    assert world.rows() == world.truth()
