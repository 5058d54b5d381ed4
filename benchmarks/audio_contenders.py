"""The contenders of `benchmarks.audio`: the log-mel of Whisper, 80 x frames, of each recording.

The mel spectrogram is the same everywhere, torchaudio's with its filters made once. Decoder and
resampler differ: libsndfile and torchaudio's sinc in the limit and in Ray Data by hand, FFmpeg's
in weft, librosa's (soxr) in Daft; so the outputs are equal within a tolerance. All give the
columns ``key``, the file, and ``mel``, its values row by row.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import weft
from benchmarks.contest import CORES, start_ray_data

RATE, MELS = 16_000, 80
_ROWS = 64
"""Rows of a batch, for those whose batches are ours to choose."""

Mel = npt.NDArray[np.float32]


@functools.cache
def _transforms() -> Any:
    """torchaudio's, in one thread: a clip for each core is more than both for one."""
    import torch

    from weft.operators.torchaudio_import import torchaudio

    torch.set_num_threads(1)
    return torchaudio().transforms


@functools.cache
def resampler(rate: int) -> Any:
    """From `rate` to 16 kHz, its kernel made once."""
    return _transforms().Resample(rate, RATE)


@functools.cache
def mel_transform() -> Any:
    """Power on 80 mels, as Whisper has them."""
    return _transforms().MelSpectrogram(
        RATE, n_fft=400, hop_length=160, n_mels=MELS, norm="slaney", mel_scale="slaney"
    )


def log_mel(samples: Any) -> Mel:
    """The log-mel of samples at 16 kHz, a tensor of one dimension."""
    import torch

    with torch.inference_mode():
        torch.set_num_threads(1)  # the number belongs to the calling thread
        log = mel_transform()(samples)[:, :-1].clamp(min=1e-10).log10()
        return ((log.clamp(min=float(log.max()) - 8.0) + 4.0) / 4.0).numpy()


def features(content: bytes) -> Mel:
    """The loop of somebody who knows the libraries: libsndfile, a kernel made once, one thread."""
    import soundfile
    import torch

    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    with torch.inference_mode():
        torch.set_num_threads(1)
        mono = torch.from_numpy(samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0])
        return log_mel(resampler(rate)(mono))


def as_table(keys: Sequence[str], mels: Sequence[Mel]) -> Any:
    """Rows as an Arrow table, mels as lists of their values."""
    import pyarrow as pa

    offsets = np.concatenate([[0], np.cumsum([m.size for m in mels])])
    values = pa.array(np.concatenate([m.reshape(-1) for m in mels]))
    lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), values)
    return pa.table({"key": pa.array(keys, pa.string()), "mel": lists})


class Limit:
    """The loop in plain threads, results to Lance: what this machine can do."""

    def __init__(self, workload: str) -> None:
        from weft.pipelines.engines.allocator import tune_allocator

        tune_allocator()
        mel_transform()

    def run(self, folder: str, out: str) -> None:
        """Threads take files one by one; results are written whenever there are enough."""
        from concurrent.futures import ThreadPoolExecutor

        import lance
        from lance.fragment import write_fragments

        files = sorted(Path(folder).glob("*.flac"))
        fragments, schema = [], None
        with ThreadPoolExecutor(CORES) as pool:
            made = pool.map(lambda file: features(file.read_bytes()), files)
            for start in range(0, len(files), 2 * _ROWS):
                part = files[start : start + 2 * _ROWS]
                table = as_table([f.name for f in part], [next(made) for _ in part])
                schema = table.schema
                fragments += write_fragments(table, out, mode="overwrite", schema=schema)
        lance.LanceDataset.commit(out, lance.LanceOperation.Overwrite(schema, fragments))


class Weft:
    """weft, by the pipeline a user would write."""

    engine = "local"

    def __init__(self, workload: str) -> None:
        """Nothing to start."""

    def run(self, folder: str, out: str) -> None:
        """One run: planned, journalled, published."""
        result = mels(source=f"{folder}/*.flac", out=out).run(engine=self.engine)
        assert result.state == "published", result


