"""The partition of a key: stable, even, and by meaning."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.pipelines.batch import ENVELOPE, KEY, Batch, Column
from weft.pipelines.engines.hashing import fmix64, partition_of
from weft.pipelines.types import Arrow, Bool, Int8, Int64, Text, UInt64

MASK = 2**64 - 1

FMIX64 = {
    0: 0,
    1: 0xB456BCFC34C2CB2C,
    0xCBF29CE484222325: 0xEFD01F60BA992926,
    MASK: 0x64B5720B4B825F21,
}
"""As other implementations of MurmurHash3 pin them (in Rust, Go, Java, TypeScript)."""


def batch_of(**arrays: pa.Array) -> Batch:
    rows = len(next(iter(arrays.values())))
    key = Column(ENVELOPE[KEY], array=pa.array([str(i) for i in range(rows)]))
    columns = {n: Column(Arrow(a.type, nullable=True), array=a) for n, a in arrays.items()}
    return Batch(columns, {KEY: key}, rows)


def parts(array: pa.Array, partitions: int = 1 << 40, *, salt: int = 0) -> list[int]:
    return partition_of(batch_of(k=array), ["k"], partitions, salt=salt).tolist()


def mixed(number: int) -> int:
    """`fmix64` in Python's integers, from the paper's constants."""
    number ^= number >> 33
    number = number * 0xFF51AFD7ED558CCD & MASK
    number ^= number >> 33
    number = number * 0xC4CEB9FE1A85EC53 & MASK
    return number ^ number >> 33


def test_mixer_has_the_published_values() -> None:
    given = np.array(list(FMIX64), np.uint64)
    assert fmix64(given).tolist() == list(FMIX64.values())
    assert given.tolist() == list(FMIX64)  # it is not changed in place


@given(st.lists(st.integers(0, MASK), min_size=1))
def test_mixer_is_that_of_plain_integers(numbers: list[int]) -> None:
    assert fmix64(np.array(numbers, np.uint64)).tolist() == [mixed(n) for n in numbers]


def test_a_key_is_hashed_as_documented() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926  # the check value of CRC-32
    assert parts(pa.array(["123456789"]), 1 << 62) == [mixed(0xCBF43926) % (1 << 62)]
    assert parts(pa.array([5, -1]), 1 << 62) == [mixed(5) % (1 << 62), mixed(MASK) % (1 << 62)]
    assert parts(pa.array([5]), 97, salt=3) == [mixed(mixed(3) + 5 & MASK) % 97]
    both = batch_of(a=pa.array([5]), b=pa.array([7]))
    assert partition_of(both, ["a", "b"], 97).tolist() == [mixed(mixed(5) + 7) % 97]


@given(st.lists(st.none() | st.integers(0, 127)))
def test_integers_hash_alike_in_every_width(numbers: list[int | None]) -> None:
    widths = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
    widths += [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
    assert len({tuple(parts(pa.array(numbers, w))) for w in widths}) == 1


def test_negative_integers_hash_alike_in_every_width() -> None:
    widths = [pa.int8(), pa.int16(), pa.int32(), pa.int64()]
    assert len({tuple(parts(pa.array([-1, -128], w))) for w in widths}) == 1


@given(st.lists(st.none() | st.text()))
def test_text_hashes_alike_in_every_storage_and_chunking(texts: list[str | None]) -> None:
    plain = pa.array(texts, pa.string())
    storages = [plain, plain.cast(pa.large_string()), plain.cast(pa.string_view())]
    storages += [pa.concat_arrays([pa.array(["x"]), plain]).slice(1)]
    storages += [pa.chunked_array([plain.slice(0, 1), plain.slice(1)], pa.string())]
    assert len({tuple(parts(a)) for a in storages}) == 1


def test_moments_hash_alike_in_every_unit_and_zone() -> None:
    seconds = [0, 1, -1, 1_700_000_000, None]
    scaled = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    found = {
        tuple(parts(pa.array([s and s * n for s in seconds], pa.timestamp(unit, zone))))
        for unit, n in scaled.items()
        for zone in (None, "UTC", "Europe/Berlin")
    }
    assert len(found) == 1
    near = parts(pa.array([1000, 1001, 1002], pa.timestamp("ns")))
    assert len(set(near)) == 3
    assert near[:1] == parts(pa.array([1], pa.timestamp("us")))


def test_dates_and_booleans() -> None:
    days = pa.array([0, -1, 20_000, None], pa.date32())
    assert parts(days) == parts(days.cast(pa.date64()))
    assert parts(pa.array([False, True, None])) == parts(pa.array([0, 1, None]))


def test_values_hash_as_arrow_does() -> None:
    def of(kind: Any, values: Any) -> list[int]:
        key = Column(ENVELOPE[KEY], values=[str(i) for i in range(len(values))])
        batch = Batch({"k": Column(kind, values=values)}, {KEY: key})
        return partition_of(batch, ["k"], 1 << 40).tolist()

    assert of(Int8(), np.array([1, -2], np.int8)) == of(Int64(), np.array([1, -2]))
    assert of(UInt64(nullable=True), [2**64 - 1, None]) == parts(pa.array([-1, None], pa.int64()))
    assert of(Text(nullable=True), ["ü", None]) == parts(pa.array(["ü", None]))
    assert of(Bool(), np.array([True, False])) == parts(pa.array([True, False]))


def test_the_envelope_can_be_a_key_and_no_key_is_one_partition() -> None:
    batch = batch_of(k=pa.array(["0", "1", "2"]))
    assert (partition_of(batch, [KEY], 7) == partition_of(batch, ["k"], 7)).all()
    nothing = partition_of(batch, ["_parent"], 1000)  # a field that the rows do not have is null
    assert len(set(nothing.tolist())) == 1
    assert partition_of(batch, [], 7).tolist() == [0, 0, 0]
    assert partition_of(batch.slice(0, 0), ["k"], 7).dtype == np.int64


@pytest.mark.parametrize("kind", ["sequence", "strides", "text", "paths", "pairs"])
@pytest.mark.parametrize("partitions", [2, 7, 64, 1000])
def test_partitions_are_even_and_another_salt_is_independent(kind: str, partitions: int) -> None:
    """Chi-squared of counts, within six standard deviations of what chance gives."""
    rows = 100_000
    numbers = np.arange(rows)
    arrays: dict[str, Sequence[pa.Array]] = {
        "sequence": [pa.array(numbers)],
        "strides": [pa.array(numbers * 4096)],
        "text": [pa.array([str(n) for n in numbers])],
        "paths": [pa.array([f"s3://bucket/images/{n:08d}.jpg" for n in numbers])],
        "pairs": [pa.array(numbers // 100), pa.array(numbers % 100)],
    }
    batch = batch_of(**{f"k{i}": a for i, a in enumerate(arrays[kind])})
    by = list(batch.columns)
    first = partition_of(batch, by, partitions)
    within = batch.take(np.flatnonzero(first == 1))
    for found in (first, partition_of(within, by, 16, salt=1)):
        assert even(found, partitions if found is first else 16)


def even(found: np.ndarray[Any, Any], partitions: int) -> bool:
    counts = np.bincount(found, minlength=partitions)
    expected = len(found) / partitions
    chi = float(((counts - expected) ** 2 / expected).sum())
    spread = (2 * (partitions - 1)) ** 0.5
    return len(counts) == partitions and abs(chi - (partitions - 1)) < 6 * spread


CODE = """
import pyarrow as pa
from weft.pipelines.batch import Batch, Column
from weft.pipelines.engines.hashing import partition_of
from weft.pipelines.types import Text
c = Column(Text(nullable=True), array=pa.array(["a", "ü", None, "s3://x/1.jpg"]))
print(partition_of(Batch({"k": c}, {"_key": c}), ["k", "_key"], 10**6, salt=2).tolist())
"""


@pytest.mark.parametrize("seed", ["0", "12345"])
def test_another_process_agrees(seed: str) -> None:
    env = os.environ | {"PYTHONHASHSEED": seed, "POLARS_MAX_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=env, capture_output=True, text=True, check=True
    )
    null = int.from_bytes(b"null", "big")
    values = [zlib.crc32(t.encode()) for t in ("a", "ü")] + [null, zlib.crc32(b"s3://x/1.jpg")]
    wanted = [mixed(mixed(mixed(2) + v & MASK) + v & MASK) % 10**6 for v in values]
    assert wanted == [993595, 777853, 727367, 445204]
    assert done.stdout.strip() == str(wanted)
