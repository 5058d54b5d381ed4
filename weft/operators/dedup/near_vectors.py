"""Things whose vectors point nearly the same way."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from weft.errors import DefinitionError
from weft.operators.dedup.bands import bucket_numbers, widest
from weft.operators.dedup.linking import Signatures
from weft.operators.dedup.steps import Buckets, Link, Near, check_share, drop_near
from weft.pipelines.fields import fields
from weft.pipelines.types import Embedding, Int64, Text

if TYPE_CHECKING:
    from weft.pipelines.dsl import Rows

_MOST_BITS = 32
"""Of one band: 4 thousand million buckets are enough for everybody."""

_UNIT = 2.0**24
"""Unit vectors are taken as whole numbers of 2⁻²⁴, which is how exact float32 is. Sums of
products of such numbers are below 2⁵³, so float64 has them without rounding, in whatever order
a library adds them: a row has the same neighbours in every batch and on every machine."""

_ERROR = 1e-6
"""Of a cosine, by rounding: so that vectors which are equal but for their length are near at 1."""

_PLANE = 2.0**10
"""Hyperplanes are whole numbers of 2⁻¹⁰, for the same reason."""


@dataclass(frozen=True)
class NearVectors(Near):
    """Keep one row of those whose embeddings point nearly the same way, and drop the others.

    Reads `embedding`. Two rows are near if the cosine of their vectors is at least `similarity`
    (computed to within 1e-6). What a chain of near rows connects is one cluster, and one of it
    stays: the one with the smallest key (text compared by code points), or with `prefer` the one
    in which that column, of numbers, is largest. Which one stays depends neither on the order of
    rows nor on the engine. Null, a vector of zeros and one that is not finite are near to
    nothing.

    Not all pairs are compared. Random hyperplanes give each vector bits, one for the side it is
    on, and two vectors at the angle θ agree in a bit with probability 1 - θ/π (Charikar,
    "Similarity estimation techniques from rounding algorithms", 2002). Two rows are compared if
    they agree in all bits of one of `bands` bands. A band has as many bits as let pairs at
    exactly `similarity` be compared with probability `recall`; closer ones are compared more
    often: by default 13 bits, and a pair of cosine 0.95 with probability 0.99, of 0.97 with
    0.999. Each row travels `bands` times, with its vector. With more bands there are more
    bits, and fewer comparisons: of n unrelated rows n² · bands / 2 to the power of bits + 1.

    `against` are rows of the same pipeline that are held already, with vectors in a column of
    the same name: ``NearVectors(against=weft.read(Lance("corpus.lance")))``. What is near to them
    is dropped; they themselves are not written. With `cluster` no row is dropped: each gets the
    key of the one that would stay, in a column of that name.

    >>> NearVectors(0.95).bits
    13

    Raises:
        DefinitionError: a share that is none, too few bands for the recall, embeddings of
            unknown length, `prefer` that is not a column of numbers, or `against` with others.
    """

    similarity: float = 0.95
    prefer: str | None = None
    against: Rows | None = None
    cluster: str | None = None
    recall: float = 0.99
    bands: int = 16
    seed: int = 1

    version = "1"
    reads = fields(embedding=Embedding())

    def __post_init__(self) -> None:
        check_share(self.name, "similarity", self.similarity)
        if not 0 < self.recall < 1:
            raise DefinitionError(f"{self.name}: recall={self.recall!r}: expected between 0 and 1.")
        if self.bands < 1 or self.bits < 1:
            raise DefinitionError(
                f"{self.name}: bands={self.bands!r} cannot find pairs of similarity "
                f"{self.similarity} with probability {self.recall}. Expected more."
            )
        if not 0 <= self.seed < 2**32:
            raise DefinitionError(f"{self.name}: seed={self.seed!r}: expected 0..4294967295.")

    @property
    def bits(self) -> int:
        """Bits of a band."""
        agreement = 1 - math.acos(self.similarity) / math.pi
        return widest(agreement, self.bands, self.recall, _MOST_BITS)

    def compose(self, rows: Any, **columns: str) -> Rows:
        """Buckets by sides of hyperplanes, and pairs by cosines."""
        column = columns["embedding"]
        (dim,) = rows.columns[column].shape
        if dim is None:
            raise DefinitionError(
                f"{self.name}: column {column!r} holds embeddings of unknown length. Expected one "
                "length, such as Embedding(384)."
            )
        buckets = VectorBuckets(dim, self.bands, self.bits, self.seed)
        return drop_near(self, rows, column, buckets, VectorLink(self.similarity))


@dataclass(frozen=True)
class VectorBuckets(Buckets):
    """A bucket for each of `bands` bands of `bits` sides of random hyperplanes."""

    dim: int
    bands: int
    bits: int
    seed: int

    version = "1"
    reads = fields(signature=Embedding())
    dtype = np.float32

    def setup(self, device: str) -> npt.NDArray[np.float64]:
        """The hyperplanes, dim x (bands · bits)."""
        # RandomState is frozen: NumPy promises the same stream in every version.
        draw = np.random.RandomState(self.seed)
        return np.rint(draw.standard_normal((self.dim, self.bands * self.bits)) * _PLANE)

    def buckets(self, signatures: Signatures, loaded: Any) -> npt.NDArray[np.int64]:
        """Rows x bands."""
        sides = unit(signatures) @ loaded >= 0
        powers = np.uint64(1) << np.arange(self.bits, dtype=np.uint64)
        bands = sides.reshape(len(signatures), self.bands, self.bits) @ powers
        return bucket_numbers(bands[:, :, None])

    def known(self, signatures: Signatures) -> npt.NDArray[np.bool_]:
        """Those that point anywhere."""
        return np.asarray(np.isfinite(signatures).all(axis=1) & signatures.any(axis=1))


@dataclass(frozen=True)
class VectorLink(Link):
    """Vectors whose cosine is at least `similarity`."""

    similarity: float

    version = "1"
    reads = fields(name=Text(), bucket=Int64(), signature=Embedding())
    dtype = np.float32

    def prepare(self, signatures: Signatures) -> Signatures:
        """Unit vectors."""
        return unit(signatures)

    def near(self, one: Signatures, other: Signatures) -> npt.NDArray[np.bool_]:
        """Cosines, of whole numbers."""
        cosines = one @ np.swapaxes(other, -1, -2)
        return np.asarray(cosines >= (self.similarity - _ERROR) * _UNIT**2)


def unit(vectors: Signatures) -> npt.NDArray[np.float64]:
    """Vectors of length `_UNIT`, of whole numbers."""
    exact = vectors.astype(np.float64)
    lengths = np.sqrt((exact * exact).sum(axis=1, keepdims=True))
    return np.asarray(np.rint(exact / lengths * _UNIT))