class WeftOnRay(Weft):
    """The same on Ray, which weft starts in its first run."""

    engine = "ray"


@weft.pipeline
def mels(source: str, out: str) -> Any:
    """The log-mel of each recording."""
    from weft.connectors import Files, Lance
    from weft.operators import audio

    rows = weft.read(Files(source, kind="audio"))
    rows = rows.apply(audio.Decode(sample_rate=RATE, channels=1)).apply(audio.MelSpectrogram())
    return rows.select("mel").write(Lance(out))


class RayData:
    """Ray Data by hand, at its best: the limit's loop in one fused task."""

    def __init__(self, workload: str) -> None:
        start_ray_data()

    def run(self, folder: str, out: str) -> None:
        """Read, compute and write Parquet."""
        self.dataset(folder).write_parquet(out)

    def dataset(self, folder: str) -> Any:
        """The rows to write."""

        def work(batch: Any) -> Any:
            keys = [os.path.basename(path) for path in batch["path"].to_pylist()]
            return as_table(keys, [features(content.as_py()) for content in batch["bytes"]])

        return self.files(folder).map_batches(
            work, batch_size=None, batch_format="pyarrow", zero_copy_batch=True
        )

    def files(self, folder: str) -> Any:
        """Names and bytes: 4 blocks a core or one for 64 files, whichever is more."""
        import ray

        blocks = max(4 * CORES, len(os.listdir(folder)) // _ROWS)
        return ray.data.read_binary_files(folder, include_paths=True, override_num_blocks=blocks)


class RayDataPublished(RayData):
    """Ray Data as in its published benchmark of transcription, up to the model: row by row, and
    a resampler made for each; features of the clip, not of 30 s of padding.

    Read by libsndfile: `torchaudio.load` needs TorchCodec since 2.9.
    """

    def dataset(self, folder: str) -> Any:
        """Two maps: resampled samples, then features."""

        def resample(row: dict[str, Any]) -> dict[str, Any]:
            import soundfile
            import torch

            samples, rate = soundfile.read(
                io.BytesIO(row["bytes"]), dtype="float32", always_2d=True
            )
            waveform = _transforms().Resample(rate, RATE)(torch.from_numpy(samples.T.copy()))
            return {"key": os.path.basename(row["path"]), "samples": waveform[0].numpy()}

        def extract(row: dict[str, Any]) -> dict[str, Any]:
            import torch

            mel = log_mel(torch.from_numpy(row["samples"].copy()))
            return {"key": row["key"], "mel": mel.reshape(-1)}

        return self.files(folder).map(resample).map(extract)


class Daft:
    """Daft by its own reader and resampler of sound; the features in a function of ours."""

    def __init__(self, workload: str) -> None:
        import daft

        @daft.udf(return_dtype=daft.DataType.list(daft.DataType.float32()))
        def mel(waveforms: Any) -> list[Mel]:
            import torch

            tensors = (torch.tensor(w, dtype=torch.float32) for w in waveforms.to_pylist())
            return [log_mel(samples).reshape(-1) for samples in tensors]

        self.mel = mel

    def run(self, folder: str, out: str) -> None:
        """Read, resample, compute and write Parquet."""
        import daft
        from daft import col
        from daft.functions import audio_file, resample

        rows = daft.from_glob_path(f"{folder}/*.flac").select("path")
        sound = resample(audio_file(col("path")), sample_rate=RATE)
        rows = rows.with_column("sound", sound)
        rows.select(col("path").alias("key"), self.mel(col("sound")).alias("mel")).write_parquet(
            out
        )


CONTENDERS: dict[str, Callable[[str], Any]] = {
    "limit": Limit,
    "local": Weft,
    "ray": WeftOnRay,
    "ray_data": RayData,
    "ray_data_published": RayDataPublished,
    "daft": Daft,
}
