"""Taking rows out of what finished runs wrote down: journals, receipts and samples of failures.

Of a finished run, nobody reads again what its sources need to read its units, so these go for
all rows. Of the rest, what names one of the rows goes: samples of failures, keys that met in a
join, keys that were replaced. Texts that only mention a row keep the rest of what they say.
What was put aside because it was damaged goes as well, as nobody can read what it holds.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from weft.pipelines.engines.sealed import read_json, read_sealed, sealed, sealed_json
from weft.pipelines.runs.journal import DAMAGED, Journal, journals, write_whole
from weft.pipelines.runs.traces import KEY_BYTES

FORGOTTEN = "(forgotten)"

_TEXTS = ("parameters", "plan", "outline", "command")
"""What ``run.json`` has of words that a user chose; the rest is what commands go by."""


class Scrubber:
    """Takes `keys`, and texts that mention one, out of what runs have written."""

    def __init__(self, keys: Collection[str]) -> None:
        self._keys = frozenset(keys)
        self._long: list[str] = []
        for key in sorted(k for k in self._keys if len(k.encode()) >= KEY_BYTES):
            if not (self._long and key.startswith(self._long[-1])):  # as a child's key does
                self._long.append(key)

    def state(self, state: str) -> None:
        """All runs of a state folder, which are finished or never to be gone on with."""
        for journal in journals(state):
            self._journal(journal)
        for damaged in Path(state, "runs").glob(f"*{DAMAGED}"):
            shutil.rmtree(damaged)

    def text(self, text: str) -> str:
        """`text` without the keys; one that is short is left where it is part of a text."""
        if text in self._keys:
            return FORGOTTEN
        for key in self._long:
            text = text.replace(key, FORGOTTEN)
        return text

    def _journal(self, journal: Journal) -> None:
        journal.drop_kept()
        for damaged in journal.receipts_path.glob(f"*{DAMAGED}"):
            damaged.unlink()
        (journal.path / "report.html").unlink(missing_ok=True)  # `weft report` makes it again
        for path in journal.path.glob("units*.arrow"):
            _change_table(path, _without_payload)
        _change_table(journal.path / "removed.arrow", self._without_keys)
        _change_json(journal.path / "run.json", self._about)
        _change_json(journal.path / "state.json", self._ended)
        _change_json(journal.path / "gates.json", self._deep)
        for path in journal.receipts_path.glob("*.json"):
            _change_json(path, self._receipt)

    def _about(self, about: dict[str, Any]) -> dict[str, Any]:
        return about | {name: self._deep(about[name]) for name in _TEXTS if name in about}

    def _ended(self, state: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            n: self.text(v) if isinstance(v, str) else v for n, v in state.items()
        }
        if "samples" in found.get("result", {}):
            result: dict[str, Any] = found["result"]
            found["result"] = {**result, "samples": self._samples(result)}
        return found

    def _receipt(self, receipt: dict[str, Any]) -> dict[str, Any]:
        met = receipt.get("met", {})
        met = {step: [k for k in keys if k not in self._keys] for step, keys in met.items()}
        return {**receipt, "samples": self._samples(receipt), "met": met}

    def _samples(self, found: dict[str, Any]) -> list[dict[str, str]]:
        samples = [s for s in found.get("samples", ()) if s["key"] not in self._keys]
        return [{name: self.text(value) for name, value in s.items()} for s in samples]

    def _deep(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self._deep(v) for v in value]
        if isinstance(value, dict):
            return {self.text(k): self._deep(v) for k, v in value.items()}
        return value

    def _without_keys(self, table: pa.Table) -> pa.Table:
        keys = pa.array(sorted(self._keys), pa.string())
        return table.filter(pc.invert(pc.is_in(table["key"], keys)))


def _change_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if path.exists():
        before = read_json(path)
        if (after := change(before)) != before:
            text = json.dumps(after, indent=1, ensure_ascii=False)
            write_whole(path, sealed_json(text.encode()))


def _change_table(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    if not path.exists():
        return
    with pa.ipc.open_stream(read_sealed(path)) as reader:
        before = reader.read_all()
    if not (after := change(before)).equals(before):
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, after.schema) as writer:
            writer.write_table(after)
        write_whole(path, sealed(out.getvalue().to_pybytes()))


def _without_payload(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("payload")
    empty = pa.array([b""] * table.num_rows, table.schema.field(at).type)
    return table.set_column(at, table.schema.field(at), empty)
