"""`audio.Transcribe`. Truth: transformers called directly, for one clip at a time.

The model is a Whisper of random weights with a tokenizer of single bytes: it understands nothing,
but its text, timestamps and language differ with what it hears, so a spectrogram, a window or a
row that is mixed up shows.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch

import weft
from weft.connectors import Arrow, Memory
from weft.errors import DefinitionError, RowError
from weft.operators import audio
from weft.operators.torchaudio_import import torchaudio
from weft.pipelines.fields import arrow_field

torchaudio()  # see the module: transformers imports it

from tokenizers import pre_tokenizers  # noqa: E402
from transformers import (  # noqa: E402
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

RATE = 16_000
LANGUAGES = ("en", "de", "fr")
SECONDS = (1.0, 29.9, 30.0, 31.0, 5.0, 75.0, 2.5, 30.005)

Clip = npt.NDArray[np.float32]


def tokenizer() -> WhisperTokenizer:
    """Bytes, then Whisper's special tokens in its order, then timestamps."""
    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = WhisperTokenizer(vocab=letters, merges=[])
    special = ["endoftext", "startoftranscript", *LANGUAGES, "translate", "transcribe"]
    special += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    made.add_tokens([f"<|{name}|>" for name in special], special_tokens=True)
    made.add_tokens([f"<|{i * 0.02:.2f}|>" for i in range(1501)])
    return made


def whisper(folder: Path, *, languages: tuple[str, ...] = LANGUAGES) -> Path:
    """A tiny Whisper in a folder."""
    words = tokenizer()
    ids = words.get_vocab()
    special = {n: ids[f"<|{n}|>"] for n in ("endoftext", "startoftranscript", "notimestamps")}
    ends = {"eos_token_id": special["endoftext"], "pad_token_id": special["endoftext"]}
    starts = {"decoder_start_token_id": special["startoftranscript"]}
    config = WhisperConfig(
        vocab_size=len(words), num_mel_bins=16, d_model=32, init_std=0.8,
        encoder_layers=2, encoder_attention_heads=2, encoder_ffn_dim=64,
        decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=64,
        max_target_positions=40, begin_suppress_tokens=None, **ends, **starts,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = WhisperForConditionalGeneration(config).eval()
    generation = GenerationConfig(
        no_timestamps_token_id=special["notimestamps"], max_initial_timestamp_index=50,
        is_multilingual=bool(languages), max_length=40, **ends, **starts,
        suppress_tokens=list(range(special["endoftext"] + 1, special["notimestamps"] + 1)),
    )  # fmt: skip
    if languages:
        generation.lang_to_id = {f"<|{name}|>": ids[f"<|{name}|>"] for name in languages}
        generation.task_to_id = {n: ids[f"<|{n}|>"] for n in ("transcribe", "translate")}
    model.generation_config = generation
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(feature_size=16), words).save_pretrained(folder)
    return folder


