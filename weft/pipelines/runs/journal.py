"""The journal of a run: what it set out to do, what is done, how it ended.

::

    photos.lance.weft/runs/20261120-141500-0423fa9/
        run.json          what was asked: pipeline, parameters, recipe, plan, sinks
        units.arrow       the work: every unit, with what its source needs to read it
        units-2.arrow     the units of phase 2, cut from what phase 1 kept; and so on
        kept/             the rows that exchanges keep between phases; gone when it is published
        removed.arrow     of an incremental run: keys, by read, of rows that changed or are gone
        receipts/ID.json  a unit that is done; its rows are staged and it is never run again
        state.json        how far it is: running, publishing, published, failed, …

A file appears whole or not at all, and ends with a digest of what is in it: one that was damaged
since is `CorruptState`, whatever it says. A damaged receipt is none: its unit is done again. Of
anything else nobody can tell what it said, so a person puts it back, or gives the run up.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from weft.errors import CorruptState
from weft.pipelines.engines.receipts import Receipt
from weft.pipelines.engines.sealed import (
    read_json,
    read_sealed,
    sealed,
    sealed_json,
    write_synced,
)

if TYPE_CHECKING:
    from weft.pipelines.engines.worker import Unit

FINISHED = ("published", "abandoned", "over budget", "refused", "gated", "rejected")
"""States that nothing is left to do for: a new run starts anew."""

DAMAGED = ".damaged"
"""How names end of receipts, and of runs, that were put aside: nobody looks at them again."""

T = TypeVar("T")

_UNITS = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("read", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("content_bytes", pa.int64(), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Journal:
    """One run's folder."""

    path: Path

    @property
    def run(self) -> str:
        """The run's id."""
        return self.path.name

    @property
    def receipts_path(self) -> Path:
        """The folder of receipts."""
        return self.path / "receipts"

    @property
    def kept_path(self) -> Path:
        """The folder of rows that exchanges keep."""
        return self.path / "kept"

    def begin(
        self,
        about: dict[str, Any],
        units: list[Unit],
        removed: Mapping[str, Sequence[str]] | None = None,
        later: Sequence[list[Unit]] = (),
    ) -> None:
        """Write down what the run sets out to do, with the units of later phases as far as they
        are known. `state.json` comes last: it makes it a run."""
        self.receipts_path.mkdir(parents=True)
        if about["exchanges"] and "journal" not in about:  # of several datasets, the first one's
            self.kept_path.mkdir()
        rows = [(read, key) for read, keys in (removed or {}).items() for key in keys]
        columns = [pa.array([row[i] for row in rows], pa.string()) for i in range(2)]
        write_whole(self.path / "removed.arrow", _ipc(pa.table(columns, ["read", "key"])))
        write_whole(self.path / "run.json", _json(about))
        write_whole(self.path / "units.arrow", _units_bytes(units))
        for phase, cut in enumerate(later, 1):
            self.begin_phase(phase, cut)
        self.set_state("running")

    def about(self) -> dict[str, Any]:
        """What the run set out to do.

        Raises:
            CorruptState: the file is damaged. So do the others that read what was written down.
        """
        return self._read(read_json, "run.json")

    def units(self) -> list[Unit]:
        """The work of the run, as far as it reads sources."""
        return self._units(self.path / "units.arrow")

    def begin_phase(self, phase: int, units: list[Unit]) -> None:
        """Write down the units of a later phase."""
        write_whole(self._phase_path(phase), _units_bytes(units))

    def phase_units(self, phase: int) -> list[Unit] | None:
        """The units of a later phase; ``None``: it has not begun."""
        path = self._phase_path(phase)
        return self._units(path) if path.exists() else None

    def backfill_units(self) -> list[Unit]:
        """The units of backfills, which have the phases after the first to themselves."""
        if self.about()["exchanges"]:
            return []
        return [u for path in self.path.glob("units-*.arrow") for u in self._units(path)]

    def known(self) -> int:
        """How many units there are, as far as the phases have begun."""
        return sum(len(self._units(path)) for path in self.path.glob("units*.arrow"))

    def _phase_path(self, phase: int) -> Path:
        return self.path / f"units-{phase + 1}.arrow"

    def lost(self) -> bool:
        """Whether rows that were kept for units still to come are gone, or cannot be counted on:
        later units were cut from what earlier ones kept, which one that is done again may change.
        """
        if any(not Path(file).exists() for file in self._values()):
            return True
        if self.about()["exchanges"] and self._phase_path(1).exists() and self.damaged_receipts():
            return True
        if self.state()["state"] == "publishing":
            return False  # no unit is to come
        kept = (file for r in self.receipts() for file in r.get("kept", {}).values())
        return any(file["path"] and not _has_bytes(file["path"], file["bytes"]) for file in kept)

    def _values(self) -> Iterator[str]:
        """The files that units of backfills left, which are read when the run is published."""
        for written in (w for r in self.receipts() for w in r["writes"].values() if "aside" in w):
            yield from written["aside"].values()
            yield from (part["file"] for part in written["staged"])

    def drop_kept(self) -> None:
        """Remove the rows that were kept between phases: nobody needs them any more."""
        shutil.rmtree(self.kept_path, ignore_errors=True)

    def removed(self) -> dict[str, list[str]]:
        """The keys, by read, of rows that the run takes the place of."""
        rows = self._table(self.path / "removed.arrow").to_pylist()
        found: dict[str, list[str]] = {}
        for row in rows:
            found.setdefault(row["read"], []).append(row["key"])
        return found

    def receipts(self) -> Iterator[Receipt]:
        """The receipts that are there and whole, in the order of their names."""
        for path in sorted(self.receipts_path.glob("*.json")):
            with suppress(CorruptState):
                yield read_json(path)

    def damaged_receipts(self) -> list[Path]:
        """The receipts that are not as they were written."""
        return [path for path in sorted(self.receipts_path.glob("*.json")) if _damaged(path)]

    def put_aside(self) -> int:
        """Put damaged receipts aside, so that their units are done again; how many there were.

        Who does it holds the lease, and no worker of the run is at work.
        """
        found = self.damaged_receipts()
        for path in found:
            path.replace(f"{path}{DAMAGED}")
        return len(found)

    def state(self) -> dict[str, Any]:
        """How far the run is."""
        return self._read(read_json, "state.json")

    def set_state(self, state: str, **more: Any) -> None:
        """Note how far the run is."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_whole(self.path / "state.json", _json({"state": state, "at": now, **more}))

    def _units(self, path: Path) -> list[Unit]:
        from weft.pipelines.connector import Split
        from weft.pipelines.engines.worker import Unit

        return [
            Unit(r["id"], r["read"], Split(r["split"], r["rows"], r["payload"], r["content_bytes"]))
            for r in self._table(path).to_pylist()
        ]

    def _table(self, path: Path) -> pa.Table:
        with pa.ipc.open_stream(self._read(read_sealed, path.name)) as reader:
            return reader.read_all()

    def _read(self, read: Callable[[Path], T], name: str) -> T:
        try:
            return read(self.path / name)
        except CorruptState as error:
            folder = shlex.quote(str(self.path))
            raise CorruptState(
                f"{error} Put it back from a copy if there is one. Or give up what run {self.run} "
                f"has done: `mv {folder} {folder}{DAMAGED}` and run again; its units are then done "
                "anew, and what is published stays. `weft run --fresh` gives it up, too, and "
                "processes all rows."
            ) from error


def new_run_id() -> str:
    """A run id that sorts by time, to the millisecond: ``20261120-141500-0423fa9``."""
    now = datetime.now(UTC)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 1000:03d}{secrets.token_hex(2)}"


def journal_of(state: str | Path, run: str) -> Journal:
    """The journal of a run in a dataset's state folder."""
    return Journal(Path(state) / "runs" / run)


