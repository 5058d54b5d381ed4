"""Truth: the pictures themselves, and clips whose frames say their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError, RowError
from weft.operators import video
from weft.pipelines import types
from weft.pipelines.batch import batch_from_arrow
from weft.pipelines.fields import arrow_field, fields, fields_of
from weft.pipelines.runs.budget import Budget

from .clips import clip, numbers


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_pictures(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels), np.uint8)
    for given in (list(images), images):
        made = video.Stack()(given)
        assert made.dtype == np.uint8
        np.testing.assert_array_equal(made, images)


def test_pictures_of_different_sizes_are_refused() -> None:
    images = [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    for other in ((4, 7, 3), (4, 6, 1), (6, 4, 3)):
        with pytest.raises(RowError) as caught:
            video.Stack()([*images, np.zeros(other, np.uint8)])
        size = " x ".join(map(str, other))
        assert f"video.Stack: picture 1 is 4 x 6 x 3 and picture 3 is {size} (" in str(caught.value)
        assert "image.Resize(" in str(caught.value)


@pytest.mark.parametrize(
    ("given", "inferred"),
    [
        (types.Image(), types.Frames()),
        (types.Image(40, 60), types.Frames(None, 40, 60)),
        (types.Image(None, 60, 1), types.Frames(None, None, 60, 1)),
        (types.Image(channels=None), types.Frames(channels=None)),
    ],
)
def test_types(given: types.Image, inferred: types.Frames) -> None:
    assert video.Stack().infer(fields(image=given)) == fields(frames=inferred)


@weft.pipeline
def clips_again(table: Any, every: float) -> Any:
    frames = weft.read(Arrow(table)).apply(video.Frames(every=every, size=90))
    odd = frames.where(pl.col("index") % 20 != 0)
    clips = odd.group("_parent", operator=video.Stack())
    return clips.write(Memory("clips_again"))


def videos(*contents: bytes) -> pa.Table:
    schema = pa.schema([arrow_field("content", types.Encoded("video"))])
    return pa.table({"content": pa.array(contents, pa.large_binary())}, schema=schema)


def test_frames_become_clips() -> None:
    table = videos(clip(frames=30), clip(frames=50), clip(frames=5))
    result = clips_again(table=table, every=1 / 3).run(engine="local")
    stored = Memory("clips_again").table()
    rows = batch_from_arrow(stored, fields_of(stored.schema))
    made = dict(zip(rows.keys, rows.columns["frames"].values, strict=True))
    # Frames 0, 10, 20, … of each; those that 20 divides were dropped, so the third has none.
    assert {key: numbers(frames) for key, frames in made.items()} == {"0": [10], "1": [10, 30]}
    assert made["1"].shape[0] == 2
    line = result.books["group"]
    assert (line.taken, line.passed, line.emitted) == (3, 3, 2)


def test_a_clip_of_two_sizes_fails_alone() -> None:
    @weft.operator(version="1")
    def pictures(n: int) -> list[weft.fields(image=weft.Image)]:  # type: ignore[valid-type]
        return [np.zeros((2, 2 + (n == 1) * i, 3), np.uint8) for i in range(2)]

    @weft.pipeline
    def stacked() -> Any:
        rows = weft.read(Arrow(pa.table({"n": [0, 1, 2]}))).apply(pictures)
        return rows.group("_parent", operator=video.Stack()).write(Memory("stacked"))

    result = stacked().run(engine="local", budget=Budget(rows=5))
    assert Memory("stacked").table().column("_key").to_pylist() == ["0", "2"]
    assert result.books["group"].failed == 2
    assert "picture 1 is 2 x 2 x 3 and picture 2 is 2 x 3 x 3" in result.samples[0]["message"]


def test_other_columns_are_refused() -> None:
    @weft.pipeline
    def wrong() -> Any:
        rows = weft.read(Arrow(pa.table({"image": [1]})))
        return rows.group("image", operator=video.Stack()).write(Memory())

    with pytest.raises(DefinitionError, match=r"video\.Stack reads port 'image'"):
        wrong()
