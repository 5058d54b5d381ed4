"""A row that is forgotten is not served online either, by Feast itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import feast
import polars as pl
import pyarrow.parquet as pq
import pytest

import weft
from weft.connectors import FeatureStore, Lance, Parquet
from weft.pipelines.runs.forget import forget

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:feast.*"
)

KEY, TEXT = "anna@example.org", "what anna said about the weather"


def serve(folder: Path, **options: Any) -> FeatureStore:
    """People, and what they said, online by who they are."""
    rows = pl.DataFrame({
        "person": [KEY, "ben@example.org"],
        "at": [datetime(2026, 1, 1, tzinfo=UTC)] * 2,
        "said": [TEXT, "what ben said about nothing"],
    })  # fmt: skip
    pq.write_table(rows.to_arrow(), folder / "people.parquet")
    store = FeatureStore(str(folder / "repo"), "sayings", "person", "at", **options)

    @weft.pipeline
    def people() -> Any:
        read = weft.read(Parquet(f"{folder}/people.parquet", key="person"))
        return read.write(Lance(f"{folder}/people.lance"))

    people().run(engine="local")

    @weft.pipeline
    def sayings() -> Any:
        return weft.read(Lance(f"{folder}/people.lance")).write(store)

    sayings().run(engine="local")
    return store


def online(store: FeatureStore) -> list[str | None]:
    found = feast.FeatureStore(repo_path=store.repo).get_online_features(
        features=["sayings:said"],
        entity_rows=[{"person": KEY}, {"person": "ben@example.org"}],
    )
    said: list[str | None] = found.to_dict()["said"]
    return said


def test_sqlite(tmp_path: Path) -> None:
    store = serve(tmp_path)
    assert online(store)[0] == TEXT
    file = Path(store.repo, "online.db")
    assert KEY.encode() in file.read_bytes()
    receipt = forget(f"{tmp_path}/people.lance", [KEY])
    assert receipt.complete
    assert online(store) == [None, "what ben said about nothing"]
    for path in tmp_path.rglob("*"):
        if path.is_file() and path.name != "people.parquet":
            assert KEY.encode() not in path.read_bytes(), path
            assert TEXT.encode() not in path.read_bytes(), path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    with subprocess.Popen([*command, "--dir", str(tmp_path)], stdout=subprocess.DEVNULL) as process:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        monkeypatch.setenv("FEAST_REDIS", f"127.0.0.1:{port}")
        yield process
        process.terminate()


@pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs redis-server (apt-get install redis-server)"
)
def test_a_redis_that_is_down_is_told_and_done_later(
    tmp_path: Path, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = serve(tmp_path, online="redis")
    assert online(store)[0] == TEXT
    with monkeypatch.context() as away:
        away.setenv("FEAST_REDIS", "127.0.0.1:1")
        receipt = forget(f"{tmp_path}/people.lance", [KEY])
    assert not receipt.complete
    (told,) = receipt.document["not_erased"]
    assert "online rows of view 'sayings': PlanError: There is no Redis at" in told
    assert online(store)[0] == TEXT
    assert forget(f"{tmp_path}/people.lance", [KEY]).complete
    assert online(store) == [None, "what ben said about nothing"]
