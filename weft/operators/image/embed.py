"""Images to vectors, by a CLIP model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weft.operators.clip import Clip, ImageTower
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Embedding, Image, Values


@dataclass(frozen=True)
class Embed(Clip):
    """Embed images by a CLIP model; words that describe one have a vector near its own.

    Reads `image`: height x width x 1, 3 or 4 channels, 8 bits, of any size.
    Writes `embedding`: of length 1, so that a dot product is the cosine.

    `model` is a folder, or ``owner/name`` on the Hugging Face hub with its commit as `revision`;
    see `weft.operators.weights`. It is given what its own processor would give it: the vectors are
    those of transformers' ``CLIPModel.get_image_features``. An image that already has the size of
    the model is copied to the device as it is: where decoding is the bottleneck, decode to that
    size, ``image.Decode(224, fit="cover")``, whose filter is another than the processor's.

    ``embed_query(text)`` gives the vector of words, for search.

    Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021
    (arXiv:2103.00020).

    Raises:
        DefinitionError: no such model, or not a CLIP model.
        RowError: the array is not an image; there is not enough memory for one image.
    """

    version = "1"
    reads = fields(image=Image(channels=None))
    writes = fields(embedding=Embedding())

    def infer(self, inputs: Fields) -> Fields:
        """The dimension of the model."""
        return fields(embedding=self.vector)

    def setup(self, device: str) -> ImageTower:
        """The model and the geometry of its processor."""
        return ImageTower(self, device)

    def map(self, batch: BatchView, loaded: ImageTower) -> Mapping[str, Values]:
        """A batch of images."""
        return {"embedding": loaded(batch["image"])}
