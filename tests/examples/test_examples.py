"""Every example, run on photographs; truth: Pillow, NumPy and OpenCV on the same files."""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import lance
import numpy as np
import pdqhash
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def published(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of a dataset by file name, read with Lance alone."""
    table = lance.dataset(str(path), version="latest").to_table(blob_handling="all_binary")
    return {Path(row["uri"]).name: row for row in table.to_pylist()}


def pixels(path: Path, size: int | None = None) -> np.ndarray:
    with Image.open(path) as image:
        made = image.convert("RGB")
    if size is not None:
        made.thumbnail((size, size), Image.Resampling.BILINEAR, reducing_gap=None)
    return np.asarray(made)


def luma(image: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(image).convert("L"))


def sharpness(image: np.ndarray) -> float:
    return float(cv2.Laplacian(luma(image), cv2.CV_64F).std() / 50)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_photos(
    engine: str,
    photographs: Callable[..., Path],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if engine == "ray":
        request.getfixturevalue("ray_engine")
    folder = photographs(broken=True)
    (folder / "empty.jpg").touch()
    out = tmp_path / "photos.lance"
    result = load("photos").photos(source=f"{folder}/*.jpg", out=str(out)).run(engine=engine)

    small = {p.name: pixels(p, 512) for p in folder.glob("[!be]*.jpg")}
    sharp = {name for name, image in small.items() if sharpness(image) > 0.2}
    rows = published(out)
    assert set(rows) == sharp
    assert (result.rows, result.failed, result.kept) == (9, 1, {"write": len(sharp)})
    for name, row in rows.items():
        image = small[name]
        with Image.open(folder / name) as original:
            assert (row["width"], row["height"]) == original.size
        # A JPEG is decoded at a fraction of its size, which may differ by half a level.
        assert row["sharpness"] == pytest.approx(sharpness(image), rel=0.03)
        assert row["brightness"] == pytest.approx(luma(image).mean() / 255, abs=0.002)
        assert row["contrast"] == pytest.approx(luma(image).std() / 255, abs=0.002)
        bits = np.unpackbits(np.frombuffer(row["pdq"], np.uint8))
        assert np.count_nonzero(bits != pdqhash.compute(image)[0]) <= 10
        assert np.linalg.norm(row["descriptor"]) == pytest.approx(1, abs=1e-6)
        with Image.open(io.BytesIO(row["thumbnail"])) as thumbnail:
            assert thumbnail.format == "JPEG"
            assert thumbnail.size == (image.shape[1], image.shape[0])
            difference = np.abs(np.asarray(thumbnail, np.int16) - image).mean()
        assert difference < 4

    errors = lance.dataset(f"{out}.weft/errors.lance", version="latest").to_table().to_pylist()
    assert [(e["_key"], e["step"], e["error"]) for e in errors] == [
        ("broken.jpg", "decode", "RowError")
    ]
    ledger = lance.dataset(f"{out}.weft/ledger.lance", version="latest").to_table().to_pylist()
    assert {line["_key"]: line["outcome"] for line in ledger} == {
        "empty.jpg": "dropped",
        "broken.jpg": "failed",
        **{name: "kept" if name in sharp else "dropped" for name in small},
    }


def test_photos_twice_is_in_sync(photographs: Callable[..., Path], tmp_path: Path) -> None:
    folder = photographs("china", "coffee")
    made = load("photos").photos(source=f"{folder}/*.jpg", out=str(tmp_path / "photos.lance"))
    assert not made.run(engine="local").in_sync
    assert made.run(engine="local").in_sync


def test_own_operators(photographs: Callable[..., Path], tmp_path: Path) -> None:
    folder, out = photographs(), tmp_path / "tones.lance"
    load("own_operator").tones(source=f"{folder}/*.jpg", out=str(out)).run(engine="local")
    rows = published(out)
    assert set(rows) == {p.name for p in folder.iterdir()}
    for name, row in rows.items():
        image = pixels(folder / name, 256).astype(float)
        warmth = (image[:, :, 0].mean() - image[:, :, 2].mean()) / 255
        assert row["warmth"] == pytest.approx(warmth, abs=0.004)
        assert row["tone"] == ["dark", "middle", "light"][int(image.mean() / 256 * 3)]


def test_own_operators_without_an_engine() -> None:
    example = load("own_operator")
    red = np.zeros((4, 4, 3), np.uint8)
    red[:, :, 0] = 255
    assert example.warmth(red) == 1.0
    assert example.Tone()(red) == "dark"
    assert example.Tone(("black", "white"))(red) == "black"


def test_branches(photographs: Callable[..., Path], tmp_path: Path) -> None:
    folder = photographs(broken=True)
    made = load("branches").branches(source=f"{folder}/*.jpg", folder=str(tmp_path))
    result = made.run(engine="local")
    whole = {p.name: pixels(p) for p in folder.glob("[!b]*.jpg")}

    thumbnails = published(tmp_path / "thumbnails.lance")
    assert set(thumbnails) == set(whole)
    for name, row in thumbnails.items():
        with Image.open(io.BytesIO(row["encoded"])) as thumbnail:
            assert thumbnail.format == "WEBP"
            difference = np.asarray(thumbnail, np.int16) - pixels(folder / name, 128)
        assert np.abs(difference).mean() < 8

    measures = published(tmp_path / "measures.lance")
    assert set(measures) == {name for name, image in whole.items() if image.shape[1] >= 600}
    assert 0 < len(measures) < len(thumbnails)
    for name, row in measures.items():
        height, width = whole[name].shape[:2]
        assert row["megapixels"] == pytest.approx(width * height / 1e6)
        assert row["sharpness"] == pytest.approx(sharpness(pixels(folder / name, 512)), rel=0.03)

    decode = result.books["decode"]
    assert (decode.taken, decode.passed, decode.failed) == (8, 7, 1)  # once for both branches


def test_likeness_puts_twins_side_by_side() -> None:
    vectors = np.eye(6)[[0, 1, 2, 0, 1, 2]] + 0.01 * np.eye(6)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = load("demo_page").by_likeness(vectors)
    assert sorted(order) == list(range(6))
    pairs = {frozenset(pair) for pair in pairwise(order)}
    assert {frozenset((i, i + 3)) for i in range(3)} <= pairs
