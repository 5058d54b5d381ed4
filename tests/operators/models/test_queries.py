"""Searching pictures by words, by a CLIP model. Truth: transformers' own CLIP and processor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import weft
from weft.cli.main import cli
from weft.connectors import Files, Lance
from weft.operators import image, text
from weft.operators.model import transformers
from weft.operators.queries import Space
from weft.operators.weights import find_weights

SHAPES = ((40, 60, 3), (32, 32, 3), (90, 35, 3), (50, 50, 3), (33, 70, 3))
WORDS = "a red car"


@pytest.fixture
def dataset(
    clip_folder: Path, pictures: Callable[..., list[np.ndarray]], tmp_path: Path
) -> tuple[str, dict[str, np.ndarray]]:
    """A dataset of pictures by a model in a folder, and the pictures by key."""
    made = {f"p{i}.png": picture for i, picture in enumerate(pictures(*SHAPES))}
    for name, picture in made.items():
        Image.fromarray(picture).save(tmp_path / name)
    out = str(tmp_path / "out.lance")

    @weft.pipeline
    def seen() -> Any:
        rows = weft.read(Files(f"{tmp_path}/*.png")).apply(image.Decode())
        rows = rows.apply(image.Embed(str(clip_folder)), embedding="clip")
        return rows.select("uri", "clip").write(Lance(out, index="clip"))

    seen().run(engine="local")
    return out, made


def search(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["search", *map(str, arguments), "--json"])


def unit(vectors: Any) -> np.ndarray:
    array = vectors.pooler_output.detach().double().numpy()
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_pictures_by_words_and_by_a_picture(
    dataset: Any, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, made = dataset
    monkeypatch.setenv("WEFT_MODELS", str(clip_folder.parent))
    hub = transformers()
    model = hub.CLIPModel.from_pretrained(clip_folder)
    pixels = hub.CLIPImageProcessorPil.from_pretrained(clip_folder)(
        list(made.values()), return_tensors="pt"
    )
    tokens = hub.AutoTokenizer.from_pretrained(clip_folder)([WORDS], return_tensors="pt")
    images = unit(model.get_image_features(**pixels))
    queries = {"--text": (WORDS, unit(model.get_text_features(**tokens))[0])}
    queries["--image"] = (tmp_path / "p2.png", images[2])
    for option, (value, vector) in queries.items():
        cosines = dict(zip(made, images @ vector, strict=True))
        result = search(out, option, value)
        assert result.exit_code == 0, result.stderr
        rows = json.loads(result.stdout)["rows"]
        assert [row["key"] for row in rows] == sorted(cosines, key=lambda k: -cosines[k])
        np.testing.assert_allclose(
            [row["similarity"] for row in rows], sorted(cosines.values(), reverse=True), atol=1e-4
        )


def test_a_prompt_for_queries(tmp_path: Path) -> None:
    """Truth: sentence-transformers' `encode_query` and `encode`."""
    transformers()
    from sentence_transformers import SentenceTransformer

    hub, folder = transformers(), tmp_path / "model"
    words = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = hub.BertConfig(**words, intermediate_size=32, initializer_range=0.5)
    hub.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    minilm = find_weights("all-MiniLM-L6-v2", None, "test").folder
    assert minilm is not None
    for file in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
        shutil.copy(minilm / file, folder)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for prompts in ({}, {"query": "search for: "}):
        settings = {"prompts": prompts, "default_prompt_name": None}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
        truth = SentenceTransformer(str(folder), device="cpu")
        note = {**text.Embed(str(folder)).identity(), "of": {"type": "Text"}, "out": "embedding"}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("WEFT_MODELS", str(folder))
            found = Space([note]).text(WORDS)
        np.testing.assert_allclose(found, truth.encode_query(WORDS), atol=1e-5)
        plain = np.abs(found - truth.encode(WORDS)).max()
        assert plain > 0.01 if prompts else plain < 1e-5


def test_a_model_that_is_not_there(dataset: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = dataset
    monkeypatch.delenv("WEFT_MODELS", raising=False)
    result = search(out, "--text", WORDS)
    assert result.exit_code == 2
    assert "no folder has the weights sha256:" in result.stderr
    assert "WEFT_MODELS" in result.stderr
    assert search(out, "--like", "p1.png").exit_code == 0
