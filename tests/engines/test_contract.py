"""One contract for all engines: the same plan gives the same rows, and the books balance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from weft.connectors import Memory
from weft.errors import ContractError, OverBudget, RowError
from weft.pipelines.resources import Cluster, Machine
from weft.pipelines.runs.budget import Budget

sys.path.insert(0, str(Path(__file__).parent))

import pipelines as p

import weft

ENGINES = ["local", "ray"]
TWO = Cluster((Machine(cpus=2),))
LENIENT = Budget(rows=100)


def stored(name: str) -> list[dict]:
    """The rows of a memory dataset by key, without the source's version."""
    rows = Memory(name).table().sort_by("_key").drop_columns(["_source"]).to_pylist()
    for row in rows:
        if "image" in row:
            row["image"] = row["image"]["data"]
    return rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", p.PIPELINES)
def test_rows_are_the_expected_ones(name: str, engine: str, tmp_path: Path) -> None:
    result = p.build(name, tmp_path).run(engine=engine, cluster=TWO, budget=LENIENT)
    for dataset, rows in p.expected()[name].items():
        assert stored(dataset) == sorted(rows, key=lambda r: r["_key"])
    assert result.rows == 100
    assert sum(result.kept.values()) == sum(len(r) for r in p.expected()[name].values())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ["branched", "met"])
def test_shared_work_happens_once(name: str, engine: str, tmp_path: Path) -> None:
    p.build(name, tmp_path).run(engine=engine, cluster=TWO)
    assert (tmp_path / "calls").stat().st_size == 100  # three consumers and more, one call a row


@pytest.mark.parametrize("engine", ENGINES)
def test_failures_are_on_the_books(engine: str, tmp_path: Path) -> None:
    result = p.build("failing", tmp_path).run(engine=engine, cluster=TWO, budget=LENIENT)
    assert result.books["picky"].failed == 10
    assert result.books["even"].dropped == 40
    assert result.books["allergic"].failed == 2  # 17 is odd: dropped before
    told = {s["message"] for s in result.samples}
    assert "13 is not to my liking" in told or "3 is not to my liking" in told


@pytest.mark.parametrize("engine", ENGINES)
def test_too_many_failures_stop_the_run(engine: str, tmp_path: Path) -> None:
    with pytest.raises(OverBudget, match=r"rows failed, more than the error budget of 5% allows"):
        p.build("failing", tmp_path).run(engine=engine, cluster=TWO, budget=Budget.parse("5%"))


@weft.operator(version="1")
def broken(n: int) -> int:
    raise OSError(f"token=s3cret at {n}")


@weft.pipeline
def raising():
    return weft.read(p.source()).apply(broken, on_error="raise").write(Memory("raising"))


@pytest.mark.parametrize("engine", ENGINES)
def test_on_error_raise_names_step_and_row_and_keeps_secrets(engine: str) -> None:
    with pytest.raises(RowError, match=r"broken: row 'r\d+': OSError: token=\*\*\* at \d+"):
        raising().run(engine=engine, cluster=TWO)


class Short(weft.Map):
    """Returns fewer values than rows."""

    version = "1"
    reads = weft.fields(n=weft.Int64)
    writes = weft.fields(m=weft.Int64)

    def map(self, batch: dict, loaded: None) -> dict:
        return {"m": batch["n"][:-1]}


@weft.pipeline
def short():
    return weft.read(p.source()).apply(Short()).write(Memory("short"))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_broken_contract_stops_the_run_by_name(engine: str) -> None:
    with pytest.raises(ContractError, match=r"Short\.m has \d+ values for a batch of \d+ rows"):
        short().run(engine=engine, cluster=TWO)
