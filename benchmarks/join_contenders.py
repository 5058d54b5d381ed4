"""Who joins, groups and sorts: weft on both engines, Ray Data and Polars, on the same tables.

The left has texts as keys, an integer, a float and a payload of 96 letters; the right has 100,000
keys, each once, of which the left uses most, and some that the right lacks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.common import say
from benchmarks.contest import CORES, start_ray_data

KEYS = 100_000
"""Keys of the right; the left draws from a tenth more, so that one row in eleven meets nothing."""

WORKLOADS = ("inner", "left", "broadcast", "group", "sort")
_WARM_ROWS, _WARM_UPS = 10_000, 2
_PIECES = 2 * CORES
"""Partitions of Ray Data's shuffles."""

_ROUNDING = 1e-12
"""How far means of numbers from 0 to 1 may be apart, which are summed in any order."""

_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz012345", np.uint8)


def make_tables(folder: Path, rows: int) -> tuple[str, str]:
    """The left with so many rows, and the right: Lance datasets, made once, then found."""
    left, right = folder / f"left-{rows}.lance", folder / "right.lance"
    rng = np.random.default_rng(rows)
    letters = _LETTERS[rng.integers(0, 32, rows * 96, np.uint8)].tobytes()
    _write(left, {
        "key": _keys(rng.integers(0, KEYS + KEYS // 10, rows)),
        "x": pa.array(rng.integers(0, 2**62, rows)),
        "y": pa.array(rng.random(rows)),
        "payload": pa.array(letters[i : i + 96].decode() for i in range(0, len(letters), 96)),
    })  # fmt: skip
    numbers = np.random.default_rng(0).permutation(KEYS)
    _write(right, {"key": _keys(numbers), "z": pa.array(numbers / 7), "name": _keys(numbers * 3)})
    return str(left), str(right)


def _keys(numbers: np.ndarray) -> pa.Array:
    return pa.array([f"key-{n:08d}" for n in numbers.tolist()])


def _write(path: Path, columns: dict[str, pa.Array]) -> None:
    import lance

    if not path.exists():
        partial = path.with_suffix(".part")
        lance.write_dataset(
            pa.table(columns), partial, mode="overwrite", enable_stable_row_ids=True
        )
        partial.replace(path)  # a cache that was interrupted has no half tables


def contend(name: str, workload: str, rows: int, folder: str, out: str) -> None:
    """In a process of its own: start, warm up on a few rows, say so, do the work, say so."""
    run = CONTENDERS[name]()
    for number in range(_WARM_UPS):
        run(workload, make_tables(Path(folder), _WARM_ROWS), f"{out}-warm-{number}")
    tables = make_tables(Path(folder), rows)
    say("ready")
    run(workload, tables, out)
    say("done")


def _weft(engine: str) -> Any:
    import weft
    from weft.connectors import Lance
    from weft.operators import tabular
    from weft.pipelines.passes import broadcast_joins

    @weft.pipeline
    def joins(workload: str, left: str, right: str, out: str) -> Any:
        rows = weft.read(Lance(left))
        if workload == "group":
            x, y = pl.col("x"), pl.col("y")
            rows = rows.group("key", rows=pl.len(), x=x.max(), y=y.mean())
        elif workload == "sort":
            rows = rows.apply(tabular.Sort("x"))
        else:
            how = "left" if workload == "left" else "inner"
            rows = rows.join(weft.read(Lance(right)), on="key", how=how)
        return rows.write(Lance(out))

    def run(workload: str, tables: tuple[str, str], out: str) -> None:
        if workload != "broadcast":  # the right is small enough for it, so weft would
            broadcast_joins.BROADCAST_BYTES = -1
        result = joins(workload, *tables, out).run(engine=engine)
        assert result.state == "published", result

    return run


def _ray_data() -> Any:
    """Ray Data by hand."""
    start_ray_data()
    import ray.data
    from ray.data.aggregate import Count, Max, Mean

    def run(workload: str, tables: tuple[str, str], out: str) -> None:
        rows = ray.data.read_lance(tables[0])
        if workload == "group":
            made = (Count(alias_name="rows"), Max("x", alias_name="x"), Mean("y", alias_name="y"))
            rows = rows.groupby("key", num_partitions=_PIECES).aggregate(*made)
        elif workload == "sort":
            rows = rows.sort("x")
        else:
            how = "left_outer" if workload == "left" else "inner"
            right = ray.data.read_lance(tables[1])
            rows = rows.join(right, how, num_partitions=_PIECES, on=("key",))
        rows.write_parquet(out)  # Ray 2.60 cannot write to Lance by pylance 14

    return run


def _polars() -> Any:
    """All of it in memory, in one process: what the machine can do."""

    def run(workload: str, tables: tuple[str, str], out: str) -> None:
        import lance

        left, right = (pl.from_arrow(lance.dataset(t).to_table()).lazy() for t in tables)
        x, y = pl.col("x"), pl.col("y")
        if workload == "group":
            rows = left.group_by("key").agg(rows=pl.len(), x=x.max(), y=y.mean())
        elif workload == "sort":
            rows = left.sort("x")
        else:
            rows = left.join(right, on="key", how="left" if workload == "left" else "inner")
        lance.write_dataset(rows.collect().to_arrow(), out)

    return run


def difference(workload: str, expected: Path, given: Path) -> str | None:
    """What is different in two outputs, in words; the order of rows counts after a sort only."""
    one, other = (_stored(path) for path in (expected, given))
    if set(one.columns) != set(other.columns):
        return f"columns {sorted(other.columns)}; expected {sorted(one.columns)}"
    other = other.select(one.columns)
    if workload != "sort":
        by = ["key"] if workload == "group" else ["x"]  # which no two rows have in common
        one, other = one.sort(by), other.sort(by)
    if one.height != other.height:
        return f"{other.height} rows; expected {one.height}"
    if workload == "group" and (one["y"] - other["y"]).abs().max() <= _ROUNDING:
        one, other = one.drop("y"), other.drop("y")
    wrong = [name for name in one.columns if not one[name].equals(other[name])]
    return f"values of {', '.join(wrong)}" if wrong else None


def _stored(path: Path) -> pl.DataFrame:
    import lance

    if Path(path, "_versions").exists():
        found = pl.DataFrame(lance.dataset(str(path)).to_table())
    else:
        files = sorted(path.rglob("*.parquet"))
        found = pl.concat([pl.read_parquet(f) for f in files])
    own = [name for name in found.columns if name.startswith("_")]
    casts = {"rows": pl.Int64} if "rows" in found.columns else {}
    return found.drop(own).cast(casts)  # type: ignore[arg-type]


CONTENDERS: dict[str, Any] = {
    "local": lambda: _weft("local"),
    "ray": lambda: _weft("ray"),
    "ray_data": _ray_data,
    "polars": _polars,
}
