"""Truth: datasketch, bit by bit, and the Jaccard similarity of the sets themselves."""

from __future__ import annotations

import datasketch
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.operators.text import MinHash
from weft.pipelines.fields import fields
from weft.pipelines.types import Tensor, Text

WORDS = st.lists(st.text(st.sampled_from("abé\u5b57🙂"), min_size=1, max_size=3), max_size=40)


def shingles(text: str, size: int, unit: str) -> set[str]:
    parts, between = (text.split(), " ") if unit == "words" else (list(text), "")
    runs = [parts[i : i + size] for i in range(len(parts) - size + 1)] or [parts]
    return {between.join(run) for run in runs if run}


def sketched(found: set[str], permutations: int, seed: int) -> np.ndarray:
    sketch = datasketch.MinHash(num_perm=permutations, seed=seed)
    for shingle in found:
        sketch.update(shingle.encode())
    return sketch.hashvalues


@settings(max_examples=150, deadline=None)
@given(
    WORDS.map(" ".join),
    st.sampled_from([1, 2, 64, 128]),
    st.integers(1, 6),
    st.sampled_from([0, 1, 2**32 - 1]),
    st.sampled_from(["words", "characters"]),
)
def test_datasketch(text: str, permutations: int, size: int, seed: int, unit: str) -> None:
    ours = MinHash(permutations, size, seed, unit)(text)  # type: ignore[arg-type]
    assert ours.dtype == np.uint32
    assert np.array_equal(ours, sketched(shingles(text, size, unit), permutations, seed))


def test_datasketch_on_a_text_of_many_blocks() -> None:
    text = " ".join(f"w{i}" for i in range(3000))
    assert np.array_equal(MinHash()(text), sketched(shingles(text, 5, "words"), 128, 1))


def test_estimates_are_within_three_standard_errors() -> None:
    """Of 200 pairs of every similarity, on average and, but for a few, one by one."""
    chance = np.random.default_rng(0)
    operator = MinHash(permutations=256, shingle=1)
    off = []
    for _ in range(200):
        common = [f"c{i}" for i in chance.integers(0, 10**9, chance.integers(1, 200))]
        one, other = (
            common + [f"{who}{i}" for i in chance.integers(0, 10**9, chance.integers(1, 200))]
            for who in "ab"
        )
        jaccard = len(set(one) & set(other)) / len(set(one) | set(other))
        estimate = (operator(" ".join(one)) == operator(" ".join(other))).mean()
        off.append((estimate - jaccard) / np.sqrt(jaccard * (1 - jaccard) / 256))
    assert abs(np.mean(off)) < 3 / np.sqrt(200)
    assert 0.8 < np.std(off) < 1.2
    assert np.mean(np.abs(off) < 3) > 0.98


@given(WORDS, st.randoms())
def test_the_order_of_shingles_does_not_matter(words: list[str], chance: object) -> None:
    shuffled = words * 2
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    operator = MinHash(shingle=1)
    assert np.array_equal(operator(" ".join(words)), operator("\n".join(shuffled)))


def test_spaces_do_not_matter_and_case_does() -> None:
    operator = MinHash()
    text = "one two three four five six"
    assert np.array_equal(operator(text), operator(text.replace(" ", " \n\t")))
    assert not np.array_equal(operator(text), operator(text.title()))


def test_short_texts() -> None:
    operator = MinHash(permutations=8)
    assert operator("").tolist() == operator(" \n").tolist() == [2**32 - 1] * 8
    assert operator("ab cd").tolist() == MinHash(8, shingle=2)("ab cd").tolist()
    assert operator("ab cd").tolist() != operator("ab").tolist()


def test_datasketch_finds_what_we_sign() -> None:
    index = datasketch.MinHashLSH(threshold=0.5, num_perm=128)
    text = " ".join(f"w{i}" for i in range(300))
    made = datasketch.MinHash(num_perm=128, hashvalues=MinHash()(text), seed=1, scheme="affine32")
    index.insert("ours", made)
    near = text.replace("w100 ", "other ")
    query = datasketch.MinHash(num_perm=128, seed=1)
    query.update_batch([s.encode() for s in shingles(near, 5, "words")])
    assert index.query(query) == ["ours"]


def test_types() -> None:
    inferred = MinHash(16).infer(fields(text=Text()))
    assert inferred == fields(minhash=Tensor("uint32", (16,)))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"permutations": 0}, r"text\.MinHash: permutations=0: expected at least 1"),
        ({"shingle": 0}, r"shingle=0: expected at least 1"),
        ({"seed": -1}, r"seed=-1: expected 0\.\.4294967295"),
        ({"unit": "lines"}, r"unit='lines': expected 'words' or 'characters'"),
    ],
)
def test_wrong_parameters(params: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        MinHash(**params)  # type: ignore[arg-type]
