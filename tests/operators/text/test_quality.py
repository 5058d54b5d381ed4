"""Truth: the papers' words, read slowly and literally here, and cases counted by hand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weft
from weft.connectors import Memory, Parquet
from weft.errors import DefinitionError
from weft.operators.text import Quality
from weft.operators.text.repetition import LIMITS
from weft.pipelines.operator import digest
from weft.pipelines.types import Bool, Int32

WORD = st.sampled_from(
    [
        "a",
        "the",
        "be",
        "to",
        "Fox",
        "ox.",
        "run",
        "...",
        "#",
        "12",
        "naïve",
        "So!",
        "wait…",
        "{",
        "“Yes.”",
    ]
)
LINE = st.builds(
    lambda mark, words: mark + " ".join(words),
    st.sampled_from(["", "", "- ", "• "]),
    st.lists(WORD, max_size=9),
)
TEXT = st.lists(st.one_of(LINE, LINE, st.just("")), max_size=12).map("\n".join)


def lines_of(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if line.strip()]


def share(count: float, total: float) -> float:
    return count / total if total else 0.0


def gopher(text: str) -> dict[str, float]:
    words, lines = text.split(), lines_of(text)
    stop = ["the", "be", "to", "of", "and", "that", "have", "with"]
    ellipses = len(re.findall(r"\.\.\.|…", text))
    return {
        "word_count": len(words),
        "mean_word_length": share(sum(len(w) for w in words), len(words)),
        "symbol_word_ratio": max(share(text.count("#"), len(words)), share(ellipses, len(words))),
        "bullet_line_fraction": share(sum(li[0] in "•‣▪◦●\u2013-*" for li in lines), len(lines)),
        "ellipsis_line_fraction": share(
            sum(re.search(r"(\.\.\.|…)$", li) is not None for li in lines), len(lines)
        ),
        "alphabetic_word_fraction": share(
            sum(any(c.isalpha() for c in w) for w in words), len(words)
        ),
        "stop_word_count": sum(s in words for s in stop),
    }


def duplicates(parts: list[str]) -> tuple[float, float]:
    again = [part for i, part in enumerate(parts) if part in parts[:i]]
    return share(len(again), len(parts)), share(len("".join(again)), len("".join(parts)))


def repetition(text: str) -> dict[str, float]:
    words = text.split()
    total = sum(map(len, words))
    paragraphs = [p.strip() for p in re.split(r"\n[ \n]*\n", text) if p.strip()]
    found = {}
    for name, parts in (("line", lines_of(text)), ("paragraph", paragraphs)):
        count, characters = duplicates(parts)
        found |= {f"duplicate_{name}_fraction": count,
                  f"duplicate_{name}_character_fraction": characters}  # fmt: skip

    def covered(starts: list[int], n: int) -> float:
        inside = {i for start in starts for i in range(start, start + n)}
        return share(sum(len(words[i]) for i in inside), total)

    for n in range(2, 11):
        grams = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
        if n <= 4:
            most = max(map(grams.count, grams), default=0)
            top = {g for g in grams if grams.count(g) == most} if most > 1 else set()
            found[f"top_{n}gram_character_fraction"] = max(
                (covered([i for i, g in enumerate(grams) if g == t], n) for t in top), default=0.0
            )
        else:
            later = [i for i, g in enumerate(grams) if g in grams[:i]]
            found[f"duplicate_{n}gram_character_fraction"] = covered(later, n)
    return found


@settings(max_examples=150, deadline=None)
@given(TEXT)
def test_gopher(text: str) -> None:
    ours = Quality(("gopher",))(text)
    wanted = gopher(text)
    assert ours.pop("passes_gopher") is False  # too short, all of them
    assert ours == pytest.approx(wanted)


@settings(max_examples=250, deadline=None)
@given(TEXT)
def test_repetition(text: str) -> None:
    ours = Quality(("repetition",))(text)
    wanted = repetition(text)
    assert ours.pop("passes_repetition") == all(wanted[k] <= v + 1e-12 for k, v in LIMITS.items())
    assert ours == pytest.approx(wanted)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["a", "bb", "ccc"]), max_size=60).map(" ".join))
def test_repetition_where_ngrams_overlap_themselves(text: str) -> None:
    ours = Quality(("repetition",))(text)
    assert {k: v for k, v in ours.items() if k in LIMITS} == pytest.approx(repetition(text))


def test_repetition_by_hand() -> None:
    found = Quality(("repetition",))("one two\none two\nthree\n\nthree")
    assert found["duplicate_line_fraction"] == 0.5
    assert found["duplicate_line_character_fraction"] == pytest.approx((7 + 5) / (7 + 7 + 5 + 5))
    assert found["duplicate_paragraph_fraction"] == 0
    assert found["top_2gram_character_fraction"] == pytest.approx(12 / 22)  # "one two", twice
    assert found["top_3gram_character_fraction"] == 0
    words = [f"w{i}" for i in range(6)]
    found = Quality(("repetition",))(" ".join([*words, "and", *words]))
    assert found["duplicate_5gram_character_fraction"] == pytest.approx(12 / 27)
    assert found["duplicate_6gram_character_fraction"] == pytest.approx(12 / 27)
    assert found["duplicate_7gram_character_fraction"] == 0


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        (" ".join(["the", "and", *["word"] * 48]), True),
        (" ".join(["the", "and", *["word"] * 47]), False),  # 49 words
        (" ".join(["the", *["word"] * 60]), False),  # one stop word
        (" ".join(["the", "and", *["elevenchars"] * 60]), False),
        (" ".join(["the", "and", *["x"] * 60]), False),
        (" ".join(["the", "and", *["word"] * 43, *["####"] * 1, "word"]), False),  # 46 words
        (" ".join(["the", "and", *["word"] * 44, *["#word"] * 6]), False),
        (" ".join(["the", "and", *["word"] * 48, *["#"] * 5]), True),
        (" ".join(["the", "and", *["word"] * 38, *["1234"] * 10]), True),  # 40 of 50 have a letter
        (" ".join(["the", "and", *["word"] * 37, *["1234"] * 11]), False),
        ("\n".join(["- the and word word word"] * 20), False),
        ("\n".join(["- the and word word word"] * 18 + ["the and word word"] * 2), True),
        ("\n".join(["the and word word word"] * 7 + ["word word and word and..."] * 3), True),
        ("\n".join(["the and word word word"] * 6 + ["word word and word and…"] * 4), False),
        (" ".join(["the", "and", *["word"] * 99_998]), True),
        (" ".join(["the", "and", *["word"] * 99_999]), False),
    ],
)  # fmt: skip
def test_the_bounds_of_gopher(text: str, passes: bool) -> None:
    assert Quality(("gopher",))(text)["passes_gopher"] is passes


def test_the_bounds_of_table_a1() -> None:
    """From distinct words to a few again and again: each bound is the one crossed at some time."""
    chance = np.random.default_rng(0)
    crossed = set()
    for _ in range(200):
        words = [f"w{i}" for i in chance.integers(0, chance.integers(2, 400), 120)]
        again = chance.integers(0, 14)
        words[60 : 60 + again] = words[:again]
        length = chance.integers(1, 30)
        lines = [" ".join(words[i : i + length]) for i in range(0, 120, length)]
        found = Quality(("repetition",))(chance.choice(["\n", "\n\n"]).join(lines))
        over = {name for name, most in LIMITS.items() if found[name] > most}
        assert found["passes_repetition"] is (not over)
        crossed |= over
    assert crossed == set(LIMITS)


C4_LINE = "This line has five words."


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("\n".join([C4_LINE] * 3), True),
        (" ".join([C4_LINE] * 3), True),
        ("\n".join([C4_LINE] * 2), False),
        ("\n".join([C4_LINE, C4_LINE, "Menu", "Contact us here today please", C4_LINE]), True),
        ("\n".join([C4_LINE, C4_LINE, "Only four words here."]), False),
        ("\n".join([C4_LINE, C4_LINE, "Please enable JavaScript in your browser."]), False),
        ("\n".join([C4_LINE, C4_LINE, "This site uses cookies and more."]), False),
        ("\n".join([C4_LINE, C4_LINE, "All of the terms of use apply."]), False),
        ("\n".join([C4_LINE] * 3 + ["Lorem Ipsum dolor"]), False),
        ("\n".join([C4_LINE] * 3 + ["function() {"]), False),
        ("\n".join([C4_LINE] * 3 + ["a bad: Drat, it"]), False),
        ("\n".join([C4_LINE] * 3 + ["hydrated is another word"]), True),
        ("\n".join([C4_LINE] * 2 + ['She said: "This is it!"']), True),
        ("\n".join([C4_LINE] * 2 + ["“This one has a quote.”"]), True),
    ],
)
def test_c4(text: str, passes: bool) -> None:
    assert Quality(("c4",), bad_words=("drat", "no no"))(text)["passes_c4"] is passes


def test_c4_by_hand() -> None:
    found = Quality(("c4",), bad_words=("drat", "drat it", "c++"))(
        f"{C4_LINE} {C4_LINE}\n\nHome | About\n  No full stop at the end \n"
        "Use of cookies, fine by us.\nDrat it, DRAT! C++."
    )
    assert found == {
        "terminal_line_fraction": 0.6,
        "short_line_fraction": 0.4,
        "boilerplate_line_fraction": 0.2,
        "kept_line_fraction": 0.2,
        "sentence_count": 2,
        "lorem_ipsum": False,
        "curly_bracket": False,
        "bad_word_count": 3,
        "passes_c4": False,
    }


def test_an_empty_text() -> None:
    found = Quality()("")
    assert not any(v for k, v in found.items() if k != "passes_repetition")
    assert found["passes_repetition"]
    assert Quality()(" \n ") == found


def test_ports_are_those_of_the_rules() -> None:
    assert len(Quality.writes) == len(Quality().writes) == 8 + 14 + 9
    assert next(iter(Quality(("c4",)).writes)) == "terminal_line_fraction"
    assert list(Quality(("repetition",)).writes) == [*LIMITS, "passes_repetition"]
    assert Quality().writes["word_count"] == Int32()
    assert Quality().writes["passes_gopher"] == Bool()
    assert set(Quality()("a b")) == set(Quality().writes)
    assert digest(Quality(["c4"]).identity()) == digest(Quality(("c4",)).identity())  # type: ignore[arg-type]


@weft.pipeline
def prose(source: str):
    rows = weft.read(Parquet(source)).apply(Quality(("gopher",)))
    return rows.where(pl.col("passes_gopher")).select("text", "word_count").write(Memory("prose"))


def test_in_a_pipeline(tmp_path: Path) -> None:
    texts = [" ".join(["the", "and", *["word"] * n]) for n in (10, 48, 60)]
    pl.DataFrame({"text": [*texts, None]}).write_parquet(tmp_path / "texts.parquet")
    prose(source=str(tmp_path / "texts.parquet")).run(engine="local")
    found = Memory("prose").table()
    assert sorted(found["word_count"].to_pylist()) == [50, 62]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"rules": ("gopher", "c5")}, r"rules=\('gopher', 'c5'\): expected some of gopher, rep"),
        ({"rules": ()}, r"rules=\(\): expected some of gopher, repetition, c4"),
        ({"rules": ("gopher",), "bad_words": ("x",)}, r"expected words, together with .* 'c4'"),
        ({"bad_words": ("",)}, r"bad_words=\('',\)"),
    ],
)
def test_wrong_parameters(params: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        Quality(**params)
