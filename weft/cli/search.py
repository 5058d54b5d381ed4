"""``weft search DATASET``: the rows nearest to words, a picture or another row."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, aligned, emit
from weft.cli.options import dataset_argument
from weft.errors import DefinitionError, RowError, nearest

if TYPE_CHECKING:
    import pyarrow as pa

    from weft.operators.queries import Vector

_LONG = 60
"""Letters of a value that are printed."""


@click.command("search", cls=Command)
@dataset_argument
@click.option("--text", metavar="WORDS", help="Rows that words describe.")
@click.option("--image", metavar="FILE", help="Rows that look like a picture.")
@click.option("--like", metavar="KEY", help="Rows like the row of that key.")
@click.option("--column", metavar="NAME", help="The vectors to compare, if there are several.")
@click.option(
    "-k", "count", type=click.IntRange(min=1), default=10, show_default=True, help="So many rows."
)
@click.option("--where", metavar="SQL", help='Only rows for which this holds: "year > 2020".')
@click.option("--version", help="A tag or a version number.  [default: latest]")
def command(
    dataset: str,
    *,
    text: str | None,
    image: str | None,
    like: str | None,
    column: str | None,
    count: int,
    where: str | None,
    version: str | None,
) -> None:
    """Find the rows nearest to words, a picture or another row, the nearest first.

    Give one of --text, --image and --like. Words and pictures go through the operators that
    made the column, which its dataset notes. Nearness is the cosine of two vectors: 1 is the
    same direction.
    """
    from weft.cli.datasets import find_dataset
    from weft.pipelines import indexes, tables

    if sum(given is not None for given in (text, image, like)) != 1:
        raise DefinitionError("Give one of --text WORDS, --image FILE and --like KEY.")
    path = find_dataset(dataset).path
    at = tables.open_table(path, _version(path, version)).version
    column = _column(path, at, column)
    if like is not None:
        vector, where = _like(path, at, column, like), _but(like, where)
    else:
        vector = _query(path, at, column, text, image)
    shown = _shown(path, at)
    found = indexes.nearest(path, at, column, vector, count, columns=shown, where=where)
    how = indexes.coverage(path, at, column)
    document = {
        "dataset": path,
        "version": at,
        "column": column,
        "exact": how.index is None,
        "rows": _rows(found),
    }
    head = f"{path} version {at}, nearest by {column}: {how}"
    emit(document, f"{head}\n{_table(document['rows'])}")


def _version(path: str, given: str | None) -> int | str | None:
    """What readers see; the newest of a dataset that weft did not publish, as `Lance` reads it."""
    from weft.pipelines import tables

    if given is None:
        return tables.LATEST if tables.latest(path) else None
    return int(given) if given.isdigit() else given


def _column(path: str, version: int, given: str | None) -> str:
    """The column to search.

    Raises:
        DefinitionError: there is no such column of vectors, or there are several.
    """
    from weft.pipelines import tables
    from weft.pipelines.fields import fields_of
    from weft.pipelines.types import Embedding

    columns = fields_of(tables.open_table(path, version).schema)
    vectors = [name for name, kind in columns.items() if isinstance(kind, Embedding)]
    if given is None and len(vectors) == 1:
        return vectors[0]
    if given in vectors:
        return given
    have = ", ".join(vectors)
    if not vectors:
        raise DefinitionError(f"{path} has no vectors to search: no column is an Embedding.")
    if given is None:
        raise DefinitionError(f"{path} has {len(vectors)} columns of vectors: {have}. Name one.")
    hint = nearest(given, vectors)
    raise DefinitionError(f"{path} has no vectors {given!r}. It has: {have}. {hint}".rstrip())


def _query(path: str, version: int, column: str, text: str | None, image: str | None) -> Vector:
    """The vector of words or of a picture."""
    from weft.operators.queries import Space
    from weft.pipelines import origins

    origin = origins.recorded(path, version).get(column)
    if origin is None:
        raise DefinitionError(
            f"{path} does not say how column {column!r} was made, so nothing else can be made "
            "into such a vector. Search by a row: --like KEY."
        )
    found = Space(origin)
    if text is not None:
        return found.text(text)
    assert image is not None
    try:
        content = Path(image).expanduser().read_bytes()
    except OSError as error:
        raise DefinitionError(f"Cannot read {image}: {error.strerror}.") from error
    try:
        return found.image(content)
    except RowError as error:
        raise DefinitionError(f"{image}: {error}") from error


def _like(path: str, version: int, column: str, key: str) -> Any:
    """The vector of a row."""
    from weft.pipelines import tables

    if "_key" not in tables.open_table(path, version).schema.names:
        raise DefinitionError(f"The rows of {path} have no keys: weft did not write it.")
    rows = tables.read(path, version, [column], where=f"_key = {_quoted(key)}")[column]
    if len(rows) == 0:
        raise DefinitionError(f"{path} version {version} has no row of key {key!r}.")
    if not rows[0].is_valid:
        raise DefinitionError(f"Row {key!r} of {path} has no {column}.")
    return rows[0].as_py()


def _but(key: str, where: str | None) -> str:
    """Other rows than that of `key`: it is the nearest to itself."""
    other = f"_key <> {_quoted(key)}"
    return other if where is None else f"({where}) AND {other}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _shown(path: str, version: int) -> list[str]:
    """The key, and the columns whose values are short: no media, vectors or other arrays."""
    from weft.pipelines import blobs, tables
    from weft.pipelines.fields import fields_of
    from weft.pipelines.types import Arrow, Binary, Encoded, Tensor

    dataset = tables.open_table(path, version)
    columns = fields_of(blobs.plain_schema(dataset.schema))
    short = [n for n, t in columns.items() if not isinstance(t, Arrow | Binary | Encoded | Tensor)]
    return [*(["_key"] if "_key" in dataset.schema.names else []), *short]


def _rows(found: pa.Table) -> list[dict[str, Any]]:
    from weft.pipelines.indexes import DISTANCE

    rows = []
    for row in found.to_pylist():
        similarity = 1 - row.pop(DISTANCE)
        key = {"key": row.pop("_key")} if "_key" in row else {}
        rows.append({"similarity": round(similarity, 6), **key, **row})
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "no rows"
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    return aligned(cells, right=frozenset({0}))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "" if value is None else str(value).replace("\n", " ")
    if len(text) <= _LONG:
        return text
    # The end of a path says more than its beginning; of a sentence it is the other way around.
    return text[: _LONG - 1] + "…" if " " in text else "…" + text[1 - _LONG :]
