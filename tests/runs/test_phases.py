"""Runs of several phases: killed wherever, gone on with; skewed keys; rows that are too many."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DataError, DefinitionError, TooLarge
from weft.operators import tabular
from weft.pipelines import tables
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.journal import journals
from weft.pipelines.runs.places import ledger_uri
from weft.pipelines.runs.result import Listener

sys.path.insert(0, str(Path(__file__).parent))

import phased

TWO = Cluster((Machine(cpus=2),))


class Notices(Listener):
    """What a run says on its way."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def notice(self, text: str) -> None:
        self.heard.append(text)


class Shop:
    """A folder with orders and customers, and the datasets that `phased.met` makes of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        rng = np.random.default_rng(4)
        orders = {
            "id": [f"o{i}" for i in range(90)],
            "customer": [None if i % 11 == 0 else f"c{i}" for i in rng.integers(0, 25, 90)],
            "price": [int(p) for p in rng.integers(0, 50, 90)],
        }
        self.write("orders", orders)
        customers = {"id": [f"c{i}" for i in range(20)], "town": ["Ulm", "Bonn", None, "Ulm"] * 5}
        self.write("customers", {**customers, "customer": customers["id"]})

    def write(self, name: str, columns: dict[str, Any]) -> None:
        table = pl.DataFrame(columns).select(pl.all().exclude("id"), "id").to_arrow()
        pq.write_table(table.combine_chunks(), self.path / f"{name}.parquet", row_group_size=12)

    @property
    def settings(self) -> dict[str, str]:
        return {"source": str(self.path), "out": str(self.path)}

    def run(self, **more: Any) -> Any:
        return phased.met(**self.settings).run(engine="local", cluster=phased.ONE, **more)

    @property
    def contents(self) -> dict[str, Any]:
        """Keys and columns of all rows, those of `sorted` in order, and what became of all."""
        found: dict[str, Any] = {}
        for name in ("sorted", "towns"):
            uri = f"{self.path}/{name}.lance"
            found[name] = tables.read(uri).to_pylist()
            ledger = tables.read(ledger_uri(f"{uri}.weft")).to_pylist()
            found[f"{name} ledger"] = sorted(map(repr, ledger))
        found["towns"].sort(key=lambda row: row["_key"])
        return found

    def calls(self, name: str) -> list[str]:
        file = self.path / name
        return sorted(file.read_text().split()) if file.exists() else []

    @property
    def kept(self) -> list[Path]:
        return [*self.path.glob("*.weft/runs/*/kept/*")]


def shop(path: Path, like: Shop) -> Shop:
    """The same files, the versions of their rows included."""
    made = Shop(path)
    for name in ("orders.parquet", "customers.parquet"):
        (path / name).unlink()
        (path / name).hardlink_to(like.path / name)
    return made


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    made = Shop(tmp_path_factory.mktemp("undisturbed"))
    made.run()
    return made


@pytest.fixture(scope="module")
def killed() -> Iterator[Callable[[Shop, str], int]]:
    """Run `met` in a process that SIGKILL meets at a point."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import phased"
    with subprocess.Popen(
        [sys.executable, "-c", f"{start}; phased.main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def run(home: Shop, point: str) -> int:
            print(json.dumps({**home.settings, "dies": point}), file=process.stdin)
            return int(process.stdout.readline())  # type: ignore[union-attr]

        yield run
        process.stdin.close()


def test_the_datasets_are_what_polars_says(undisturbed: Shop) -> None:
    orders, customers = (
        pl.read_parquet(undisturbed.path / f"{n}.parquet") for n in ("orders", "customers")
    )
    met = orders.join(customers, on="customer", how="left", suffix="_right")
    met = met.sort("price", "id", nulls_last=True)
    rows = undisturbed.contents["sorted"]
    assert [(r["_key"], r["price"], r["town"]) for r in rows] == met.select(
        "id", "price", "town"
    ).rows()
    towns = met.group_by("town").agg(pl.len(), pl.col("price").sum()).rows()
    found = {(r["town"], r["orders"], r["spent"]) for r in undisturbed.contents["towns"]}
    assert found == set(towns)


@pytest.mark.parametrize("point", phased.points())
def test_killed_at(
    undisturbed: Shop, killed: Callable[[Shop, str], int], tmp_path: Path, point: str
) -> None:
    home = shop(tmp_path / "home", undisturbed)
    assert killed(home, point) == -signal.SIGKILL
    assert killed(home, "never") == 0
    assert home.contents == undisturbed.contents
    orders = sorted(f"o{i}" for i in range(90))
    assert home.calls("read") == orders  # no unit was done twice
    if point == "receipt 0 of phase 1":  # but for the one that had no receipt yet
        assert sorted({*home.calls("met")}) == orders
    else:
        assert home.calls("met") == orders
    ((run, state),) = {
        (j.run, j.state()["state"])
        for name in ("sorted", "towns")
        for j in journals(f"{home.path}/{name}.lance.weft")
    }
    assert (state, home.kept) == ("published", [])
    assert home.run().in_sync
    assert journals(f"{home.path}/towns.lance.weft")[0].run == run


def test_a_changed_source_is_processed_as_a_whole(undisturbed: Shop, tmp_path: Path) -> None:
    home = shop(tmp_path / "home", undisturbed)
    home.run()
    (home.path / "customers.parquet").unlink()
    home.write("customers", {"id": ["c1"], "customer": ["c1"], "town": ["Kiel"]})
    listener = Notices()
    assert home.run(listener=listener).state == "published"
    assert [n for n in listener.heard if n.startswith("All rows are processed: ")] == [
        "All rows are processed: join works on rows that are together, not one by one."
    ]
    assert {r["town"] for r in home.contents["sorted"]} == {"Kiel", None}
    assert len(home.calls("read")) == 180


ROWS = 200_000


def skewed() -> pl.DataFrame:
    """Half of the rows have key 0; the others ten thousand keys."""
    rng = np.random.default_rng(7)
    key = np.where(rng.random(ROWS) < 0.5, 0, rng.integers(1, 10_000, ROWS))
    return pl.DataFrame({"k": key, "x": rng.integers(0, 1000, ROWS)})


@weft.pipeline
def aggregated(table: Any, name: str) -> Any:
    rows = weft.read(Arrow(table)).group("k", n=pl.len(), x=pl.col("x").sum())
    return rows.write(Memory(name))


@weft.pipeline
def joined(left: Any, right: Any, name: str) -> Any:
    """What every key met, by key."""
    rows = weft.read(Arrow(left)).join(weft.read(Arrow(right)), on="k")
    return rows.group("k", n=pl.len(), xy=(pl.col("x") * pl.col("y")).sum()).write(Memory(name))


def cut_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shuffle both sides, and hold a quarter of a megabyte of rows at a time."""
    monkeypatch.setattr("weft.pipelines.passes.broadcast_joins.BROADCAST_BYTES", -1)
    monkeypatch.setattr("weft.pipelines.runs.phases.HELD_BYTES", 2**18)
    monkeypatch.setattr("weft.pipelines.runs.phases.UNIT_BYTES", 2**20)


def found(name: str) -> pl.DataFrame:
    table = Memory(name).table()
    Memory(name).clear()
    return pl.from_arrow(table).drop("_key", "_source").sort("k")  # type: ignore[union-attr, return-value]


@pytest.mark.parametrize("fine", [False, True])
def test_a_group_of_half_of_the_rows(fine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if fine:
        cut_fine(monkeypatch)
    rows, began = skewed(), perf_counter()
    aggregated(rows, "skewed").run(engine="local", cluster=TWO)
    assert perf_counter() - began < 20  # a second or two on a machine that has nothing else to do
    expected = rows.group_by("k").agg(pl.len().alias("n"), pl.col("x").sum()).sort("k")
    assert found("skewed").equals(expected.cast({"n": pl.UInt32}), null_equal=True)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("fine", [False, True])
def test_a_join_where_one_key_has_half_of_the_rows(
    fine: bool, side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fine:
        cut_fine(monkeypatch)
    many = skewed()
    once = pl.DataFrame({"k": np.arange(10_000), "y": np.arange(10_000) % 7})
    if side == "left":
        left, right = many, once
    else:
        left, right = once.rename({"y": "x"}), many.rename({"x": "y"})
    began = perf_counter()
    joined(left, right, "skewed").run(engine="local", cluster=TWO)
    assert perf_counter() - began < 20
    met = left.join(right, on="k").group_by("k")
    expected = met.agg(pl.len().alias("n"), (pl.col("x") * pl.col("y")).sum().alias("xy")).sort("k")
    assert found("skewed").equals(expected, null_equal=True)


def test_a_group_too_large_for_memory_is_refused_by_its_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut_fine(monkeypatch)
    monkeypatch.setattr("weft.pipelines.engines.meeting.room", lambda: 500_000)
    with pytest.raises(TooLarge) as error:
        aggregated(skewed(), "large").run(engine="local", cluster=TWO)
    assert str(error.value) == (
        "group: more than 488.3 KiB of rows would have to be in memory at once; a worker here has "
        "room for 488.3 KiB. Their most frequent key is k=0. Nothing was published. Leave out "
        "columns with select(), drop rows before, or use machines with more memory for each CPU."
    )
    nothing_in("large")


def nothing_in(name: str) -> None:
    with pytest.raises(DefinitionError, match="Nothing is published"):
        Memory(name).table()


@weft.pipeline
def doubled(left: Any, right: Any, name: str) -> Any:
    rows = weft.read(Arrow(left)).join(weft.read(Arrow(right)), on="k", suffix="_right")
    return rows.write(Memory(name))


@pytest.mark.parametrize("way", ["broadcast", "units", "slices", "one batch"])
def test_many_to_many_is_refused_wherever_the_rows_are(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key 7 is there twice on the right, and in the first and the last row of the left."""
    if way != "broadcast":
        monkeypatch.setattr("weft.pipelines.passes.broadcast_joins.BROADCAST_BYTES", -1)
    if way == "slices":
        monkeypatch.setattr("weft.pipelines.runs.phases.HELD_BYTES", 2000)
        monkeypatch.setattr("weft.pipelines.engines.kept.READ_BYTES", 500)
    rows = 2 if way == "one batch" else 400
    left = pl.DataFrame({"k": [7, *range(1000, 998 + rows), 7], "x": range(rows)})
    right = pl.DataFrame({"k": [7, 8, 7], "x": range(3)})
    with pytest.raises(DataError, match=r"^join: key 7 is there several times on both sides, so"):
        doubled(left, right, "doubled").run(engine="local", cluster=TWO)
    nothing_in("doubled")


@weft.pipeline
def ordered(table: Any, name: str) -> Any:
    return weft.read(Arrow(table)).apply(tabular.Sort("k")).write(Memory(name))


def test_what_else_is_too_large_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.pipelines.engines.meeting.room", lambda: 2000)
    table = pl.DataFrame({"k": [3] * 90 + [4] * 9, "x": range(99)})
    with pytest.raises(TooLarge, match=r"^order: more than 2\.0 KiB .* frequent key is k=3\. Noth"):
        ordered(table, "large").run(engine="local", cluster=TWO)
    with pytest.raises(TooLarge, match=r"^join: the right side, [\d.]+ KiB, would have to be in"):
        doubled(table.head(1), table, "large").run(engine="local", cluster=TWO)
    nothing_in("large")
