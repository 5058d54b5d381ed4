"""Feast's offline store over Lance: feature tables at their tag, joined as of a moment.

A repository names it in ``feature_store.yaml``; Feast then calls it. Sources are Feast's own
``LanceSource``, so that the same repository also works with ``offline_store: duckdb``, which
reads them too. Here a read takes only the columns that are asked for, and the join is Polars'
``join_asof``. Feature tables are narrow; what is read of them is held in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl
import pyarrow as pa
from feast import FeatureView, OnDemandFeatureView, RepoConfig
from feast.data_source import DataSource
from feast.infra.data_sources.contrib.lance import LanceSource
from feast.infra.offline_stores.offline_store import (
    OfflineStore,
    RetrievalJob,
    RetrievalMetadata,
)
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel
from feast.saved_dataset import SavedDatasetStorage

from weft.errors import DefinitionError, PlanError
from weft.pipelines import tables

_MOMENT = "event_timestamp"
_ROW = "__row"
_TIME = "__time"

_UTC = pl.Datetime("us", "UTC")


class LanceOfflineStoreConfig(FeastConfigBaseModel):
    """What ``offline_store`` in ``feature_store.yaml`` may say: the type, and no more."""

    type: Literal["weft.connectors.feast_offline.LanceOfflineStore"] = (
        "weft.connectors.feast_offline.LanceOfflineStore"
    )


class LanceJob(RetrievalJob):
    """A read that takes place when its answer is asked for."""

    def __init__(
        self,
        read: Callable[[], pl.DataFrame],
        *,
        full_feature_names: bool = False,
        on_demand: Sequence[OnDemandFeatureView] = (),
        metadata: RetrievalMetadata | None = None,
    ) -> None:
        self._read = read
        self._full_feature_names = full_feature_names
        self._on_demand = list(on_demand)
        self._metadata = metadata

    @property
    def full_feature_names(self) -> bool:
        """Whether features are named ``view__feature``."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """The views that Feast computes from the answer."""
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked for."""
        return self._metadata

    def persist(
        self,
        storage: SavedDatasetStorage,
        allow_overwrite: bool | None = False,
        timeout: int | None = None,
    ) -> None:
        """Not there: the answer is a table, to be written by whoever asked.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("Write the table that to_arrow() gives, for example as Parquet.")

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self._read().to_arrow(compat_level=pl.CompatLevel.oldest())

    def _to_df_internal(self, timeout: int | None = None) -> Any:
        return self._to_arrow_internal().to_pandas()


class LanceOfflineStore(OfflineStore):
    """Reads ``LanceSource``s at the tag or version that they are pinned to."""

    @staticmethod
    def get_historical_features(  # noqa: PLR0917  Feast's signature
        config: RepoConfig,
        feature_views: list[FeatureView],
        feature_refs: list[str],
        entity_df: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        **kwargs: Any,
    ) -> RetrievalJob:
        """The features of each row of `entity_df` as they were at its ``event_timestamp``.

        That is the newest row of the same entity that is no newer, and within the view's
        ``ttl`` no older, than the moment; nulls where there is none. Rows keep their order.

        Raises:
            DefinitionError: `entity_df` is no data frame with an ``event_timestamp``.
        """
        asked = _asked(entity_df)
        wanted = _wanted(feature_views, feature_refs)

        def read() -> pl.DataFrame:
            answer = asked.with_row_index(_ROW)
            for view in feature_views:
                names = wanted.get(_name(view), [])
                answer = _join(answer, view, names, full_feature_names)
            return answer.drop(_ROW)

        moments: Any = asked[_MOMENT]
        metadata = RetrievalMetadata(
            features=feature_refs,
            keys=[name for name in asked.columns if name != _MOMENT],
            min_event_timestamp=moments.min(),
            max_event_timestamp=moments.max(),
        )
        on_demand = OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry)
        return LanceJob(
            read, full_feature_names=full_feature_names, on_demand=on_demand, metadata=metadata
        )

    @staticmethod
    def pull_latest_from_table_or_query(  # noqa: PLR0917  Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None,
        start_date: datetime,
        end_date: datetime,
    ) -> RetrievalJob:
        """The newest row of each entity between two moments, both included."""

        def read() -> pl.DataFrame:
            columns = [*join_key_columns, *feature_name_columns, timestamp_field]
            rows = _between(
                read_source(data_source, columns), timestamp_field, start_date, end_date
            )
            return newest(rows, join_key_columns, timestamp_field)

        return LanceJob(read)

    @staticmethod
    def pull_all_from_table_or_query(  # noqa: PLR0917  Feast's signature
        config: RepoConfig,
        data_source: DataSource,
        join_key_columns: list[str],
        feature_name_columns: list[str],
        timestamp_field: str,
        created_timestamp_column: str | None = None,
        start_date: datetime | None = None,
        end_date: datetime | None = None,
    ) -> RetrievalJob:
        """All rows between two moments, both included."""

        def read() -> pl.DataFrame:
            columns = [*join_key_columns, *feature_name_columns, timestamp_field]
            rows = read_source(data_source, columns)
            return _between(rows, timestamp_field, start_date, end_date)

        return LanceJob(read)


def read_source(source: DataSource | None, columns: Sequence[str]) -> pl.DataFrame:
    """Columns of a feature table at the tag or version that its source is pinned to.

    Raises:
        PlanError: the source is not a Lance table with a path.
        DefinitionError: there is no such table, tag or version.
    """
    if not isinstance(source, LanceSource) or source.uri is None:
        raise PlanError(
            f"{source and source.name}: this offline store reads a LanceSource with a uri, such "
            "as weft's FeatureStore makes. Use another offline_store for other sources."
        )
    found = pl.from_arrow(tables.read(source.uri, source.pin, list(dict.fromkeys(columns))))
    assert isinstance(found, pl.DataFrame)
    return found


def newest(rows: pl.DataFrame, keys: Sequence[str], timestamp: str) -> pl.DataFrame:
    """The newest row of each entity; of several at one moment, the last."""
    ordered = rows.sort(timestamp, maintain_order=True)
    return ordered.unique(keys, keep="last", maintain_order=True)


def _asked(entity_df: Any) -> pl.DataFrame:
    try:
        asked = pl.from_pandas(entity_df)
    except TypeError:
        asked = None
    if not isinstance(asked, pl.DataFrame) or not isinstance(
        asked.schema.get(_MOMENT), pl.Datetime
    ):
        raise DefinitionError(
            f"entity_df is {type(entity_df).__name__}; expected a pandas data frame with the join "
            f"keys and a column {_MOMENT!r} of timestamps, the moment that each row is about."
        )
    return asked


def _name(view: FeatureView) -> str:
    projection: Any = view.projection
    return str(projection.name_to_use())


def _wanted(views: Sequence[FeatureView], refs: Sequence[str]) -> dict[str, list[str]]:
    """Features by view, in the order asked for; those of on-demand views are Feast's affair."""
    names = {_name(view) for view in views}
    wanted: dict[str, list[str]] = {}
    for ref in refs:
        view, _, feature = ref.partition(":")
        if view in names:
            wanted.setdefault(view, []).append(feature)
    return wanted