def journals(state: str | Path) -> list[Journal]:
    """The runs noted in a dataset's state folder, newest first."""
    runs = Path(state) / "runs"
    found = [
        Journal(p) for p in runs.glob("*") if p.suffix != DAMAGED and (p / "state.json").exists()
    ]
    return sorted(found, key=lambda j: j.run, reverse=True)


def write_whole(path: Path, data: bytes) -> None:
    """Put a file in place so that no reader ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_synced(temporary, data)
    temporary.replace(path)


def whoami() -> dict[str, Any]:
    """This process, so that another can tell whether it still lives."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": process_birth(os.getpid())}


def process_birth(pid: int) -> str | None:
    """When a process of this machine started, in a form to compare; ``None``: it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"


def _damaged(receipt: Path) -> bool:
    try:
        read_json(receipt)
    except CorruptState:
        return True
    return False


def _has_bytes(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size
    except FileNotFoundError:
        return False


def _units_bytes(units: list[Unit]) -> bytes:
    rows = [
        (u.id, u.read, u.split.id, u.split.rows, u.split.content_bytes, u.split.payload)
        for u in units
    ]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(_UNITS)
    table = pa.table(
        [pa.array(c, f.type) for c, f in zip(columns, _UNITS, strict=True)], schema=_UNITS
    )
    return _ipc(table)


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sealed(sink.getvalue().to_pybytes())


def _json(value: dict[str, Any]) -> bytes:
    return sealed_json(json.dumps(value, indent=1, ensure_ascii=False).encode())
