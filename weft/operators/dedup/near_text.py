"""Texts that say nearly the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.operators.dedup.bands import best_bands, bucket_numbers
from weft.operators.dedup.linking import Signatures
from weft.operators.dedup.steps import Buckets, Link, Near, check_share, drop_near
from weft.pipelines.fields import fields
from weft.pipelines.types import Int64, Tensor, Text

if TYPE_CHECKING:
    from weft.pipelines.dsl import Rows

_MINHASH = Tensor("uint32", (None,))


@dataclass(frozen=True)
class NearText(Near):
    """Keep one text of those that are nearly the same, and drop the others.

    Reads `minhash`, the signatures that `text.MinHash` writes. Two texts are near if the share
    of equal places, which estimates the Jaccard similarity of their shingles, is at least
    `threshold`. What a chain of near texts connects is one cluster, and one of it stays: the
    one with the smallest key (text compared by code points), or with `prefer` the one in which
    that column, of numbers, is largest. Which one stays depends neither on the order of rows
    nor on the engine. Null is near to nothing; texts without a word are all the same.

    Not all pairs are compared. Signatures are cut into b bands of r places, and two texts are
    compared if they agree in a band, with probability 1 - (1 - sʳ)ᵇ for similarity s; what is
    compared is judged by the whole signatures. `miss_weight` says how much worse it is to miss
    a pair than to compare one in vain, and b and r follow (`bands.best_bands`). By default, of
    128 places and a threshold of 0.8, they are 14 and 9: pairs of similarity 0.8 are found with
    probability 0.87, of 0.85 with 0.97, of 0.9 with 0.999. Each row travels b times, with its
    signature. 0.5 is datasketch's default, 9 bands of 13, which finds 0.40, 0.69 and 0.93.

    `against` are rows of the same pipeline that are held already, with signatures in a column
    of the same name: ``NearText(against=weft.read(Lance("corpus.lance")))``. What is near to them
    is dropped; they themselves are not written. With `cluster` no row is dropped: each gets the
    key of the one that would stay, in a column of that name.

    >>> NearText(0.7, prefer="quality").name
    'dedup.NearText'

    Raises:
        DefinitionError: a share that is none, signatures of unknown length, `prefer` that is not
            a column of numbers, or `against` with other signatures.
    """

    threshold: float = 0.8
    prefer: str | None = None
    against: Rows | None = None
    cluster: str | None = None
    miss_weight: float = 0.9

    version = "1"
    reads = fields(minhash=_MINHASH)

    def __post_init__(self) -> None:
        check_share(self.name, "threshold", self.threshold)
        check_share(self.name, "miss_weight", self.miss_weight)

    def compose(self, rows: Any, **columns: str) -> Rows:
        """Buckets by bands of signatures, and pairs by whole ones."""
        column = columns["minhash"]
        (places,) = rows.columns[column].shape
        if places is None:
            raise DefinitionError(
                f"{self.name}: column {column!r} is {rows.columns[column]}, signatures of unknown "
                "length. Expected those of text.MinHash, which all have one length."
            )
        bands, width = best_bands(self.threshold, places, self.miss_weight)
        return drop_near(self, rows, column, TextBuckets(bands, width), TextLink(self.threshold))


@dataclass(frozen=True)
class TextBuckets(Buckets):
    """A bucket for each of `bands` runs of `width` places."""

    bands: int
    width: int

    version = "1"
    reads = fields(signature=_MINHASH)
    dtype = np.uint32

    def buckets(self, signatures: Signatures, loaded: Any) -> npt.NDArray[np.int64]:
        """Rows x bands."""
        used = signatures[:, : self.bands * self.width].astype(np.uint64)
        return bucket_numbers(used.reshape(len(signatures), self.bands, self.width))


@dataclass(frozen=True)
class TextLink(Link):
    """Texts whose signatures agree in a share `threshold` of places."""

    threshold: float

    version = "1"
    reads = fields(name=Text(), bucket=Int64(), signature=_MINHASH)
    dtype = np.uint32

    def near(self, one: Signatures, other: Signatures) -> npt.NDArray[np.bool_]:
        """As many equal places as it takes."""
        wanted = math.ceil(self.threshold * one.shape[-1] - 1e-9)  # 0.55 * 100 is above 55
        equal = np.expand_dims(one, -2) == np.expand_dims(other, -3)
        return np.asarray(np.count_nonzero(equal, axis=-1) >= wanted)