def _join(
    rows: pl.DataFrame, view: FeatureView, features: Sequence[str], full_names: bool
) -> pl.DataFrame:
    source = view.batch_source
    assert source is not None
    keys = {c.name: view.projection.join_key_map.get(c.name, c.name) for c in view.entity_columns}
    prefix = f"{_name(view)}__" if full_names else ""
    named = {feature: f"{prefix}{feature}" for feature in features}
    if taken := sorted(set(named.values()) & set(rows.columns)):
        raise DefinitionError(
            f"entity_df, or another view, has {', '.join(taken)} already. Rename the column, or "
            "give full_feature_names=True."
        )
    table = read_source(source, [*keys, source.timestamp_field, *features])
    right = table.select(
        *(pl.col(key).alias(f"__{name}") for key, name in keys.items()),
        pl.col(source.timestamp_field).cast(_UTC).alias(_TIME),
        *(pl.col(feature).alias(name) for feature, name in named.items()),
    )
    by = [f"__{name}" for name in keys.values()]
    moment = pl.col(_MOMENT)
    if getattr(rows.schema[_MOMENT], "time_zone", None) is None:  # UTC, as everywhere in Feast
        moment = moment.dt.replace_time_zone("UTC")
    left = rows.with_columns(
        *(pl.col(name).cast(table.schema[key]).alias(f"__{name}") for key, name in keys.items()),
        moment.cast(_UTC).alias("__moment"),
    )
    joined = left.sort("__moment", maintain_order=True).join_asof(
        right.sort(_TIME, maintain_order=True),
        left_on="__moment",
        right_on=_TIME,
        by=by,
        strategy="backward",
        tolerance=view.ttl or None,
        check_sortedness=False,  # it is sorted; Polars cannot see it below `by`, and warns
        coalesce=False,
    )
    return joined.sort(_ROW).drop(*by, "__moment", _TIME)


def _between(
    rows: pl.DataFrame, timestamp: str, start: datetime | None, end: datetime | None
) -> pl.DataFrame:
    for moment, keep in ((start, pl.Expr.ge), (end, pl.Expr.le)):
        if moment is not None:
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            rows = rows.filter(keep(pl.col(timestamp), pl.lit(aware.astimezone(UTC), _UTC)))
    return rows
