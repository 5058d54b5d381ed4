"""The example, run and searched on photographs. Truth: NumPy over the example's own vectors."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
from click.testing import CliRunner
from PIL import Image

from weft.cli.main import cli

EXAMPLE = Path(__file__).parents[2] / "examples" / "search_photos.py"


def search(*arguments: object) -> list[dict[str, object]]:
    result = CliRunner().invoke(cli, ["search", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.stderr
    rows: list[dict[str, object]] = json.loads(result.stdout)["rows"]
    return rows


def test_search_photos(photographs: Callable[..., Path], tmp_path: Path) -> None:
    photos, out = photographs(), tmp_path / "photos.lance"
    spec = importlib.util.spec_from_file_location("search_photos", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.search_photos(source=f"{photos}/*.jpg", out=str(out)).run(engine="local")

    table = lance.dataset(str(out), version="latest").to_table()
    keys = table["_key"].to_pylist()
    vectors = np.stack(table["descriptor"].to_numpy(zero_copy_only=False)).astype(np.float64)
    for key, vector in zip(keys, vectors, strict=True):
        order = [keys[i] for i in np.argsort(-(vectors @ vector))]
        assert [r["key"] for r in search(out, "--image", photos / key, "-k", 99)] == order
        assert [r["key"] for r in search(out, "--like", key, "-k", 99)] == order[1:]

    # A smaller, darker copy saved as another file is still nearest to its original.
    with Image.open(photos / keys[0]) as image:
        small = image.reduce(2).point(lambda v: int(v * 0.95))
    small.save(tmp_path / "copy.png")
    assert search(out, "--image", tmp_path / "copy.png")[0]["key"] == keys[0]
