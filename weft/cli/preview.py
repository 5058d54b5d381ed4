"""``weft preview TARGET``: the first rows a pipeline would write, written nowhere."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import click

from weft.cli.command import Command, emit
from weft.cli.options import parse_settings, target_argument

if TYPE_CHECKING:
    import polars as pl

_LONG = 16
"""Values of an array that are printed; a longer one is told by its size."""


@click.command("preview", cls=Command)
@target_argument
@click.option(
    "--rows", type=click.IntRange(min=1), default=10, show_default=True, help="Rows of each write."
)
def command(target: str, settings: tuple[str, ...], rows: int) -> None:
    """Print the first rows a pipeline would write; write nothing.

    Runs in this process, on as little of the source as it takes, which for joins, groups and
    sorts is all of it. Rows that fail are left out.
    """
    from weft.cli.target import load

    pipeline, _ = load(target, parse_settings(settings))
    frames = {name: _shown(frame) for name, frame in pipeline.preview(rows).items()}
    uris = {n.id: n.action.sink.uri for n in pipeline.graph.writes()}  # type: ignore[union-attr]
    document = {
        "pipeline": pipeline.name,
        "writes": [
            {
                "step": name,
                "dataset": uris[name],
                "columns": {c: str(kind) for c, kind in pipeline.graph.node(name).columns.items()},
                "rows": frame.to_dicts(),
            }
            for name, frame in frames.items()
        ],
    }
    texts = [
        f"{name} -> {uris[name]}: {frame.height} rows\n{_table(frame)}"
        for name, frame in frames.items()
    ]
    emit(document, "\n\n".join(texts))


def _shown(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with bytes and long arrays told, not printed, and without the engine's columns
    other than the key."""
    import polars as pl

    columns = []
    for name in frame.columns:
        if name.startswith("_") and name != "_key":
            continue
        column = frame[name]
        if column.dtype == pl.Binary or column.dtype.is_nested():
            column = pl.Series(name, [_told(value) for value in column], pl.String)
        columns.append(column)
    return pl.DataFrame(columns)


def _told(value: Any) -> str | None:
    import polars as pl

    if value is None:
        return None
    if isinstance(value, bytes):
        return _media(value)
    if isinstance(value, dict) and set(value) == {"data", "shape"}:  # arrays of several shapes
        return f"<{' x '.join(map(str, value['shape']))}>"
    if isinstance(value, pl.Series):
        shape = _shape(value)
        if len(shape) > 1 or shape[0] > _LONG:
            return f"<{' x '.join(map(str, shape))} {_inner(value)}>"
        return str(value.to_list())
    return str(value)


def _media(value: bytes) -> str:
    """What bytes are: an image by its header, anything else by its size."""
    from weft.errors import RowError
    from weft.operators import image

    size = _size(len(value))
    try:
        told = image.Probe()(value)
    except RowError:
        return f"<{size}>" if len(value) > 32 else f"<{value.hex()}>"
    return f"<image {told['width']}x{told['height']} {told['format'].lower()} {size}>"


def _size(count: float) -> str:
    if count < 1000:
        return f"{count:.0f} B"
    count /= 1000
    return f"{count:.1f} kB" if count < 1000 else f"{count / 1000:.1f} MB"


def _shape(values: pl.Series) -> list[int]:
    import polars as pl

    first = values[0] if len(values) else None
    return [len(values), *(_shape(first) if isinstance(first, pl.Series) else [])]


def _inner(values: pl.Series) -> str:
    kind: Any = values.dtype
    while hasattr(kind, "inner"):
        kind = kind.inner
    return str(kind).lower()


def _table(frame: pl.DataFrame) -> str:
    """A table if the columns fit the terminal, otherwise a block of lines for each row."""
    import polars as pl

    width = shutil.get_terminal_size((100, 24)).columns
    with pl.Config(
        tbl_cols=-1,
        tbl_rows=-1,
        tbl_width_chars=10_000,
        fmt_str_lengths=60,
        tbl_hide_dataframe_shape=True,
        tbl_hide_column_data_types=True,
        tbl_formatting="NOTHING",
    ):
        text = str(frame)
        if max(map(len, text.split("\n"))) <= width:
            return text
    names = max(map(len, frame.columns))
    blocks = [
        "\n".join(f"  {name:<{names}}  {_cell(value)}" for name, value in row.items())
        for row in frame.iter_rows(named=True)
    ]
    return "\n\n".join(blocks)


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value).replace("\n", " ")
    return text if len(text) <= 200 else text[:199] + "…"
