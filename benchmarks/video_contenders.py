"""The contenders of `benchmarks.video`: a frame a second of each clip, as 224 x 224 pixels.

Frames are those shown at 0, 1, 2, … seconds. They are converted to RGB by swscale at full size,
then resized by Pillow, bilinear and antialiased, both sides to 224; `read_videos` and Daft resize
by swscale, which is all they offer, and get the tolerance for it. All give the columns ``key``,
the file and the number of the frame, and ``image``.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import weft
from benchmarks.clips import RATE
from benchmarks.contest import CORES, start_ray_data

SIDE = 224
Pixels = npt.NDArray[np.uint8]


def sample(content: bytes, *, skip: bool = False) -> Iterator[Pixels]:
    """The loop of somebody who knows PyAV: seek where that brings a later keyframe, else go on.

    `skip` leaves out the decoding of frames that no other refers to, as weft does.
    """
    import av

    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # a clip for each core is more than both for one
        stream.codec_context.thread_type = "NONE"
        seconds = math.ceil(stream.duration * stream.time_base)
        wanted, reached = [0], 0
        frames = _frames(container, stream, wanted, skip)
        for second in range(seconds):
            wanted[0] = round(second / stream.time_base)
            if _keyframe(stream, wanted[0]) > reached:
                container.seek(wanted[0], stream=stream)
                frames = _frames(container, stream, wanted, skip)
            frame = next(f for f in frames if f.pts + f.duration > wanted[0])
            reached = frame.pts
            yield resized(frame.to_ndarray(format="rgb24", threads=1))


def _frames(container: Any, stream: Any, wanted: list[int], skip: bool) -> Iterator[Any]:
    for packet in container.demux(stream):
        if skip:
            before = packet.pts is not None and packet.pts + packet.duration <= wanted[0]
            stream.codec_context.skip_frame = "NONREF" if before else "DEFAULT"
        yield from packet.decode()


def _keyframe(stream: Any, wanted: int) -> int:
    """The last keyframe at or before `wanted`, as the file's own index has it."""
    entries = stream.index_entries
    found = entries.search_timestamp(wanted, backward=True)
    return int(entries[found].timestamp) if found >= 0 else 0


def resized(rgb: Pixels) -> Pixels:
    from PIL import Image

    small = Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(small)


def rows_of(name: str, images: Iterable[Pixels]) -> Any:
    """The frames of a clip as rows."""
    made = list(images)
    return as_table([f"{name}#{number}" for number in range(len(made))], made)


def as_table(keys: Sequence[str], images: Sequence[Pixels]) -> Any:
    """Rows as an Arrow table, images as lists of fixed size."""
    import pyarrow as pa

    flat = np.stack(images).reshape(-1)
    image = pa.FixedSizeListArray.from_arrays(pa.array(flat), SIDE * SIDE * 3)
    return pa.table({"key": pa.array(keys, pa.string()), "image": image})


class Limit:
    """The loop in plain threads, a clip each, results to Lance: what this machine can do."""

    skip = False

    def __init__(self, workload: str) -> None:
        from weft.pipelines.engines.allocator import tune_allocator

        tune_allocator()

    def run(self, folder: str, out: str) -> None:
        """Threads take clips one by one; each is written as it comes."""
        from concurrent.futures import ThreadPoolExecutor

        import lance
        from lance.fragment import write_fragments

        fragments, schema = [], None
        with ThreadPoolExecutor(CORES) as pool:
            for table in pool.map(self._one, sorted(Path(folder).glob("*.mp4"))):
                schema = table.schema
                fragments += write_fragments(table, out, mode="overwrite", schema=schema)
        lance.LanceDataset.commit(out, lance.LanceOperation.Overwrite(schema, fragments))

    def _one(self, file: Path) -> Any:
        return rows_of(file.name, sample(file.read_bytes(), skip=self.skip))


class LimitSkips(Limit):
    """The same by somebody who also knows `skip_frame`. No target: the issue names a loop that
    seeks."""

    skip = True


