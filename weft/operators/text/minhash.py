"""Signatures that tell how much two texts have in common."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.pipelines.fields import Fields, fields
from weft.pipelines.operator import Map, Row
from weft.pipelines.types import Tensor, Text

_BLOCK = 128
"""Shingles at a time: by 128 permutations they take 64 KiB. A book at once would take GiB, and
be no faster: SHA-1 takes nine tenths of the time."""

Hashes = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class MinHash(Map):
    """Sign a text so that the share of equal places is the Jaccard similarity of two texts.

    Reads `text`. Writes `minhash`: `permutations` numbers of 32 bits.

    A text is taken as the set of its shingles, the runs of `shingle` words (separated by white
    space, joined by one space), or of `shingle` characters with ``unit="characters"``, for
    languages that write no spaces. A text shorter than a shingle is one shingle; one that is
    empty has the signature of the empty set, 4294967295 throughout. Case and punctuation count:
    normalize before.

    Place i is the least value of permutation i over the set. Two texts agree in it with the
    probability J, the Jaccard similarity of their sets: shingles in both to shingles in either
    (Broder, "On the resemblance and containment of documents", 1997). So the share of equal
    places estimates J with a standard error of √(J(1 - J) / permutations).

    The signature is, bit by bit, that of ``datasketch.MinHash(permutations, seed)`` 2.0 (scheme
    affine32: the first 32 bits of SHA-1, MurmurHash3's finalizer, then a·h + b mod 2³² with odd
    a), so that datasketch's indexes can be filled with it.

    >>> one, other = (MinHash(shingle=2)(f"the quick brown fox {verb}") for verb in ("ran", "sat"))
    >>> float((one == other).mean())  # 3 shingles of 5 are in both: 0.6, error 0.04
    0.6640625

    Raises:
        DefinitionError: a number less than 1, or an unknown unit.
    """

    permutations: int = 128
    shingle: int = 5
    seed: int = 1
    unit: Literal["words", "characters"] = "words"

    version = "1"
    reads = fields(text=Text())
    writes = fields(minhash=Tensor("uint32", (None,)))

    def __post_init__(self) -> None:
        for name in ("permutations", "shingle"):
            if getattr(self, name) < 1:
                raise DefinitionError(
                    f"{self.name}: {name}={getattr(self, name)!r}: expected at least 1."
                )
        if not 0 <= self.seed < 2**32:
            raise DefinitionError(f"{self.name}: seed={self.seed!r}: expected 0..4294967295.")
        if self.unit not in ("words", "characters"):
            raise DefinitionError(
                f"{self.name}: unit={self.unit!r}: expected 'words' or 'characters'."
            )

    def infer(self, inputs: Fields) -> Fields:
        """As many numbers as there are permutations."""
        return fields(minhash=Tensor("uint32", (self.permutations,)))

    def setup(self, device: str) -> tuple[Hashes, Hashes]:
        """The permutations h -> a·h + b: a, odd, and b, drawn as datasketch draws them."""
        # RandomState is frozen: NumPy promises the same stream in every version.
        draw = np.random.RandomState(self.seed)
        a = draw.randint(0, 1 << 31, self.permutations, np.uint32) * np.uint32(2) + np.uint32(1)
        return a, draw.randint(0, 1 << 32, self.permutations, np.uint32)

    def map_row(self, row: Row, loaded: tuple[Hashes, Hashes]) -> Hashes:
        """One text."""
        hashes = _finalize(_sha1(self._shingles(row["text"])))
        a, b = loaded
        least = np.full(self.permutations, 2**32 - 1, np.uint32)
        for start in range(0, len(hashes), _BLOCK):
            values = hashes[start : start + _BLOCK, None] * a
            values += b
            np.minimum(least, values.min(axis=0), out=least)
        return least

    def _shingles(self, text: str) -> set[str]:
        parts = text.split() if self.unit == "words" else text
        between = " " if self.unit == "words" else ""
        last = max(len(parts) - self.shingle, 0)
        found = {between.join(parts[i : i + self.shingle]) for i in range(last + 1)}
        return found - {""}


def _sha1(shingles: set[str]) -> Hashes:
    """The first four bytes of each SHA-1, little-endian. A set's order does not matter here."""
    sha1 = hashlib.sha1
    first = b"".join([sha1(s.encode(), usedforsecurity=False).digest()[:4] for s in shingles])
    return np.frombuffer(first, "<u4").astype(np.uint32)


def _finalize(hashes: Hashes) -> Hashes:
    """MurmurHash3's last step for 32 bits (fmix32): every bit of the input moves all others."""
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return hashes ^ (hashes >> np.uint32(16))
