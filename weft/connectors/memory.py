"""A dataset in this process: what previews and tests write to."""

from __future__ import annotations

import base64
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from weft.connectors.slices import from_payload, to_payload
from weft.errors import DefinitionError, nearest
from weft.pipelines.connector import Replacement, Sink


@dataclass
class _Dataset:
    """What was committed under one name."""

    versions: dict[int, pa.Table] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    latest: int = 0


_DATASETS: dict[str, _Dataset] = {}
_LOCK = threading.Lock()


@dataclass(frozen=True)
class Memory(Sink):
    """A dataset that lives as long as this process, under `name`.

    It takes every schema, keeps all columns with their types, and each run replaces what was
    there. Rows travel in the JSON that staging returns, so any process may stage; it is for
    thousands of rows, not for millions. Two sinks of one name are one dataset.

    >>> sink = Memory("letters")
    >>> rows = pa.table({"letter": ["a", "b"]})
    >>> token = sink.prepare(rows.schema)
    >>> version = sink.commit(token, sink.stage(token, rows), run="r1", properties={})
    >>> sink.publish(version, "r1", {})
    >>> sink.table().to_pydict()
    {'letter': ['a', 'b']}

    Raises:
        DefinitionError: there is no such version, or none was published yet.
    """

    name: str = "memory"

    @property
    def uri(self) -> str:
        return f"memory://{self.name}"

    def identity(self) -> dict[str, Any]:
        """The name."""
        return {"sink": "Memory", "name": self.name}

    def check(self, schema: pa.Schema) -> None:
        """Nothing to refuse."""

    def prepare(self, schema: pa.Schema) -> dict[str, Any]:
        return {"schema": _encode(schema.empty_table())}

    def stage(self, token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
        return [{"rows": table.num_rows, "ipc": _encode(table)}] if table.num_rows else []

    def commit(
        self,
        token: Mapping[str, Any],
        staged: Sequence[Mapping[str, Any]],
        run: str,
        properties: Mapping[str, str],
        *,
        removed: Collection[str] | None = None,
        replacement: Replacement | None = None,
    ) -> int:
        assert removed is None, "it keeps no ledger, so no run is incremental"
        assert replacement is None
        with _LOCK:
            dataset = _DATASETS.setdefault(self.name, _Dataset())
            if run not in dataset.runs:
                parts = [_decode(token["schema"]), *(_decode(part["ipc"]) for part in staged)]
                version = max(dataset.versions, default=0) + 1
                dataset.versions[version] = pa.concat_tables(parts)
                dataset.runs[run] = version
            return dataset.runs[run]

    def publish(self, version: int, run: str, properties: Mapping[str, str]) -> None:
        with _LOCK:
            self._find(version)
            _DATASETS[self.name].latest = version

    def table(self, version: int | None = None) -> pa.Table:
        """The rows of `version`, or of what was published last."""
        with _LOCK:
            dataset = _DATASETS.get(self.name, _Dataset())
            if version is None and not dataset.latest:
                near = nearest(self.name, set(_DATASETS) - {self.name})
                message = (
                    f"Nothing is published in {self.uri}. Run a pipeline that writes it. {near}"
                )
                raise DefinitionError(message.rstrip())
            return self._find(dataset.latest if version is None else version)

    def clear(self) -> None:
        """Forget all versions, and free their memory."""
        with _LOCK:
            _DATASETS.pop(self.name, None)

    def _find(self, version: int) -> pa.Table:
        versions = _DATASETS.get(self.name, _Dataset()).versions
        if version not in versions:
            have = ", ".join(map(str, versions)) or "none"
            raise DefinitionError(f"There is no version {version} of {self.uri}. Given: {have}.")
        return versions[version]


def _encode(table: pa.Table) -> str:
    return base64.b64encode(to_payload(table)).decode()


def _decode(text: str) -> pa.Table:
    return from_payload(base64.b64decode(text))
