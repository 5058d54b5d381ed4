"""What a feature store serves online, made what its table has: for rows that are forgotten.

``weft forget`` erases rows from the table, as from any other. Online they are known by their
entity, which other rows may share: so the whole view is taken away and written anew. In SQLite
what was taken away stays in free pages of the file until that is written anew, too.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from weft.connectors.feast import FeatureStore
from weft.errors import WeftError

if TYPE_CHECKING:
    import feast


def erase(table: str) -> str | None:
    """Make what is online of a feature table what the table has now; what stands in the way, in
    words, or ``None``: it is done."""
    import feast

    repo, view = str(Path(table).parent), Path(table).stem
    try:
        _sink(feast.FeatureStore(repo_path=repo), repo, view).materialize()
    except (WeftError, OSError, LookupError, ValueError) as error:
        return (
            f"{table}: online rows of view {view!r}: {type(error).__name__}: {error} When that is "
            f"mended: FeatureStore({repo!r}, {view!r}, …).materialize()"
        )
    for file in online_files(table):
        with sqlite3.connect(file) as connection:
            connection.execute("VACUUM")
        connection.close()
    return None


def online_files(table: str) -> list[Path]:
    """The files that serve a feature table online, if it is files."""
    import feast

    repo = Path(table).parent
    online = feast.FeatureStore(repo_path=str(repo)).config.online_store
    file = Path(repo, online.path) if online.type == "sqlite" else None
    return [file] if file is not None and file.exists() else []


def _sink(store: feast.FeatureStore, repo: str, name: str) -> FeatureStore:
    """The sink that wrote a view, as far as the registry and the configuration tell."""
    view, online = store.get_feature_view(name), store.config.online_store
    assert view.batch_source is not None
    variable = re.search(r"\$\{(\w+)\}", Path(repo, "feature_store.yaml").read_text())
    return FeatureStore(
        repo,
        name,
        entity=tuple(view.join_keys),
        timestamp=view.batch_source.timestamp_field,
        ttl=view.ttl,
        online=online.type,
        redis=variable[1] if variable else "FEAST_REDIS",
    )
