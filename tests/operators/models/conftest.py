"""Small models with random weights, written as their libraries write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.operators.model import transformers

DIM = 24
SIDE = 32


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP model of two layers for images of 32 x 32, with its processor and tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "clip"
    make_clip().save_pretrained(folder)
    hub = transformers()
    tokenizer = hub.CLIPTokenizer(**_vocabulary())
    processor = hub.CLIPImageProcessorPil(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
    )
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def make_clip(seed: int = 0, patch: int = 8) -> Any:
    """A CLIP model with weights by `seed`."""
    import torch

    hub = transformers()
    torch.manual_seed(seed)
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        # Of the size that training gives: the default leaves all images alike.
        "initializer_factor": 12.0,
    }
    size = len(_vocabulary()["vocab"])
    words = {"vocab_size": size, "max_position_embeddings": 40, "eos_token_id": size - 1}
    return hub.CLIPModel(
        hub.CLIPConfig(
            text_config=small | words | {"bos_token_id": size - 2, "pad_token_id": size - 1},
            vision_config=small | {"image_size": SIDE, "patch_size": patch},
            projection_dim=DIM,
        )
    ).eval()


def _vocabulary() -> dict[str, Any]:
    """Letters alone and at the end of a word; no merges."""
    letters = [chr(c) for c in range(ord("!"), ord("~") + 1)]
    words = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    return {"vocab": {word: i for i, word in enumerate(words)}, "merges": []}


@pytest.fixture
def pictures() -> Callable[..., list[np.ndarray]]:
    """Smooth pictures of given shapes: ``pictures((40, 60, 3), …)``."""

    def make(*shapes: tuple[int, int, int]) -> list[np.ndarray]:
        random = np.random.default_rng(7)
        made = []
        for height, width, channels in shapes:
            y, x = np.mgrid[0:height, 0:width]
            waves = [
                np.sin(y / random.uniform(2, 20) + x / random.uniform(2, 20) + random.uniform(0, 6))
                for _ in range(channels)
            ]
            made.append(((np.stack(waves, axis=2) + 1) * 127.5).astype(np.uint8))
        return made

    return make
