"""CLIP: pictures and words in one space, for `image.Embed`, `image.ZeroShot` and `video.Embed`.

Models of the type ``clip`` in transformers: OpenAI's, and those of others in that form (OpenCLIP,
MetaCLIP, DFN). Pictures are resized and cropped on the CPU as the model's own processor does, in
8 bits; they become floats on the device, a quarter of the bytes to copy.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision", 2021
(arXiv:2103.00020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage

from weft.errors import DefinitionError, RowError
from weft.operators.batching import Batcher, micro_batches
from weft.operators.devices import Inputs
from weft.operators.model import Model, to_numpy
from weft.pipelines.types import Embedding, Values

if TYPE_CHECKING:
    import torch

Pixels = npt.NDArray[Any]
Vectors = npt.NDArray[np.float32]

_ROWS = {"cpu": 16, "cuda": 256}
"""Pictures in a micro-batch. 256 fill a large GPU; on CPUs more than a few are no faster."""


class Clip(Model):
    """Base of operators on CLIP models."""

    def __post_init__(self) -> None:
        super().__post_init__()
        kind = self.weights.config().get("model_type")
        if kind != "clip":
            raise DefinitionError(
                f"{self.name}: the model is of the type {kind!r}; expected 'clip'. Other models "
                "run in weft.operators.model.Torch."
            )

    @property
    def vector(self) -> Embedding:
        """The type of the model's vectors."""
        return Embedding(self.weights.config()["projection_dim"])

    def embed_query(self, text: str) -> Vectors:
        """The vector of words, of length 1, near those of the pictures that they describe.

        Raises:
            DefinitionError: more words than the model takes.
        """
        vector: Vectors = to_numpy(TextTower(self, "cpu").vectors([text]))[0]
        return vector


class TextTower:
    """The half of a model that reads words."""

    def __init__(self, operator: Model, device: str, model: Any = None) -> None:
        self.operator = operator
        self.device = device
        self.model = model or operator.load("CLIPModel", device)
        self.tokenizer = operator.load_part("AutoTokenizer")

    def vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """(texts, dim), each of length 1."""
        import torch

        tokens = self.tokenizer(list(texts), padding=True, return_tensors="pt").to(self.device)
        most = self.model.config.text_config.max_position_embeddings
        if (given := tokens["input_ids"].shape[1]) > most:
            raise DefinitionError(
                f"{self.operator.name}: a text has {given} tokens; the model takes at most {most}."
            )
        with torch.inference_mode():
            found = self.model.get_text_features(**tokens).pooler_output
            return torch.nn.functional.normalize(found, dim=1)


class ImageTower:
    """The half of a model that sees pictures; the other is dropped to free its memory."""

    def __init__(self, operator: Model, device: str, model: Any = None) -> None:
        self.model = model or operator.load("CLIPModel", device)
        self.model.text_model = None
        self.geometry = Geometry(operator.load_part("CLIPImageProcessorPil"), operator.name)
        self.normalize = Normalize(self.geometry.processor, device, self.model.dtype)
        self.rows = _ROWS[device.partition(":")[0]]
        self.batcher = Batcher(device, self.collate, self.forward, operator.name)

    def __call__(self, pictures: Values) -> Vectors:
        """(pictures, dim), each of length 1, of arrays height x width x channels.

        Raises:
            RowError: one is not an image; found before anything is computed, so that the engine's
                search for it costs nothing.
        """
        for picture in pictures:
            self.geometry.check(picture)
        sizes = [1] * len(pictures)
        batches = micro_batches(sizes, self.rows)
        return np.stack(self.batcher.run(pictures, sizes, batches))

    def collate(self, pictures: list[Pixels]) -> Inputs:
        """Pictures of any size as one array, still of 8 bits."""
        import torch

        return {"pixels": torch.from_numpy(np.stack([self.geometry(p) for p in pictures]))}

    def forward(self, inputs: Inputs) -> Vectors:
        """One vector a picture."""
        import torch

        values = self.normalize(inputs["pixels"])
        found = self.model.get_image_features(pixel_values=values).pooler_output
        return to_numpy(torch.nn.functional.normalize(found.float(), dim=1))


class Geometry:
    """Resize and crop as a model's processor says, with the same filter of Pillow."""

    def __init__(self, processor: Any, by: str) -> None:
        self.processor = processor
        self.by = by
        size = processor.size if processor.do_resize else {}
        self.edge = size.get("shortest_edge")
        self.size = None if self.edge or not size else (size["height"], size["width"])
        crop = processor.crop_size if processor.do_center_crop else None
        self.crop = None if crop is None else (crop["height"], crop["width"])

    def __call__(self, picture: Pixels) -> Pixels:
        """A picture in RGB as large as the model wants it; itself, if it is that already."""
        height, width = self.resized(picture.shape[0], picture.shape[1])
        if picture.shape != (height, width, 3):
            image = _rgb(picture).resize((width, height), resample=self.processor.resample)
            picture = np.asarray(image)
        return picture if self.crop is None else _crop(picture, *self.crop)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """What `height` and `width` become, before the crop."""
        if self.edge is None:
            return self.size or (height, width)
        short, long = sorted((height, width))
        far = int(self.edge * long / short)
        return (far, self.edge) if width <= height else (self.edge, far)

    def check(self, picture: Any) -> None:
        """Refuse what is no picture.

        Raises:
            RowError: not height x width x 1, 3 or 4 channels of uint8.
        """
        shape: tuple[int, ...] = getattr(picture, "shape", ())
        dtype = getattr(picture, "dtype", type(picture).__name__)
        if len(shape) != 3 or shape[2] not in (1, 3, 4) or 0 in shape or dtype != np.uint8:
            raise RowError(
                f"{self.by}: given an array of shape {shape} and dtype {dtype}; expected height x "
                "width x 1, 3 or 4 channels of uint8. image.Decode makes such arrays."
            )


class Normalize:
    """8 bits to what the model was trained on, on the device."""

    def __init__(self, processor: Any, device: str, dtype: torch.dtype) -> None:
        import torch

        self.dtype = dtype
        self.scale = processor.rescale_factor if processor.do_rescale else 1.0
        mean, std = processor.image_mean, processor.image_std
        if not processor.do_normalize:
            mean, std = [0.0] * 3, [1.0] * 3
        self.mean = torch.tensor(mean).view(3, 1, 1).to(device)
        self.std = torch.tensor(std).view(3, 1, 1).to(device)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """(rows, height, width, 3) of uint8 to (rows, 3, height, width) of the model's type."""
        values = pixels.permute(0, 3, 1, 2).float() * self.scale
        return ((values - self.mean) / self.std).to(self.dtype)


def _rgb(picture: Pixels) -> PilImage.Image:
    """Grey as three channels; what is transparent on white."""
    if picture.shape[2] == 1:
        return PilImage.fromarray(picture[:, :, 0]).convert("RGB")
    image = PilImage.fromarray(picture)
    if picture.shape[2] == 4:
        white = PilImage.new("RGBA", image.size, (255, 255, 255, 255))
        image = PilImage.alpha_composite(white, image).convert("RGB")
    return image


def _crop(picture: Pixels, height: int, width: int) -> Pixels:
    """The centre; what is beyond the picture is black."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    if top >= 0 and left >= 0:
        return picture[top : top + height, left : left + width]
    out = np.zeros((height, width, 3), np.uint8)
    inside = picture[max(top, 0) :, max(left, 0) :][:height, :width]
    y, x = max(-top, 0), max(-left, 0)
    out[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    return out
