"""Truth: numbers in the frames, ffmpeg's pixels, image.Resize; what is decoded is counted."""

from __future__ import annotations

from pathlib import Path

import lance
import numpy as np
import polars as pl
import pytest

import weft
from weft.connectors import Files, Lance
from weft.errors import DefinitionError, RowError
from weft.operators import image, video
from weft.operators.video import Frames
from weft.operators.video.cursor import Cursor
from weft.pipelines import types
from weft.pipelines.fields import fields
from weft.pipelines.operator import Later

from .clips import clip, made, number, numbers
from .truth import needs_ffmpeg, rgb_frames


@needs_ffmpeg
@pytest.mark.parametrize("name", ["h264", "quarter turn", "vp9", "mpeg4 raw"])
def test_all_frames_are_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    rows = Frames()(made(name))
    ours = np.stack([row["image"] for row in rows])
    truth = rgb_frames(made(name), tmp_path, ours.shape[1:], "-sws_flags", "bilinear")
    assert np.array_equal(ours, truth)
    assert [row["index"] for row in rows] == list(range(len(ours)))


def listed(operator: Frames, content: bytes) -> list[dict[str, object]]:
    return list(operator.expand_row({"content": content}, None))


def test_listing_decodes_nothing() -> None:
    rows = listed(Frames(), made("vp9"))
    assert all(isinstance(row["image"], Later) for row in rows)
    assert all(not isinstance(row[port], Later) for row in rows for port in Frames.early)
    assert not rows[0]["image"].make.args[0]._clip.context.is_open


def test_only_what_is_wanted_is_decoded() -> None:
    rows = listed(Frames(), made("vp9"))  # a keyframe every 12 frames
    wanted = [row for row in rows if row["index"] % 12 == 0]
    assert numbers(row["image"].make() for row in wanted) == [0, 12, 24, 36]
    assert rows[0]["image"].make.args[0].decoded == 4
    rows = listed(Frames(), made("h264 long GOP"))
    early = [row for row in rows if row["time_seconds"] < 0.5]
    assert numbers(row["image"].make() for row in early) == list(range(15))
    assert rows[0]["image"].make.args[0].decoded < 20


def test_range_and_every() -> None:
    content = made("h264")
    assert [r["index"] for r in Frames(start=0.5, stop=0.7, size=9)(content)] == list(range(15, 21))
    assert [r["index"] for r in Frames(every=0.5, size=9)(content)] == [0, 15, 30, 45]
    rows = Frames(every=0.5, start=0.01, stop=1.1, size=60)(content)
    assert [r["index"] for r in rows] == [0, 15, 30]
    assert numbers(r["image"] for r in rows) == [0, 15, 30]
    assert len(Frames(every=0.001, size=9)(content)) == 60  # each once
    assert Frames(start=5)(content) == []
    assert Frames(every=1, start=5)(content) == []


def test_absorbing_a_resize_is_exact() -> None:
    content = made("quarter turn")
    chain = (image.Resize(100), image.Resize((40, 50), "cover"))
    absorbed = Frames(every=1)
    for operator in chain:
        absorbed = absorbed.absorb(operator, "image")
    for ours, whole in zip(absorbed(content), Frames(every=1)(content), strict=True):
        assert np.array_equal(ours["image"], chain[1](chain[0](whole["image"])))
    assert absorbed.infer(fields(content=types.Encoded()))["image"] == types.Image(40, 50)
    assert Frames().absorb(image.Crop(10), "image") is None  # it can fail, and fails its row only
    assert Frames().absorb(video.Resize(10), "image") is None


def test_types() -> None:
    inferred = Frames(size=(20, 30), fit="fill").infer(fields(content=types.Encoded("video")))
    assert inferred == fields(
        image=types.Image(20, 30), index=types.Int64(), time_seconds=types.Float64()
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"every": -1}, r"every=-1: expected a positive number of seconds"),
        ({"start": "1"}, r"start='1': expected seconds"),
        ({"stop": 0}, r"stop=0: expected seconds after start=0\.0"),
        ({"max_pixels": 0}, r"max_pixels=0: expected at least 1"),
        ({"then": (video.Resize(3),)}, r"then holds Resize\(.*expected image\.Resize only"),
        ({"size": (1, 2, 3)}, r"size=\(1, 2, 3\)"),
    ],
)
def test_wrong_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=r"^video\.Frames: " + message):
        Frames(**parameters)  # type: ignore[arg-type]


def test_limits() -> None:
    with pytest.raises(RowError, match=r"too large\. Given 320x240"):
        Frames(max_pixels=1000)(made("h264"))
    with pytest.raises(RowError, match=r"too many frames\. Given more than 10"):
        Frames(max_frames=10)(made("h264"))


@weft.pipeline
def thirds(source: str, out: str):
    rows = weft.read(Files(source)).apply(video.Frames(), isolated=False).apply(image.Resize(60))
    rows = rows.where(pl.col("index") % 20 == 0)
    return rows.select("key", "index", "time_seconds", "image").write(Lance(out))


def test_in_a_pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cursors: list[Cursor] = []
    start = Cursor.__init__

    def watch(cursor: Cursor, *given: object) -> None:
        cursors.append(cursor)
        start(cursor, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Cursor, "__init__", watch)
    (tmp_path / "a.mp4").write_bytes(made("h264"))
    (tmp_path / "b.mp4").write_bytes(made("mpeg4"))
    (tmp_path / "c.mp4").write_bytes(clip(frames=30)[:-3000])
    made_of = thirds(source=f"{tmp_path}/*.mp4", out=str(tmp_path / "out.lance"))
    assert "then=[image.Resize(size=60)]" in str(made_of.plan())
    result = made_of.run(engine="local")
    assert result.failed == 1
    assert len(cursors) == 2
    assert all(0 < cursor.decoded < 50 for cursor in cursors)  # of 60 packets
    rows = lance.dataset(str(tmp_path / "out.lance"), version="latest").to_table().to_pylist()
    found = sorted((row["key"], row["index"], round(row["time_seconds"], 3)) for row in rows)
    times = [(0, 0.0), (20, 0.667), (40, 1.333)]
    assert found == [(key, *t) for key in ("a.mp4", "b.mp4") for t in times]
    for row in rows:
        pixels = np.array(row["image"]["data"], np.uint8).reshape(row["image"]["shape"])
        assert number(pixels) == row["index"]
