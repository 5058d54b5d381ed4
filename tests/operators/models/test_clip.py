"""Truth: transformers' CLIPModel on what its own processor makes of each picture by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PilImage

from weft.errors import DefinitionError, RowError
from weft.operators import image, video
from weft.operators.clip import Geometry, ImageTower
from weft.operators.model import transformers
from weft.pipelines.fields import fields
from weft.pipelines.types import Embedding, Float32, Frames, Image, Tensor, Text

from .conftest import DIM, SIDE

SHAPES = (
    (40, 60, 3), (32, 32, 3), (100, 33, 3), (20, 90, 3), (50, 50, 4), (50, 40, 1), (1, 1, 3),
    (31, 33, 3), (301, 200, 3), (33, 32, 3),
)  # fmt: skip

Pictures = Callable[..., list[np.ndarray]]


class Truth:
    """The model as its authors call it."""

    def __init__(self, folder: Path) -> None:
        hub = transformers()
        self.model = hub.CLIPModel.from_pretrained(folder).eval()
        self.processor = hub.CLIPImageProcessorPil.from_pretrained(folder)
        self.tokenizer = hub.AutoTokenizer.from_pretrained(folder)

    def pixels(self, picture: np.ndarray) -> torch.Tensor:
        given = PilImage.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture)
        return self.processor(images=[given], return_tensors="pt")["pixel_values"]

    @torch.inference_mode()
    def images(self, pictures: list[np.ndarray]) -> np.ndarray:
        found = [
            self.model.get_image_features(pixel_values=self.pixels(p)).pooler_output
            for p in pictures
        ]
        return torch.nn.functional.normalize(torch.cat(found), dim=1).numpy()

    @torch.inference_mode()
    def probabilities(self, pictures: list[np.ndarray], texts: list[str]) -> np.ndarray:
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        pixels = torch.cat([self.pixels(p) for p in pictures])
        return self.model(**tokens, pixel_values=pixels).logits_per_image.softmax(1).numpy()


@pytest.fixture(scope="module")
def truth(clip_folder: Path) -> Truth:
    return Truth(clip_folder)


class TestImageEmbed:
    @pytest.mark.parametrize("rows", [1, 2, 3, 7, 64])
    def test_at_every_batch_size(
        self, clip_folder: Path, truth: Truth, pictures: Pictures, rows: int
    ) -> None:
        given = pictures(*SHAPES)
        operator = image.Embed(clip_folder)
        loaded = operator.setup("cpu")
        loaded.rows = rows
        ours = operator.map({"image": given}, loaded)["embedding"]
        assert ours.shape == (len(given), DIM)
        assert ours.dtype == np.float32
        assert np.abs(ours - truth.images(given)).max() <= 1e-5

    def test_after_memory_ran_out(
        self, clip_folder: Path, truth: Truth, pictures: Pictures
    ) -> None:
        given = pictures(*SHAPES)
        operator = image.Embed(clip_folder)
        loaded = operator.setup("cpu")
        inside, sizes = loaded.batcher.forward, []

        def narrow(inputs: Any) -> Any:
            sizes.append(len(inputs["pixels"]))
            if sizes[-1] > 3:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return inside(inputs)

        loaded.batcher.forward = narrow
        ours = operator.map({"image": given}, loaded)["embedding"]
        assert sizes[:3] == [10, 5, 2]
        assert set(sizes[3:]) <= {1, 2}
        assert np.abs(ours - truth.images(given)).max() <= 1e-5

    def test_an_array_of_one_size(
        self, clip_folder: Path, truth: Truth, pictures: Pictures
    ) -> None:
        given = np.stack(pictures(*[(SIDE, SIDE, 3)] * 5))
        operator = image.Embed(clip_folder)
        ours = operator.map({"image": given}, operator.setup("cpu"))["embedding"]
        assert np.abs(ours - truth.images(list(given))).max() <= 1e-5

    def test_the_model_tells_pictures_apart(self, truth: Truth, pictures: Pictures) -> None:
        """Else agreement would mean nothing."""
        vectors = truth.images(pictures(*SHAPES[:4]))
        assert (vectors @ vectors.T - np.eye(4)).max() < 0.9

    def test_words_are_in_the_same_space(self, clip_folder: Path, truth: Truth) -> None:
        ours = image.Embed(clip_folder).embed_query("a cat")
        tokens = truth.tokenizer(["a cat"], return_tensors="pt")
        with torch.inference_mode():
            found = truth.model.get_text_features(**tokens).pooler_output
        assert np.abs(ours - (found / found.norm())[0].numpy()).max() <= 1e-5

    def test_more_words_than_it_takes(self, clip_folder: Path) -> None:
        with pytest.raises(DefinitionError, match="has 62 tokens; the model takes at most 40"):
            image.Embed(clip_folder).embed_query("a" * 60)

    def test_half_precision_is_near(self, clip_folder: Path, pictures: Pictures) -> None:
        given = pictures(*SHAPES[:3])
        for picture in given:
            whole = image.Embed(clip_folder)(picture)
            half = image.Embed(clip_folder, dtype="bfloat16")(picture)
            assert half.dtype == np.float32
            assert 0 < np.abs(whole - half).max() < 0.1

    @pytest.mark.parametrize(
        "bad",
        [
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 2), np.uint8),
            np.zeros((0, 4, 3), np.uint8),
            np.zeros((4, 4, 3), np.float32),
        ],
    )
    def test_what_is_no_image(self, clip_folder: Path, bad: np.ndarray) -> None:
        with pytest.raises(RowError, match=r"image\.Embed: given an array of shape .* uint8"):
            image.Embed(clip_folder)(bad)

    def test_type(self, clip_folder: Path) -> None:
        inferred = image.Embed(clip_folder).infer(fields(image=Image()))
        assert inferred == fields(embedding=Embedding(DIM))

    def test_other_models_are_refused(self) -> None:
        with pytest.raises(DefinitionError, match="of the type 'bert'; expected 'clip'"):
            image.Embed("all-MiniLM-L6-v2")


class TestGeometry:
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize(
        "given",
        [
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}},
            {"size": {"shortest_edge": 24}, "crop_size": {"height": 32, "width": 33}},
            {"size": {"height": 32, "width": 20}, "do_center_crop": False},
            {"do_resize": False, "crop_size": {"height": 33, "width": 35}},
            {"size": 32, "crop_size": 32, "resample": 2},
        ],
        ids=["larger", "padded", "fill", "crop", "bilinear"],
    )
    def test_pixels_are_the_processors(
        self, pictures: Pictures, shape: tuple[int, int, int], given: dict[str, Any]
    ) -> None:
        (picture,) = pictures(shape)
        plain = given | {"do_rescale": False, "do_normalize": False}
        processor = transformers().CLIPImageProcessorPil(**plain)
        mode = picture[:, :, 0] if shape[2] == 1 else picture
        wanted = processor(images=[PilImage.fromarray(mode)])["pixel_values"][0]
        ours = Geometry(processor, "models.Test")(picture)
        assert ours.dtype == np.uint8
        assert np.array_equal(ours, np.asarray(wanted).transpose(1, 2, 0))

    def test_an_image_of_the_models_size_is_not_touched(
        self, clip_folder: Path, pictures: Pictures
    ) -> None:
        (picture,) = pictures((SIDE, SIDE, 3))
        geometry = image.Embed(clip_folder).setup("cpu").geometry
        assert np.shares_memory(geometry(picture), picture)

    def test_pixels_stay_8_bits_until_the_device(
        self, clip_folder: Path, pictures: Pictures
    ) -> None:
        tower: ImageTower = image.Embed(clip_folder).setup("cpu")
        assert tower.collate(pictures((40, 60, 3)))["pixels"].dtype == torch.uint8


class TestZeroShot:
    LABELS = ("a cat", "dog", "house of cards")

    def test_probabilities(self, clip_folder: Path, truth: Truth, pictures: Pictures) -> None:
        given = pictures(*SHAPES)
        operator = image.ZeroShot(clip_folder, self.LABELS)
        ours = operator.map({"image": given}, operator.setup("cpu"))
        wanted = truth.probabilities(given, [f"a photo of {label}" for label in self.LABELS])
        assert np.abs(ours["label_scores"] - wanted).max() <= 1e-5
        assert ours["label"] == [self.LABELS[i] for i in wanted.argmax(axis=1)]
        assert np.abs(ours["label_score"] - wanted.max(axis=1)).max() <= 1e-5
        assert len(set(ours["label"])) > 1

    def test_the_template_counts(self, clip_folder: Path, truth: Truth, pictures: Pictures) -> None:
        given = pictures(SHAPES[0])
        operator = image.ZeroShot(clip_folder, self.LABELS, "{}, drawn")
        ours = operator.map({"image": given}, operator.setup("cpu"))["label_scores"]
        wanted = truth.probabilities(given, [f"{label}, drawn" for label in self.LABELS])
        assert np.abs(ours - wanted).max() <= 1e-5

    def test_type(self, clip_folder: Path) -> None:
        inferred = image.ZeroShot(clip_folder, list(self.LABELS)).infer(fields(image=Image()))
        assert inferred == fields(
            label=Text(), label_score=Float32(), label_scores=Tensor("float32", (3,))
        )

    @pytest.mark.parametrize("labels", [(), ("one",), ("same", "same"), "cat"])
    def test_labels_are_checked(self, clip_folder: Path, labels: Any) -> None:
        with pytest.raises(DefinitionError, match="expected two or more different texts"):
            image.ZeroShot(clip_folder, labels)

    def test_a_template_without_a_place(self, clip_folder: Path) -> None:
        with pytest.raises(DefinitionError, match=r"template='a photo': .* with \{\}"):
            image.ZeroShot(clip_folder, self.LABELS, "a photo")

    def test_a_label_that_is_too_long(self, clip_folder: Path) -> None:
        with pytest.raises(DefinitionError, match="tokens; the model takes at most 40"):
            image.ZeroShot(clip_folder, ("cat", "d" * 60)).setup("cpu")


class TestVideoEmbed:
    def test_mean_of_the_frames(self, clip_folder: Path, truth: Truth, pictures: Pictures) -> None:
        clips = [
            np.stack(pictures(*[(40, 60, 3)] * 5)),
            np.stack(pictures((32, 32, 3))),
            np.stack(pictures(*[(90, 33, 3)] * 3)),
        ]
        operator = video.Embed(clip_folder)
        ours = operator.map({"frames": clips}, operator.setup("cpu"))["embedding"]
        for vector, clip in zip(ours, clips, strict=True):
            mean = truth.images(list(clip)).mean(axis=0)
            assert np.abs(vector - mean / np.linalg.norm(mean)).max() <= 1e-5

    def test_a_clip_of_one_frame_is_its_image(self, clip_folder: Path, pictures: Pictures) -> None:
        (picture,) = pictures((40, 60, 3))
        ours = video.Embed(clip_folder)(picture[None])
        assert np.abs(ours - image.Embed(clip_folder)(picture)).max() <= 1e-5

    @pytest.mark.parametrize("shape", [(0, 4, 4, 3), (4, 4, 3)])
    def test_no_frames(self, clip_folder: Path, shape: tuple[int, ...]) -> None:
        with pytest.raises(RowError, match=r"video\.Embed: given an array of shape .* one frame"):
            video.Embed(clip_folder)(np.zeros(shape, np.uint8))

    def test_type(self, clip_folder: Path) -> None:
        inferred = video.Embed(clip_folder).infer(fields(frames=Frames()))
        assert inferred == fields(embedding=Embedding(DIM))
