"""What models need to know of the device they run on: number types, copies, memory.

torch is imported when the first model is loaded, not when an operator is made: a plan needs none.
"""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from weft.errors import DefinitionError, Retryable

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
"""The number types that a model may compute in."""

Inputs = Mapping[str, Any]
"""What a model is called with: tensors by name, and anything else as it is."""

_OUT_OF_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator",
)
"""Words of errors that are about memory, whatever their class: libraries that allocate by
themselves raise a plain RuntimeError."""


def require(*packages: str, by: str) -> None:
    """Check that packages are installed, without importing them.

    Raises:
        DefinitionError: one is not; the message names the extra.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise DefinitionError(
                f"{by}: {package} is not installed. Install it: pip install 'weft[models]'"
            )


def check_dtype(dtype: str, by: str) -> None:
    """Check the name of a number type.

    Raises:
        DefinitionError: it is none of `DTYPES`.
    """
    if dtype not in DTYPES:
        raise DefinitionError(f"{by}: dtype={dtype!r}: expected one of {', '.join(DTYPES)}.")


def torch_dtype(dtype: str) -> torch.dtype:
    """The torch type of one of `DTYPES`."""
    import torch

    found: torch.dtype = getattr(torch, dtype)
    return found


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device had too little memory for the batch."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(w in str(error) for w in _OUT_OF_MEMORY)


def check_alive(error: BaseException) -> None:
    """Tell a broken device from a bad row.

    After an illegal address or an uncorrectable memory error every later call fails too, so that
    all rows would be blamed; the process has to end.

    Raises:
        Retryable: `error` is of the device.
    """
    if "CUDA error" in str(error) and not is_out_of_memory(error):
        first = str(error).partition("\n")[0]
        raise Retryable(
            f"The device failed, and this process cannot use it any more: {first}. Finished units "
            "are kept: `weft resume` goes on with the rest in a new process."
        ) from error


class Feed:
    """Copies inputs to a device beside the computation that is running there.

    On CUDA the copy is made from pinned memory on a stream of its own; `arrived` makes the
    current stream wait for it, and keeps the memory from being reused too early.
    """

    def __init__(self, device: str) -> None:
        import torch

        self.device = torch.device(device)
        self._stream = _stream(self.device)

    def send(self, inputs: Inputs) -> tuple[Inputs, Any]:
        """Start the copy; the inputs on the device, and what `arrived` waits for."""
        import torch

        if self._stream is None:
            return inputs, None
        with torch.cuda.stream(self._stream):
            sent = {name: self._copy(value) for name, value in inputs.items()}
            return sent, self._stream.record_event()

    def arrived(self, sent: tuple[Inputs, Any]) -> Inputs:
        """The inputs, ready for what is computed from now on."""
        import torch

        inputs, event = sent
        if event is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(event)
            for value in inputs.values():
                if isinstance(value, torch.Tensor):
                    value.record_stream(current)
        return inputs

    def release(self) -> None:
        """Give cached memory back, so that a smaller batch finds room in one piece."""
        import torch

        if self._stream is not None:
            gc.collect()
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()

    def _copy(self, value: Any) -> Any:
        import torch

        if not isinstance(value, torch.Tensor):
            return value
        return value.pin_memory().to(self.device, non_blocking=True)


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    import torch

    if device.type != "cuda":
        return None
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
