"""Truth: image.Resize of each frame, which has its own tests against Pillow."""

from __future__ import annotations

import numpy as np
import pytest

from weft.errors import DefinitionError, RowError
from weft.operators import image
from weft.operators.video import Resize
from weft.pipelines import types
from weft.pipelines.fields import fields


@pytest.mark.parametrize("fit", ["contain", "cover", "fill"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [20, (30, 10), 500])
def test_each_frame(fit: str, channels: int, size: int | tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 60, channels), np.uint8)
    truth = [image.Resize(size, fit)(frame) for frame in frames]
    assert np.array_equal(Resize(size, fit)(frames), truth)


@pytest.mark.parametrize(
    ("given_type", "resize", "inferred"),
    [
        (types.Frames(), Resize(10), types.Frames()),
        (types.Frames(8, channels=None), Resize(10, "fill"), types.Frames(8, 10, 10, None)),
        (types.Frames(8, 40, 60), Resize(20), types.Frames(8, 13, 20)),
        (types.Frames(None, 40, 60, 1), Resize((5, 6), "cover"), types.Frames(None, 5, 6, 1)),
    ],
)
def test_types(given_type: types.Frames, resize: Resize, inferred: types.Frames) -> None:
    assert resize.infer(fields(frames=given_type)) == fields(frames=inferred)


@pytest.mark.parametrize("shape", [(40, 60, 3), (0, 40, 60, 3), (2, 0, 60, 3)])
def test_no_frames(shape: tuple[int, ...]) -> None:
    with pytest.raises(RowError, match=r"video\.Resize: given an array of shape .*; expected fra"):
        Resize(10)(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(("size", "fit"), [(0, "fill"), ((1, 2, 3), "fill"), (3, "crop")])
def test_wrong_parameters(size: object, fit: str) -> None:
    with pytest.raises(DefinitionError, match=r"^video\.Resize: "):
        Resize(size, fit)  # type: ignore[arg-type]
