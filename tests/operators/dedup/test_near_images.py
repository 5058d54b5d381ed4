"""Truth: the distance of every pair, and SciPy's components of those that are near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import imagehash
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import weft
from weft.connectors import Files, Memory
from weft.errors import DefinitionError
from weft.operators import dedup, image
from weft.operators.dedup import near_images
from weft.operators.dedup.near_images import HashBuckets
from weft.pipelines.types import UInt64

HASHES = st.integers(0, 2**64 - 1)


def survivors(hashes: list[int], keys: list[str], distance: int) -> set[str]:
    """The smallest key of each component of the graph of all near pairs."""
    near = [[(a ^ b).bit_count() <= distance for b in hashes] for a in hashes]
    _, labels = scipy.sparse.csgraph.connected_components(np.array(near))
    return {min(k for k, at in zip(keys, labels, strict=True) if at == n) for n in set(labels)}


def planted(count: int, seed: int) -> list[int]:
    """Hashes, and others at 0 to 7 bits from some of them, in chains."""
    chance = np.random.default_rng(seed)
    made = [int(h) for h in chance.integers(0, 2**64, count // 2, np.uint64)]
    while len(made) < count:
        bits = chance.choice(64, chance.integers(0, 8), replace=False)
        made.append(made[chance.integers(len(made))] ^ sum(1 << int(b) for b in bits))
    return [made[i] for i in chance.permutation(count)]


@pytest.mark.parametrize("distance", [0, 1, 4, 7, 15])
def test_every_pair(distance: int, deduplicate: Callable[..., Any]) -> None:
    hashes, keys = planted(400, distance), [f"{n}" for n in range(400)]
    columns = {"hash": (UInt64(), hashes)}
    kept = deduplicate(lambda _: dedup.NearImages(distance), columns, keys)
    assert kept.keys == survivors(hashes, keys, distance)
    assert kept.result.books["join"].dropped == 400 - len(kept.keys)
    assert {k: row["hash"] for k, row in kept.rows.items()} == {
        k: h for k, h in zip(keys, hashes, strict=True) if k in kept.keys
    }


def test_every_order_and_again(deduplicate: Callable[..., Any]) -> None:
    hashes, keys = planted(150, 9), [f"{n}" for n in range(150)]
    expected = survivors(hashes, keys, 4)
    chance = np.random.default_rng(0)
    orders = [chance.permutation(150), [i for i in range(150) if keys[i] in expected]]
    for order in orders:  # all, shuffled; then only those that stayed
        columns = {"hash": (UInt64(), [hashes[i] for i in order])}
        kept = deduplicate(lambda _: dedup.NearImages(4), columns, [keys[i] for i in order])
        assert kept.keys == expected


@settings(max_examples=300, deadline=None)
@given(HASHES, st.lists(st.integers(0, 63), max_size=15, unique=True))
def test_a_band_without_a_differing_bit(one: int, flipped: list[int]) -> None:
    """The pigeonhole principle: near hashes share a bucket, whichever bits differ."""
    other = one ^ sum(1 << bit for bit in flipped)
    for distance in range(len(flipped), 16):
        a, b = HashBuckets(distance).buckets(np.array([one, other], np.uint64), None)
        assert len(a) == distance + 1
        assert (a == b).any()


def test_bits_without_numpy_2(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(0).integers(0, 2**64, 100, np.uint64)
    monkeypatch.delattr(np, "bitwise_count", raising=False)
    assert near_images._ones(numbers).tolist() == [int(n).bit_count() for n in numbers]


def test_photographs(photographs: Callable[..., Any]) -> None:
    """Photographs saved again, smaller and darker, go; imagehash says how near they are."""
    folder = photographs("chelsea", "china", "flower")
    names = sorted(p.stem for p in folder.iterdir())
    for name in names:
        with Image.open(folder / f"{name}.jpg") as photo:
            photo.reduce(2).save(folder / f"{name}-small.jpg", quality=70)
            photo.point(lambda v: int(v * 0.9)).save(folder / f"{name}-dark.png")

    @weft.pipeline
    def distinct() -> Any:
        rows = weft.read(Files(f"{folder}/*")).apply(image.Probe()).apply(image.Decode())
        rows = rows.apply(image.PerceptualHash()).select("uri", "width", "phash")
        rows = rows.apply(dedup.NearImages(8, prefer="width"), hash="phash")
        return rows.select("uri").write(Memory("distinct"))

    distinct().run(engine="local")
    files = sorted(p.name for p in folder.iterdir())
    hashes = [int(str(imagehash.phash(Image.open(folder / f))), 16) for f in files]
    assert len(survivors(hashes, files, 8)) == len(names)
    kept = {key.rpartition("/")[2] for key in Memory("distinct").table()["_key"].to_pylist()}
    # Of the two of full width the dark one has the smaller key: "-" comes before ".".
    assert kept == {f"{name}-dark.png" for name in names}


def test_refusals() -> None:
    for distance in (-1, 16):
        with pytest.raises(DefinitionError, match=f"distance={distance}: expected 0 to 15"):
            dedup.NearImages(distance)
