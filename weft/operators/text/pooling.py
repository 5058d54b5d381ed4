"""From the tokens of a transformer to one vector, as sentence-transformers models describe it.

`modules.json` lists what a model is made of. Read are the transformer, the pooling after it
(``1_Pooling/config.json``) and whether vectors are made of length 1; a model with other layers is
refused. A plain transformer, without `modules.json`, is pooled by the mean, as
sentence-transformers does.

Reimers and Gurevych, "Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks", EMNLP 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weft.errors import DefinitionError
from weft.operators.weights import Weights

if TYPE_CHECKING:
    import torch

_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""How models before 2026 name their pooling, in the order in which several are joined."""

_KNOWN = (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


@dataclass(frozen=True)
class Recipe:
    """How a model makes a vector of a text."""

    modes: tuple[str, ...]
    dim: int
    normalize: bool
    max_tokens: int | None
    lower_case: bool
    prompt: str


def read_recipe(weights: Weights, by: str) -> Recipe:
    """The recipe in a model's configuration.

    Raises:
        DefinitionError: the model has layers or a pooling that are not known here.
    """
    modules = weights.config("modules.json") or [{"type": "Transformer", "path": ""}]
    kinds = [m["type"].rpartition(".")[2] for m in modules]
    if kinds not in _KNOWN:
        raise DefinitionError(
            f"{by}: the model is made of {', '.join(kinds)}; expected Transformer, Pooling and "
            "perhaps Normalize. Use another model, or weft.operators.model.Torch."
        )
    pooling = weights.config(f"{modules[1]['path']}/config.json") if len(kinds) > 1 else {}
    modes = _modes(pooling)
    if unknown := set(modes) - {"cls", "max", "mean"}:
        raise DefinitionError(
            f"{by}: the model pools by {', '.join(sorted(unknown))}; expected cls, max or mean."
        )
    width = weights.config()["hidden_size"]
    settings = weights.config("sentence_bert_config.json")
    return Recipe(
        modes=modes,
        dim=width * len(modes),
        normalize="Normalize" in kinds,
        max_tokens=settings.get("max_seq_length"),
        lower_case=bool(settings.get("do_lower_case")),
        prompt=_default_prompt(weights, pooling, by),
    )


def pool(states: torch.Tensor, mask: torch.Tensor, modes: Sequence[str]) -> torch.Tensor:
    """One vector for each row of (rows, tokens, width), padding left out; float32.

    Several modes are joined.
    """
    import torch

    states = states.float()
    present = mask.unsqueeze(-1).bool()
    made = []
    for mode in modes:
        if mode == "cls":
            first = mask.int().argmax(dim=1)  # padding may be on the left
            made.append(states[torch.arange(len(states), device=states.device), first])
        elif mode == "max":
            made.append(states.masked_fill(~present, -torch.inf).amax(dim=1))
        else:
            made.append((states * present).sum(dim=1) / present.sum(dim=1).clamp(min=1))
    return torch.cat(made, dim=1)


def _modes(pooling: Mapping[str, Any]) -> tuple[str, ...]:
    given = pooling.get("pooling_mode")
    if given is not None:
        return (given,) if isinstance(given, str) else tuple(given)
    return tuple(mode for flag, mode in _FLAGS.items() if pooling.get(flag)) or ("mean",)


def _default_prompt(weights: Weights, pooling: Mapping[str, Any], by: str) -> str:
    config = weights.config("config_sentence_transformers.json")
    name = config.get("default_prompt_name")
    prompt: str = (config.get("prompts") or {}).get(name) or ""
    if prompt and not pooling.get("include_prompt", True):
        raise DefinitionError(
            f"{by}: the model leaves its prompt out of the pooling, which is not known here. Use "
            "another model."
        )
    return prompt
