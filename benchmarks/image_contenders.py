"""The contenders of `benchmarks.images`: one workload, done by plain threads, weft and its peers.

Each is a class: starting its engine is `__init__`, one whole run is `run`, from listing the
folder to a dataset on disk. All give a column `key`, the name of the file, and the columns of
the workload:

* ``store``: decode to 224 x 224, store the first 1,024 values as float32;
* ``describe``: decode to 224 x 224, store `Sharpness`, `Exposure` and `Descriptor`.

What the peers are given: the same operators as plain calls on their pixels, both cores, their
own decoder where that is the point (Daft, ``read_images``), a scaled decode and fused stages
where a person would write the decoder (``ray_data_scaled``), and a warm-up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import weft
from benchmarks.contest import CORES, start_ray_data
from weft.operators import image as ops
from weft.pipelines.operator import BatchView

SIDE, VALUES = 224, 1024
_ROWS = 64
"""Rows of a batch, for those whose batches are ours to choose."""

DECODE = ops.Decode(SIDE, fit="fill")


@dataclass(frozen=True)
class Corner(weft.Map):
    """The first values of an image, as it lies in memory."""

    version = "1"
    reads = weft.fields(image=weft.Image(SIDE, SIDE))
    writes = weft.fields(vector=weft.Embedding(VALUES))

    def map(self, batch: BatchView, loaded: Any) -> dict[str, Any]:
        """A view of each row, copied once."""
        pixels = np.asarray(batch["image"])
        return {"vector": pixels.reshape(len(pixels), -1)[:, :VALUES].astype(np.float32)}


MEASURES = (ops.Sharpness(), ops.Exposure(), ops.Descriptor())


def describe(pixels: np.ndarray) -> dict[str, Any]:
    """All measures of one image, by plain calls."""
    found: dict[str, Any] = {}
    for operator in MEASURES:
        value = operator.map_row({"image": pixels}, None)
        found |= value if isinstance(value, dict) else {next(iter(operator.writes)): value}
    return found


def columns_of(workload: str, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """What the workload stores of these images: arrays, one row each."""
    if workload == "store":
        flat = [image.reshape(-1)[:VALUES].astype(np.float32) for image in images]
        return {"vector": np.stack(flat)}
    rows = [describe(image) for image in images]
    return {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}


def as_table(keys: Sequence[str], columns: Mapping[str, Any]) -> Any:
    """Rows as an Arrow table, vectors as lists of fixed size."""
    import pyarrow as pa

    made = {"key": pa.array(keys, pa.string())}
    for name, values in columns.items():
        flat = pa.array(np.ascontiguousarray(values).reshape(-1))
        two = values.ndim == 2
        made[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1]) if two else flat
    return pa.table(made)


def decode_scaled(content: bytes) -> np.ndarray:
    """As a person who knows Pillow would: decoded by libjpeg at half the size, then resized."""
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(content))
    image.draft("RGB", (2 * SIDE, 2 * SIDE))
    small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)


class Limit:
    """The operators in two plain threads, results to Lance: what this machine can do."""

    def __init__(self, workload: str) -> None:
        from weft.pipelines.engines.allocator import tune_allocator

        tune_allocator()
        self.workload = workload
        self.loaded = DECODE.setup("cpu")

    def run(self, folder: str, out: str) -> None:
        """Threads take files one by one; results are written whenever there are enough."""
        from concurrent.futures import ThreadPoolExecutor

        import lance
        from lance.fragment import write_fragments

        files = sorted(Path(folder).glob("*.jpg"))
        fragments, rows, schema = [], 512, None
        with ThreadPoolExecutor(CORES) as pool:
            done = pool.map(self._one, files)
            for start in range(0, len(files), rows):
                part = files[start : start + rows]
                found = [next(done) for _ in part]
                columns = {n: np.stack([f[n] for f in found]) for n in found[0]}
                table = as_table([f.name for f in part], columns)
                schema = table.schema
                fragments += write_fragments(table, out, mode="overwrite", schema=schema)
        lance.LanceDataset.commit(out, lance.LanceOperation.Overwrite(schema, fragments))

    def _one(self, file: Path) -> dict[str, Any]:
        pixels = DECODE.map_row({"content": file.read_bytes()}, self.loaded)
        columns = columns_of(self.workload, [pixels])
        return {name: values[0] for name, values in columns.items()}


class Weft:
    """weft, by the pipeline a user would write."""

    engine = "local"

    def __init__(self, workload: str) -> None:
        self.workload = workload

    def run(self, folder: str, out: str) -> None:
        """One run: planned, journalled, published."""
        build = store if self.workload == "store" else describe_all
        result = build(source=f"{folder}/*.jpg", out=out).run(engine=self.engine)
        assert result.state == "published", result


class WeftOnRay(Weft):
    """The same on Ray, which weft starts in its first run."""

    engine = "ray"


@weft.pipeline
def store(source: str, out: str) -> Any:
    """Keep a corner of each image."""
    from weft.connectors import Files, Lance

    rows = weft.read(Files(source)).apply(DECODE).apply(Corner())
    return rows.select("vector").write(Lance(out))


@weft.pipeline
def describe_all(source: str, out: str) -> Any:
    """Measure each image."""
    from weft.connectors import Files, Lance

    rows = weft.read(Files(source)).apply(DECODE)
    for operator in MEASURES:
        rows = rows.apply(operator)
    names = [name for operator in MEASURES for name in operator.writes]
    return rows.select(*names).write(Lance(out))


class RayData:
    """Ray Data by hand, at its best: scaled decode, everything in one fused task.

    Measured and left: 4 blocks a core or one for 64 files, whichever is more, is faster than
    Ray's own choice; batches of Arrow binary without a copy are faster than rows.
    """

    def __init__(self, workload: str) -> None:
        start_ray_data()
        self.workload = workload

    def run(self, folder: str, out: str) -> None:
        """Read, decode, compute and write Parquet."""
        self.dataset(folder).write_parquet(out)

    def dataset(self, folder: str) -> Any:
        """The rows to write."""
        import ray

        workload, tune = self.workload, self.tunes_allocator
        blocks = max(4 * CORES, len(os.listdir(folder)) // _ROWS)

        def work(batch: Any) -> Any:
            if tune:
                from weft.pipelines.engines.allocator import tune_allocator

                tune_allocator()
            images = [decode_scaled(value.as_py()) for value in batch["bytes"]]
            keys = [os.path.basename(path) for path in batch["path"].to_pylist()]
            return as_table(keys, columns_of(workload, images))

        return ray.data.read_binary_files(
            folder, include_paths=True, override_num_blocks=blocks
        ).map_batches(work, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)

    tunes_allocator = False


class RayDataTuned(RayData):
    """The same, by a person who also knows about the allocator."""

    tunes_allocator = True


class RayDataReadImages(RayData):
    """Ray Data by its own reader of images."""

    def dataset(self, folder: str) -> Any:
        """Decoded by Ray; the columns of the workload computed in batches."""
        import ray

        workload = self.workload

        def work(batch: dict[str, Any]) -> Any:
            keys = [os.path.basename(path) for path in batch["path"]]
            return as_table(keys, columns_of(workload, list(batch["image"])))

        return ray.data.read_images(
            folder, size=(SIDE, SIDE), mode="RGB", include_paths=True
        ).map_batches(work, batch_size=_ROWS)


class Daft:
    """Daft, by its own decoder and resize; the rest in a function of ours."""

    def __init__(self, workload: str) -> None:
        import daft

        self.workload = workload
        single, vector = daft.DataType.float32(), daft.DataType.embedding
        if workload == "store":
            kinds = {"vector": vector(single, VALUES)}
        else:
            names = [n for operator in MEASURES for n in operator.writes]
            kinds = dict.fromkeys(names, single) | {
                "descriptor": vector(single, ops.Descriptor().writes["descriptor"].shape[0])
            }
        self.names = list(kinds)

        @daft.udf(return_dtype=daft.DataType.struct(kinds))
        def work(images: Any) -> list[dict[str, Any]]:
            columns = columns_of(workload, [np.asarray(image) for image in images.to_pylist()])
            return [
                dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
            ]

        self.work = work

    def run(self, folder: str, out: str) -> None:
        """Read, decode, compute and write Parquet."""
        import daft
        from daft import col

        rows = daft.from_glob_path(f"{folder}/*.jpg").select("path")
        pixels = col("path").download().decode_image(mode="RGB").resize(SIDE, SIDE)
        rows = rows.with_column("image", pixels).with_column("found", self.work(col("image")))
        rows = rows.select(
            col("path").alias("key"), *(col("found")[n].alias(n) for n in self.names)
        )
        rows.write_parquet(out)


CONTENDERS: dict[str, Callable[[str], Any]] = {
    "limit": Limit,
    "local": Weft,
    "ray": WeftOnRay,
    "ray_data_scaled": RayData,
    "ray_data_tuned": RayDataTuned,
    "ray_data_read_images": RayDataReadImages,
    "daft": Daft,
}
