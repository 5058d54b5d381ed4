"""Images that look nearly the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.operators.dedup.bands import bucket_numbers
from weft.operators.dedup.linking import Signatures
from weft.operators.dedup.steps import Buckets, Link, Near, drop_near
from weft.pipelines.fields import fields
from weft.pipelines.types import Int64, Text, UInt64

if TYPE_CHECKING:
    from weft.pipelines.dsl import Rows


@dataclass(frozen=True)
class NearImages(Near):
    """Keep one image of those that look nearly the same, and drop the others.

    Reads `hash`, 64 bits: `phash` or `dhash` of `image.PerceptualHash`. Two images are near if
    at most `distance` of these bits differ. What a chain of near images connects is one cluster,
    and one of it stays: the one with the smallest key (text compared by code points), or with
    `prefer` the one in which that column, of numbers, is largest, such as the width. Which one
    stays depends neither on the order of rows nor on the engine. Null is near to nothing.

    Every near pair is found: of d + 1 bands of bits one has none of d differing bits (Manku,
    Jain and Das Sarma, "Detecting near-duplicates for web crawling", 2007). Each row travels d + 1
    times, and of n images about n²(d + 1) / 2 are compared for 2 to the power of 64 / (d + 1): for
    a million and 4 bits 350 million pairs, some seconds of one core; each bit more makes it 3 to 5
    times as many.

    `against` are rows of the same pipeline that are held already, with hashes in a column of the
    same name: ``NearImages(against=weft.read(Lance("photos.lance")))``. What is near to them is
    dropped; they themselves are not written. With `cluster` no row is dropped: each gets the key
    of the one that would stay, in a column of that name.

    >>> NearImages(4).distance
    4

    Raises:
        DefinitionError: a distance that is not 0 to 15, `prefer` that is not a column of numbers,
            or `against` without such a column.
    """

    distance: int = 4
    prefer: str | None = None
    against: Rows | None = None
    cluster: str | None = None

    version = "1"
    reads = fields(hash=UInt64())

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= 15:
            raise DefinitionError(
                f"{self.name}: distance={self.distance!r}: expected 0 to 15 of 64 bits. Beyond, "
                "nearly every image would have to be compared with every other."
            )

    def compose(self, rows: Any, **columns: str) -> Rows:
        """Buckets by bands of bits, and pairs by all bits."""
        return drop_near(
            self, rows, columns["hash"], HashBuckets(self.distance), HashLink(self.distance)
        )


@dataclass(frozen=True)
class HashBuckets(Buckets):
    """A bucket for each of ``distance + 1`` bands of bits."""

    distance: int

    version = "1"
    reads = fields(signature=UInt64())
    dtype = np.uint64

    def buckets(self, signatures: Signatures, loaded: Any) -> npt.NDArray[np.int64]:
        """Rows x bands."""
        ends = np.linspace(0, 64, self.distance + 2).astype(np.uint64)
        widths = np.diff(ends)
        masks = ~np.uint64(0) >> (np.uint64(64) - widths)
        bands = (signatures[:, None] >> ends[:-1]) & masks
        return bucket_numbers(bands[:, :, None])


@dataclass(frozen=True)
class HashLink(Link):
    """Images whose hashes differ in at most `distance` bits."""

    distance: int

    version = "1"
    reads = fields(name=Text(), bucket=Int64(), signature=UInt64())
    dtype = np.uint64

    def near(self, one: Signatures, other: Signatures) -> npt.NDArray[np.bool_]:
        """Few enough differing bits."""
        differing = np.expand_dims(one, -1) ^ np.expand_dims(other, -2)
        return np.asarray(_ones(differing) <= self.distance)


def _ones(numbers: Signatures) -> npt.NDArray[np.uint8]:
    """How many bits of each number are set; NumPy 1 cannot say."""
    if hasattr(np, "bitwise_count"):
        return np.asarray(np.bitwise_count(numbers))
    bits = np.unpackbits(numbers[..., None].view(np.uint8), axis=-1)
    return np.asarray(bits.sum(axis=-1, dtype=np.uint8))