def sound(seconds: float, seed: int) -> Clip:
    """Three tones a second, each of its own pitch and loudness, and a little noise."""
    random = np.random.default_rng(seed)
    count, tones = round(seconds * RATE), int(seconds * 3) + 1
    pitch = np.repeat(random.uniform(80, 3000, tones), RATE // 3 + 1)[:count]
    loud = np.repeat(random.uniform(0, 0.5, tones), RATE // 3 + 1)[:count]
    noise = 0.01 * random.normal(size=count)
    return (loud * np.sin(2 * np.pi * np.cumsum(pitch) / RATE) + noise).astype(np.float32)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Threads cost so small a model more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [sound(seconds, seed) for seed, seconds in enumerate(SECONDS)]


@functools.cache
def loaded(folder: Path) -> tuple[Any, Any]:
    model = WhisperForConditionalGeneration.from_pretrained(folder).eval()
    return WhisperProcessor.from_pretrained(folder), model


def directly(folder: Path, clip: Clip, language: str | None, task: str) -> dict[str, Any]:
    """What transformers says of one clip."""
    processor, model = loaded(folder)
    whole = {"truncation": False, "padding": "longest"} if len(clip) > 30 * RATE else {}
    inputs = processor(
        clip, sampling_rate=RATE, return_tensors="pt", return_attention_mask=True, **whole
    )
    multilingual = {} if task == "" else {"language": language, "task": task}
    found = model.generate(**inputs, return_timestamps=True, return_segments=True, **multilingual)
    segments = [s for s in found["segments"][0] if float(s["start"]) < len(clip) / RATE]
    tokens = torch.cat([s["tokens"] for s in segments]) if segments else torch.tensor([])
    detected = processor.tokenizer.decode(model.detect_language(inputs["input_features"])[0])
    return {
        "text": processor.decode(tokens.long(), skip_special_tokens=True).strip(),
        "language": language or detected.strip("<|>"),
        "segments": [
            {
                "start_seconds": pytest.approx(float(s["start"])),
                "end_seconds": pytest.approx(min(float(s["end"]), len(clip) / RATE), abs=0.01),
                "text": processor.decode(s["tokens"], skip_special_tokens=True).strip(),
            }
            for s in segments
        ],
    }


def transcribed(operator: audio.Transcribe, clips: list[Clip]) -> list[dict[str, Any]]:
    out = operator.map({"waveform": [c[None] for c in clips]}, operator.setup("cpu"))
    return [dict(zip(out, row, strict=True)) for row in zip(*out.values(), strict=True)]


@pytest.fixture(scope="module")
def truth(folder: Path, clips: list[Clip]) -> list[dict[str, Any]]:
    return [directly(folder, clip, None, "transcribe") for clip in clips]


def test_the_truth_tells_clips_apart(truth: list[dict[str, Any]]) -> None:
    assert len({row["text"] for row in truth}) == len(SECONDS)
    assert len({row["language"] for row in truth}) > 1
    assert max(len(row["segments"]) for row in truth) > 5
    last = {
        seconds: row["segments"][-1]["start_seconds"]
        for seconds, row in zip(SECONDS, truth, strict=True)
    }
    assert last[75.0].expected > 30  # found in a window of its own


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_as_transformers(
    folder: Path, clips: list[Clip], truth: list[dict[str, Any]], batch_size: int
) -> None:
    assert transcribed(audio.Transcribe(str(folder), batch_size=batch_size), clips) == truth


@pytest.mark.parametrize(
    ("language", "task"), [("de", "transcribe"), ("fr", "translate"), (None, "translate")]
)
def test_language_and_task(
    folder: Path, clips: list[Clip], language: str | None, task: str
) -> None:
    some = [clips[0], clips[3], clips[4]]
    expected = [directly(folder, clip, language, task) for clip in some]
    assert transcribed(audio.Transcribe(str(folder), language, task), some) == expected


def test_a_model_for_english_alone(tmp_path: Path, clips: list[Clip]) -> None:
    folder = whisper(tmp_path, languages=())
    found = audio.Transcribe(str(folder))(clips[4][None])
    expected = directly_english(folder, clips[4])
    assert (found["text"], found["language"]) == (expected, "en")
    with pytest.raises(DefinitionError, match="is for English alone: leave out language and task"):
        audio.Transcribe(str(folder), language="en")


def directly_english(folder: Path, clip: Clip) -> str:
    processor, model = loaded(folder)
    inputs = processor(clip, sampling_rate=RATE, return_tensors="pt")
    found = model.generate(**inputs, return_timestamps=True, return_segments=True)
    within = [s["tokens"] for s in found["segments"][0] if float(s["start"]) < len(clip) / RATE]
    return str(processor.decode(torch.cat(within), skip_special_tokens=True)).strip()


def test_out_of_memory_halves_the_batch(
    folder: Path, clips: list[Clip], truth: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sizes = WhisperForConditionalGeneration.generate, []

    def generate(self: Any, features: Any, **named: Any) -> Any:
        sizes.append(len(features))
        if len(features) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, features, **named)

    monkeypatch.setattr(WhisperForConditionalGeneration, "generate", generate)
    assert transcribed(audio.Transcribe(str(folder)), clips) == truth
    assert (sizes[0], max(sizes)) == (3, 5)  # the long ones; the short ones
    assert sum(size for size in sizes if size <= 2) == len(SECONDS)


def test_no_sound(folder: Path) -> None:
    found = audio.Transcribe(str(folder))(np.zeros((1, 0), np.float32))
    assert found == {"text": "", "segments": [], "language": None}


def test_rows_of_a_pipeline(folder: Path, clips: list[Clip], truth: list[dict[str, Any]]) -> None:
    """Values come in Arrow's types, and a bad row is one row's fault."""
    wrong = clips[0].copy()
    wrong[7] = np.nan
    kind = weft.Waveform(RATE, 1)
    column = kind.to_arrow([clips[0][None], wrong[None], clips[4][None]])
    table = pa.table([column], pa.schema([arrow_field("waveform", kind)]))
    said = Memory("said")

    @weft.pipeline
    def spoken() -> Any:
        rows = weft.read(Arrow(table)).apply(audio.Transcribe(str(folder)))
        return rows.select("text", "segments", "language").write(said)

    result = spoken().run(engine="local")
    assert (result.rows, result.failed) == (3, 1)
    found = said.table().select(["text", "segments", "language"]).to_pylist()
    assert found == [truth[0], truth[4]]


def test_types() -> None:
    kinds = audio.Transcribe.writes
    assert str(kinds["text"]) == "Text"
    assert str(kinds["language"]) == "Text?"
    assert kinds["segments"].storage == pa.list_(
        pa.struct(
            [("start_seconds", pa.float64()), ("end_seconds", pa.float64()), ("text", pa.string())]
        )
    )


def test_the_recipe_has_the_weights_and_not_the_batch(folder: Path, tmp_path: Path) -> None:
    one = audio.Transcribe(str(folder), batch_size=1)
    assert one.identity() == audio.Transcribe(str(folder)).identity()
    assert one.identity()["weights"].startswith("sha256:")
    assert one.identity() != audio.Transcribe(str(whisper(tmp_path, languages=()))).identity()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"task": "sing"}, "task='sing': expected one of transcribe, translate"),
        ({"language": "fn"}, r"language='fn': the model has no such language. It has: de, en, fr"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        ({"dtype": "int8"}, "dtype='int8': expected one of float32"),
    ],
)
def test_what_is_refused(folder: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        audio.Transcribe(str(folder), **given)


def test_another_kind_of_model_is_refused(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(DefinitionError, match="is of type 'bert'; expected a Whisper model"):
        audio.Transcribe(str(tmp_path))


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros((2, 9), np.float32), "given 2 channels; expected one"),
        (np.full((1, 9), np.inf, np.float32), "values that are not finite"),
        (np.zeros((1, 9)), "channels x samples of float32"),
    ],
)
def test_a_row_that_is_refused(folder: Path, waveform: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        audio.Transcribe(str(folder))(waveform)
