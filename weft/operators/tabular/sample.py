"""Some of the rows, chosen by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from weft.errors import DefinitionError
from weft.pipelines.fields import fields
from weft.pipelines.grouping import Compose
from weft.pipelines.operator import BatchView, Filter
from weft.pipelines.types import Text


@dataclass(frozen=True)
class Sample(Compose):
    """Keep about `fraction` of the rows, chosen by a hash of their keys; drop the others.

    Whether a row is kept depends on its key and on `seed` alone: the same rows are kept on
    every engine, in every run and whatever rows are beside them, and a larger fraction keeps
    them all and some more. Samples of two seeds are independent of each other. Each row is
    kept or not for itself, so of n rows n times `fraction` are kept, give or take
    √(n · fraction · (1 - fraction)). Children of one parent have keys of their own; to keep or
    drop them together, sample before they are made.

    >>> print(Sample(0.1))
    tabular.Sample(fraction=0.1)

    Raises:
        DefinitionError: `fraction` is not between 0 and 1, or `seed` is no integer of 64 bits.
    """

    fraction: float
    seed: int = 0

    version = "1"

    def __post_init__(self) -> None:
        number = isinstance(self.fraction, int | float) and not isinstance(self.fraction, bool)
        if not number or not 0 <= self.fraction <= 1:
            raise DefinitionError(
                f"{self.name}: fraction={self.fraction!r}; expected a number from 0 to 1."
            )
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        if not whole or not -(2**63) <= self.seed < 2**63:
            raise DefinitionError(
                f"{self.name}: seed={self.seed!r}; expected an integer of 64 bits."
            )

    def compose(self, rows: Any, **columns: str) -> Any:
        """A filter on the keys of the rows."""
        return rows.apply(ByKey(self.fraction, self.seed), key="_key")


@dataclass(frozen=True)
class ByKey(Filter):
    """What `Sample` is in a plan: keeps the rows whose keys have a small hash.

    The hash is BLAKE2b of 64 bits, keyed by the seed (RFC 7693).

    >>> keys = [f"photo-{i}.jpg" for i in range(10)]
    >>> [key for key in keys if ByKey(0.2)(key)]
    ['photo-2.jpg', 'photo-5.jpg', 'photo-8.jpg']
    """

    fraction: float
    seed: int = 0

    version = "1"
    reads = fields(key=Text())

    def keep(self, batch: BatchView, loaded: Any) -> Sequence[bool]:
        """For each key whether it is in the sample."""
        seed = self.seed.to_bytes(8, "little", signed=True)
        below = self.fraction * 2**64
        return [_hash(key, seed) < below for key in batch["key"]]


def _hash(key: str, seed: bytes) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8, key=seed).digest(), "little")
