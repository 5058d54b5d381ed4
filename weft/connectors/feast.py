"""A feature store on Feast: published once as a Lance table, served offline and online.

A run writes a narrow Lance table as the `Lance` sink does, and by it. Publishing then registers
entities and a feature view that reads the table at the run's tag, and writes the newest row of
each entity online. A record beside the table says which versions may have rows online; it is
written before the first row and after the last. So a run that dies in between is gone on with
by doing all of it again, an entity that a version no longer has is removed, and publishing what
is online already does nothing.

Redis is found through an environment variable. Its value, which may hold a password, is in no
file, no plan and no pickle.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa

from weft.connectors.lance import Lance
from weft.errors import ContractError, DefinitionError, PlanError
from weft.pipelines import tables
from weft.pipelines.connector import Replacement, Sink
from weft.pipelines.fields import fields_of
from weft.pipelines.types import Timestamp, Type

if TYPE_CHECKING:
    import feast

_OFFLINE = "weft.connectors.feast_offline.LanceOfflineStore"

_TYPES = {
    "Bool": "Bool", "Int8": "Int32", "Int16": "Int32", "Int32": "Int32", "Int64": "Int64",
    "UInt8": "Int32", "UInt16": "Int32", "UInt32": "Int64", "Float32": "Float32",
    "Float64": "Float64", "Text": "String", "Binary": "Bytes", "Timestamp": "UnixTimestamp",
    "Embedding": "Vector",
}  # fmt: skip
"""Feast's types by those of columns. It has no unsigned integers, so UInt64 fits none."""

_KEYS = ("String", "Int32", "Int64")
"""Feast's types that can name an entity."""

_YAML = """\
# Made by weft; yours to change. weft needs an online_store of type {online} and an
# offline_store that reads Lance.
project: {project}
provider: local
registry: registry.db
online_store:
{store}
offline_store:
  type: {offline}
entity_key_serialization_version: 3
"""

_STORES = {
    "sqlite": "  type: sqlite\n  path: online.db",
    # Without skip_dedup Feast keeps the old values where a row's time is what it was, as after
    # a change of the pipeline.
    "redis": "  type: redis\n  connection_string: '${{{variable}}}'\n  skip_dedup: true",
}


