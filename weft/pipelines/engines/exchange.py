"""How a unit travels between the stages of a cluster: an Arrow table of parcels.

One row a parcel: the unit, the port whose rows it holds, and those rows as an Arrow IPC stream.
Ports of different shapes share the table without a column of one being null in the other, and
rows are cast to the schema their step declares when they are packed, so that no later stage can
meet anything else. Packing costs one copy of the rows, a hundredth of decoding them; unpacking
costs none: a device that waits for its next unit must not wait for a copy of it.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from weft.pipelines.batch import ENVELOPE, Batch, batch_from_arrow, concat_batches
from weft.pipelines.connector import Split
from weft.pipelines.engines.books import Count, Outcomes
from weft.pipelines.engines.receipts import Receipt, receipt_bytes
from weft.pipelines.engines.runners import Work
from weft.pipelines.engines.worker import Cargo, Unit
from weft.pipelines.fields import arrow_field
from weft.pipelines.plan import Plan

PARCEL = pa.schema(
    [
        pa.field("unit", pa.string(), nullable=False),
        pa.field("port", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("data", pa.large_binary(), nullable=False),
    ]
)

_UNIT, _PAYLOAD, _ENDED, _WORK = "_unit", "_payload", "_ended", "_work"
_RECEIPT, _ERROR = "_receipt", "_error"


def pack_unit(unit: Unit) -> pa.Table:
    """A unit before its first stage."""
    return _table(_unit_parcels(unit))


def unpack_unit(table: pa.Table) -> Unit:
    """The unit that `pack_unit` packed."""
    parcels = {row["port"]: row for row in table.to_pylist()}
    about = json.loads(parcels[_UNIT]["data"])
    split = Split(
        about["id"], parcels[_UNIT]["rows"], parcels[_PAYLOAD]["data"], about["content_bytes"]
    )
    return Unit(parcels[_UNIT]["unit"], about["read"], split)


def pack_cargo(plan: Plan, cargo: Cargo) -> pa.Table:
    """A unit between two stages."""
    noted = {
        "books": {n: dataclasses.asdict(line) for n, line in cargo.work.books.items()},
        "outcomes": [[o.node, o.kind, o.errors] for o in cargo.work.outcomes],
        "met": {step: sorted(keys) for step, keys in cargo.work.met.items()},
        "stages": cargo.stages,
    }
    parcels = []
    for port, batches in cargo.ports.items():
        if batches:
            whole = concat_batches(batches)
            parcels.append(_parcel(cargo.unit.id, port, whole.rows, _ipc(plan, port, whole)))
    for outcomes in cargo.work.outcomes:
        ended = outcomes.rows
        parcels.append(_parcel(cargo.unit.id, _ENDED, ended.num_rows, _stream(ended)))
    # Rows come first: an IPC stream is a multiple of 8 bytes long, so each begins at one, and
    # what is read in place is aligned for every type.
    parcels.append(_parcel(cargo.unit.id, _WORK, 0, json.dumps(noted).encode()))
    return _table([*parcels, *_unit_parcels(cargo.unit)])


def unpack_cargo(plan: Plan, table: pa.Table) -> Cargo:
    """The unit that `pack_cargo` packed."""
    unit = unpack_unit(table.filter(pc.is_in(table["port"], pa.array([_UNIT, _PAYLOAD]))))
    cargo: Cargo | None = None
    ports: dict[str, list[Batch]] = {}
    ended: list[pa.Table] = []
    for port, data in zip(table["port"].to_pylist(), _buffers(table["data"]), strict=True):
        if port == _WORK:
            noted = json.loads(data.to_pybytes())
            work = Work({n: Count(**line) for n, line in noted["books"].items()})
            work.outcomes = [
                Outcomes(node, kind, rows, [(e[0], e[1]) for e in errors])
                for rows, (node, kind, errors) in zip(ended, noted["outcomes"], strict=True)
            ]
            work.met = {step: set(keys) for step, keys in noted["met"].items()}
            cargo = Cargo(unit, work)
            cargo.stages = [(began, seconds) for began, seconds in noted["stages"]]
        elif port == _ENDED:
            ended.append(pa.ipc.open_stream(data).read_all())
        elif not port.startswith("_"):
            rows = pa.ipc.open_stream(data).read_all()
            ports[port] = [batch_from_arrow(rows, plan.step(port).columns)]
    assert cargo is not None
    cargo.ports = ports
    return cargo


def pack_receipt(receipt: Receipt) -> pa.Table:
    """The end of a unit."""
    return _table([_parcel(receipt["unit"], _RECEIPT, receipt["rows"], receipt_bytes(receipt))])


def pack_error(unit: str, kind: str, message: str) -> pa.Table:
    """An error that ends the run, as data: Ray would wrap an exception in its own."""
    return _table([_parcel(unit, _ERROR, 0, json.dumps([kind, message]).encode())])


def is_over(table: pa.Table) -> bool:
    """Whether a table of parcels is on its way to the driver: an error, or a unit that ended."""
    return table.num_rows == 1 and table["port"][0].as_py() in (_ERROR, _RECEIPT)


def unpack_results(table: pa.Table) -> Iterable[Receipt | tuple[str, str]]:
    """Receipts, and errors as (exception type, message)."""
    for row in table.to_pylist():
        data = json.loads(row["data"])
        yield (data[0], data[1]) if row["port"] == _ERROR else data


def _ipc(plan: Plan, port: str, batch: Batch) -> pa.Buffer:
    own = [arrow_field(n, ENVELOPE[n]) for n in ENVELOPE if n in batch.envelope]
    columns = [arrow_field(n, t) for n, t in plan.step(port).columns.items()]
    return _stream(batch.to_arrow(pa.schema(own + columns)))


def _stream(table: pa.Table) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _unit_parcels(unit: Unit) -> list[dict[str, Any]]:
    about = {"read": unit.read, "id": unit.split.id, "content_bytes": unit.split.content_bytes}
    return [
        _parcel(unit.id, _UNIT, unit.split.rows, json.dumps(about).encode()),
        _parcel(unit.id, _PAYLOAD, 0, unit.split.payload),
    ]


def _parcel(unit: str, port: str, rows: int, data: bytes | pa.Buffer) -> dict[str, Any]:
    return {"unit": unit, "port": port, "rows": rows, "data": data}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    texts = [pa.array([row[n] for row in rows], PARCEL.field(n).type) for n in PARCEL.names[:3]]
    return pa.table([*texts, _binary([row["data"] for row in rows])], schema=PARCEL)


def _binary(parts: list[Any]) -> pa.Array:
    """Buffers as one column, copied once; `pa.array` would take bytes only, a second copy."""
    offsets = pa.array(itertools.accumulate((len(p) for p in parts), initial=0), pa.int64())
    data = pa.py_buffer(b"".join(parts))
    buffers = [None, offsets.buffers()[1], data]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(parts), buffers)


def _buffers(column: pa.ChunkedArray) -> Iterator[pa.Buffer]:
    """The values of a column of binary, in place; as scalars they would be copies."""
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
        for start, end in itertools.pairwise(ends.tolist()):
            yield data.slice(start, end - start)
