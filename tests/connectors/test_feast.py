"""The feature store on real Feast: offline joins against Polars, online SQLite and Redis."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import redis

import weft
from weft.connectors import Arrow, FeatureStore
from weft.errors import ContractError, DefinitionError, PlanError
from weft.pipelines import tables
from weft.pipelines.fields import arrow_schema
from weft.pipelines.types import (
    Binary,
    Bool,
    Embedding,
    Float32,
    Float64,
    Image,
    Int8,
    Int32,
    Int64,
    Text,
    Timestamp,
    UInt32,
    UInt64,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning:feast.*"
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = {
    "uri": Text(),
    "modified": Timestamp(),
    "sharpness": Float32(nullable=True),
    "weight": Float64(),
    "count": Int64(nullable=True),
    "small": Int8(),
    "large": UInt32(),
    "flag": Bool(nullable=True),
    "caption": Text(nullable=True),
    "raw": Binary(),
    "seen": Timestamp(nullable=True),
    "vector": Embedding(3),
}
FEATURES = [name for name in COLUMNS if name not in ("uri", "modified")]
SCHEMA = pa.schema([pa.field("_key", pa.string()), *arrow_schema(COLUMNS)])
SECRET = "s3cret-c4nary"

needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="needs redis-server (apt-get install redis-server)"
)


def row(uri: str, hour: float, value: int) -> dict[str, Any]:
    """What a photograph was like at an hour; `value` tells it from all others."""
    return {
        "uri": uri,
        "modified": T0 + timedelta(hours=hour),
        "sharpness": None if value % 5 == 4 else value / 8,
        "weight": value / 3,
        "count": None if value % 4 == 3 else 2**53 + value,
        "small": value % 100,
        "large": 4_000_000_000 + value,
        "flag": None if value % 3 == 2 else value % 2 == 0,
        "caption": None if value % 7 == 6 else f"photograph {value}",
        "raw": bytes([value % 256]) * 2,
        "seen": None if value % 2 else T0 + timedelta(minutes=value),
        "vector": np.array([value, value / 2, -value], np.float32),
    }


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    columns = [kind.to_arrow([r[name] for r in rows]) for name, kind in COLUMNS.items()]
    keys = pa.array([f"k{number}" for number in range(len(rows))])
    return pa.table([keys, *columns], schema=SCHEMA)


def publish(sink: FeatureStore, run: str, rows: list[dict[str, Any]]) -> int:
    sink.check(SCHEMA)
    token = sink.prepare(SCHEMA)
    version = sink.commit(token, sink.stage(token, table_of(rows)), run, {})
    sink.publish(version, run, {})
    return version


def sink_of(folder: Path, **options: Any) -> FeatureStore:
    return FeatureStore(str(folder), "photos", entity="uri", timestamp="modified", **options)


def online(sink: FeatureStore, uris: list[str]) -> dict[str, dict[str, Any] | None]:
    """What Feast serves of these entities; ``None`` for one that it does not have."""
    import feast

    store = feast.FeatureStore(repo_path=sink.repo)
    found = store.get_online_features(
        features=[f"photos:{name}" for name in FEATURES],
        entity_rows=[{"uri": uri} for uri in uris],
        full_feature_names=False,
    )
    values = found.to_dict()
    rows = {uri: {name: values[name][at] for name in FEATURES} for at, uri in enumerate(uris)}
    return {uri: None if row["weight"] is None else row for uri, row in rows.items()}


def entities_online(sink: FeatureStore) -> int:
    """How many there are, counted in the store itself."""
    if sink.online == "sqlite":
        with sqlite3.connect(Path(sink.repo, "online.db")) as connection:
            (table,) = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchone()
            query = f'SELECT COUNT(DISTINCT entity_key) FROM "{table}"'
            return int(connection.execute(query).fetchone()[0])
    address, password = os.environ["FEAST_REDIS"].split(",password=")
    client = redis.Redis(port=int(address.split(":")[1]), password=password)
    return len(client.keys(f"*{Path(sink.repo).name}"))


def assert_served(found: dict[str, Any] | None, expected: dict[str, Any]) -> None:
    assert found is not None
    for name in FEATURES:
        value = expected[name]
        if name == "vector":
            assert found[name] == value.tolist()
        elif isinstance(value, datetime):
            assert found[name].replace(tzinfo=UTC) == value
        else:
            assert found[name] == value, name


HISTORY = [
    row(uri, hour, value)
    for value, (uri, hour) in enumerate(
        [("a", 0), ("b", 1), ("a", 5), ("c", 2), ("a", 3), ("b", 1), ("b", 9), ("d", 4)]
    )
]
"""Rows in no order; b has two of one hour, of which the last counts."""

NEWEST = {"a": HISTORY[2], "b": HISTORY[6], "c": HISTORY[3], "d": HISTORY[7]}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """One repository with two versions, for tests that only read; the first has other values."""
    sink = sink_of(tmp_path_factory.mktemp("repo") / "features", ttl=timedelta(hours=4))
    publish(sink, "r1", [row(r["uri"], 0, 77) for r in HISTORY[:2]])
    publish(sink, "r2", HISTORY)
    return sink


@pytest.fixture(scope="module")
def redis_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server of our own, with a password; gives its connection string."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    command += ["--dir", str(tmp_path_factory.mktemp("redis")), "--requirepass", SECRET]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port},password={SECRET}"
    finally:
        server.terminate()
        server.wait()


class TestOffline:
    def historical(self, sink: FeatureStore, asked: pd.DataFrame, **options: Any) -> pa.Table:
        import feast

        store = feast.FeatureStore(repo_path=sink.repo)
        refs = [f"photos:{name}" for name in FEATURES]
        return store.get_historical_features(asked, refs, **options).to_arrow()

    def test_joins_as_of_the_moment(self, published: FeatureStore) -> None:
        """Truth: Polars' own join_asof, without a ttl, and the ttl applied by hand."""
        random = np.random.default_rng(0)
        moments = [T0 + timedelta(hours=float(h)) for h in random.uniform(-1, 16, 60)]
        moments += [T0 + timedelta(hours=h) for h in (1, 5, 9, 13)]  # at, and ttl after, a row
        uris = random.choice(["a", "b", "c", "d", "nobody"], 64).tolist()
        asked = pd.DataFrame({"uri": uris, "event_timestamp": moments, "label": range(64)})
        found = self.historical(published, asked)
        assert found["uri"].to_pylist() == uris
        assert found["label"].to_pylist() == list(range(64))

        rows = pl.DataFrame(table_of(HISTORY).drop(["_key"])).sort("modified", maintain_order=True)
        left = pl.DataFrame({"uri": uris, "at": moments, "n": range(64)}).sort("at")
        truth = left.join_asof(
            rows,
            left_on="at",
            right_on="modified",
            by="uri",
            check_sortedness=False,
            coalesce=False,
        ).sort("n")
        hits = 0
        for number, expected in enumerate(truth.to_dicts()):
            fresh = expected["modified"] is not None
            fresh = fresh and expected["at"] - expected["modified"] <= timedelta(hours=4)
            hits += fresh
            for name in FEATURES:
                value = found[name][number].as_py()
                assert value == (expected[name] if fresh else None), (number, name)
        assert 10 < hits < 60

    def test_names_and_zones(self, published: FeatureStore) -> None:
        naive = pd.DataFrame({"uri": ["d"], "event_timestamp": [datetime(2026, 1, 1, 5)]})
        found = self.historical(published, naive, full_feature_names=True)
        assert found["photos__weight"].to_pylist() == [HISTORY[7]["weight"]]
        paris = pd.DataFrame(
            {"uri": ["d"], "event_timestamp": pd.to_datetime(["2026-01-01T05:00:00+01:00"])}
        )
        assert self.historical(published, paris)["weight"].to_pylist() == [HISTORY[7]["weight"]]
        with pytest.raises(DefinitionError, match=r"has weight already.*full_feature_names"):
            self.historical(published, naive.assign(weight=1))

    def test_reads_at_the_tag(self, published: FeatureStore) -> None:
        import feast

        view = feast.FeatureStore(repo_path=published.repo).get_feature_view("photos")
        assert view.batch_source.table_format.tag == "run-r2"
        assert view.ttl == timedelta(hours=4)
        assert {f.name: str(f.dtype) for f in view.features} == {
            "sharpness": "Float32", "weight": "Float64", "count": "Int64", "small": "Int32",
            "large": "Int64", "flag": "Bool", "caption": "String", "raw": "Bytes",
            "seen": "UnixTimestamp", "vector": "Array(Float32)",
        }  # fmt: skip
        # An untagged version is not what Feast sees.
        token = tables.ensure(published.uri, SCHEMA)
        tables.commit(token, tables.stage(token, table_of([row("a", 5, 99)])), "unseen", {})
        asked = pd.DataFrame({"uri": ["a"], "event_timestamp": [T0 + timedelta(hours=6)]})
        assert self.historical(published, asked)["weight"].to_pylist() == [HISTORY[2]["weight"]]

    def test_feast_materializes_from_it(self, published: FeatureStore) -> None:
        """Feast's own way online ends where ours does."""
        import feast

        before = online(published, list(NEWEST))
        for uri, expected in NEWEST.items():
            assert_served(before[uri], expected)
        store = feast.FeatureStore(repo_path=published.repo)
        store.materialize(T0 - timedelta(days=1), T0 + timedelta(days=1), ["photos"])
        assert online(published, list(NEWEST)) == before

    @pytest.mark.parametrize(
        "asked",
        [
            "SELECT 1",
            pd.DataFrame({"uri": ["a"]}),
            pd.DataFrame({"uri": ["a"], "event_timestamp": ["today"]}),
        ],
    )
    def test_refuses_what_has_no_moment(self, asked: Any) -> None:
        from weft.connectors.feast_offline import LanceOfflineStore

        with pytest.raises(DefinitionError, match="expected a pandas data frame with the join"):
            LanceOfflineStore.get_historical_features(None, [], [], asked, None, "p")  # type: ignore[arg-type]