class Weft:
    """weft, by the pipeline a user would write."""

    engine = "local"

    def __init__(self, workload: str) -> None:
        """Nothing to start."""

    def run(self, folder: str, out: str) -> None:
        """One run: planned, journalled, published."""
        result = frames(source=f"{folder}/*.mp4", out=out).run(engine=self.engine)
        assert result.state == "published", result


class WeftOnRay(Weft):
    """The same on Ray, which weft starts in its first run."""

    engine = "ray"


@weft.pipeline
def frames(source: str, out: str) -> Any:
    """A frame of each second."""
    from weft.connectors import Files, Lance
    from weft.operators import image, video

    rows = weft.read(Files(source, kind="video"))
    rows = rows.apply(video.Frames(every=1.0)).apply(image.Resize(SIDE, fit="fill"))
    return rows.select("image").write(Lance(out))


class RayData:
    """Ray Data by hand, at its best: the limit's loop, a task for each clip, nothing between.

    Measured and left: a block for each clip is faster than a block for each core, since clips
    are not equally long.
    """

    def __init__(self, workload: str) -> None:
        start_ray_data()

    def run(self, folder: str, out: str) -> None:
        """Read, sample and write Parquet."""
        self.dataset(folder).write_parquet(out)

    def dataset(self, folder: str) -> Any:
        """The rows to write."""
        import pyarrow as pa
        import ray

        def work(batch: Any) -> Any:
            from weft.pipelines.engines.allocator import tune_allocator

            tune_allocator()
            files = zip(batch["path"].to_pylist(), batch["bytes"], strict=True)
            return pa.concat_tables(
                rows_of(os.path.basename(path), sample(content.as_py(), skip=True))
                for path, content in files
            )

        return ray.data.read_binary_files(
            folder, include_paths=True, override_num_blocks=len(os.listdir(folder))
        ).map_batches(work, batch_size=None, batch_format="pyarrow", zero_copy_batch=True)


class RayDataReadVideos(RayData):
    """Ray Data by its own reader of videos: decord, a frame a second, resized by it."""

    def dataset(self, folder: str) -> Any:
        """Sampled by Ray; keys made in batches."""
        import ray

        def work(batch: dict[str, Any]) -> Any:
            names = [os.path.basename(path) for path in batch["path"]]
            numbers = [int(index) // RATE for index in batch["frame_index"]]
            keys = [f"{name}#{number}" for name, number in zip(names, numbers, strict=True)]
            return as_table(keys, list(batch["frame"]))

        return ray.data.read_videos(
            folder, fps=1, resize=(SIDE, SIDE), include_paths=True,
            override_num_blocks=len(os.listdir(folder)),
        ).map_batches(work, batch_size=None)  # fmt: skip


class Daft:
    """Daft by its own decoder, which samples by time, and its resize.

    As an expression on a column of files: `daft.read_video_frames`, the same decoder as a
    source, waits for ever in Daft 0.7.26 when there are as many files as cores.
    """

    def __init__(self, workload: str) -> None:
        import daft

        @daft.udf(return_dtype=daft.DataType.list(daft.DataType.uint8()))
        def flat(images: Any) -> list[Any]:
            return [np.asarray(image).reshape(-1) for image in images.to_pylist()]

        self.flat = flat

    def run(self, folder: str, out: str) -> None:
        """Read, sample and write Parquet."""
        import daft
        from daft import col, lit
        from daft.functions import video_file, video_frames

        clips = daft.from_glob_path(f"{folder}/*.mp4").select("path")
        sampled = video_frames(
            video_file(col("path")), width=SIDE, height=SIDE, sample_interval_seconds=1.0
        )
        rows = clips.with_column("frame", sampled).explode("frame")
        number = (col("frame")["frame_index"] // RATE).cast(daft.DataType.string())
        rows = rows.select(
            (col("path") + lit("#") + number).alias("key"),
            self.flat(col("frame")["data"]).alias("image"),
        )
        rows.write_parquet(out)


CONTENDERS: dict[str, Callable[[str], Any]] = {
    "limit": Limit,
    "limit_skips": LimitSkips,
    "local": Weft,
    "ray": WeftOnRay,
    "ray_data": RayData,
    "ray_data_read_videos": RayDataReadVideos,
    "daft": Daft,
}
