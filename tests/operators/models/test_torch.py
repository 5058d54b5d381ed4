"""Truth: the module itself, called on each row alone."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from weft.errors import ContractError, DefinitionError
from weft.operators.model import Torch
from weft.pipelines.fields import fields
from weft.pipelines.types import Embedding, Float32, Image, Tensor, Text

from .modules import Seen, layer, pair

FOUR = Tensor("float32", (4,))


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).normal(size=shape).astype(np.float32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "layer.safetensors"
    save_file(layer().state_dict(), path)
    return path


def run(operator: Torch, given: Any) -> Any:
    return operator.map({"input": given}, operator.setup("cpu"))["output"]


class TestAnswers:
    @pytest.mark.parametrize("batch_size", [1, 3, 64])
    def test_are_the_modules(self, weights: Path, batch_size: int) -> None:
        from safetensors.torch import load_file

        given = values(7, 4)
        module = layer().eval()
        module.load_state_dict(load_file(weights))
        with torch.inference_mode():
            wanted = np.stack([module(torch.from_numpy(row)[None])[0].numpy() for row in given])
        operator = Torch(layer, input=FOUR, output=Embedding(3), weights=str(weights),
                         batch_size=batch_size)  # fmt: skip
        assert np.abs(np.stack(run(operator, given)) - wanted).max() <= 1e-6

    def test_rows_of_one_shape_go_together_as_they_are(self) -> None:
        Seen.calls.clear()
        shapes = [(4, 6, 3), (8, 8, 3), (4, 6, 3), (8, 8, 3), (4, 6, 3)]
        given = [np.full(shape, i, np.uint8) for i, shape in enumerate(shapes)]
        answers = run(Torch(Seen, input=Image(), output=Float32()), given)
        assert [float(a) for a in answers] == [0, 1, 2, 3, 4]
        assert Seen.calls == [(torch.uint8, (2, 8, 8, 3)), (torch.uint8, (3, 4, 6, 3))]

    def test_number_types(self) -> None:
        Seen.calls.clear()
        run(Torch(Seen, input=FOUR, output=Float32(), dtype="bfloat16"), values(2, 4))
        assert Seen.calls == [(torch.bfloat16, (2, 4))]
        whole = Tensor("int64", (2,))
        (made,) = run(Torch(torch.nn.Identity, input=whole, output=whole), np.array([[3, 4]]))
        assert made.dtype == np.int64
        assert made.tolist() == [3, 4]

    def test_random_weights_are_the_same_in_every_worker(self) -> None:
        operator = Torch(layer, input=FOUR, output=Embedding(3))
        before = torch.random.get_rng_state()
        one, other = run(operator, values(2, 4)), run(operator, values(2, 4))
        assert np.array_equal(one, other)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_two_tensors_are_refused(self) -> None:
        with pytest.raises(ContractError, match=r"pair gave a tuple; expected one tensor"):
            run(Torch(pair, input=FOUR, output=FOUR), values(1, 4))


class TestIdentity:
    def test_weights_go_by_what_they_are(self, weights: Path, tmp_path: Path) -> None:
        def identity(path: Path) -> dict[str, Any]:
            return Torch(layer, input=FOUR, output=Embedding(3), weights=str(path)).identity()

        copy = tmp_path / "copy.safetensors"
        copy.write_bytes(weights.read_bytes())
        assert identity(copy) == identity(weights)
        assert str(tmp_path) not in repr(identity(copy))
        save_file(layer().state_dict(), copy)
        assert identity(copy) != identity(weights)

    def test_what_changes_answers_is_in_it(self) -> None:
        plain = {"input": FOUR, "output": Embedding(3)}
        made = [
            Torch(layer, **plain),
            Torch(pair, **plain),
            Torch(layer, **plain, arguments={"width": 3}),
            Torch(layer, **plain, dtype="float16"),
            Torch(layer, **plain, version="2"),
        ]
        assert len({repr(m.identity()) for m in made}) == len(made)
        assert Torch(layer, **plain, batch_size=2).identity() == made[0].identity()
        assert made[0].identity()["version"].startswith("source:")
        assert pickle.loads(pickle.dumps(made[0])) == made[0]

    def test_types(self) -> None:
        operator = Torch(layer, input=FOUR, output=Embedding(3))
        assert (operator.reads, operator.writes) == (
            fields(input=FOUR),
            fields(output=Embedding(3)),
        )

    def test_a_change_between_plan_and_run_is_seen(self, weights: Path) -> None:
        operator = Torch(layer, input=FOUR, output=Embedding(3), weights=str(weights))
        save_file(layer().state_dict(), weights)
        with pytest.raises(ContractError, match="are not those of the plan"):
            operator.setup("cpu")


class TestRefused:
    def test_what_has_no_name(self) -> None:
        def inside() -> torch.nn.Module:
            return layer()

        for factory in (inside, lambda: layer(4)):
            with pytest.raises(DefinitionError, match="defined at the top of a module"):
                Torch(factory, input=FOUR, output=FOUR)

    def test_pickles(self, tmp_path: Path) -> None:
        torch.save(layer().state_dict(), tmp_path / "layer.pt")
        with pytest.raises(DefinitionError, match=r"expected a file of safetensors"):
            Torch(layer, input=FOUR, output=FOUR, weights=str(tmp_path / "layer.pt"))

    def test_what_is_not_of_arrays(self) -> None:
        with pytest.raises(DefinitionError, match="input=Text: expected a type of arrays"):
            Torch(layer, input=Text(), output=FOUR)

    def test_no_rows_at_once(self) -> None:
        with pytest.raises(DefinitionError, match="batch_size=0: expected 1 or more"):
            Torch(layer, input=FOUR, output=FOUR, batch_size=0)