class TestOnline:
    @pytest.fixture(params=["sqlite", pytest.param("redis", marks=needs_redis)])
    def sink(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> FeatureStore:
        if request.param == "redis":
            monkeypatch.setenv("FEAST_REDIS", request.getfixturevalue("redis_at"))
        # The folder names the project, which keeps tests on one Redis apart.
        return sink_of(tmp_path / f"features_{time.monotonic_ns()}", online=request.param)

    def test_serves_the_newest_row_of_each_entity(self, sink: FeatureStore) -> None:
        publish(sink, "r1", HISTORY)
        found = online(sink, [*NEWEST, "nobody"])
        for uri, expected in NEWEST.items():
            assert_served(found[uri], expected)
        assert found["nobody"] is None
        assert entities_online(sink) == len(NEWEST)

    def test_a_new_version_replaces_adds_and_removes(self, sink: FeatureStore) -> None:
        publish(sink, "r1", HISTORY)
        changed = row("a", 5, 50)  # at the time it had: other values, as of a changed pipeline
        older = row("c", 1, 51)
        publish(sink, "r2", [changed, older, row("e", 0, 52)])
        found = online(sink, ["a", "b", "c", "d", "e"])
        assert (found["b"], found["d"]) == (None, None)
        assert_served(found["a"], changed)
        assert_served(found["c"], older)
        assert_served(found["e"], row("e", 0, 52))
        assert entities_online(sink) == 3

    def test_doing_it_again_changes_nothing(
        self, sink: FeatureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from weft.connectors import feast_online

        first = publish(sink, "r1", HISTORY[:2])
        second = publish(sink, "r2", HISTORY)
        before = online(sink, list(NEWEST))
        with monkeypatch.context() as patch:
            patch.setattr(feast_online, "write", None)  # calling it would raise
            sink.publish(second, "r2", {})
            sink.publish(first, "r1", {})  # an older one does not come back
        assert online(sink, list(NEWEST)) == before
        assert sink.materialize() == second
        assert online(sink, list(NEWEST)) == before

    def test_a_write_that_stopped_half_way_leaves_nothing_behind(
        self, sink: FeatureStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """v2 dies while its rows go online; v3, without them, still finds and removes them."""
        from weft.connectors import feast_online

        publish(sink, "r1", HISTORY)
        original = feast_online.write

        def stop_after_one(store: Any, view: Any, rows: pa.Table) -> None:
            original(store, view, rows.slice(0, 1))
            raise ConnectionError("the network is gone")

        with monkeypatch.context() as patch:
            patch.setattr(feast_online, "write", stop_after_one)
            with pytest.raises(ConnectionError):
                publish(sink, "r2", [row("x", 1, 1), row("y", 1, 2)])
        assert online(sink, ["x"])["x"] is not None
        publish(sink, "r3", [row("a", 7, 8)])
        found = online(sink, ["a", "b", "x", "y"])
        assert_served(found.pop("a"), row("a", 7, 8))
        assert found == {"b": None, "x": None, "y": None}
        assert entities_online(sink) == 1

    def test_a_version_that_was_cleaned_up_is_swept(self, sink: FeatureStore) -> None:
        publish(sink, "r1", HISTORY)
        record = Path(sink.state, "online.json")
        record.write_text(json.dumps({**json.loads(record.read_text()), "may_hold": [99]}))
        publish(sink, "r2", [row("a", 7, 8)])
        found = online(sink, ["a", "b"])
        assert_served(found["a"], row("a", 7, 8))
        assert found["b"] is None
        assert entities_online(sink) == 1


class TestTwoEntities:
    def test_and_another_view_of_the_same(self, tmp_path: Path) -> None:
        import feast

        columns = {"uri": Text(), "frame": Int32(), "at": Timestamp(), "score": Float32()}
        schema = pa.schema([pa.field("_key", pa.string()), *arrow_schema(columns)])
        data = {"uri": ["a", "a"], "frame": [0, 1], "at": [T0, T0], "score": [0.5, 0.25]}
        table = pa.table({"_key": ["0", "1"], **data}, schema=schema)
        repo = str(tmp_path / "features")
        for view in ("frames", "others"):
            sink = FeatureStore(repo, view, entity=("uri", "frame"), timestamp="at")
            sink.check(schema)
            token = sink.prepare(schema)
            sink.publish(sink.commit(token, sink.stage(token, table), "r1", {}), "r1", {})
        token = sink.prepare(schema)
        only = table.slice(1)
        sink.publish(sink.commit(token, sink.stage(token, only), "r2", {}), "r2", {})
        found = feast.FeatureStore(repo_path=repo).get_online_features(
            features=["frames:score", "others:score"],
            entity_rows=[{"uri": "a", "frame": 0}, {"uri": "a", "frame": 1}],
            full_feature_names=True,
        )
        values = found.to_dict()
        assert values["frames__score"] == [0.5, 0.25]
        assert values["others__score"] == [None, 0.25]


PROGRAM = """
import os, signal, sys
from weft.connectors import feast_online
def die(*args): os.kill(os.getpid(), signal.SIGKILL)
feast_online.write = die
sys.path.insert(0, sys.argv[1])
import test_feast
test_feast.pipeline(sys.argv[2]).run(engine="local")
"""


@weft.pipeline
def pipeline(repo: str, scores: str = "a=1.5 b=2.5"):
    """Some features of some rows in memory."""
    uris, values = zip(*(pair.split("=") for pair in scores.split()), strict=True)
    times, values = [T0] * len(uris), [float(v) for v in values]
    rows = weft.read(Arrow({"uri": uris, "modified": times, "score": values}, key="uri"))
    return rows.write(FeatureStore(repo, "scores", entity="uri", timestamp="modified"))


class TestRuns:
    def test_killed_between_commit_and_online_it_is_gone_on_with(self, tmp_path: Path) -> None:
        repo = str(tmp_path / "features")
        killed = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), repo],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert killed.returncode == -9, killed.stderr
        table = Path(repo, "scores.lance")
        assert tables.latest(str(table)) is not None  # committed and shown
        assert json.loads(Path(f"{table}.weft", "online.json").read_text())["online"] is None
        done = pipeline(repo).run(engine="local")
        assert (done.state, done.rows_resumed) == ("published", 2)
        assert pipeline(repo).run(engine="local").in_sync
        assert len([v for v in tables.history(str(table)) if v.run]) == 1
        assert self.scores(repo) == [1.5, 2.5, None]

    def test_the_next_run_changes_adds_and_removes(self, tmp_path: Path) -> None:
        repo = str(tmp_path / "features")
        pipeline(repo).run(engine="local")
        pipeline(repo, scores="b=3.5 c=4.5").run(engine="local")
        assert self.scores(repo) == [None, 3.5, 4.5]

    def scores(self, repo: str) -> list[float | None]:
        import feast

        found = feast.FeatureStore(repo_path=repo).get_online_features(
            features=["scores:score"], entity_rows=[{"uri": uri} for uri in "abc"]
        )
        values: list[float | None] = found.to_dict()["score"]
        return values


@needs_redis
class TestSecrets:
    def test_the_connection_string_is_in_no_file_and_no_pickle(
        self, tmp_path: Path, redis_at: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("MY_REDIS", redis_at)
        sink = sink_of(tmp_path / "secret", online="redis", redis="MY_REDIS")
        publish(sink, "r1", HISTORY)
        assert_served(online(sink, ["a"])["a"], NEWEST["a"])
        files = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
        assert any(path.name == "registry.db" for path in files)
        for path in files:
            assert SECRET.encode() not in path.read_bytes(), path
        assert SECRET not in json.dumps(sink.identity()) + repr(sink)
        assert SECRET.encode() not in pickle.dumps(sink)
        assert (
            "connection_string: '${MY_REDIS}'" in Path(sink.repo, "feature_store.yaml").read_text()
        )

        wrong = f"127.0.0.1:1,password={SECRET}"
        for value in (wrong, SECRET, f"host:x,password={SECRET}"):
            monkeypatch.setenv("MY_REDIS", value)
            with pytest.raises(
                PlanError, match="no Redis at the connection string in MY_REDIS"
            ) as e:
                sink.check(SCHEMA)
            assert SECRET not in str(e.value)
            assert e.value.__cause__ is None

    def test_a_variable_that_is_not_set_is_refused_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FEAST_REDIS", raising=False)
        with pytest.raises(PlanError, match="variable FEAST_REDIS is not set"):
            sink_of(tmp_path / "features", online="redis").check(SCHEMA)
        monkeypatch.setenv("FEAST_REDIS", "host:1,password='x'")
        with pytest.raises(PlanError, match="FEAST_REDIS holds a quote"):
            sink_of(tmp_path / "features", online="redis").check(SCHEMA)

    def test_a_repository_that_would_keep_old_values_is_refused(
        self, tmp_path: Path, redis_at: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FEAST_REDIS", redis_at)
        sink = sink_of(tmp_path / "features", online="redis")
        sink.prepare(SCHEMA)
        yaml = Path(sink.repo, "feature_store.yaml")
        yaml.write_text(yaml.read_text().replace("skip_dedup: true", "skip_dedup: false"))
        with pytest.raises(PlanError, match="needs `skip_dedup: true`"):
            sink.check(SCHEMA)


class TestRefuses:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"view": "my view"}, "'my view' cannot name a feature view"),
            ({"entity": ()}, "expected the column, or columns"),
            ({"online": "mysql"}, "expected 'sqlite' or 'redis'"),
            ({"redis": "host:1,password=x"}, "not the name of an environment variable"),
        ],
    )
    def test_wrong_parameters(self, options: dict[str, Any], message: str) -> None:
        given = {"repo": "f", "view": "v", "entity": "uri", "timestamp": "at", **options}
        with pytest.raises(DefinitionError, match=message) as error:
            FeatureStore(**given)
        assert "password=x" not in str(error.value)

    @pytest.mark.parametrize(
        ("columns", "message"),
        [
            ({"modified": Timestamp(), "x": Int32()}, "no column 'uri'. Given: modified, x"),
            ({"uri": Float32(), "modified": Timestamp(), "x": Int32()}, "'uri' is Float32; an"),
            ({"uri": UInt64(), "modified": Timestamp(), "x": Int32()}, "'uri' is UInt64; an"),
            ({"uri": Text(), "modified": Int64(), "x": Int32()}, "expected a Timestamp"),
            ({"uri": Text(), "modified": Timestamp()}, "no column left for a feature"),
            ({"uri": Text(), "modified": Timestamp(), "x": Image()}, "'x' is Image.* `select`"),
        ],
    )
    def test_columns_that_feast_has_not(
        self, tmp_path: Path, columns: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(PlanError, match=message):
            sink_of(tmp_path / "features").check(arrow_schema(columns))

    def test_rows_without_an_entity(self, tmp_path: Path) -> None:
        sink = sink_of(tmp_path / "features")
        nullable = arrow_schema({**COLUMNS, "uri": Text(nullable=True)})
        table = (
            table_of(HISTORY[:1])
            .drop(["_key"])
            .set_column(0, nullable.field("uri"), pa.array([None], pa.string()))
        )
        with pytest.raises(ContractError, match=r"1 rows have no 'uri'.*is_not_null"):
            sink.stage({}, table)

    def test_repositories_of_another_kind(self, tmp_path: Path, published: FeatureStore) -> None:
        yaml = Path(published.repo, "feature_store.yaml").read_text()
        folder = tmp_path / "features"
        folder.mkdir()
        other = folder / "feature_store.yaml"
        other.write_text(yaml.replace("weft.connectors.feast_offline.LanceOfflineStore", "dask"))
        with pytest.raises(PlanError, match="offline_store 'dask' cannot read Lance"):
            sink_of(folder).check(SCHEMA)
        other.write_text(yaml)
        with pytest.raises(PlanError, match="online_store is 'sqlite', not 'redis'"):
            sink_of(folder, online="redis").check(SCHEMA)

    def test_another_entity_than_what_is_online(self, published: FeatureStore) -> None:
        other = FeatureStore(published.repo, "photos", entity="caption", timestamp="modified")
        schema = arrow_schema({**COLUMNS, "caption": Text()})
        with pytest.raises(PlanError, match=r"its entities are .*give the view another name"):
            other.check(schema)

    def test_nothing_to_materialize(self, tmp_path: Path) -> None:
        sink = sink_of(tmp_path / "features")
        sink.prepare(SCHEMA)
        with pytest.raises(DefinitionError, match="nothing is published yet"):
            sink.materialize()
