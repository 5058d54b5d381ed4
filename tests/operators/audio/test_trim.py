"""Truth: slices of arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.errors import DefinitionError
from weft.operators.audio import Trim
from weft.operators.audio.sound import Sound
from weft.pipelines.fields import fields
from weft.pipelines.types import Int32, Waveform

SOUND = np.random.default_rng(0).normal(size=(2, 1000)).astype(np.float32)


@given(st.floats(0, 2), st.floats(0.001, 2), st.sampled_from([100, 441, 1000]))
def test_is_a_slice(start: float, length: float, rate: int) -> None:
    truth = SOUND[:, round(start * rate) : round((start + length) * rate)]
    assert np.array_equal(Trim(start, start + length)(SOUND, rate), truth)
    assert np.array_equal(Trim(start)(SOUND, rate), SOUND[:, round(start * rate) :])


@given(st.lists(st.integers(0, 1000), max_size=8), st.floats(0, 1), st.floats(0.001, 1))
def test_of_blocks(cuts: list[int], start: float, length: float) -> None:
    blocks = iter(np.split(SOUND, sorted(cuts), axis=1))
    parts = list(Trim(start, start + length).stream(Sound(1000, 2, blocks)).blocks)
    truth = SOUND[:, round(start * 1000) : round((start + length) * 1000)]
    assert np.array_equal(np.concatenate([SOUND[:, :0], *parts], axis=1), truth)


def test_blocks_after_the_end_are_not_asked_for() -> None:
    def blocks() -> object:
        yield SOUND
        raise AssertionError("asked for more")

    parts = Trim(0.1, 1.0).stream(Sound(1000, 2, blocks())).blocks  # type: ignore[arg-type]
    assert sum(p.shape[1] for p in parts) == 900


def test_times_in_seconds_do_not_round_away() -> None:
    """0.1 * 44100 is 4410.000000000001."""
    sound = np.arange(44_100, dtype=np.float32)[None]
    assert Trim(0.1, 0.2)(sound, 44_100)[0, [0, -1]].tolist() == [4410, 8819]


def test_type() -> None:
    given_types = fields(waveform=Waveform(16_000, 1), sample_rate=Int32())
    assert Trim(1).infer(given_types) == fields(waveform=Waveform(16_000, 1))


def test_errors() -> None:
    with pytest.raises(DefinitionError, match=r"audio\.Trim: start=3, stop=1: expected seconds"):
        Trim(3, 1)
    with pytest.raises(DefinitionError, match=r"start='1', stop=None: expected seconds"):
        Trim("1")  # type: ignore[arg-type]
