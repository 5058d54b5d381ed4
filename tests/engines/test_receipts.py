"""Of many workers on one unit, the first leaves its receipt and all agree on it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from weft.pipelines.engines.receipts import put_receipt


def test_one_receipt_counts(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [{"unit": "u", "worker": n} for n in range(8)]
        counted = list(pool.map(lambda r: put_receipt(str(tmp_path), "u", r), made))
    assert len({r["worker"] for r in counted}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["u.json"]
