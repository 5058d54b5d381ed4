"""Truth: silero_vad.get_speech_timestamps itself, and speech between known silences."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch

from weft.errors import DefinitionError, RowError
from weft.operators.audio import Decode, VoiceActivity
from weft.pipelines.types import Waveform

from .conftest import needs_espeak, pink, speech

RATE = 16_000


def silence(seconds: float) -> np.ndarray:
    return np.zeros((1, round(seconds * RATE)), np.float32)


def spoken(words: str = "The quick brown fox jumps over the lazy dog.") -> np.ndarray:
    return Decode(RATE, 1)(speech(words))["waveform"]


def conversation() -> np.ndarray:
    other = spoken("She sells sea shells by the sea shore.")
    return np.concatenate([silence(1), spoken(), silence(2), other, silence(0.5)], axis=1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Of PyTorch, for the truth as well: more are slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> object:
    return VoiceActivity().setup("cpu")


@needs_espeak
@pytest.mark.parametrize(
    "params", [{}, {"threshold": 0.8}, {"min_silence_seconds": 1.0}, {"min_speech_seconds": 1.9}]
)
def test_silero(model: object, params: dict[str, float]) -> None:
    import silero_vad

    sound = conversation()
    truth = silero_vad.get_speech_timestamps(
        torch.tensor(sound[0]),
        model,
        threshold=params.get("threshold", 0.5),
        min_speech_duration_ms=round(1000 * params.get("min_speech_seconds", 0.25)),
        min_silence_duration_ms=round(1000 * params.get("min_silence_seconds", 0.1)),
    )
    ours = VoiceActivity(**params)(sound)
    assert ours["speech"] == [
        {"start_seconds": t["start"] / RATE, "end_seconds": t["end"] / RATE} for t in truth
    ]
    covered = sum(t["end"] - t["start"] for t in truth)
    assert ours["speech_share"] == pytest.approx(covered / sound.shape[1])
    assert 0 < ours["speech_share"] < 1


@needs_espeak
def test_silences_are_found() -> None:
    """One second before, two between; espeak-ng's own files end in silence too."""
    found = VoiceActivity(min_silence_seconds=1.0)(conversation())["speech"]
    assert len(found) == 2
    length = spoken().shape[1] / RATE
    assert found[0]["start_seconds"] == pytest.approx(1.0, abs=0.15)
    assert 0.5 * length < found[0]["end_seconds"] - 1 < length + 0.1
    assert found[1]["start_seconds"] == pytest.approx(3 + length, abs=0.15)


def test_noise_is_not_speech() -> None:
    assert VoiceActivity()(pink(2, rate=RATE)) == {"speech": [], "speech_share": 0.0}
    assert VoiceActivity()(silence(0)) == {"speech": [], "speech_share": 0.0}


@needs_espeak
def test_a_row_leaves_nothing_to_the_next(model: object) -> None:
    operator = VoiceActivity()
    first = operator.map_row({"waveform": conversation()}, model)
    operator.map_row({"waveform": pink(1, rate=RATE)}, model)
    assert operator.map_row({"waveform": conversation()}, model) == first


@needs_espeak
def test_answers_can_be_stored() -> None:
    kind = VoiceActivity.writes["speech"]
    answer = VoiceActivity()(conversation())["speech"]
    assert kind.to_arrow([answer, []]).to_pylist() == [answer, []]
    assert pa.types.is_list(kind.storage)


def test_the_process_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for name in [n for n in sys.modules if n.partition(".")[0] == "silero_vad"]:
            del sys.modules[name]
        VoiceActivity()(pink(0.1, rate=RATE))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_model_is_part_of_the_version() -> None:
    from importlib import metadata

    assert (
        VoiceActivity().identity()["version"] == f"1, silero-vad {metadata.version('silero-vad')}"
    )


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(DefinitionError, match=r"silero_vad is not installed.*pip install 'weft\["):
        VoiceActivity().setup("cpu")


def test_ports() -> None:
    port = VoiceActivity.reads["waveform"]
    assert port.accepts(Waveform(16_000, 1))
    for other in (Waveform(48_000, 1), Waveform(16_000, 2), Waveform(None, 1)):
        assert not port.accepts(other)


def test_errors() -> None:
    with pytest.raises(DefinitionError, match=r"audio\.VoiceActivity: threshold=1: expected a"):
        VoiceActivity(threshold=1)
    with pytest.raises(DefinitionError, match=r"min_speech_seconds=-1: expected at least 0"):
        VoiceActivity(min_speech_seconds=-1)
    with pytest.raises(RowError, match="given 2 channels; expected one"):
        VoiceActivity()(np.zeros((2, 16_000), np.float32))
