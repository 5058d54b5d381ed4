"""The example on clips; truth: how the clips were made, and OpenCV on the thumbnails."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from typing import Any

import av
import lance
import numpy as np
import pytest
import skimage.data
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "clips.py"
SCENES = (skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea())


def pipeline() -> Any:
    spec = importlib.util.spec_from_file_location("clips", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.clips


def scene(number: int) -> np.ndarray:
    return np.ascontiguousarray(SCENES[number][:240, :300])


def film(path: Path, *scenes: int) -> None:
    """A second and a half of each scene, ten frames a second."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 300, 240, "yuv420p"
        for number in scenes:
            for _ in range(15):
                frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
                output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_clips(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_engine")
    film(tmp_path / "two.mp4", 0, 1)
    film(tmp_path / "one.mkv", 2)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "two.mp4").read_bytes()[:5000])
    (tmp_path / "empty.mp4").touch()
    out = tmp_path / "frames.lance"
    result = pipeline()(source=f"{tmp_path}/*.m[pk]*", out=str(out)).run(engine=engine)
    assert (result.rows, result.failed) == (4, 1)

    table = lance.dataset(str(out), version="latest").to_table(blob_handling="all_binary")
    rows = sorted(table.to_pylist(), key=lambda row: (row["uri"], row["time_seconds"]))
    found = [(Path(row["uri"]).name, row["index"], row["time_seconds"]) for row in rows]
    assert found == [
        ("one.mkv", 0, 0.0), ("one.mkv", 10, 1.0),
        ("two.mp4", 0, 0.0), ("two.mp4", 10, 1.0), ("two.mp4", 20, 2.0),
    ]  # fmt: skip
    for row, shown in zip(rows, (2, 2, 0, 0, 1), strict=True):
        with Image.open(io.BytesIO(row["thumbnail"])) as thumbnail:
            truth = Image.fromarray(scene(shown)).resize(thumbnail.size, Image.Resampling.BOX)
            assert thumbnail.size == (224, 179)
            difference = np.asarray(thumbnail, np.int16) - np.asarray(truth)
        assert np.abs(difference).mean() < 8
        assert (row["video_codec"], row["has_audio"], row["frame_rate"]) == ("h264", False, 10.0)
    assert [row["duration_seconds"] for row in rows] == pytest.approx([1.5, 1.5, 3, 3, 3])
    cut = {"start_seconds": 0.0, "end_seconds": 1.5}, {"start_seconds": 1.5, "end_seconds": 3.0}
    assert rows[-1]["shots"] == list(cut)
    assert len(rows[0]["shots"]) == 1
