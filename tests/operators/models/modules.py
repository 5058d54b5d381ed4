"""Modules that tests give to `Torch`."""

from __future__ import annotations

import os
from typing import Any

import torch


class Seen(torch.nn.Module):
    """The mean of each row, and a note of what it was called with."""

    calls: list[tuple[torch.dtype, tuple[int, ...]]] = []  # noqa: RUF012

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        self.calls.append((given.dtype, tuple(given.shape)))
        return given.flatten(1).float().mean(dim=1)


def layer(width: int = 3) -> torch.nn.Module:
    """A linear layer and one that only training changes."""
    return torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.Dropout(0.5))


def counted(log: str) -> torch.nn.Module:
    """A layer that notes in a file which process made it."""
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    return torch.nn.Linear(4, 2)


def pair() -> Any:
    """A module that gives two tensors."""

    class Pair(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> Any:
            return given, given

    return Pair()


def strict() -> Any:
    """A module that refuses a batch with a negative number in it."""

    class Strict(torch.nn.Module):
        def forward(self, given: torch.Tensor) -> torch.Tensor:
            if (given < 0).any():
                raise ValueError("negative")
            return given * 2

    return Strict()
