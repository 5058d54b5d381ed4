"""Feast's online stores: rows written whole, rows that are gone removed.

Feast writes and reads online rows; it has no call that removes one entity. So this module knows
how SQLite and Redis are laid out by Feast, through Feast's own functions for it; the tests hold
it to the installed version.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
from feast import FeatureStore, FeatureView
from feast.infra.key_encoding_utils import serialize_entity_key
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.online_stores.sqlite import _quote_id, _table_id
from feast.infra.passthrough_provider import PassthroughProvider
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.repo_config import RepoConfig
from feast.type_map import python_values_to_proto_values
from feast.utils import _convert_arrow_to_proto

_BATCH_ROWS = 1000
"""Rows in one transaction of SQLite, or one pipeline of Redis: some 10 ms each."""


def write(store: FeatureStore, view: FeatureView, rows: pa.Table) -> None:
    """Write rows online, one for each entity; what is there of them is replaced."""
    online = _online(store)
    keys = {column.name: column.dtype.to_value_type() for column in view.entity_columns}
    for batch in rows.combine_chunks().to_batches(_BATCH_ROWS):
        online.online_write_batch(
            store.config, view, _convert_arrow_to_proto(batch, view, keys), progress=None
        )


def remove(store: FeatureStore, view: FeatureView, keys: pa.Table, features: Sequence[str]) -> None:
    """Remove entities, with all of `features`, those of earlier versions too."""
    found = _entity_keys(view, keys)
    erase = _ERASE[store.config.online_store.type]
    for start in range(0, len(found), _BATCH_ROWS):
        erase(_online(store), store.config, view, found[start : start + _BATCH_ROWS], features)


def clear(store: FeatureStore, view: FeatureView) -> None:
    """Remove every row of a view."""
    for delete, keep in (([view], []), ([], [view])):  # SQLite drops the table, and makes it anew
        _online(store).update(store.config, delete, keep, [], [], partial=True)


def ping(store: FeatureStore) -> None:
    """Reach the online store, if it is a server.

    Raises:
        redis.RedisError: it does not answer.
    """
    if store.config.online_store.type == "redis":
        online: Any = _online(store)
        online._get_client(store.config.online_store).ping()


def _online(store: FeatureStore) -> OnlineStore:
    provider = store._get_provider()
    assert isinstance(provider, PassthroughProvider)
    online: OnlineStore = provider.online_store
    return online


def _entity_keys(view: FeatureView, keys: pa.Table) -> list[EntityKey]:
    names = [column.name for column in view.entity_columns]
    values = [
        python_values_to_proto_values(keys[c.name].to_pylist(), c.dtype.to_value_type())
        for c in view.entity_columns
    ]
    return [EntityKey(join_keys=names, entity_values=row) for row in zip(*values, strict=True)]


def _erase_sqlite(
    online: Any,
    config: RepoConfig,
    view: FeatureView,
    keys: list[EntityKey],
    features: Sequence[str],
) -> None:
    table = _table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    version = config.entity_key_serialization_version
    with online._get_conn(config) as connection:
        connection.executemany(
            f"DELETE FROM {_quote_id(table)} WHERE entity_key = ?",  # noqa: S608  it is quoted
            [(serialize_entity_key(key, version),) for key in keys],
        )


def _erase_redis(
    online: Any,
    config: RepoConfig,
    view: FeatureView,
    keys: list[EntityKey],
    features: Sequence[str],
) -> None:
    """The fields of this view; a key without fields is gone, one of another view stays."""
    fields = [_mmh3(f"{view.name}:{name}") for name in features] + [f"_ts:{view.name}".encode()]
    version = config.entity_key_serialization_version
    with online._get_client(config.online_store).pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hdel(_redis_key(config.project, key, version), *fields)
        pipe.execute()


_ERASE: dict[str, Callable[..., None]] = {"sqlite": _erase_sqlite, "redis": _erase_redis}
