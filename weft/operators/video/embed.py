"""Clips to vectors, by a CLIP model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weft.errors import RowError
from weft.operators.clip import Clip, ImageTower, Vectors
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import BatchView
from weft.pipelines.types import Embedding, Frames, Values


@dataclass(frozen=True)
class Embed(Clip):
    """Embed clips by the mean of their frames in a CLIP model's space.

    Reads `frames`: frames x height x width x channels, 8 bits; clips may differ in all of them.
    Writes `embedding`: of length 1, so that a dot product is the cosine.

    Each frame is embedded as `image.Embed` does it; the vectors, of length 1, are averaged, and
    the mean is made of length 1 again. This is the parameter-free "mean pooling" of Luo et al.,
    "CLIP4Clip: An Empirical Study of CLIP for End to End Video Clip Retrieval", 2021
    (arXiv:2104.08860). Frames of all clips of a batch share micro-batches. `model` and `revision`
    are those of `image.Embed`; ``embed_query(text)`` gives the vector of words, for search.

    Raises:
        DefinitionError: no such model, or not a CLIP model.
        RowError: not frames, or none; there is not enough memory for one frame.
    """

    version = "1"
    reads = fields(frames=Frames(channels=None))
    writes = fields(embedding=Embedding())

    def infer(self, inputs: Fields) -> Fields:
        """The dimension of the model."""
        return fields(embedding=self.vector)

    def setup(self, device: str) -> ImageTower:
        """The model and the geometry of its processor."""
        return ImageTower(self, device)

    def map(self, batch: BatchView, loaded: ImageTower) -> Mapping[str, Values]:
        """A batch of clips."""
        clips = [self._frames(clip) for clip in batch["frames"]]
        vectors = loaded([frame for clip in clips for frame in clip])
        starts = np.cumsum([0] + [len(clip) for clip in clips[:-1]])
        means = np.add.reduceat(vectors, starts, axis=0)
        embedding: Vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
        return {"embedding": embedding}

    def _frames(self, clip: Any) -> Any:
        if getattr(clip, "ndim", 0) != 4 or not len(clip):
            raise RowError(
                f"{self.name}: given an array of shape {getattr(clip, 'shape', None)}; expected "
                "frames x height x width x channels, with one frame or more. video.Clip makes "
                "such arrays."
            )
        return clip
