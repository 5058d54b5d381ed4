"""Truth: the binomial law, and hashlib."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError
from weft.operators.tabular import Sample
from weft.operators.tabular.sample import ByKey

KEYS = [f"s3://bucket/photo-{i}.jpg" for i in range(20_000)]


def chosen(fraction: float, seed: int = 0, keys: list[str] = KEYS) -> list[bool]:
    return list(ByKey(fraction, seed).keep({"key": keys}, None))


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1, -5, 2**63 - 1])
def test_as_many_as_the_law_says(fraction: float, seed: int) -> None:
    spread = math.sqrt(len(KEYS) * fraction * (1 - fraction))
    assert abs(sum(chosen(fraction, seed)) - len(KEYS) * fraction) < 4 * spread


def test_samples_of_two_seeds_are_independent() -> None:
    both = sum(a and b for a, b in zip(chosen(0.3, 0), chosen(0.3, 1), strict=True))
    assert abs(both - len(KEYS) * 0.09) < 4 * math.sqrt(len(KEYS) * 0.09 * 0.91)


@given(st.lists(st.text()), st.floats(0, 1), st.floats(0, 1), st.integers(-(2**63), 2**63 - 1))
def test_a_larger_fraction_keeps_more(keys: list[str], a: float, b: float, seed: int) -> None:
    few, many = chosen(min(a, b), seed, keys), chosen(max(a, b), seed, keys)
    assert all(more or not kept for kept, more in zip(few, many, strict=True))
    assert chosen(a, seed, keys) == [ByKey(a, seed)(key) for key in keys]  # whoever is beside it


def test_the_ends() -> None:
    assert not any(chosen(0))
    assert all(chosen(1))


def test_the_choice_is_the_documented_hash() -> None:
    seed = (7).to_bytes(8, "little")
    share = [
        int.from_bytes(hashlib.blake2b(k.encode(), digest_size=8, key=seed).digest(), "little")
        / 2**64
        for k in KEYS[:100]
    ]
    assert chosen(0.25, 7, KEYS[:100]) == [s < 0.25 for s in share]


@weft.pipeline
def sampled(fraction: float, seed: int = 0) -> Any:
    rows = weft.read(Arrow(pa.table({"n": range(1000)}))).apply(Sample(fraction, seed))
    return rows.write(Memory("sampled"))


def test_in_a_pipeline() -> None:
    result = sampled(fraction=0.2).run(engine="local")
    found = Memory("sampled").table().column("_key").to_pylist()
    keys = [str(n) for n in range(1000)]
    assert found == [k for k, kept in zip(keys, chosen(0.2, 0, keys), strict=True) if kept]
    assert sum(line.dropped for line in result.books.values()) == 1000 - len(found)
    again = sampled(fraction=0.2, seed=1).run(engine="local")
    assert again.state == "published"
    assert Memory("sampled").table().column("_key").to_pylist() != found


def test_the_plan_says_how_rows_are_chosen() -> None:
    assert "tabular.ByKey(fraction=0.2)" in str(sampled(fraction=0.2).plan())


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan, "0.1", True])
def test_wrong_fractions(fraction: Any) -> None:
    with pytest.raises(
        DefinitionError, match=r"tabular\.Sample: fraction=.*expected a number from 0"
    ):
        Sample(fraction)


@pytest.mark.parametrize("seed", [2**63, 0.5, True])
def test_wrong_seeds(seed: Any) -> None:
    with pytest.raises(DefinitionError, match=r"tabular\.Sample: seed=.*expected an integer of 64"):
        Sample(0.1, seed)
