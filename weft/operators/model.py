"""What all models share: weights, device, number type, micro-batches; and `Torch`, any module.

A model is a `Map` that works batch by batch in a pool of long-lived workers, on GPUs where the
cluster has them and on CPUs elsewhere. A worker loads it once, in `setup`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weft.errors import ContractError, DefinitionError
from weft.operators.batching import Batcher
from weft.operators.devices import Inputs, check_dtype, require, torch_dtype
from weft.operators.torchaudio_import import torchaudio
from weft.operators.weights import Weights, file_digest, find_weights
from weft.pipelines.code import code_digest
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import BatchView, Map, canonical
from weft.pipelines.resources import Resources
from weft.pipelines.types import Tensor, Type, Values, as_type

if TYPE_CHECKING:
    import torch

RESOURCES = Resources(gpus=1, or_cpu=True, batch_rows=8192)
"""A GPU, or a CPU where there is none. A stage of a model is handed whole units, so a batch this
large is nearly always a unit: all its rows can be sorted by length, and the prefetch runs dry only
at the end of a unit. What the device holds is bounded by the micro-batches."""


@dataclass(frozen=True)
class Model(Map):
    """Base of models that are named by their weights: see `weft.operators.weights`.

    `dtype` is the number type it computes in: float32, bfloat16 or float16.
    """

    model: str | Path
    revision: str | None = dataclasses.field(default=None, kw_only=True)
    dtype: str = dataclasses.field(default="float32", kw_only=True)

    resources = RESOURCES

    def __post_init__(self) -> None:
        require("torch", "transformers", by=self.name)
        check_dtype(self.dtype, self.name)
        object.__setattr__(self, "_weights", find_weights(self.model, self.revision, self.name))

    @property
    def weights(self) -> Weights:
        """Which weights, as they were when the operator was made."""
        found: Weights = self.__dict__["_weights"]
        return found

    def params(self) -> dict[str, Any]:
        """The parameters; a folder goes by its digest, so that it may lie anywhere."""
        return super().params() | {"model": self.weights.name}

    def identity(self) -> dict[str, Any]:
        """Name, version, parameters, and what the weights are."""
        return super().identity() | {"weights": self.weights.digest}

    def load(self, auto: str, device: str, unused: tuple[str, ...] = ()) -> Any:
        """The model on its device, ready to answer.

        Args:
            auto: the name of the class of transformers that loads it: ``AutoModel``, ….
            device: ``"cpu"`` or ``"cuda:0"``.
            unused: first parts of the names of weights that no answer depends on.

        Raises:
            DefinitionError: the files lack weights that the model has.
        """
        folder, dtype = self.weights.fetch(), torch_dtype(self.dtype)
        with _quiet() as hub:
            loaded, info = getattr(hub, auto).from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        missing = sorted(k for k in info["missing_keys"] if not k.startswith(unused or ("\0",)))
        if missing:
            raise DefinitionError(
                f"{self.name}: the weights of {self.weights.name} lack {len(missing)} parts of a "
                f"{type(loaded).__name__}, {missing[0]} first. They would be random: it is "
                "another kind of model."
            )
        return loaded.eval().to(device)

    def load_part(self, auto: str) -> Any:
        """A tokenizer or a processor, by the name of its class: ``AutoTokenizer``."""
        return getattr(transformers(), auto).from_pretrained(
            self.weights.fetch(), local_files_only=True, trust_remote_code=False
        )


def transformers() -> ModuleType:
    """The package, which fails to import by itself where torchaudio does not fit torch."""
    if importlib.util.find_spec("torchaudio") is not None:
        torchaudio()
    return importlib.import_module("transformers")


@contextlib.contextmanager
def _quiet() -> Iterator[ModuleType]:
    """transformers without its progress bars."""
    hub = transformers()
    shown = hub.utils.logging.is_progress_bar_enabled()
    hub.utils.logging.disable_progress_bar()
    try:
        yield hub
    finally:
        if shown:
            hub.utils.logging.enable_progress_bar()


def to_numpy(answers: torch.Tensor) -> npt.NDArray[np.float32]:
    """Answers of a model as float32, off the device."""
    made: npt.NDArray[np.float32] = answers.float().cpu().numpy()
    return made


@dataclass(frozen=True)
class Torch(Map):
    """Run any `torch.nn.Module`.

    Reads `input`: arrays of one dtype, as the type `input` says. Writes `output`.

    `factory` makes the module: a class or a function of a module that workers can import, called
    with `arguments`. `weights` is a safetensors file with exactly its parameters. Without one
    they stay as the factory makes them; random ones are drawn with the seed 0, so that all
    workers draw the same.

    The module is called in inference mode with one tensor of shape (rows, \\*shape), of the input's
    dtype, floats as `dtype`; pixels stay 8 bits until they are on the device, so normalize them
    in the module. It gives one tensor, a value of type `output` for each row. A micro-batch has at
    most `batch_size` rows of the same shape; one that does not fit the memory is halved.

    The code of `factory` is in the recipe, comments aside, but not what it calls: give a
    `version` and change it with them.

    >>> import numpy as np, torch
    >>> from weft.pipelines.types import Embedding, Tensor
    >>> flat = Torch(torch.nn.Flatten, input=Tensor("float32", (2, 2)), output=Embedding(4))
    >>> flat(np.eye(2, dtype=np.float32)).tolist()
    [1.0, 0.0, 0.0, 1.0]

    Raises:
        DefinitionError: `factory` cannot be imported; a type is not of arrays; no safetensors.
        RowError: there is not enough memory for one row.
    """

    factory: Callable[..., Any]
    input: Type = dataclasses.field(kw_only=True)
    output: Type = dataclasses.field(kw_only=True)
    weights: str | None = dataclasses.field(default=None, kw_only=True)
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict, kw_only=True)
    batch_size: int = dataclasses.field(default=64, kw_only=True)
    dtype: str = dataclasses.field(default="float32", kw_only=True)
    version: str | None = dataclasses.field(default=None, kw_only=True)

    reads = fields(input=Tensor())
    writes = fields(output=Tensor())
    resources = RESOURCES

    def __post_init__(self) -> None:
        require("torch", by=self.name)
        check_dtype(self.dtype, self.name)
        self._check_factory()
        if self.batch_size < 1:
            raise DefinitionError(f"{self.name}: batch_size={self.batch_size}: expected 1 or more.")
        given, made = as_type(self.input), as_type(self.output)
        if not isinstance(given, Tensor):
            raise DefinitionError(
                f"{self.name}: input={given}: expected a type of arrays, such as Image(224, 224) "
                "or Tensor('float32', (16,))."
            )
        settled = {
            "input": given,
            "output": made,
            "reads": Fields({"input": given}),
            "writes": Fields({"output": made}),
            "_digest": self._check_weights(),
        }
        for name, value in settled.items():
            object.__setattr__(self, name, value)

    @property
    def function(self) -> Callable[..., Any]:
        """The user's code, which Ray sends along to its workers."""
        return self.factory

    def params(self) -> dict[str, Any]:
        """The parameters; the factory goes by its name, the weights by what they are."""
        factory = f"{self.factory.__module__}:{self.factory.__qualname__}"
        plain = {
            f.name: canonical(getattr(self, f.name), f"{self.name}.{f.name}")
            for f in dataclasses.fields(self)
            if f.name not in ("factory", "weights", "version", "batch_size")
        }
        return plain | {"factory": factory}

    def identity(self) -> dict[str, Any]:
        """Name, version, parameters, and what the weights are."""
        return {
            "operator": self.name,
            "version": self.version or code_digest(self.factory),
            "params": self.params(),
            "weights": self.__dict__["_digest"],
        }

    def setup(self, device: str) -> Batcher:
        """The module on its device."""
        import torch

        dtype = torch_dtype(self.dtype)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = self.factory(**self.arguments)
        if self.weights is not None:
            module.load_state_dict(self._parameters())
        module = module.eval().to(device=device, dtype=dtype)

        def collate(rows: list[npt.NDArray[Any]]) -> Inputs:
            return {"input": torch.from_numpy(np.stack(rows))}

        def forward(inputs: Inputs) -> npt.NDArray[Any]:
            given = inputs["input"]
            return self._answers(module(given.to(dtype) if given.is_floating_point() else given))

        return Batcher(device, collate, forward, self.name)

    def map(self, batch: BatchView, loaded: Batcher) -> Mapping[str, Values]:
        """A batch of rows; those of one shape go through together."""
        rows = [np.asarray(value) for value in batch["input"]]
        shapes: dict[tuple[int, ...], list[int]] = {}
        for number, row in enumerate(rows):
            shapes.setdefault(row.shape, []).append(number)
        sizes = [row.size for row in rows]
        alike = sorted(shapes.values(), key=lambda same: -sizes[same[0]])
        step = self.batch_size
        batches = [same[at : at + step] for same in alike for at in range(0, len(same), step)]
        return {"output": loaded.run(rows, sizes, batches)}

    def _answers(self, made: Any) -> npt.NDArray[Any]:
        import torch

        if not isinstance(made, torch.Tensor):
            raise ContractError(
                f"{self.name}: {self.factory.__qualname__} gave a {type(made).__name__}; expected "
                "one tensor, with a value for each row."
            )
        floats = made.is_floating_point()
        answers: npt.NDArray[Any] = to_numpy(made) if floats else made.cpu().numpy()
        return answers.astype(self.output.dtype) if isinstance(self.output, Tensor) else answers

    def _parameters(self) -> dict[str, torch.Tensor]:
        from safetensors.torch import load_file

        path = Path(str(self.weights))
        if (found := file_digest(path)) != self.__dict__["_digest"]:
            raise ContractError(
                f"The weights in {path} are not those of the plan: expected sha256 "
                f"{self.__dict__['_digest']}, got {found}."
            )
        return load_file(path)

    def _check_factory(self) -> None:
        """Only what has a name in a module means the same in every process."""
        module = sys.modules.get(getattr(self.factory, "__module__", ""))
        found: Any = module
        for part in getattr(self.factory, "__qualname__", "").split("."):
            found = getattr(found, part, None)
        if found is not self.factory:
            raise DefinitionError(
                f"{self.name}: factory={self.factory!r}: expected a class or a function defined "
                "at the top of a module; put what it needs into arguments."
            )

    def _check_weights(self) -> str | None:
        if self.weights is None:
            return None
        path = Path(self.weights)
        if path.suffix != ".safetensors" or not path.is_file():
            raise DefinitionError(
                f"{self.name}: weights={self.weights!r}: expected a file of safetensors. Write "
                "one: safetensors.torch.save_file(module.state_dict(), path)."
            )
        return file_digest(path)
