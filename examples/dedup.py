"""Drop near duplicates of 100,000 texts, and see how many of those that were planted are found.

Run it:  python examples/dedup.py

Texts of random words are made, and copies of some of them with a few words changed, so that all
near duplicates are known: what has a Jaccard similarity of at least the threshold to a text of
the same family, computed on the sets of their shingles themselves. The pipeline, and datasketch's
MinHashLSH on the same texts with the same signatures and bands, see only signatures. datasketch
names candidates; here they are judged by their signatures and united, as the pipeline does.
"""

import argparse
import random
import tempfile
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import datasketch
import lance
import pyarrow as pa
import pyarrow.parquet as pq

import weft
from weft.connectors import Lance, Parquet
from weft.operators import dedup, text
from weft.operators.dedup.bands import best_bands

SHINGLE, PLACES = 5, 128
WORDS = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "su", "te", "ri", "no", "va", "du", "pe")
         for b in ("ra", "ni", "so", "lu", "te", "ga", "mo", "ki", "ba", "fe")
         for c in ("", "n", "s", "ro", "la", "ti", "ve", "do", "mu", "ka")]  # fmt: skip


@weft.pipeline
def deduplicated(source: str, out: str, threshold: float = 0.8, miss_weight: float = 0.9):
    """Texts of which no two are near."""
    rows = weft.read(Parquet(source, key="id")).apply(text.MinHash(PLACES, SHINGLE))
    rows = rows.apply(dedup.NearText(threshold, miss_weight=miss_weight))
    return rows.select("id", "text").write(Lance(out))


def make_texts(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Texts in random order, and the family of each: those made of one original."""
    draw = random.Random(seed)
    made: list[tuple[str, int]] = []
    for family in range(count):
        words = draw.choices(WORDS, k=draw.randint(60, 200))
        made.append((" ".join(words), family))
        copies = draw.choices((0, 1, 2, 5), (85, 9, 4, 2))[0]
        # One word in 45 changed makes a similarity of 0.8: most copies have fewer, some have more.
        made += [(edited(words, draw.uniform(0, 0.028), draw), family) for _ in range(copies)]
        if len(made) >= count:
            break
    made = made[:count]
    draw.shuffle(made)
    return [words for words, _ in made], [family for _, family in made]


def edited(words: list[str], share: float, draw: random.Random) -> str:
    """A copy with about this share of its words replaced, left out or doubled."""
    copy: list[str] = []
    for word in words:
        copy += (
            draw.choice(([draw.choice(WORDS)], [], [word, word]))
            if draw.random() < share
            else [word]
        )
    return " ".join(copy)


def true_clusters(texts: list[str], families: list[int], threshold: float) -> list[int]:
    """For each text the first one of its cluster, by the shingles themselves."""
    members: dict[int, list[int]] = {}
    for number, family in enumerate(families):
        members.setdefault(family, []).append(number)
    first = list(range(len(texts)))
    for family in members.values():
        sets = {n: shingles(texts[n]) for n in family} if len(family) > 1 else {}
        for a, b in combinations(family, 2):
            if len(sets[a] & sets[b]) >= threshold * len(sets[a] | sets[b]):
                unite(first, a, b)
    return [find(first, n) for n in range(len(texts))]


def shingles(words: str) -> set[str]:
    """The runs of five words."""
    parts = words.split()
    return {" ".join(parts[i : i + SHINGLE]) for i in range(max(1, len(parts) - SHINGLE + 1))}


def find(first: list[int], one: int) -> int:
    """The first of a cluster."""
    while first[one] != one:
        first[one] = one = first[first[one]]
    return one


def unite(first: list[int], one: int, other: int) -> None:
    """Make two clusters one."""
    low, high = sorted((find(first, one), find(first, other)))
    first[high] = low


def by_weft(texts: list[str], folder: Path, engine: str, **settings: float) -> set[int]:
    """The texts that the pipeline keeps."""
    keys = [f"{number:08}" for number in range(len(texts))]  # so that keys sort as numbers
    table = pa.table({"id": keys, "text": texts})
    pq.write_table(table, folder / "texts.parquet", row_group_size=5_000)
    pipeline = deduplicated(
        source=str(folder / "texts.parquet"), out=str(folder / "out.lance"), **settings
    )
    pipeline.run(engine=engine)
    kept = lance.dataset(str(folder / "out.lance"), version="latest").to_table(["id"])
    return set(map(int, kept["id"].to_pylist()))


def by_datasketch(texts: list[str], threshold: float, bands: tuple[int, int]) -> set[int]:
    """The texts that are the first of their cluster, with datasketch's signatures and index."""
    index = datasketch.MinHashLSH(threshold, PLACES, params=bands)
    first = list(range(len(texts)))
    sketches = []
    for number, words in enumerate(texts):
        sketch = datasketch.MinHash(PLACES)
        sketch.update_batch([shingle.encode() for shingle in shingles(words)])
        for other in index.query(sketch):
            if sketch.jaccard(sketches[other]) >= threshold:
                unite(first, number, other)
        index.insert(number, sketch, check_duplication=False)
        sketches.append(sketch)
    return {number for number in range(len(texts)) if find(first, number) == number}


def score(kept: set[int], clusters: list[int]) -> tuple[float, float]:
    """Of the rows dropped how many should be, and of those that should be how many are.

    Of a cluster all rows but one should be dropped; which one stays is free.
    """
    sizes = Counter(clusters)
    left = Counter(clusters[number] for number in kept)
    right = sum(min(size - left[c], size - 1) for c, size in sizes.items())
    return right / max(1, len(clusters) - len(kept)), right / max(1, len(clusters) - len(sizes))


def main() -> None:
    """Read the command line, run both, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--miss-weight", type=float, default=0.9)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    given = parser.parse_args()

    texts, families = make_texts(given.texts)
    clusters = true_clusters(texts, families, given.threshold)
    copies = len(texts) - len(set(families))
    planted = len(texts) - len(set(clusters))
    bands = best_bands(given.threshold, PLACES, given.miss_weight)
    print(f"{len(texts):,} texts, {copies:,} of them copies; {planted:,} are near duplicates")
    print(f"threshold {given.threshold}, {PLACES} places, {bands[0]} bands of {bands[1]}\n")
    print(f"{'':<12}{'dropped':>9}{'precision':>11}{'recall':>9}{'seconds':>9}")

    def show(name: str, kept: set[int], seconds: float) -> None:
        precision, recall = score(kept, clusters)
        dropped = len(texts) - len(kept)
        print(f"{name:<12}{dropped:>9,}{precision:>11.4f}{recall:>9.4f}{seconds:>9.1f}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        settings = {"threshold": given.threshold, "miss_weight": given.miss_weight}
        kept = by_weft(texts, Path(folder), given.engine, **settings)
        show("weft", kept, time.perf_counter() - started)
    started = time.perf_counter()
    sketched = by_datasketch(texts, given.threshold, bands)
    show("datasketch", sketched, time.perf_counter() - started)
    print(f"\n{len(kept ^ sketched):,} texts are dropped by one of them and not by the other.")


if __name__ == "__main__":
    main()
