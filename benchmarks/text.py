"""How fast texts become vectors: weft beside sentence-transformers, Ray Data and Daft.

    python -m benchmarks.text --json text.json

all-MiniLM-L6-v2 over texts of 5 to 256 tokens (`benchmarks.texts` says how they are drawn). What
is measured, and how to read it, is in README.md.
"""

from __future__ import annotations

import sys

from benchmarks import contest
from benchmarks.texts import make_texts

CONTEST = contest.Contest(
    name="text",
    counted="texts",
    make=make_texts,
    count=4,
    names=("arrival", "at_once", "local", "ray", "ray_data", "daft"),
    pairs={
        "local/arrival": ("local", ("arrival",)),
        "ray/arrival": ("ray", ("arrival",)),
        "local/at_once": ("local", ("at_once",)),
        "ray/ray_data": ("ray", ("ray_data",)),
        "local/daft": ("local", ("daft",)),
    },
    targets={"embed": {"local/arrival": 1.5, "ray/arrival": 1.5}},
    tolerances={"embedding": 1e-6},  # on average over the row: in other batches sums differ
    needs={"daft": "daft"},
    packages=(
        "weft",
        "pyarrow",
        "pylance",
        "ray",
        "sentence-transformers",
        "torch",
        "transformers",
    ),
)

if __name__ == "__main__":
    sys.exit(contest.main(CONTEST, __doc__))
