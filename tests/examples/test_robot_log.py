"""The example on logs made here; truth: pandas' merge_asof over what was written, and Pillow."""

from __future__ import annotations

import importlib.util
import io
import json
import random
from pathlib import Path

import lance
import numpy as np
import pandas as pd
import pytest
import skimage.data
from mcap.writer import Writer
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot_log.py"
MILLISECOND = 10**6


def drive(path: Path, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two seconds: frames about every 100 ms, the IMU every 10, silent for half a second."""
    chance = random.Random(seed)
    photo = Image.fromarray(skimage.data.astronaut())
    frames, felt = [], []
    with path.open("wb") as file:
        log = Writer(file, chunk_size=50_000)
        log.start("robot")
        camera, imu = (
            log.register_channel("/camera", "jpeg", 0),
            log.register_channel("/imu", "json", 0),
        )
        for at in range(0, 2000, 10):
            time = at * MILLISECOND + chance.randrange(MILLISECOND)
            if not 700 <= at < 1200:
                felt.append({"time_ns": time, "z": chance.random(), "a": [at, 0.5, -at]})
                message = {"angular_velocity": {"z": felt[-1]["z"]},
                           "linear_acceleration": felt[-1]["a"]}  # fmt: skip
                log.add_message(imu, time, json.dumps(message).encode(), time)
            if at % 100 == 0:
                time += 5 * MILLISECOND
                photo.crop((at // 10, 0, 300 + at // 10, 240)).save(jpeg := io.BytesIO(), "JPEG")
                frames.append({"time_ns": time, "jpeg": jpeg.getvalue()})
                log.add_message(camera, time, frames[-1]["jpeg"], time)
        log.finish()
    return pd.DataFrame(frames), pd.DataFrame(felt)


def test_robot_log(tmp_path: Path) -> None:
    folder, out = tmp_path / "logs", tmp_path / "robot_log.lance"
    folder.mkdir()
    written = {name: drive(folder / name, seed) for seed, name in enumerate(["a.mcap", "b.mcap"])}
    (folder / "cut.mcap").write_bytes((folder / "a.mcap").read_bytes()[:70_000])
    spec = importlib.util.spec_from_file_location("robot_log", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    result = module.robot_log(source=f"{folder}/*.mcap", out=str(out), size=64).run(engine="local")
    assert (result.rows, result.failed) == (3, 1)

    table = lance.dataset(str(out), version="latest").to_table()
    images = table["image"].combine_chunks().to_numpy_ndarray()
    rows = {
        (Path(row["uri"]).name, row["time_ns"]): (row, image)
        for row, image in zip(table.drop(["image"]).to_pylist(), images, strict=True)
    }
    expected = 0
    for name, (frames, felt) in written.items():
        truth = pd.merge_asof(
            frames,
            felt.assign(at=felt["time_ns"]),
            on="time_ns",
            direction="nearest",
            tolerance=20 * MILLISECOND,
        ).dropna()
        assert 10 <= len(truth) < len(frames)
        expected += len(truth)
        for one in truth.itertuples():
            row, image = rows[name, one.time_ns]
            assert row["imu_angular_velocity_z"] == one.z
            assert list(row["imu_linear_acceleration"]) == one.a
            assert row["imu_offset_seconds"] == pytest.approx((one.at - one.time_ns) / 1e9)
            with Image.open(io.BytesIO(one.jpeg)) as frame:
                half = frame.crop((30, 0, 270, 240)).resize((64, 64), Image.Resampling.BILINEAR)
            assert np.abs(image.astype(int) - np.asarray(half)).mean() < 1
    assert len(rows) == expected == result.kept["write"]
