"""Truth: the cosine of every pair in float64, and SciPy's components of those that are near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from weft.errors import DefinitionError
from weft.operators.dedup import NearVectors
from weft.operators.dedup.bands import meeting_probability
from weft.operators.dedup.near_vectors import VectorBuckets, VectorLink
from weft.pipelines.types import Embedding, Float64


def planted(count: int, dim: int, seed: int) -> np.ndarray:
    """Vectors of any length; every second one at a cosine of 0.9 to 1 to another."""
    chance = np.random.default_rng(seed)
    made = chance.standard_normal((count, dim))
    for row in range(1, count, 2):
        made[row] = at_cosine(made[row - 1], chance.uniform(0.9, 1.0), chance)
    return (made * chance.uniform(0.01, 100, (count, 1))).astype(np.float32)


def at_cosine(vector: np.ndarray, cosine: float, chance: np.random.Generator) -> np.ndarray:
    unit = vector / np.linalg.norm(vector)
    across = chance.standard_normal(len(vector))
    across -= (across @ unit) * unit
    across /= np.linalg.norm(across)
    return np.asarray(cosine * unit + np.sqrt(1 - cosine**2) * across)


def near_matrix(vectors: np.ndarray, similarity: float) -> np.ndarray:
    units = vectors.astype(np.float64) / np.linalg.norm(vectors.astype(np.float64), axis=1)[:, None]
    return np.asarray(units @ units.T >= similarity)


@pytest.mark.parametrize("similarity", [0.8, 0.95, 0.99])
def test_recall(similarity: float) -> None:
    """Of 4,000 pairs at the threshold as many share a bucket as is promised, or more."""
    operator = NearVectors(similarity)
    buckets = VectorBuckets(48, operator.bands, operator.bits, operator.seed)
    chance = np.random.default_rng(0)
    one = chance.standard_normal((4_000, 48))
    other = np.stack([at_cosine(v, similarity, chance) for v in one])
    planes = buckets.setup("cpu")
    met = (buckets.buckets(one, planes) == buckets.buckets(other, planes)).any(axis=1).mean()
    angle = 1 - np.arccos(similarity) / np.pi
    expected = meeting_probability(angle, operator.bands, operator.bits)
    assert expected >= operator.recall
    # Pairs share the hyperplanes, so their fates are not independent: ten errors of 4,000.
    assert abs(met - expected) < 10 * (expected * (1 - expected) / 4_000) ** 0.5
    assert meeting_probability(angle, operator.bands, operator.bits + 1) < operator.recall


@pytest.mark.parametrize("similarity", [0.9, 0.95])
def test_every_pair(similarity: float, deduplicate: Callable[..., Any]) -> None:
    """No row goes that is not near to one that stays; of those that should go, 99 in 100 do."""
    vectors, keys = planted(1_000, 32, 3), [f"{n:03}" for n in range(1_000)]
    columns = {"vector": (Embedding(32), vectors)}
    kept = deduplicate(lambda _: NearVectors(similarity), columns, keys, embedding="vector")
    _, labels = scipy.sparse.csgraph.connected_components(near_matrix(vectors, similarity))
    expected = {f"{np.flatnonzero(labels == n)[0]:03}" for n in set(labels)}
    assert expected <= kept.keys
    missed = len(kept.keys) - len(expected)
    assert missed <= 0.01 * (1_000 - len(expected))
    assert kept.result.books["join"].dropped == 1_000 - len(kept.keys)


def test_cosines() -> None:
    """Judged as in float64, and the same one by one, many by one and in any layout."""
    vectors = planted(300, 384, 0)
    link = VectorLink(0.95)
    units = link.prepare(vectors)
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1)[:, None]
    cosines = exact @ exact.T
    assert np.abs(units @ units.T / 2**48 - cosines).max() < 1e-6
    whole = link.near(units, units)
    clear = np.abs(cosines - 0.95) > 2e-6
    assert np.array_equal(whole[clear], (cosines >= 0.95)[clear])
    assert np.array_equal(whole, link.near(units, np.asfortranarray(units)))
    many = link.near(units.reshape(30, 10, -1), units.reshape(30, 10, -1))
    assert all(np.array_equal(m, whole[10 * n :, 10 * n :][:10, :10]) for n, m in enumerate(many))
    for row in range(300):
        assert np.array_equal(whole[row], link.near(units[row : row + 1], units)[0])


def test_sums_are_exact() -> None:
    """Whole numbers, whose products, however they are added, stay below 2⁵³."""
    planes = VectorBuckets(1024, 16, 13, 1).setup("cpu")
    units = VectorLink(0.9).prepare(planted(100, 1024, 1))
    for numbers in (planes, units):
        assert np.array_equal(numbers, np.rint(numbers))
    assert max((abs(units) @ abs(planes)).max(), (abs(units) @ abs(units).T).max()) < 2**53


def test_the_same_buckets_in_every_batch() -> None:
    buckets = VectorBuckets(64, 16, 13, 1)
    vectors, planes = planted(200, 64, 5), buckets.setup("cpu")
    whole = buckets.buckets(vectors, planes)
    for row in range(200):
        assert np.array_equal(buckets.buckets(vectors[row : row + 1], planes)[0], whole[row])


def test_what_points_nowhere(deduplicate: Callable[..., Any]) -> None:
    """Zeros, infinities and null are near to nothing, not even to each other."""
    one = [1.0, 2.0]
    inf = [np.inf, 1.0]
    rows = [one, [2.0, 4.0], [0.0, 0.0], [0.0, 0.0], None, None, inf, inf, [-1.0, -2.0]]
    values = [None if r is None else np.array(r, np.float32) for r in rows]
    columns = {"embedding": (Embedding(2) | None, values)}
    kept = deduplicate(lambda _: NearVectors(1.0), columns, list("abcdefghi"))
    assert kept.keys == set("acdefghi")
    assert not kept.result.failed


def test_prefer_and_cluster(deduplicate: Callable[..., Any]) -> None:
    vectors = np.array([[1, 0], [1, 0.1], [0, 1], [0, 1], [1, 1]], np.float32)
    scores = [0.1, 0.9, None, -1.0, 5.0]
    columns = {"embedding": (Embedding(2), vectors), "score": (Float64() | None, scores)}
    make = lambda _: NearVectors(0.99, prefer="score", cluster="like")  # noqa: E731
    kept = deduplicate(make, columns, list("abcde"))
    likes = {key: row["like"] for key, row in kept.rows.items()}
    assert likes == {"a": "b", "b": "b", "c": "d", "d": "d", "e": "e"}


def test_what_the_documentation_says() -> None:
    assert (NearVectors().bands, NearVectors().bits) == (16, 13)
    agreements = (1 - np.arccos(c) / np.pi for c in (0.95, 0.97))
    assert [round(meeting_probability(a, 16, 13), 3) for a in agreements] == [0.99, 0.999]


def test_refusals(deduplicate: Callable[..., Any]) -> None:
    for name, value in (("similarity", 0.0), ("similarity", 1.5)):
        with pytest.raises(DefinitionError, match=f"{name}={value}: expected above 0"):
            NearVectors(**{name: value})
    with pytest.raises(DefinitionError, match=r"recall=1.0: expected between 0 and 1"):
        NearVectors(recall=1.0)
    with pytest.raises(DefinitionError, match=r"bands=2 cannot find pairs of similarity 0.1"):
        NearVectors(0.1, bands=2)
    with pytest.raises(DefinitionError, match="seed=-1: expected 0"):
        NearVectors(seed=-1)
    columns = {"embedding": (Embedding(), [np.zeros(3, np.float32)])}
    with pytest.raises(DefinitionError, match="embeddings of unknown length"):
        deduplicate(lambda _: NearVectors(), columns, ["a"])
