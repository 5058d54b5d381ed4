"""Which of some words describes an image best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from weft.errors import DefinitionError
from weft.operators.clip import Clip, ImageTower, TextTower, Vectors
from weft.operators.model import to_numpy
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Float32, Image, Tensor, Text, Values


@dataclass(frozen=True)
class ZeroShot(Clip):
    """Label images with the words of `labels` by a CLIP model, without training.

    Reads `image`: height x width x 1, 3 or 4 channels, 8 bits, of any size.
    Writes `label`, the one that fits best; `label_score`, its probability among the labels; and
    `label_scores`, that of each of them, in their order.

    Each label is put into `template`, as CLIP was trained on sentences. The probabilities are the
    softmax of transformers' ``CLIPModel.logits_per_image``: they say how the labels compare, so
    add labels for what else there may be, such as ``"something else"``. `model` and `revision`
    are those of `image.Embed`.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021
    (arXiv:2103.00020), section 3.1.

    Raises:
        DefinitionError: no such model, or not a CLIP model; fewer than two labels, one twice, or
            one too long; no ``{}`` in the template.
        RowError: the array is not an image; there is not enough memory for one image.
    """

    labels: tuple[str, ...]
    template: str = "a photo of {}"

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(label=Text(), label_score=Float32(), label_scores=Tensor("float32", (None,)))

    def __post_init__(self) -> None:
        super().__post_init__()
        labels = self.labels
        if isinstance(labels, str) or len(labels) < 2 or len(set(labels)) != len(labels):
            raise DefinitionError(
                f"{self.name}: labels={labels!r}: expected two or more different texts. Their "
                "probabilities add up to 1, so that a single one would fit every image."
            )
        object.__setattr__(self, "labels", tuple(labels))
        if "{}" not in self.template:
            raise DefinitionError(
                f"{self.name}: template={self.template!r}: expected a text with {{}}, where the "
                "label goes."
            )

    def infer(self, inputs: Fields) -> Fields:
        """As many scores as labels."""
        scores = Tensor("float32", (len(self.labels),))
        return fields(label=Text(), label_score=Float32(), label_scores=scores)

    def setup(self, device: str) -> _Classifier:
        """The model, and the vectors of the labels."""
        return _Classifier(self, device)

    def map(self, batch: BatchView, loaded: _Classifier) -> Mapping[str, Values]:
        """A batch of images."""
        scores = loaded.scores(batch["image"])
        best = scores.argmax(axis=1)
        return {
            "label": [self.labels[i] for i in best],
            "label_score": scores[np.arange(len(best)), best],
            "label_scores": scores,
        }


class _Classifier:
    """One worker's model."""

    def __init__(self, operator: ZeroShot, device: str) -> None:
        model = operator.load("CLIPModel", device)
        texts = [operator.template.replace("{}", label) for label in operator.labels]
        self.labels = to_numpy(TextTower(operator, device, model).vectors(texts))
        self.scale = float(model.logit_scale.detach().exp())
        self.tower = ImageTower(operator, device, model)

    def scores(self, images: Values) -> Vectors:
        """(images, labels): probabilities."""
        logits = self.scale * (self.tower(images) @ self.labels.T)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        made: Vectors = powers / powers.sum(axis=1, keepdims=True)
        return made
