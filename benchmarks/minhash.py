"""How fast texts are signed: `text.MinHash` beside datasketch, whose signatures it gives.

python -m benchmarks.minhash --json minhash.json

Plain calls in one thread, without a pipeline. datasketch is called text by text, as its manual
begins, and by `bulk`, its fastest; both by the same shingles.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.common import Target, machine, paired_ratio, table, write_json
from benchmarks.texts import texts, vocabulary
from weft.operators.text import MinHash

PERMUTATIONS, SHINGLE = 128, 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; an error, if signatures differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, help="texts (default: 2000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="file for figures and targets")
    options = parser.parse_args(arguments)
    given = texts(vocabulary(), seed=0, rows=options.count)
    contenders: dict[str, Callable[[list[str]], list[Any]]] = {
        "weft": _weft, "datasketch": _datasketch, "datasketch bulk": _bulk,
    }  # fmt: skip
    signed = [np.stack(sign(given)) for sign in contenders.values()]
    if not all(np.array_equal(signed[0], other) for other in signed[1:]):
        sys.exit("the signatures differ")
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(options.rounds):
        for name, sign in contenders.items():
            began = time.process_time()
            sign(given)
            rates[name].append(len(given) / (time.process_time() - began))
    ratios = {f"weft/{n}": paired_ratio(rates["weft"], rates[n]) for n in list(contenders)[1:]}
    target = Target("weft/datasketch bulk", ratios["weft/datasketch bulk"], 1.0)
    print(table([
        {"contender": n, "texts/CPU s": statistics.median(r), "from": min(r), "to": max(r)}
        for n, r in rates.items()
    ]))  # fmt: skip
    print(target)
    write_json(options.json, {
        "benchmark": "minhash",
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(("weft", "datasketch", "numpy")),
        "count": options.count,
        "rounds": options.rounds,
        "texts_per_cpu_second": {n: statistics.median(r) for n, r in rates.items()},
        "ratios": ratios,
        "targets_met": [target.to_json()],
    })  # fmt: skip
    return 0


def _shingles(text: str) -> list[bytes]:
    words = text.split()
    last = max(len(words) - SHINGLE, 0)
    return [s.encode() for s in {" ".join(words[i : i + SHINGLE]) for i in range(last + 1)}]


def _weft(given: list[str]) -> list[Any]:
    operator = MinHash(permutations=PERMUTATIONS, shingle=SHINGLE)
    loaded = operator.setup("cpu")
    return [operator.map_row({"text": text}, loaded) for text in given]


def _datasketch(given: list[str]) -> list[Any]:
    import datasketch

    signed = []
    for text in given:
        signature = datasketch.MinHash(PERMUTATIONS, seed=1)
        for shingle in _shingles(text):
            signature.update(shingle)
        signed.append(signature.hashvalues)
    return signed


def _bulk(given: list[str]) -> list[Any]:
    import datasketch

    made = datasketch.MinHash.bulk(map(_shingles, given), num_perm=PERMUTATIONS, seed=1)
    return [signature.hashvalues for signature in made]


if __name__ == "__main__":
    sys.exit(main())