@dataclass(frozen=True)
class FeatureStore(Sink):
    """A feature view of a Feast repository, written as a whole by each run.

    `repo` is the folder of ``feature_store.yaml``, which is made if there is none; the table is
    ``<repo>/<view>.lance``. `entity` is the column, or the columns, that name what a row is
    about, and `timestamp` the column of when it was so. All others are features: numbers,
    Booleans, text, bytes, timestamps and embeddings.

    Offline, Feast joins them as of any moment; a feature that was older than `ttl` then counts
    as missing. Online is ``sqlite``, a file in the repository, or ``redis``, at the connection
    string in the environment variable that `redis` names: ``host:6379,password=…,ssl=true``.
    Feast 0.67 serves online features of any age.

    >>> store = FeatureStore("features", "photos", entity="uri", timestamp="modified")
    >>> store.uri.endswith("/features/photos.lance")
    True

    Raises:
        DefinitionError: a parameter is wrong.
    """

    repo: str
    view: str
    entity: str | tuple[str, ...]
    timestamp: str
    ttl: timedelta | None = None
    online: Literal["sqlite", "redis"] = "sqlite"
    redis: str = "FEAST_REDIS"

    incremental = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "repo", tables.local_path(str(self.repo)))
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", self.view):
            raise DefinitionError(
                f"{self.view!r} cannot name a feature view: use letters, digits, _."
            )
        if not self.entities:
            raise DefinitionError("entity=(): expected the column, or columns, that name a row.")
        if self.online not in _STORES:
            raise DefinitionError(f"online={self.online!r}; expected 'sqlite' or 'redis'.")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.redis):
            # The value is not shown: it may be a connection string, with a password.
            raise DefinitionError(
                "redis is not the name of an environment variable. Give the name, such as "
                "redis='FEAST_REDIS', and put the connection string into that variable."
            )

    @property
    def entities(self) -> tuple[str, ...]:
        """The columns that name an entity."""
        return (self.entity,) if isinstance(self.entity, str) else tuple(self.entity)

    @property
    def uri(self) -> str:
        """The absolute path of the feature table."""
        return str(Path(self.repo, f"{self.view}.lance"))

    @property
    def state(self) -> str:
        """``<repo>/<view>.lance.weft``."""
        return self._table.state

    def identity(self) -> dict[str, Any]:
        """All parameters; Redis by the name of the variable."""
        return {
            "type": "FeatureStore",
            "repo": self.repo,
            "view": self.view,
            "entity": list(self.entities),
            "timestamp": self.timestamp,
            "ttl_seconds": None if self.ttl is None else self.ttl.total_seconds(),
            "online": self.online,
            "redis": self.redis if self.online == "redis" else None,
        }

    def check(self, schema: pa.Schema) -> None:
        """Look at columns, table, repository and online store; write nothing.

        Raises:
            DefinitionError: Feast is not installed.
            PlanError: a column is missing or of a type that Feast has not, the repository is
                of another kind, or Redis is not there.
        """
        self._check_columns(schema)
        self._table.check(schema)
        _require_feast()
        if self._yaml.exists():
            self._open()
        elif self.online == "redis":
            self._check_variable()

    def prepare(self, schema: pa.Schema) -> dict[str, Any]:
        """Make the repository and the table, if they are not there."""
        if not self._yaml.exists():
            self._yaml.parent.mkdir(parents=True, exist_ok=True)
            project = re.sub(r"\W", "_", Path(self.repo).name)
            store = _STORES[self.online].format(variable=self.redis)
            text = _YAML.format(online=self.online, project=project, store=store, offline=_OFFLINE)
            _write_whole(self._yaml, text)
        self._open()
        return self._table.prepare(schema)

    def stage(self, token: Mapping[str, Any], table: pa.Table) -> list[dict[str, Any]]:
        """Stage rows of the table.

        Raises:
            ContractError: a row has no entity or no timestamp.
        """
        for name in (*self.entities, self.timestamp):
            if nulls := table[name].null_count:
                raise ContractError(
                    f"FeatureStore {self.view!r}: {nulls} rows have no {name!r}, and a feature "
                    f'needs it. Leave them out: where(pl.col("{name}").is_not_null()).'
                )
        return self._table.stage(token, table)

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
        """Commit the table; nothing is registered or online yet."""
        assert replacement is None, "it is not columnar"
        return self._table.commit(token, staged, run, properties, removed=removed)

    def publish(self, version: int, run: str, properties: Mapping[str, str]) -> None:
        """Tag the version, register the view at that tag, and write it online.

        Doing it again completes what was left half done. What is online is never replaced by
        an older version.
        """
        self._table.publish(version, run, properties)
        online = self._record()["online"]
        if online is None or online < version:
            self._serve(version, f"run-{run}")

    def materialize(self) -> int:
        """Write the published version online once more, for a store that lost its rows.

        Returns the version. Hold no run on the dataset meanwhile.

        Raises:
            DefinitionError: nothing is published.
        """
        found = tables.latest(self.uri)
        if found is None:
            raise DefinitionError(f"{self.uri}: nothing is published yet. Run the pipeline.")
        version, properties = found
        self._serve(version, f"run-{properties[tables.RUN_PROPERTY]}")
        return version

    @property
    def _table(self) -> Lance:
        return Lance(str(Path(self.repo, f"{self.view}.lance")))

    @property
    def _yaml(self) -> Path:
        return Path(self.repo, "feature_store.yaml")

    @property
    def _record_path(self) -> Path:
        return Path(self.state, "online.json")

    def _check_columns(self, schema: pa.Schema) -> None:
        types = fields_of(schema)
        for name in (*self.entities, self.timestamp):
            if name not in types:
                raise self._wrong(f"there is no column {name!r}. Given: {', '.join(types)}.")
        for name in self.entities:
            if _TYPES.get(type(types[name]).__name__) not in _KEYS:
                raise self._wrong(
                    f"entity {name!r} is {types[name]}; an entity is named by text or an integer."
                )
        if not isinstance(types[self.timestamp], Timestamp):
            kind = types[self.timestamp]
            raise self._wrong(f"timestamp {self.timestamp!r} is {kind}; expected a Timestamp.")
        features = self._features(types)
        if not features:
            raise self._wrong("there is no column left for a feature.")
        for name, kind in features.items():
            if type(kind).__name__ not in _TYPES:
                raise self._wrong(
                    f"feature {name!r} is {kind}, which Feast cannot hold. Features are numbers, "
                    "Booleans, text, bytes, timestamps and embeddings; leave it out with `select`."
                )
        was = self._record()["entity"]
        if was is not None and was != self._entity(types):
            raise self._wrong(
                f"its entities are {was} online, and would be {self._entity(types)}. What is "
                "online could not be found again: give the view another name."
            )

    def _wrong(self, what: str) -> PlanError:
        return PlanError(f"FeatureStore {self.view!r}: {what}")

    def _check_variable(self) -> None:
        """Refuse what Feast would put into the YAML unquoted, and what is not there."""
        value = os.environ.get(self.redis, "")
        if not value or "'" in value or "\n" in value:
            what = "holds a quote or a line break" if value else "is not set"
            raise PlanError(
                f"The environment variable {self.redis} {what}. Put the connection string of "
                "Redis into it: host:6379, or host:6379,password=…,ssl=true."
            )

    def _features(self, types: Mapping[str, Type]) -> dict[str, Type]:
        return {n: k for n, k in types.items() if n not in (*self.entities, self.timestamp)}

    def _open(self) -> feast.FeatureStore:
        """The repository; refuses one that weft cannot serve from."""
        _require_feast()
        import feast

        if self.online == "redis" and f"${{{self.redis}}}" in self._yaml.read_text():
            self._check_variable()
        store = feast.FeatureStore(repo_path=self.repo)
        online, offline = store.config.online_store, store.config.offline_store
        if online.type != self.online:
            raise PlanError(
                f"{self._yaml}: online_store is {online.type!r}, not {self.online!r}. Give "
                f"FeatureStore(…, online={online.type!r}), or another repo."
            )
        if offline.type not in (_OFFLINE, "duckdb"):
            raise PlanError(
                f"{self._yaml}: offline_store {offline.type!r} cannot read Lance; expected "
                f"{_OFFLINE}, or duckdb with feast[duckdb,lance]."
            )
        if self.online == "redis":
            self._check_redis(store)
        return store

    def _check_redis(self, store: feast.FeatureStore) -> None:
        import redis

        from weft.connectors import feast_online

        try:
            feast_online.ping(store)
        except (redis.RedisError, OSError, LookupError, ValueError, TypeError) as error:
            raise PlanError(
                f"There is no Redis at the connection string in {self.redis} "
                f"({type(error).__name__}). Expected host:6379, or host:6379,password=…,ssl=true, "
                "and a server that answers."
            ) from None  # the cause may quote the connection string
        if not store.config.online_store.skip_dedup:
            raise PlanError(
                f"{self._yaml}: online_store needs `skip_dedup: true`: without it Feast keeps "
                "old values of a row whose timestamp is what it was."
            )

    def _serve(self, version: int, tag: str) -> None:
        """Register the view at `tag` and make `version` what is online."""
        from weft.connectors import feast_online

        store = self._open()
        types = fields_of(tables.open_table(self.uri, version).schema)
        view = self._register(store, types, tag)
        before = self._record()
        held = [v for v in before["may_hold"] if v != version]
        self._note(online=before["online"], may_hold=[*held, version], types=types)
        rows = self._newest(version, list(types))
        try:
            keys, features = self._held(held)
        except DefinitionError:  # cleaned up since, so nobody knows what it left online
            feast_online.clear(store, view)
            keys, features = rows.slice(0, 0), set[str]()
        feast_online.write(store, view, rows)
        names = list(self.entities)
        gone = keys.select(names).join(rows.select(names), names, join_type="left anti")
        feast_online.remove(store, view, gone, sorted(features | set(self._features(types))))
        self._note(online=version, may_hold=[version], types=types)

    def _register(
        self, store: feast.FeatureStore, types: Mapping[str, Type], tag: str
    ) -> feast.FeatureView:
        import feast
        from feast.infra.data_sources.contrib.lance import LanceSource
        from feast.table_format import LanceFormat

        def field(name: str) -> feast.Field:
            return feast.Field(name=name, dtype=_feast_type(types[name]))

        entities = [
            feast.Entity(name=n, join_keys=[n], value_type=field(n).dtype.to_value_type())
            for n in self.entities
        ]
        source = LanceSource(
            name=f"{self.view}_table",
            uri=self.uri,
            table_format=LanceFormat(tag=tag),
            timestamp_field=self.timestamp,
        )
        view = feast.FeatureView(
            name=self.view,
            entities=entities,
            ttl=self.ttl,
            schema=[field(n) for n in (*self.entities, *self._features(types))],
            source=source,
            online=True,
        )
        store.apply([*entities, source, view])
        return store.get_feature_view(self.view)

    def _newest(self, version: int, columns: Sequence[str]) -> pa.Table:
        """The newest row of each entity in a version."""
        from weft.connectors.feast_offline import newest

        rows = tables.read(self.uri, version, columns)
        times = pl.DataFrame(rows.select([*self.entities, self.timestamp])).with_row_index("_row")
        return rows.take(newest(times, self.entities, self.timestamp)["_row"].sort().to_arrow())

    def _held(self, versions: Sequence[int]) -> tuple[pa.Table, set[str]]:
        """Entities and features of versions that may have rows online.

        Raises:
            DefinitionError: one of them is not there any more.
        """
        found = [tables.open_table(self.uri, None).schema.empty_table().select(self.entities)]
        features = set[str]()
        for version in versions:
            features |= set(self._features(fields_of(tables.open_table(self.uri, version).schema)))
            found.append(tables.read(self.uri, version, self.entities))
        unique = pl.concat([pl.DataFrame(table) for table in found]).unique()
        return unique.to_arrow().cast(found[0].schema), features

    def _record(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._record_path.read_text())
        except FileNotFoundError:
            return {"online": None, "may_hold": [], "entity": None}
        return found

    def _note(self, online: int | None, may_hold: Sequence[int], types: Mapping[str, Type]) -> None:
        record = {"online": online, "may_hold": may_hold, "entity": self._entity(types)}
        self._record_path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(self._record_path, json.dumps(record))

    def _entity(self, types: Mapping[str, Type]) -> dict[str, str]:
        """The columns that name an entity online, and how."""
        return {name: _TYPES[type(types[name]).__name__] for name in self.entities}


def _feast_type(kind: Type) -> Any:
    import feast.types

    name = _TYPES[type(kind).__name__]
    if name == "Vector":
        return feast.types.Array(feast.types.Float32)
    return getattr(feast.types, name)


def _require_feast() -> None:
    for module in ("feast", "redis"):
        if importlib.util.find_spec(module) is None:
            raise DefinitionError("FeatureStore needs Feast: pip install 'weft[feast]'")


def _write_whole(path: Path, text: str) -> None:
    """Put a file in place so that no reader ever sees half of it."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
