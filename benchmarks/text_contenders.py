"""The contenders of `benchmarks.text`: texts to vectors by all-MiniLM-L6-v2, vectors to disk.

All use the same weights, one torch thread for each model and one model at a time, so that what
is compared is what they have it compute. `arrival` and `at_once` are sentence-transformers: the
first encodes 32 texts as they come, the second reads everything before it begins, which lets
`encode` sort everything by length, and which no stream can do.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported; workers of Ray get it too

import weft
from benchmarks.contest import start_ray_data

MODEL = "all-MiniLM-L6-v2"
DIM = 384
BATCH = 32


def encoder() -> Any:
    """The model of sentence-transformers, from the files that weft reads."""
    from weft.operators.model import transformers
    from weft.operators.weights import find_weights

    transformers()  # imports torchaudio, which some builds cannot, in a way that does not fail
    from sentence_transformers import SentenceTransformer

    folder = find_weights(MODEL, None, "benchmarks.text").folder
    return SentenceTransformer(str(folder), device="cpu", local_files_only=True)


def as_table(keys: Any, vectors: Any) -> Any:
    """Keys and vectors as rows."""
    import numpy as np
    import pyarrow as pa

    flat = pa.array(np.concatenate(vectors).reshape(-1))
    return pa.table({"key": keys, "embedding": pa.FixedSizeListArray.from_arrays(flat, DIM)})


class Arrival:
    """sentence-transformers as a pipeline calls it: `BATCH` texts, in the order they arrive."""

    def __init__(self, workload: str) -> None:
        self.model = encoder()

    def run(self, folder: str, out: str) -> None:
        """Read, encode and write Parquet."""
        import pyarrow.parquet as pq

        rows = pq.read_table(folder)
        vectors = list(map(self.encode, self.batches(rows["text"].to_pylist())))
        os.makedirs(out)
        pq.write_table(as_table(rows["key"], vectors), f"{out}/0.parquet")

    def batches(self, texts: list[str]) -> list[list[str]]:
        """What `encode` is given, call by call."""
        return [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]

    def encode(self, texts: list[str]) -> Any:
        """Vectors, in the order of the texts."""
        return self.model.encode(texts, batch_size=BATCH, show_progress_bar=False)


class AtOnce(Arrival):
    """sentence-transformers when everything is there before it begins."""

    def batches(self, texts: list[str]) -> list[list[str]]:
        """One call."""
        return [texts]


class Weft:
    """weft, by the pipeline a user would write."""

    engine = "local"

    def __init__(self, workload: str) -> None:
        pass

    def run(self, folder: str, out: str) -> None:
        """One run: planned, journalled, published."""
        result = embed(source=folder, out=out).run(engine=self.engine)
        assert result.state == "published", result


class WeftOnRay(Weft):
    """The same on Ray, which weft starts in its first run."""

    engine = "ray"


@weft.pipeline
def embed(source: str, out: str) -> Any:
    """Embed each text."""
    from weft.connectors import Lance, Parquet
    from weft.operators import text

    rows = weft.read(Parquet(source, key="key")).apply(text.Embed(MODEL))
    return rows.select("embedding").write(Lance(out))


class Encode:
    """An actor of Ray Data, with whole blocks: `encode` sorts those by length."""

    def __init__(self) -> None:
        self.model = encoder()

    def __call__(self, rows: Any) -> Any:
        """A block of rows."""
        found = self.model.encode(
            rows["text"].to_pylist(), batch_size=BATCH, show_progress_bar=False
        )
        return as_table(rows["key"], [found])


class RayData:
    """Ray Data by hand, at its best: a pool that loads the model once, blocks as they are.

    Measured and left: batches of 32 cost as much padding as `arrival` does.
    """

    def __init__(self, workload: str) -> None:
        start_ray_data()

    def run(self, folder: str, out: str) -> None:
        """Read, encode and write Parquet."""
        import ray.data

        ray.data.read_parquet(folder).map_batches(
            Encode,
            compute=ray.data.ActorPoolStrategy(size=1),
            batch_size=None,
            batch_format="pyarrow",
            zero_copy_batch=True,
        ).write_parquet(out)


class Daft:
    """Daft, with a function that loads the model once, on whole partitions."""

    def __init__(self, workload: str) -> None:
        import daft

        vector = daft.DataType.embedding(daft.DataType.float32(), DIM)

        @daft.udf(return_dtype=vector, concurrency=1)
        class Embed:
            def __init__(self) -> None:
                self.model = encoder()

            def __call__(self, texts: Any) -> Any:
                found = self.model.encode(
                    texts.to_pylist(), batch_size=BATCH, show_progress_bar=False
                )
                return list(found)

        self.embed = Embed

    def run(self, folder: str, out: str) -> None:
        """Read, encode and write Parquet."""
        import daft

        rows = daft.read_parquet(f"{folder}/*.parquet")
        rows = rows.select("key", self.embed(daft.col("text")).alias("embedding"))
        rows.write_parquet(out)


CONTENDERS: dict[str, Callable[[str], Any]] = {
    "arrival": Arrival,
    "at_once": AtOnce,
    "local": Weft,
    "ray": WeftOnRay,
    "ray_data": RayData,
    "daft": Daft,
}
