"""Units between stages of a cluster: packed, unpacked, the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

import weft
from weft.connectors import Arrow, Memory
from weft.pipelines.batch import ENVELOPE, KEY, Batch, Column
from weft.pipelines.connector import Split
from weft.pipelines.engines.books import Outcomes, new_books
from weft.pipelines.engines.exchange import (
    PARCEL,
    is_over,
    pack_cargo,
    pack_error,
    pack_receipt,
    pack_unit,
    unpack_cargo,
    unpack_results,
    unpack_unit,
)  # fmt: skip
from weft.pipelines.engines.runners import Work
from weft.pipelines.engines.worker import Cargo, Context, StageWorker, Unit, units_of
from weft.pipelines.fields import arrow_schema
from weft.pipelines.lowering import lower
from weft.pipelines.plan import Plan
from weft.pipelines.types import Image, Text

KINDS = weft.fields(
    n=int, size=Image(2, 2), any=Image().or_null(), vector=weft.Embedding(3), text=Text() | None
)


@weft.operator(version="1")
def pages(n: int) -> list[int]:
    if n == 2:
        raise ValueError("torn")
    return list(range(n))


@weft.pipeline
def made() -> Any:
    images = [np.full((2 + n, 3, 3), n, np.uint8) if n else None for n in range(4)]
    columns = [
        [0, 1, 2, 3],
        np.arange(48, dtype=np.uint8).reshape(4, 2, 2, 3),
        images,
        np.arange(12, dtype=np.float32).reshape(4, 3),
        ["a", None, "c", "ü"],
    ]
    arrays = [k.to_arrow(c) for k, c in zip(KINDS.values(), columns, strict=True)]
    rows = weft.read(Arrow(pa.table(arrays, schema=arrow_schema(KINDS))))
    children = rows.apply(pages).write(Memory("children"))
    return children, rows.select("n", "any").write(Memory("images"))


def a_plan_between_stages() -> tuple[Plan, Cargo]:
    plan = lower(made().graph)
    workers = [StageWorker(plan, i, Context("r")) for i in range(3)]
    [unit] = units_of(plan, 100)
    cargo = workers[0].start(unit)
    for worker in workers[1:]:
        cargo = worker.proceed(cargo)
    return plan, cargo


def same(one: Batch, other: Batch) -> bool:
    names = {**one.envelope, **one.columns}
    assert names.keys() == {**other.envelope, **other.columns}.keys()
    both = {**other.envelope, **other.columns}
    return all(column.array.equals(both[name].array) for name, column in names.items())


def test_unit() -> None:
    unit = Unit("u1", "read", Split("s1", 7, b"\x00\xff payload", content_bytes=9))
    table = pack_unit(unit)
    assert table.schema == PARCEL
    assert unpack_unit(table) == unit
    assert not is_over(table)


def test_cargo() -> None:
    plan, cargo = a_plan_between_stages()
    assert set(cargo.ports) == {"pages", "select"}
    found = unpack_cargo(plan, pack_cargo(plan, cargo))
    assert found.unit == cargo.unit
    assert found.stages == cargo.stages
    assert found.work.books == cargo.work.books
    assert found.work.outcomes == cargo.work.outcomes
    assert {o.kind for o in found.work.outcomes} == {"failed", "expanded"}
    for port, batches in cargo.ports.items():
        [batch], [was] = found.ports[port], batches
        assert batch.rows == was.rows == 4
        assert same(was, batch)
    assert [c.type for c in found.ports["select"][0].columns.values()] == [KINDS["n"], KINDS["any"]]


def test_what_arrives_can_be_worked_on() -> None:
    plan, cargo = a_plan_between_stages()
    found = unpack_cargo(plan, pack_cargo(plan, cargo))
    last = StageWorker(plan, 3, Context("r"))
    there, here = last.proceed(found), last.proceed(cargo)
    assert set(there.ports) == {"write", "write_2"}
    for port, batches in here.ports.items():
        assert same(batches[0], there.ports[port][0])


def test_several_batches_become_one() -> None:
    plan, cargo = a_plan_between_stages()
    [whole] = cargo.ports["select"]
    cargo.ports["select"] = [whole.slice(0, 1), whole.slice(1, 4)]
    [batch] = unpack_cargo(plan, pack_cargo(plan, cargo)).ports["select"]
    assert same(whole, batch)


def test_rows_are_read_in_place_and_aligned() -> None:
    plan, cargo = a_plan_between_stages()
    table = pack_cargo(plan, cargo)
    held = table["data"].chunk(0).buffers()[2]
    for port, [batch] in unpack_cargo(plan, table).ports.items():
        for name, column in {**batch.envelope, **batch.columns}.items():
            for buffer in filter(None, column.array.buffers()):
                offset = buffer.address - held.address
                assert 0 <= offset < held.size, (port, name)
                assert offset % 8 == 0, (port, name)


def test_a_table_that_is_a_slice() -> None:
    plan, cargo = a_plan_between_stages()
    table = pack_cargo(plan, cargo)
    twice = pa.concat_tables([pack_unit(cargo.unit), table]).combine_chunks()
    found = unpack_cargo(plan, twice.slice(2))
    assert all(same(batches[0], found.ports[port][0]) for port, batches in cargo.ports.items())


def test_empty_ports_take_no_room() -> None:
    plan, cargo = a_plan_between_stages()
    cargo.ports = {"select": [], "pages": cargo.ports["pages"]}
    table = pack_cargo(plan, cargo)
    assert "select" not in table["port"].to_pylist()
    assert set(unpack_cargo(plan, table).ports) == {"pages"}
    bare = Cargo(cargo.unit, Work(new_books(plan)))
    ended = pa.table({"_key": ["k"], "_source": ["s"]})
    bare.work.outcomes = [Outcomes("pages", "failed", ended, [("E", "m")])]
    assert unpack_cargo(plan, pack_cargo(plan, bare)).work.outcomes == bare.work.outcomes


def test_batches_of_no_rows_arrive() -> None:
    plan, cargo = a_plan_between_stages()
    cargo.ports["select"] = [cargo.ports["select"][0].slice(0, 0)]
    [batch] = unpack_cargo(plan, pack_cargo(plan, cargo)).ports["select"]
    assert batch.rows == 0
    assert list(batch.columns) == ["n", "any"]


def test_nulls_of_a_later_batch_are_seen() -> None:
    """A column that had no null in one batch and has one in the next is a nullable column."""
    from weft.pipelines.batch import concat_batches

    def batch(column: Column) -> Batch:
        return Batch({"x": column}, {KEY: Column(ENVELOPE[KEY], values=["k"])})

    whole = concat_batches(
        [batch(Column(Text(), values=["a"])), batch(Column(Text() | None, values=[None]))]
    )
    valid = whole.columns["x"].valid()
    assert valid is not None
    assert valid.tolist() == [True, False]


def test_ends() -> None:
    receipt = {"unit": "u1", "rows": 3, "books": {}}
    error = pack_error("u2", "ContractError", "no")
    assert is_over(error)
    assert list(unpack_results(pa.concat_tables([pack_receipt(receipt), error]))) == [
        receipt,
        ("ContractError", "no"),
    ]
