"""How many threads PyTorch takes for small work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch works in this thread alone, until the ``with`` ends.

    A worker holds one CPU. Spectra and small models are so little work that a second thread mostly
    waits, and waiting is busy: on two busy cores Silero VAD took 5 times the CPU time with two
    threads, and a mel spectrogram 9 times. The number belongs to the calling thread; setting it
    costs 0.3 µs.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
